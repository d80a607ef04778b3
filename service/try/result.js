/* One answer of /v1/explain, shown. */
import {MANY} from "./asking.js";
import {heat, histogram, place, plane} from "./charts.js";
import {$, made, picture} from "./dom.js";
import {gloss, listed, percent, pValue, ranking, reason, short, VIEWS, whole} from "./words.js";

/* Statistics that are shown at once, and the value of the selector beside the classes. */
const FIRST = 6, STRANGE = "strange";
/* So many times the usual is no more than a touch of colour. */
const LOUD = 4;
/* Of more classes than MANY the most probable. */
const TOP = 10;

export function show(answer) {
  const {verdict, image} = answer;
  $("model").textContent = `${verdict.model.name} ${verdict.model.version}`;
  decided(verdict, answer.evidence);
  $("seen").src = picture(image.png);
  $("seen").alt = `the image as the model sees it, ${image.width} × ${image.height} pixels`;
  $("seen").hidden = false;
  classes(verdict);
  selector(answer);
  strangeness(answer);
  among(answer.decision_plane, verdict);
  evidence(answer.evidence);
  $("result").hidden = false;
}

/* Nothing of the image before may stand beside the next one's fault. */
export function clear(headline, text) {
  delete $("decision").dataset.decision;
  $("decision").textContent = headline;
  $("reason").textContent = text;
  $("seen").hidden = $("result").hidden = true;
}

function decided(verdict, found) {
  $("decision").dataset.decision = verdict.decision;
  $("decision").textContent = verdict.decision;
  $("reason").textContent = reason(verdict, found);
}

function classes(verdict) {
  const all = verdict.posterior.length <= MANY;
  $("class").textContent = `${verdict.class.label}, ${percent(verdict.posterior[0].probability)}`;
  $("set").textContent = verdict.prediction_set.join(", ");
  $("posterior").replaceChildren(...verdict.posterior.slice(0, all ? MANY : TOP).map(({label, probability}) => {
    const bar = made("b");
    bar.style.width = `${100 * probability}%`;
    return made("li", {}, made("span", {textContent: label}), made("i", {}, bar),
      made("b", {textContent: percent(probability)}));
  }));
  $("posterior-note").textContent = verdict.rejected
    ? "The image is rejected: among the classes these would be the likeliest, but it is probably none of them."
    : `Calibrated probability of ${all ? "each class" : `the ${TOP} most probable classes`}. `
      + "The set holds the classes that cannot be ruled out.";
}

/* The class most probable, or for a rejected image where it is strange. */
function selector(answer) {
  const options = answer.heatmaps.map(({label, log_posterior: log}, i) =>
    made("option", {value: String(i), textContent: `what speaks for ${label} (log posterior ${short(log)})`}));
  options.push(made("option", {value: STRANGE, textContent: "where the image is strange"}));
  $("heat-of").replaceChildren(...options);
  $("heat-of").value = answer.verdict.rejected ? STRANGE : "0";
  $("heat-of").onchange = () => overlay(answer, $("heat-of").value);
  overlay(answer, $("heat-of").value);
}

function overlay(answer, chosen) {
  const words = chosen === STRANGE ? strange(answer) : speaking(answer, answer.heatmaps[chosen]);
  $("heat-note").textContent = words;
}

function speaking({image}, {label, log_posterior: log, values}) {
  const flat = values.flat().map(v => v ?? 0), strongest = Math.max(...flat.map(Math.abs));
  scale("class", `− ${short(strongest)}`, `+ ${short(strongest)} nats`);
  heat($("heat"), image, values, strongest, `Heatmap for ${label}: most for it ${place(values)} `
    + `(${short(Math.max(...flat))} nats), most against it ${place(values, -1)} (${short(Math.min(...flat))} nats).`);
  return `Orange with + speaks for ${label}, blue with − against it, more than the model expects on `
    + `average; the fuller, the stronger. All places together are the log posterior, ${short(log)} nats.`;
}

/* Energy: 1 is the usual, its log what is drawn. */
function strange({image, energy: {values}}) {
  const logs = values.map(row => row.map(v => v === null ? Math.log(LOUD) : Math.max(0, Math.log(v))));
  const most = Math.max(...values.flat().map(v => v ?? 0)), strongest = Math.max(Math.log(LOUD), ...logs.flat());
  scale(STRANGE, "as usual", `× ${short(Math.exp(strongest))}`);
  heat($("heat"), image, logs, strongest, `Map of what is strange: up to ${short(most)} times the usual, most ${place(logs)}.`);
  return `Orange with + is where the image is farther from its class than images of it are: here up to `
    + `${short(most)} times as far (mean square), where 1 is usual.`;
}

function scale(kind, low, high) {
  $("scale").dataset.kind = kind;
  $("low").textContent = low;
  $("high").textContent = high;
}

function strangeness({verdict, reference}) {
  $("p").textContent = pValue(verdict.p_value);
  histogram($("histogram"), reference);
  $("histogram-note").textContent = ranking(verdict, reference);
}

function among(given, verdict) {
  plane($("plane"), given);
  const [first, second] = given.classes.map(c => c.label);
  $("plane-note").textContent = `The diamond is this image, a dot the mean of a class, and the circle about it `
    + `holds at least 90% of that class. ` + (second === undefined ? "" : `Across: along the line from ${first} to ${second}`
    + (given.boundary === null ? "; up: distance from that line."
      : `, equally probable at the dashed line; up: distance from that line.`))
    + (verdict.rejected ? " A stranger need not lie far out here: the plane shows only what tells classes apart." : "");
}

function evidence({statistics, views}) {
  const most = Math.max(1e-9, ...statistics.map(s => Math.abs(s.contribution ?? 0)));
  const rows = statistics.map(s => row(s, most));
  $("evidence").replaceChildren(...rows.slice(0, FIRST));
  $("rest").replaceChildren(...rows.slice(FIRST));
  $("rest-title").textContent = `${whole(rows.length - Math.min(FIRST, rows.length))} more`;
  $("rest-title").parentElement.hidden = rows.length <= FIRST;
  const shares = Object.entries(views).map(([name, share]) =>
    `${Object.hasOwn(VIEWS, name) ? VIEWS[name] : name} ${percent(share)}`);
  $("views").textContent = shares.length ? `What makes up the strangeness S: ${listed(shares)}.` : "";
}

function row({name, p_value: p, contribution}, most) {
  const title = made("th", {scope: "row", textContent: name});
  if (gloss(name) !== name) title.append(made("small", {textContent: gloss(name)}));
  const bar = made("i");
  bar.style.width = `${100 * Math.abs(contribution ?? 0) / most}%`;
  const shown = short(contribution), sign = contribution > 0 && shown !== "0" ? "+" : "";
  return made("tr", {}, title, made("td", {textContent: pValue(p)}),
    made("td", {className: contribution < 0 ? "adds less" : "adds"}, `${sign}${shown}`, bar));
}
