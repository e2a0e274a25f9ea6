// FGSM and PGD on one image in the L∞ norm, step by step as the harness computes them in float64.

import { uniformDraws } from "./local-random.js";

// As in harness/attacks and harness/maths/objectives.py, where the reasons are.
const ROUNDING = 1e-5;
const UNIFORM = 0.92;
const SPREAD = 10;
const DEAD = 30;
const GRID = 32;
const HALVINGS = 10;
export const PGD_STEPS = 40;
const STEP_SIZE = 2.5 / PGD_STEPS;

/**
 * A network under attack, the bounds of its pixels, and what is awaited between passes.
 * @typedef {import("./engine.js").Net} Net
 * @typedef {{net: Net, low: number, high: number, pause: () => Promise<void>}} Under
 */

/** The place of the largest number; of equal ones the first. */
export function largestOf(values) {
  return values.reduce((best, value, at) => (value > values[best] ? at : best), 0);
}

/** Probabilities, the softmax of logits. */
export function softmaxOf(logits) {
  const top = Math.max(...logits);
  const odds = logits.map((logit) => Math.exp(logit - top));
  const total = odds.reduce((sum, one) => sum + one, 0);
  return odds.map((one) => one / total);
}

function largestOther(logits, label) {
  return logits.reduce((top, logit, at) => (at === label ? top : Math.max(top, logit)), -Infinity);
}

/** The derivative of logsumexp of the other logits - that of the label, by each logit. */
function oddsSlope(logits, label) {
  const top = largestOther(logits, label);
  const odds = logits.map((logit, at) => (at === label ? 0 : Math.exp(logit - top)));
  const total = odds.reduce((sum, one) => sum + one, 0);
  return odds.map((one, at) => (at === label ? -1 : one / total));
}

/** The same of logits that are scaled to a common spread where the softmax is nearly uniform. */
export function temperedSlope(logits, label) {
  const top = Math.max(...logits);
  const shifted = logits.map((logit) => logit - top);
  const third = logits.length < 3 ? 0 : -Float64Array.from(shifted).sort().at(-3);
  const near = shifted.filter((one) => !(third > 0 && one < -DEAD * third));
  const odds = near.map((one) => Math.exp(one));
  const total = odds.reduce((sum, one) => sum + one, 0);
  const mean = near.reduce((sum, one, at) => sum + odds[at] * one, 0) / total;
  const heat = -near.reduce((sum, one) => sum + one, 0) / near.length / SPREAD;
  const nearly = Math.log(total) - mean > UNIFORM * Math.log(near.length) && heat > 0;
  return oddsSlope(nearly ? shifted.map((one) => one / heat) : logits, label);
}

/** The derivative of the largest other logit - that of the label, by each logit. */
export function marginSlope(logits, label) {
  const top = largestOther(logits, label);
  const rivals = logits.map((logit, at) => (at !== label && logit >= top ? 1 : 0));
  const count = rivals.reduce((sum, one) => sum + one, 0);
  return rivals.map((one, at) => (at === label ? -1 : one / count));
}

/** How far the largest other logit is ahead, and whether by more than rounding. */
function judged(logits, label) {
  const margin = largestOther(logits, label) - logits[label];
  const slack = ROUNDING * logits.reduce((top, logit) => Math.max(top, Math.abs(logit)), 0);
  return { margin, misclassified: margin > slack };
}

function clipped(value, low, high) {
  return Math.min(Math.max(value, low), high);
}

/** An image moved along a direction, within the bounds. */
function shiftedImage({ low, high }, image, direction, size) {
  return image.map((pixel, at) => clipped(pixel + size * direction[at], low, high));
}

/** Where the loss of FGSM rises most, in the L∞ norm; and what the network says of the image. */
function steepestOf(under, image, label, slope) {
  const { value: logits, back } = under.net.forward(image);
  return { logits, climb: () => back(slope(logits, label)).map(Math.sign) };
}

