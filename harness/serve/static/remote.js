// The models of a server, by its routes.

import { pause } from "./latest.js";
import { layoutOf, paintImage } from "./pictures.js";

const PATIENCE = 20000, LONGEST_WAIT = 5; // milliseconds for an answer; seconds before it is asked again
const EXAMPLES = 20, FEWEST = 4; // test images, of small ones and of large ones
const NUMBERS = 40000; // of an image; one of more is sent as PNG, for no body may exceed 1 MB

/**
 * @param {string} base address of the routes, relative to the page.
 */
export function remoteEngine(base) {
  const inputs = new Map();
  const ask = (name, what, body, signal) => answered(`${base}/models/${encodeURIComponent(name)}/${what}`, body, signal);
  const labels = (label) => (label === null || label === undefined ? null : [label]);

  async function models(signal) {
    const { models: found } = await answered(`${base}/models`, null, signal);
    for (const info of found) inputs.set(info.name, info.input);
    return found;
  }
  async function examples(name, signal) {
    const size = inputs.get(name).shape.reduce((a, b) => a * b, 1);
    const count = Math.max(FEWEST, Math.min(EXAMPLES, Math.floor((EXAMPLES * NUMBERS) / size / 4)));
    const query = new URLSearchParams({ model: name, count });
    const found = await answered(`${base}/examples?${query}`, null, signal);
    return found.examples.map((one) => ({ ...one, image: flatNumbers(one.image) }));
  }
  async function predict(name, image, signal) {
    const found = await ask(name, "predict", { images: [sentImage(inputs.get(name), image)] }, signal);
    return found.predictions[0];
  }
  async function attack(name, image, { attack, epsilon, label }, signal) {
    const body = { images: [sentImage(inputs.get(name), image)], labels: labels(label), attack, epsilon };
    const [result] = (await ask(name, "attack", body, signal)).results;
    return { ...result, image: flatNumbers(result.image), perturbation: flatNumbers(result.perturbation) };
  }
  async function explain(name, image, { method, top, label }, signal) {
    const body = { images: [sentImage(inputs.get(name), image)], labels: labels(label), method, top };
    const [found] = (await ask(name, "explain", body, signal)).maps;
    return { ...found, map: flatNumbers(found.map), scores: flatNumbers(found.scores), mask: Uint8Array.from(flatNumbers(found.mask)) };
  }
  async function smallest(name, image, { attack, label, limit }, signal) {
    const body = { images: [sentImage(inputs.get(name), image)], labels: labels(label), attack, limit };
    return (await ask(name, "smallest", body, signal)).results[0];
  }
  return { models, examples, predict, attack, explain, smallest };
}

/** What the server answers; a body is posted. Once it is busy it is asked again after a while. */
async function answered(url, body, signal) {
  let response = await fetched(url, body, signal);
  if (response.status === 429) {
    const seconds = Math.min(Number(response.headers.get("Retry-After")) || 1, LONGEST_WAIT);
    await pause(1000 * seconds, signal);
    response = await fetched(url, body, signal);
  }
  const found = await response.json().catch(() => ({}));
  if (response.status === 429) throw new Error("The server is busy. Try again in a moment.");
  if (!response.ok) throw new Error(sentenceOf(found.error ?? `the server answered with status ${response.status}`));
  return found;
}

async function fetched(url, body, signal) {
  const cut = new AbortController();
  const stop = () => cut.abort();
  const timer = setTimeout(stop, PATIENCE);
  signal?.addEventListener("abort", stop, { once: true });
  if (signal?.aborted) stop();
  const post = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  try {
    return await fetch(url, { ...(body ? post : {}), signal: cut.signal });
  } catch {
    throw new Error("The server does not answer. Is harness serve still running?");
  } finally {
    clearTimeout(timer);
  }
}

function sentenceOf(said) {
  return `${said[0].toUpperCase()}${said.slice(1).replace(/\.$/, "")}.`;
}

/** An image as numbers, or as PNG. */
function sentImage(input, image) {
  const layout = layoutOf(input);
  if (image.length <= NUMBERS || ![1, 3].includes(layout.channels)) return nestedNumbers(image, input.shape);
  const canvas = document.createElement("canvas");
  paintImage(canvas, layout, image, input.bounds);
  return canvas.toDataURL("image/png");
}

/** Numbers in the nesting of a shape. */
function nestedNumbers(numbers, shape) {
  let rows = Array.from(numbers);
  for (const size of shape.slice(1).reverse()) {
    rows = Array.from({ length: rows.length / size }, (_, at) => rows.slice(at * size, (at + 1) * size));
  }
  return rows;
}

function flatNumbers(numbers) {
  return Float64Array.from(numbers.flat(Infinity));
}
