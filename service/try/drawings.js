/* Strangers: images that no model of things has learned, drawn here. Each is drawn on a canvas
   ``detail`` times as fine as what the model sees. */
const BLACK = "#000", WHITE = "#fff";

/* mulberry32: the same noise each time. */
function numbers(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

function fill(pen, n, colour) {
  pen.fillStyle = colour;
  pen.fillRect(0, 0, n, n);
}

function noise(pen, n) {
  const pixels = pen.createImageData(n, n), next = numbers(1);
  for (let i = 0; i < pixels.data.length; i += 4) {
    pixels.data.fill(Math.floor(256 * next()), i, i + 3);
    pixels.data[i + 3] = 255;
  }
  pen.putImageData(pixels, 0, 0);
}

function stripes(pen, n) {
  fill(pen, n, BLACK);
  pen.fillStyle = WHITE;
  for (let x = 0; x < n; x += 2) pen.fillRect(x, 0, 1, n);
}

function smiley(pen, n) {
  fill(pen, n, BLACK);
  pen.fillStyle = WHITE;
  pen.beginPath();
  pen.arc(n / 2, n / 2, .46 * n, 0, 2 * Math.PI);
  pen.fill();
  pen.fillStyle = pen.strokeStyle = BLACK;
  pen.lineWidth = .07 * n;
  pen.beginPath();
  pen.arc(n / 2, n / 2, .28 * n, .15 * Math.PI, .85 * Math.PI);
  pen.stroke();
  for (const x of [.35, .65]) {
    pen.beginPath();
    pen.arc(x * n, .38 * n, .06 * n, 0, 2 * Math.PI);
    pen.fill();
  }
}

const DRAWINGS = [
  {label: "noise", detail: 1, draw: noise},
  {label: "stripes", detail: 1, draw: stripes},
  {label: "blank", detail: 1, draw: (pen, n) => fill(pen, n, WHITE)},
  {label: "smiley", detail: 8, draw: smiley},
];

/* {label, canvas} of each, for a model whose images have so many pixels a side. */
export function drawings(side) {
  return DRAWINGS.map(({label, detail, draw}) => {
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = side * detail;
    draw(canvas.getContext("2d"), side * detail);
    return {label, canvas};
  });
}

/* A canvas as an encoded image. */
export const encoded = canvas => new Promise((given, failed) => canvas.toBlob(
  blob => blob ? given(blob) : failed(new Error("the browser cannot encode its own drawing")), "image/png"));
