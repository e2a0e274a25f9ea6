// The computing half of a page without a server, in a thread of its own; see local.js.

import { deskOf } from "./local-desk.js";

const SLICE = 50;
const WAITED_FOR = new Map();
let ask = () => Promise.reject(new Error("There are no models yet."));

function take(bundle) {
  try {
    const desk = deskOf(bundle, SLICE);
    ask = (method, given) => desk[method](...given);
  } catch (error) {
    ask = () => Promise.reject(error);
  }
}

/** Answers one question; errors travel as their sentences. */
async function answered({ id, method, given }) {
  const signal = { aborted: false };
  WAITED_FOR.set(id, signal);
  try {
    return { id, result: await ask(method, [...given, signal]) };
  } catch (error) {
    return { id, error: error.message, name: error.name };
  } finally {
    WAITED_FOR.delete(id);
  }
}

function abort(id) {
  if (WAITED_FOR.has(id)) WAITED_FOR.get(id).aborted = true;
}

self.onmessage = async ({ data }) => {
  if (data.bundle) take(data.bundle);
  else if (data.aborted) abort(data.aborted);
  else self.postMessage(await answered(data));
};
self.postMessage("ready");
