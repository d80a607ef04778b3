/* What the user does: choose an image, give a key, ask again. One question at a time; a new image
   ends the one before. */
import {explain, Refused, samples, useKey} from "./asking.js";
import {$, made, picture} from "./dom.js";
import {drawings, encoded} from "./drawings.js";
import {clear, show} from "./result.js";

/* Pixels a side until the model's own are known from its samples. */
const SIDE = 32;
let seed = 0, side = 0, latest = null, running = null, retry = null;

/* name: what was chosen, for people. give: an image's bytes, as Blob. */
async function ask(name, give) {
  latest = () => ask(name, give);
  running?.abort();
  const mine = running = new AbortController();
  fault("");
  clear("asking …", `The service looks at ${name}.`);
  $("verdict").scrollIntoView({block: "nearest"});
  try {
    const answer = await explain(await give(), mine.signal);
    if (!mine.signal.aborted) show(answer);
  } catch (error) {
    if (mine.signal.aborted) return;
    clear("no verdict", `The service has not judged ${name}.`);
    failed(error, latest);
    if (error.locked) $("key-field").focus();
  }
  $("verdict").scrollIntoView({block: "nearest"});
}

/* again: what to do once more, where that may help. */
function failed(error, again) {
  if (!(error instanceof Refused)) console.error(error);
  fault(error instanceof Refused ? error.message : `this page has failed: ${error.message || error}`);
  retry = again;
  $("again").hidden = !error.again;
  $("key").hidden = !error.locked;
}

function fault(text) {
  $("fault").textContent = text;
  $("again").hidden = true;
}

function tile(label, image, name, give) {
  const button = made("button", {type: "button"}, image, made("span", {textContent: label}));
  button.setAttribute("aria-pressed", "false");
  button.addEventListener("click", () => {
    press(button);
    ask(name, give);
  });
  return button;
}

function press(button) {
  for (const other of document.querySelectorAll(".tiles button"))
    other.setAttribute("aria-pressed", String(other === button));
}

async function fetchSamples() {
  const mine = seed;
  try {
    const {model, samples: found} = await samples(mine);
    if (mine !== seed) return;
    $("model").textContent = `${model.name} ${model.version}`;
    const tiles = found.map(({label, png}) => tile(label, made("img", {alt: "", src: picture(png)}),
      `a ${label} that the model has drawn`, () => bytes(png)));
    $("samples").replaceChildren(...tiles);
    $("key").hidden = true;
    const [first] = $("samples").getElementsByTagName("img");
    if (first) {
      await first.decode();
      strangers(Math.max(first.naturalWidth, first.naturalHeight));
    }
    $("more").hidden = false;
  } catch (error) {
    failed(error, fetchSamples);
  }
}

const bytes = png => new Blob([Uint8Array.from(atob(png), c => c.charCodeAt(0))], {type: "image/png"});

/* Drawn anew only for another size: the focus may be on one. */
function strangers(wanted) {
  if (wanted === side) return;
  side = wanted;
  $("strangers").dataset.side = side;
  $("strangers").replaceChildren(...drawings(side).map(({label, canvas}) => {
    canvas.setAttribute("aria-hidden", "true");
    return tile(label, canvas, `${label}, drawn by this page`, () => encoded(canvas));
  }));
}

/* A file, chosen, dropped or pasted; whether it is an image is for the service to say. */
function take(files, missing) {
  press(null);
  const [file] = files;
  if (file) ask(file.name || "the image", () => file);
  else fault(missing);
}

function dropping(on) {
  document.body.classList.toggle("dropping", on);
}

$("file").addEventListener("change", () => {
  if ($("file").files.length) take($("file").files, "");
});
$("file").addEventListener("click", () => {
  $("file").value = ""; // the same file may be chosen again
});
document.addEventListener("dragover", event => {
  event.preventDefault();
  dropping(true);
});
document.addEventListener("dragleave", event => {
  if (!event.relatedTarget) dropping(false);
});
document.addEventListener("drop", event => {
  event.preventDefault();
  dropping(false);
  take(event.dataTransfer.files, "what was dropped is no file: drop an image file, or copy the image and paste it");
});
document.addEventListener("paste", event => {
  if (event.target === $("key-field")) return;
  event.preventDefault();
  take(event.clipboardData.files, "what was pasted holds no image: copy an image, or choose a file");
});
$("more").addEventListener("click", () => {
  seed += 1;
  fetchSamples();
});
$("again").addEventListener("click", () => {
  fault("");
  $("verdict").focus(); // the button is gone
  retry();
});
$("key").addEventListener("submit", async event => {
  event.preventDefault();
  useKey($("key-field").value.trim());
  $("key").hidden = true;
  fault("");
  $("verdict").focus();
  await fetchSamples();
  if (latest && $("key").hidden) latest();
});
addEventListener("hashchange", () => location.reload());

$("address").textContent = new URL("v1/explain", location.href).href;
strangers(SIDE);
fetchSamples();
