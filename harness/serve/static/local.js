// The engine of a page without a server: its networks are in the page, and computed here.
//
// Where the page holds the source of a worker, the work is done in a thread of its own; where the
// browser allows none, or none is there, in slices of time, between which the page goes on.

import { bytesOf } from "./engine.js";
import { deskOf } from "./local-desk.js";

const PATIENCE = 5000; // milliseconds until a worker that does not begin is given up
const SLICE = 16;

/**
 * The interface of remoteEngine, over a bundle.
 * @param {{models: object[], examples: object[], note: string}} bundle
 */
export function localEngine(bundle) {
  const infos = bundle.models.map(({ layers, ...info }) => ({ ...info, weights: "float16" }));
  const desk = workerDesk(bundle).catch(() => deskOf(bundle, SLICE));
  const ask = async (method, name, image, options, signal) => {
    signal?.throwIfAborted();
    const answer = await (await desk)[method](name, image, options, signal ?? { aborted: false });
    signal?.throwIfAborted();
    return answer;
  };
  return {
    note: bundle.note,
    models: async () => infos,
    predict: (name, image, signal) => ask("predict", name, image, {}, signal),
    attack: (name, image, options, signal) => ask("attack", name, image, options, signal),
    explain: (name, image, options, signal) => ask("explain", name, image, options, signal),
    smallest: (name, image, options, signal) => ask("smallest", name, image, options, signal),
    examples: async () => bundle.examples.map((one) => exampleOf(one, infos[0].input.bounds)),
  };
}

function exampleOf(example, [low, high]) {
  const pixelOf = (byte) => low + (high - low) * (byte / 255);
  return { ...example, image: Float64Array.from(bytesOf(example.image), pixelOf) };
}

/** The same questions as of `deskOf`, put to a worker. Rejects where there can be none. */
async function workerDesk(bundle) {
  const source = document.getElementById("worker").textContent;
  const address = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
  const worker = new Worker(address);
  try {
    await new Promise((resolve, reject) => {
      setTimeout(reject, PATIENCE);
      worker.onerror = reject;
      worker.onmessage = resolve;
    });
  } catch (error) {
    worker.terminate();
    throw error;
  } finally {
    URL.revokeObjectURL(address);
  }
  worker.postMessage({ bundle });
  const put = postingTo(worker);
  return Object.fromEntries(
    ["predict", "attack", "explain", "smallest"].map((method) => [
      method,
      (name, image, options, signal) => put(method, [name, image, options], signal),
    ]),
  );
}

/** Puts questions to a worker, and gives each answer to whoever asked. */
function postingTo(worker) {
  const waiting = new Map();
  let last = 0;
  const settle = (id, how) => {
    waiting.get(id)?.(how);
    waiting.delete(id);
  };
  worker.onmessage = ({ data }) => settle(data.id, data);
  worker.onerror = () => {
    const error = "The computation in the background ended.";
    for (const id of [...waiting.keys()]) settle(id, { error });
  };
  return async (method, given, signal) => {
    const id = (last += 1);
    const answer = new Promise((resolve) => waiting.set(id, resolve));
    const stop = () => worker.postMessage({ aborted: id });
    signal.addEventListener?.("abort", stop, { once: true });
    worker.postMessage({ id, method, given });
    const { result, error, name } = await answer;
    signal.removeEventListener?.("abort", stop);
    if (name === "AbortError") throw new DOMException(error, name);
    if (error !== undefined) throw new Error(error);
    return result;
  };
}
