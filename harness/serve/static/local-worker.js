// The computing half of a page without a server, in a thread of its own; see local.js.

import { deskOf } from "./local-desk.js";

const WAITED_FOR = new Map();
let DESK = null;

/** Answers one message; errors travel as their sentences. */
async function answered({ id, method, given }) {
  const signal = { aborted: false };
  WAITED_FOR.set(id, signal);
  try {
    return { id, result: await DESK[method](...given, signal) };
  } catch (error) {
    return { id, error: error.message, name: error.name };
  } finally {
    WAITED_FOR.delete(id);
  }
}

self.onmessage = async ({ data }) => {
  if (data.bundle) {
    DESK = deskOf(data.bundle);
    self.postMessage({ ready: true });
  } else if (data.aborted) {
    if (WAITED_FOR.has(data.aborted)) WAITED_FOR.get(data.aborted).aborted = true;
  } else {
    self.postMessage(await answered(data));
  }
};