/** The adversarial image of the fast gradient sign method. */
export async function fgsmImage(under, image, label, epsilon) {
  const direction = steepestOf(under, image, label, temperedSlope).climb();
  await under.pause();
  return shiftedImage(under, image, direction, epsilon);
}

/** The adversarial image of projected gradient descent, misclassified or the nearest to that. */
export async function pgdImage(under, image, label, epsilon) {
  return (await climbed(under, image, label, epsilon)).image;
}

/** One attempt with each loss, until the image is misclassified. */
async function climbed(under, image, label, epsilon) {
  const { misclassified } = judgedImage(under, image, label);
  const best = { image, margin: -Infinity, misclassified };
  if (epsilon === 0) return best;
  for (const [attempt, slope] of [temperedSlope, marginSlope].entries()) {
    if (best.misclassified) break;
    await attempted(under, image, label, epsilon, slope, attempt, best);
  }
  return best;
}

function judgedImage(under, image, label) {
  return judged(under.net.forward(image).value, label);
}

async function attempted(under, image, label, epsilon, slope, attempt, best) {
  const { low, high } = under;
  const drawn = uniformDraws([0, attempt, 0], image.length);
  let moving = image.map((pixel, at) => clipped(pixel + epsilon * (2 * drawn[at] - 1), low, high));
  for (let step = 0; step < PGD_STEPS; step++) {
    await under.pause();
    const { logits, climb } = steepestOf(under, moving, label, slope);
    if (judged(logits, label).misclassified) {
      Object.assign(best, { image: moving, misclassified: true });
      return;
    }
    moving = projected(under, image, moving, climb(), epsilon);
  }
  const { margin, misclassified } = judgedImage(under, moving, label);
  if (misclassified || margin > best.margin) {
    Object.assign(best, { image: moving, margin, misclassified });
  }
}

/** An image after a step, in the ball around the clean one and within the bounds. */
function projected({ low, high }, image, moving, direction, epsilon) {
  const size = epsilon * STEP_SIZE;
  return moving.map((pixel, at) => {
    const change = clipped(pixel + size * direction[at] - image[at], -epsilon, epsilon);
    return clipped(image[at] + change, low, high);
  });
}

/**
 * The smallest epsilon at which FGSM's image is misclassified: the first of even steps, and the gap
 * before it halved; Infinity if none is.
 */
export async function smallestAlongGradient(under, image, label, limit) {
  const { logits, climb } = steepestOf(under, image, label, temperedSlope);
  if (judged(logits, label).misclassified) return 0;
  const direction = climb();
  const succeeds = async (size) => {
    await under.pause();
    return judgedImage(under, shiftedImage(under, image, direction, size), label).misclassified;
  };
  let high = Infinity;
  for (let step = 1; step <= GRID && high === Infinity; step++) {
    const size = (GRID - step) * (-limit / GRID) + limit;
    if (await succeeds(size)) high = size;
  }
  if (high === Infinity) return high;
  let low = high - limit / GRID;
  for (let halving = 0; halving < HALVINGS - Math.log2(GRID); halving++) {
    const middle = (low + high) / 2;
    if (await succeeds(middle)) high = middle;
    else low = middle;
  }
  return high;
}

/** The smallest epsilon at which PGD misclassifies an image, by halving; Infinity if none is. */
export async function smallestBySearch(under, image, label, limit) {
  if (judgedImage(under, image, label).misclassified) return 0;
  const nearest = async (size) => {
    const best = await climbed(under, image, label, size);
    return best.misclassified ? Math.min(size, distanceOf(best.image, image)) : Infinity;
  };
  let low = 0;
  let high = await nearest(limit);
  for (let halving = 0; halving < HALVINGS && high < Infinity; halving++) {
    const middle = (low + high) / 2;
    const found = await nearest(middle);
    if (found === Infinity) low = middle;
    high = Math.min(high, found);
  }
  return high;
}

/** The largest change of a pixel. */
export function distanceOf(one, other) {
  return one.reduce((largest, pixel, at) => Math.max(largest, Math.abs(pixel - other[at])), 0);
}
