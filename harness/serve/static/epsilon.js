// The slider of epsilon: how far it goes, in which steps, and how a value is written.

const ROUND_NUMBERS = [1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10];

/**
 * @param {object} info a model, by whose bounds and unit epsilon is measured.
 * @param {object} attack one of its attacks, with its norm.
 * @returns {{max: number, step: number, start: number, nearest: Function, above: Function, said: Function}}
 */
export function epsilonScale(info, attack) {
  const euclidean = attack.norm === "l2", unit = euclidean ? null : info.epsilon_unit;
  const [low, high] = info.input.bounds;
  const pixels = info.input.shape.reduce((a, b) => a * b, 1);
  const share = euclidean ? (info.epsilon_unit ? 0.05 : 0.2) * Math.sqrt(pixels) : unit ? 32 / unit : 0.5;
  const reach = (high - low) * share;
  const max = Math.min(unit ? reach : roundNumber(reach), attack.epsilon_max ?? Infinity);
  const steps = unit ? 64 : 100;
  const at = (step) => (max * Math.min(Math.max(step, 0), steps)) / steps;
  return {
    max, step: max / steps, start: at(unit || euclidean ? steps / 4 : steps / 5),
    nearest: (epsilon) => at(Math.round((steps * epsilon) / max)),
    above: (epsilon) => at(Math.ceil((steps * epsilon) / max)),
    said: (epsilon) => (unit ? `${short(epsilon * unit)}/${unit}` : short(epsilon)),
  };
}

/** The largest of a few round numbers that is no larger. */
function roundNumber(value) {
  const power = 10 ** Math.floor(Math.log10(value) + 1e-9);
  return power * ROUND_NUMBERS.filter((one) => one <= value / power + 1e-9).at(-1);
}

function short(value) {
  return String(Number(value.toPrecision(3)));
}
