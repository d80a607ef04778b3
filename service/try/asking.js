/* Questions to the service, with the key where one is needed. */
const TIMEOUT_MS = 60000, KEY = "oodgate-key";

/* So many classes are shown at once; the posterior of one more tells whether there are others. */
export const MANY = 20;
/* The page draws heatmaps from their values. */
const WISHES = {heatmaps: 10, png: 0, top_k: MANY + 1};

/* What the service says is wrong. again: whether the same question may be answered later. */
export class Refused extends Error {
  constructor(message, {locked = false, again = false} = {}) {
    super(message);
    this.locked = locked;
    this.again = again;
  }
}

/* The address may name a model, as in /try#model=digits; else the first one answers. */
const model = () => new URLSearchParams(location.hash.slice(1)).get("model");

let key = remembered();

function remembered() {
  try {
    return sessionStorage.getItem(KEY) || "";
  } catch {
    return ""; // storage may be forbidden; then the key lasts as long as the page
  }
}

export function useKey(text) {
  key = text;
  try {
    sessionStorage.setItem(KEY, text);
  } catch {
    // as above
  }
}

export const samples = seed => ask("v1/samples", {count: 8, seed});

export const explain = (image, signal) => ask("v1/explain", WISHES, {
  method: "POST", body: image, headers: {"Content-Type": "application/octet-stream"}, signal});

async function ask(path, parameters, {headers, signal, ...rest} = {}) {
  const query = new URLSearchParams(parameters);
  if (model()) query.set("model", model());
  const limit = AbortSignal.timeout(TIMEOUT_MS);
  const sent = {...headers, ...(key && {Authorization: `Bearer ${key}`})};
  let response, text;
  try {
    response = await fetch(`${path}?${query}`, {cache: "no-store", ...rest, headers: sent,
      signal: signal ? either(signal, limit) : limit});
    text = await response.text();
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Refused(limit.aborted ? `no answer within ${TIMEOUT_MS / 1000} s`
      : "the service cannot be reached, or has closed the connection", {again: true});
  }
  if (!response.ok) throw refusal(response.status, text);
  return JSON.parse(text);
}

/* AbortSignal.any, which is young. */
function either(...signals) {
  const both = new AbortController();
  for (const signal of signals) {
    if (signal.aborted) both.abort();
    signal.addEventListener("abort", () => both.abort(), {once: true});
  }
  return both.signal;
}

function refusal(status, text) {
  let message = `the service answers ${status}`;
  try {
    const {error} = JSON.parse(text);
    if (typeof error === "string") message = error;
  } catch {
    // not this service's words: a proxy before it
  }
  return new Refused(message, {locked: status === 401, again: status === 408 || status === 429 || status >= 500});
}
