/* Numbers and verdicts in plain language. */
export const percent = x => {
  if (!Number.isFinite(x)) return "–";
  if (x > 0 && x < .0001) return "< 0.01%";
  if (x < 1 && x > .9999) return "> 99.99%";
  return (100 * x).toFixed(x && (x < .1 || x > .99) && x < 1 ? 2 : 1) + "%";
};
/* A number of any size in three digits; – where there is none. Below NOTHING it is rounding. */
const NOTHING = 1e-9;
export function short(x) {
  if (x === null || !Number.isFinite(x)) return "–";
  const size = Math.abs(x);
  if (size < NOTHING) return "0";
  return x.toLocaleString("en", {maximumSignificantDigits: size >= 1000 ? 4 : 3,
    notation: size >= 1e6 || size < .001 ? "scientific" : "standard"}).replaceAll("-", "−");
}
export const pValue = p => p === null ? "–" : p < .0001 ? p.toExponential(1)
  : p.toLocaleString("en", {maximumSignificantDigits: p < .001 ? 2 : 3});
export const whole = n => Math.round(n).toLocaleString("en");

export function listed(names, word = "and") {
  return names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} ${word} ${names.at(-1)}`;
}

/* Statistics named in a reason. */
const NAMED = 3;

/* Why it was decided so. evidence: the largest contribution first. */
export function reason(verdict, {statistics}) {
  const rank = `${stranger(verdict)} (p = ${pValue(verdict.p_value)})`;
  if (verdict.decision === "reject") {
    const adding = statistics.filter(s => s.contribution > 0).map(s => s.name);
    const named = adding.length ? adding : verdict.unusual.map(u => u.statistic);
    const striking = [...new Set(named.map(gloss))].slice(0, NAMED);
    return `This image is not like those that the model has learned: ${rank}; images with p up to `
      + `${pValue(verdict.threshold)} are rejected. The class below says nothing about it.`
      + (striking.length ? ` What gives it away most: ${listed(striking)}.` : "");
  }
  if (verdict.decision === "abstain")
    return `This image is like those that the model has learned, but ambiguous: it may be `
      + `${listed(verdict.prediction_set, "or")}. ${capital(rank)}.`;
  return `This image is like those that the model has learned, and of class ${verdict.class.label}: `
    + `the others can be ruled out. ${capital(rank)}.`;
}

/* By the mode: the images that it was ranked among, what p is, which images the histogram counts, and
   for whom alpha holds. */
const RANKED = {
  marginal: () => ({
    among: n => `${n} reference images`,
    p: "p is the share of reference images at least as strange",
    counted: n => `the ${n} reference images`,
    promised: "Of images like these"}),
  predicted_class: ({class: {label}}) => ({
    among: n => `the ${n} reference images that are predicted as ${label}`,
    p: `p is the share of the reference images predicted as ${label} that are at least as strange`,
    counted: n => `these ${n} reference images`,
    promised: `Of images like these, predicted as ${label},`}),
  label_shift_safe: () => ({
    among: n => `the ${n} reference images of the class that it is least strange to`,
    p: "p is the largest, over the classes, of the share of a class's reference images that are at least as strange",
    counted: n => `the ${n} reference images of all classes`,
    promised: "Of images like these, whatever class they are of,"}),
};
const ranked = verdict => (RANKED[verdict.mode] ?? RANKED.marginal)(verdict);

/* p = (1 + count) / (n + 1). */
export function stranger(verdict) {
  const {p_value, reference_size} = verdict;
  const count = Math.max(0, Math.round(p_value * (reference_size + 1)) - 1);
  const among = ranked(verdict).among(whole(reference_size));
  if (!count) return `none of ${among} is as strange`;
  return `${whole(count)} of ${among} ${count === 1 ? "is" : "are"} at least as strange`;
}

/* What p is, what the bars of the histogram count, and what the threshold promises. */
export function ranking(verdict, {counts, rejected_above: limit}) {
  const {p, counted, promised} = ranked(verdict);
  const all = whole(counts.reduce((a, b) => a + b, 0));
  return `${p}: ${stranger(verdict)}. The bars count ${counted(all)}, held out from training, by strangeness S, `
    + `which grows to the right. ` + (limit === null ? "At this alpha each image is rejected. "
      : `Above S = ${short(limit)}, the hatched part, p is at most ${pValue(verdict.threshold)} and an image is rejected. `)
    + `${promised} at most ${percent(verdict.alpha)} are rejected, with confidence ${percent(1 - verdict.delta)}.`;
}

const capital = text => text[0].toUpperCase() + text.slice(1);

const GLOSSES = {
  log_prob: "probability density of the whole image",
  ladj: "how strongly the network stretches space here",
  margin: "lead of the first class over the second",
  entropy: "doubt between the classes",
  class_distance: "distance from the class it is most like",
  kurtosis: "single features far out of the ordinary",
  band_rows: "change from row to row",
  band_columns: "change from column to column",
  input_complexity: "disorder of the pixels",
  input_mean: "brightness",
  input_min: "darkest pixel",
  input_max: "brightest pixel",
  input_variation_columns: "contrast from column to column",
  input_variation_rows: "contrast from row to row",
  input_chroma: "colourfulness",
};
const FAMILIES = [
  [/^ladj_(\d+)$/, i => `stretching of space in part ${i} of the network`],
  [/^mean_square_(\d+)$/, i => `strength of the features at stage ${i} of the network`],
  [/^band_(\d+)$/, i => `features of detail level ${i}, coarse to fine`],
  [/^place_(\d)(\d)$/, (i, j) => `features in row ${i}, column ${j} of a coarse grid`],
  [/^input_(top|bottom|left|right)$/, side => `brightness at the ${side} border`],
  [/^input_band_(\d+)$/, i => `pixel contrast at detail level ${i}, coarse to fine`],
];

/* A statistic in a few words; its own name where there are none. */
export function gloss(name) {
  if (Object.hasOwn(GLOSSES, name)) return GLOSSES[name];
  for (const [pattern, worded] of FAMILIES) {
    const found = pattern.exec(name);
    if (found) return worded(...found.slice(1));
  }
  return name;
}

export const VIEWS = {
  joint: "the statistics together, against all images",
  within: "against images of the same class",
  ambiguity: "doubt between the classes",
  distortion: "likeness to distorted images",
};
