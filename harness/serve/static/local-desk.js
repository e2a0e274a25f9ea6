// Answers to what the page asks of the networks in its bundle, computed in slices of time.

import { networkOf } from "./engine.js";
import {
  distanceOf,
  fgsmImage,
  largestOf,
  pgdImage,
  smallestAlongGradient,
  smallestBySearch,
  softmaxOf,
} from "./local-attacks.js";
import { pixelScores, SALIENCY_METHODS, topPixels } from "./local-saliency.js";

const LOCAL_ATTACKS = {
  fgsm: { image: fgsmImage, smallest: smallestAlongGradient },
  pgd: { image: pgdImage, smallest: smallestBySearch },
};

/**
 * What is awaited between passes: lets others have their turn, and ends what nobody waits for.
 * @param {{aborted: boolean}} signal
 * @param {number} slice milliseconds between two turns
 */
function pausing(signal, slice) {
  let began = performance.now();
  return async () => {
    if (performance.now() - began < slice) return;
    await new Promise((resolve) => setTimeout(resolve));
    if (signal.aborted) throw new DOMException("No longer wanted.", "AbortError");
    began = performance.now();
  };
}

/**
 * The four questions, each with a model's name, an image, its options and a signal.
 * @param {{models: object[]}} bundle
 * @param {number} slice milliseconds for which others wait, at most, beside a pass of a network
 */
export function deskOf(bundle, slice) {
  const loaded = bundle.models.map((model) => [model.name, { model, net: networkOf(model) }]);
  const models = Object.fromEntries(loaded);
  const question = (answer) => async (name, image, options, signal) => {
    const found = chosen(models, name, "model");
    requireImage(found, image);
    const [low, high] = found.model.input.bounds;
    const under = { net: found.net, low, high, pause: pausing(signal, slice) };
    const label = labelOf(found, image, options.label);
    return answer(under, Float64Array.from(image), label, options, found.model);
  };
  return {
    predict: question(predicted),
    attack: question(attacked),
    explain: question(explained),
    smallest: question(smallestEpsilon),
  };
}

async function predicted(under, image, label, options, model) {
  return predictionOf(under, model, image);
}

function predictionOf(under, model, image) {
  const logits = under.net.forward(image).value;
  const label = largestOf(logits);
  return {
    label,
    class: model.classes[label],
    probabilities: [...softmaxOf(logits)],
    logits: [...logits],
  };
}

async function attacked(under, clean, label, options, model) {
  const { attack, epsilon } = options;
  requireEpsilon(under, epsilon);
  const image = await chosen(LOCAL_ATTACKS, attack, "attack").image(under, clean, label, epsilon);
  const adversarial = predictionOf(under, model, image);
  return {
    label,
    clean: predictionOf(under, model, clean),
    adversarial,
    misclassified: adversarial.label !== label,
    image,
    perturbation: image.map((pixel, at) => pixel - clean[at]),
    distance: distanceOf(image, clean),
  };
}

async function explained(under, image, label, { method, top }, model) {
  if (!(top > 0 && top <= 1)) {
    throw new Error(`The share of the pixels must be above 0 and at most 1, not ${top}.`);
  }
  const map = await chosen(SALIENCY_METHODS, method, "saliency method")(under, image, label);
  const scores = pixelScores(map, model.input);
  return { label, map, scores, mask: topPixels(scores, top) };
}

async function smallestEpsilon(under, image, label, { attack, limit }) {
  requireEpsilon(under, limit);
  const way = chosen(LOCAL_ATTACKS, attack, "attack");
  const epsilon = await way.smallest(under, image, label, limit);
  return { label, epsilon: Number.isFinite(epsilon) ? epsilon : null, limit };
}

function chosen(things, name, kind) {
  if (!Object.hasOwn(things, name)) throw new Error(`There is no ${kind} ${name} here.`);
  return things[name];
}

function requireImage({ model, net }, image) {
  const [low, high] = model.input.bounds;
  if (image.length !== net.pixels) {
    throw new Error(`An image has ${image.length} numbers, and ${model.name} takes ${net.pixels}.`);
  }
  if (!image.every((pixel) => pixel >= low && pixel <= high)) {
    throw new Error(`A pixel is not a number from ${low} to ${high}.`);
  }
}

/** The label that is given, or the predicted one. */
function labelOf({ net }, image, given) {
  if (given === undefined || given === null) return largestOf(net.forward(image).value);
  if (!Number.isInteger(given) || given < 0 || given >= net.classes) {
    throw new Error(`There is no class ${given}.`);
  }
  return given;
}

function requireEpsilon({ low, high }, epsilon) {
  if (!(epsilon >= 0 && epsilon <= high - low)) {
    throw new Error(`Epsilon must be from 0 to ${high - low}, not ${epsilon}.`);
  }
}
