// Questions to one model, one after another: of those that wait only the newest is kept.

const QUIET = 250; // milliseconds without a new question before what takes long is asked

/**
 * Answers come in the order of their questions, so that none is replaced by an older one.
 *
 * @param {(question: object, turn: object) => Promise<void>} work asks and shows; never throws.
 */
export function inOrder(work) {
  let waiting = null, busy = false, optional = null;
  const turn = {
    /** The question that waits, or null. */
    next: () => waiting,
    /** Asks what can wait, once no question has come for a while; null if one came before the answer. */
    async whileQuiet(ask) {
      const cut = new AbortController();
      optional = cut;
      try {
        await pause(QUIET, cut.signal);
        return cut.signal.aborted ? null : await ask(cut.signal);
      } catch (error) {
        if (cut.signal.aborted) return null;
        throw error;
      } finally {
        optional = null;
      }
    },
  };
  async function run() {
    busy = true;
    while (waiting) {
      const question = waiting;
      waiting = null;
      await work(question, turn);
    }
    busy = false;
  }
  return (question) => {
    waiting = question;
    optional?.abort();
    if (!busy) void run();
  };
}

/** Waits so many milliseconds, or until it is aborted. */
export function pause(milliseconds, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => { clearTimeout(timer); resolve(); }, { once: true });
  });
}
