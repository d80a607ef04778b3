/* Pictures of one answer, as SVG. Each returns in words what it shows. */
import {drawn, picture} from "./dom.js";
import {short, whole} from "./words.js";

const WIDTH = 320;
/* Share of the strongest value from which on a place bears a sign. */
const SIGNED = .35;
/* Sides to where labels may go. */
const SIDES = [[8, 4, "start"], [-8, 4, "end"], [0, -9, "middle"], [0, 17, "middle"], [8, 16, "start"], [8, -8, "start"]];

const frame = (svg, height, words, pieces) => {
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${Math.round(height)}`);
  svg.setAttribute("aria-label", words);
  svg.replaceChildren(...pieces);
  return words;
};

/* Counts of S, the place from which on images are rejected, and this image's. */
export function histogram(svg, {edges, counts, score, rejected_above}) {
  const limit = rejected_above ?? -Infinity; // none: each image is rejected
  const low = edges[0], last = edges.at(-1), spread = last - low;
  const wanted = Math.max(last, limit, score ?? last);
  const right = Math.min(wanted, Math.max(last, limit) + spread) + .04 * spread;
  const left = Math.min(low, Math.max(score ?? low, low - .5 * spread)) - .02 * spread;
  const x = s => 10 + 300 * (Math.max(left, Math.min(right, s)) - left) / (right - left);
  const top = Math.max(1, ...counts), floor = 132, y = n => floor - 96 * n / top;
  const pieces = [];
  for (let from = x(limit); from < 316; from += 7) {
    const to = Math.min(from + 14, 316);
    pieces.push(drawn("line", {class: "hatch", x1: from, x2: to, y1: floor, y2: floor - (to - from)}));
  }
  pieces.push(drawn("line", {class: "hatch", id: "limit", x1: x(limit), x2: x(limit), y1: 26, y2: floor}));
  counts.forEach((count, i) => pieces.push(drawn("rect", {
    class: edges[i] >= limit ? "refused" : "bar", x: x(edges[i]) + .25, y: y(count),
    width: Math.max(.5, x(edges[i + 1]) - x(edges[i]) - .5), height: floor - y(count), "data-count": count})));
  pieces.push(drawn("line", {class: "axis", x1: 10, x2: 316, y1: floor, y2: floor}));
  const room = x(limit) < 200;
  pieces.push(drawn("text", {x: x(limit) + (room ? 4 : -4), y: 35, "text-anchor": room ? "start" : "end"},
    room ? "rejected from here on" : "rejected right of this line"));
  pieces.push(...labelled(score, x, right, floor),
    drawn("text", {x: 10, y: 146}, "familiar"), drawn("text", {x: 316, y: 146, "text-anchor": "end"}, "strange"));
  const where = score === null ? "This image has no finite S." : `This image is at ${short(score)}.`;
  const from = rejected_above === null ? "Each image is rejected." : `Rejected above ${short(limit)}.`;
  return frame(svg, 150, `Histogram of S of ${whole(counts.reduce((a, b) => a + b, 0))} reference images, from `
    + `${short(low)} to ${short(last)}. ${where} ${from}`, pieces);
}

/* This image, at the border with an arrow where it lies beyond. No finite S: beyond all. */
function labelled(score, x, right, floor) {
  const beyond = score === null || score > right, at = beyond ? 314 : x(score);
  const text = beyond ? `this image is farther out ${score === null ? "" : `(${short(score)}) `}→` : "this image";
  const anchor = at > 250 ? "end" : at < 70 ? "start" : "middle";
  return [drawn("line", {class: "here", id: "here", x1: at, x2: at, y1: 18, y2: floor}),
    drawn("path", {class: "mark", d: `M${at - 5} 16h10l-5 8z`}),
    drawn("text", {class: "strong", x: at, y: 12, "text-anchor": anchor}, text)];
}

/* The image among the means of its classes, both axes to the same scale. */
export function plane(svg, {classes: all, image, boundary, radius}) {
  const classes = all.filter(c => c.x !== null && c.y !== null);
  if (!classes.length || image.x === null || image.y === null)
    return frame(svg, 1, "This image has no finite place among the classes.", []);
  const xs = [image.x, ...classes.flatMap(c => [c.x - radius, c.x + radius])];
  const ys = [image.y, ...classes.map(c => c.y + radius)];
  const [left, right] = [Math.min(...xs), Math.max(...xs)], high = Math.max(...ys, 1e-9);
  const unit = Math.min(284 / (right - left || 1), 230 / high);
  const middle = WIDTH / 2 - unit * (left + right) / 2, floor = 18 + unit * high;
  const x = v => middle + unit * v, y = v => floor - unit * v;
  const clip = drawn("clipPath", {id: "above"});
  clip.append(drawn("rect", {x: 0, y: 0, width: WIDTH, height: floor}));
  const pieces = [clip];
  for (const c of classes)
    pieces.push(drawn("circle", {class: "circle", cx: x(c.x), cy: y(c.y), r: unit * radius, "clip-path": "url(#above)"}));
  pieces.push(drawn("line", {class: "axis", x1: 8, x2: 312, y1: floor, y2: floor}));
  if (boundary !== null && x(boundary) > 0 && x(boundary) < WIDTH)
    pieces.push(drawn("line", {class: "equal", id: "boundary", x1: x(boundary), x2: x(boundary), y1: 4, y2: floor}));
  for (const c of classes) pieces.push(drawn("circle", {class: "mean", cx: x(c.x), cy: y(c.y), r: 3}));
  const [u, v] = [x(image.x), y(image.y)];
  pieces.push(drawn("path", {class: "image", d: `M${u - 6} ${v}l6 -6l6 6l-6 6z`}));
  const points = [{text: "this image", x: u, y: v, strong: true},
    ...classes.map(c => ({text: c.label, x: x(c.x), y: y(c.y)}))];
  pieces.push(...labels(points, floor),
    drawn("text", {x: WIDTH / 2, y: floor + 30, "text-anchor": "middle"}, axis(unit)));
  const far = classes.map(c => `${c.label} ${short(Math.hypot(c.x - image.x, c.y - image.y))}`);
  return frame(svg, floor + 36, `Distance of this image from the mean of each class, in standard deviations: ${far.join(", ")}.`, pieces);
}

/* A rule of a round length below the picture, in words. */
const axis = unit => `the picture is ${short(WIDTH / unit)} standard deviations wide`;

/* Each label on the first side where it covers none before it. */
function labels(points, floor) {
  const taken = points.map(p => ({l: p.x - 4, r: p.x + 4, t: p.y - 4, b: p.y + 4}));
  return points.map(({text, x, y, strong}) => {
    const shown = text.length > 16 ? `${text.slice(0, 15)}…` : text, width = 6.2 * shown.length;
    const box = ([dx, dy, anchor]) => {
      const l = x + dx - {start: 0, end: width, middle: width / 2}[anchor];
      return {l, r: l + width, t: y + dy - 10, b: y + dy + 3};
    };
    const free = side => {
      const b = box(side);
      const inside = b.l >= 0 && b.r <= WIDTH && b.t >= 0 && b.b <= floor + 20;
      return inside && !taken.some(o => b.l < o.r && o.l < b.r && b.t < o.b && o.t < b.b);
    };
    const side = SIDES.find(free) || SIDES.find(s => box(s).l >= 0 && box(s).r <= WIDTH) || SIDES[0];
    taken.push(box(side));
    return drawn("text", {class: strong ? "strong" : "", x: x + side[0], y: y + side[1], "text-anchor": side[2]}, shown);
  });
}

/* Values over the grey image: orange and + above 0, blue and − below, the stronger the fuller. */
export function heat(svg, image, values, strongest, words) {
  const {png, height, width} = image, rows = values.length, columns = values[0].length;
  const w = width / columns, h = height / rows, size = Math.min(.6 * w, .6 * h, .1 * width);
  const pieces = [drawn("image", {href: picture(png), x: 0, y: 0, width, height, preserveAspectRatio: "none"})];
  const signs = [];
  values.forEach((row, i) => row.forEach((value, j) => {
    const strength = strongest > 0 ? Math.min(1, Math.abs(value ?? 0) / strongest) : 0;
    pieces.push(drawn("rect", {class: value < 0 ? "against" : "for", x: j * w, y: i * h, width: w, height: h,
      "fill-opacity": (.8 * strength).toFixed(3), "data-value": value ?? ""}));
    if (strength >= SIGNED)
      signs.push(drawn("text", {x: (j + .5) * w, y: (i + .5) * h + .35 * size, "text-anchor": "middle"}, value < 0 ? "−" : "+"));
  }));
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("font-size", size);
  svg.setAttribute("aria-label", words);
  svg.replaceChildren(...pieces, ...signs);
}

/* The place of the largest value, in words. */
export function place(values, sign = 1) {
  let best = -Infinity, at = [0, 0];
  values.forEach((row, i) => row.forEach((value, j) => {
    if (sign * value > best) [best, at] = [sign * value, [i, j]];
  }));
  const third = (index, of, names) => names[Math.min(2, Math.floor(3 * (index + .5) / of))];
  const vertical = third(at[0], values.length, ["top", "middle", "bottom"]);
  const horizontal = third(at[1], values[0].length, ["left", "middle", "right"]);
  return vertical === horizontal ? "in the middle" : `${vertical} ${horizontal}`.replace("middle ", "").replace(" middle", "");
}
