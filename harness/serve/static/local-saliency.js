// Saliency maps of one image, and its most salient pixels, as the harness computes them.

import { softmaxOf } from "./local-attacks.js";

const POINTS = 32;

/** The derivative of the label's logit. */
function logitSlope(logits, label) {
  return logits.map((_, at) => (at === label ? 1 : 0));
}

/** The derivative of the cross-entropy with the label; it sums to zero, without cancellation. */
function entropySlope(logits, label) {
  const others = softmaxOf(logits).map((share, at) => (at === label ? 0 : share));
  const lost = others.reduce((sum, one) => sum + one, 0);
  return others.map((one, at) => (at === label ? -lost : one));
}

function gradientOf(under, image, label, slope) {
  const { value: logits, back } = under.net.forward(image);
  return back(slope(logits, label));
}

/** Points and weights of Gauss-Legendre quadrature on [0, 1], by Newton's method. */
function quadratureOf(count) {
  return Array.from({ length: count }, (_, at) => {
    let place = Math.cos((Math.PI * (at + 0.75)) / (count + 0.5));
    let slope = 1;
    for (let round = 0; round < 8; round++) {
      let [before, value] = [1, place];
      for (let degree = 2; degree <= count; degree++) {
        const next = ((2 * degree - 1) * place * value - (degree - 1) * before) / degree;
        [before, value] = [value, next];
      }
      slope = (count * (place * value - before)) / (place * place - 1);
      place -= value / slope;
    }
    return { place: (1 + place) / 2, weight: 1 / ((1 - place * place) * slope * slope) };
  });
}

/** (x - b) times the mean gradient on the way from black, b, to the image. */
async function integratedGradients(under, image, label) {
  const way = image.map((pixel) => pixel - under.low);
  const total = new Float64Array(image.length);
  for (const { place, weight } of quadratureOf(POINTS)) {
    await under.pause();
    const at = way.map((length) => under.low + place * length);
    const slopes = gradientOf(under, at, label, logitSlope);
    slopes.forEach((slope, index) => (total[index] += weight * slope));
  }
  return way.map((length, at) => length * total[at]);
}

/** The methods by the harness's names: signed maps in the layout of the image. */
export const SALIENCY_METHODS = {
  gradient: async (under, image, label) => gradientOf(under, image, label, logitSlope),
  "gradient-x-input": async (under, image, label) =>
    gradientOf(under, image, label, logitSlope).map((slope, at) => slope * image[at]),
  "integrated-gradients": integratedGradients,
  "loss-gradient": async (under, image, label) => gradientOf(under, image, label, entropySlope),
};

/** How salient each pixel is: absolute values, summed over its channels. */
export function pixelScores(map, { shape, channel_axis: axis }) {
  if (shape.length !== 3 || axis === null) return map.map(Math.abs);
  const channels = shape[axis];
  const area = map.length / channels;
  const [channelStep, pixelStep] = axis === 0 ? [area, 1] : [1, channels];
  return Float64Array.from({ length: area }, (_, pixel) => {
    let sum = 0;
    for (let channel = 0; channel < channels; channel++) {
      sum += Math.abs(map[pixel * pixelStep + channel * channelStep]);
    }
    return sum;
  });
}

/** A mask of the share of pixels with the highest scores; of equal ones the first by rows. */
export function topPixels(scores, share) {
  const count = Math.max(1, roundedToEven(share * scores.length));
  const order = [...scores.keys()];
  order.sort((one, other) => scores[other] - scores[one] || one - other);
  const mask = new Uint8Array(scores.length);
  for (const at of order.slice(0, count)) mask[at] = 1;
  return mask;
}

/** Halves go to the even neighbour, as in Python. */
function roundedToEven(value) {
  const below = Math.floor(value);
  const rest = value - below;
  return rest > 0.5 || (rest === 0.5 && below % 2 === 1) ? below + 1 : below;
}
