// A network in plain JavaScript, in float64: logits of one image, and gradients back to its pixels.
//
// Maps are flat arrays in the order (channels, height, width). A layer returns what it makes of its
// input, and a function that carries a gradient with respect to that back to its input.

/**
 * @typedef {{value: Float64Array, back: (flow: Float64Array) => Float64Array}} Step
 * @typedef {(x: Float64Array) => Step} Layer
 * @typedef {(count: number) => Float64Array} Take hands out the next weights
 * @typedef {{forward: Layer, classes: number, pixels: number}} Net
 */

/** The bytes of a text in base64. */
export function bytesOf(text) {
  const letters = atob(text);
  const bytes = new Uint8Array(letters.length);
  for (let at = 0; at < bytes.length; at++) bytes[at] = letters.charCodeAt(at);
  return bytes;
}

/** The numbers of float16, little endian. */
export function halvesOf(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const found = new Float64Array(bytes.byteLength >> 1);
  for (let at = 0; at < found.length; at++) {
    const bits = view.getUint16(2 * at, true);
    const exponent = (bits >> 10) & 31;
    const fraction = (bits & 1023) / 1024;
    const size = exponent ? (1 + fraction) * 2 ** (exponent - 15) : fraction * 2 ** -14;
    found[at] = bits & 0x8000 ? -size : size;
  }
  return found;
}

/**
 * A network from its description.
 * @param {{layers: object[], weights: string, classes: string[], input: object}} model
 * @returns {Net}
 */
export function networkOf(model) {
  const weights = halvesOf(bytesOf(model.weights));
  let used = 0;
  const take = (count) => weights.subarray(used, (used += count));
  const layers = sequenceOf(model.layers, take);
  if (used !== weights.length) {
    throw new Error(`The network has ${weights.length} weights, but its layers take ${used}.`);
  }
  const pixels = model.input.shape.reduce((product, side) => product * side, 1);
  return { classes: model.classes.length, pixels, forward: layers };
}

/** @returns {Layer} */
function sequenceOf(descriptions, take) {
  return inSequence(
    descriptions.map((one) => {
      const make = LAYERS[one.kind];
      if (!make) throw new Error(`The network has a layer of the unknown kind ${one.kind}.`);
      return make(one, take);
    }),
  );
}

/** @returns {Layer} */
function inSequence(layers) {
  return (x) => {
    const steps = [];
    let value = x;
    for (const layer of layers) {
      const step = layer(value);
      steps.push(step);
      value = step.value;
    }
    const back = (flow) => steps.reduceRight((found, step) => step.back(found), flow);
    return { value, back };
  };
}

const LAYERS = {
  channelsfirst: channelsFirstLayer,
  dense: denseLayer,
  conv: convLayer,
  scale: scaleLayer,
  relu: reluLayer,
  maxpool: maxPoolLayer,
  meanpool: meanPoolLayer,
  flatten: flattenLayer,
  residual: residualLayer,
};

/** x Wᵀ + b; weight (out, in). */
function denseLayer(layer, take) {
  const { in: width, out } = layer;
  const weight = take(out * width);
  const bias = take(out);
  return (x) => {
    const value = bias.map((start, row) => start + dotted(weight, row * width, x, 0, width));
    const back = (flow) => {
      const found = new Float64Array(width);
      flow.forEach((share, row) => addTimes(found, 0, share, weight, row * width, width));
      return found;
    };
    return { value, back };
  };
}

/**
 * A cross-correlation with zeros around; weight (out, in, height, width).
 *
 * What each window sees is written in a row, and so equal windows give equal sums, to the bit.
 */
function convLayer(layer, take) {
  const [out, ...sides] = layer.after;
  const area = sides[0] * sides[1];
  const length = layer.before[0] * layer.kernel[0] * layer.kernel[1];
  const weight = take(out * length);
  const bias = take(out);
  const frame = frameOf(layer.before, layer.padding);
  const seen = seenBy(layer, frame);
  return (x) => {
    const windows = gathered(frame.put(x, 0), seen);
    const value = new Float64Array(out * area);
    for (let at = 0; at < value.length; at++) {
      const [channel, place] = [Math.floor(at / area), at % area];
      const sum = dotted(weight, channel * length, windows, place * length, length);
      value[at] = bias[channel] + sum;
    }
    const back = (flow) => {
      const spread = new Float64Array(seen.length);
      flow.forEach((share, at) => {
        const [channel, place] = [Math.floor(at / area), at % area];
        addTimes(spread, place * length, share, weight, channel * length, length);
      });
      return frame.cut(scattered(spread, seen, frame.empty()));
    };
    return { value, back };
  };
}

/** Where in a frame the numbers are that each window sees, in the order of a weight. */
function seenBy(layer, frame) {
  const [depth] = layer.before;
  const [, ...sides] = layer.after;
  const one = { after: [1, ...sides], size: layer.kernel, stride: layer.stride };
  const { begins, offsets } = windowsOf(one, frame);
  const length = depth * offsets.length;
  return Int32Array.from({ length: begins.length * length }, (_, at) => {
    const inside = at % length;
    const channel = frame.place(Math.floor(inside / offsets.length), 0, 0);
    return begins[Math.floor(at / length)] + channel + offsets[inside % offsets.length];
  });
}

/** The inner product of two stretches; four sums at once keep a processor busy. */
function dotted(one, from, other, start, length) {
  let [first, second, third, fourth] = [0, 0, 0, 0];
  let at = 0;
  for (; at + 3 < length; at += 4) {
    first += one[from + at] * other[start + at];
    second += one[from + at + 1] * other[start + at + 1];
    third += one[from + at + 2] * other[start + at + 2];
    fourth += one[from + at + 3] * other[start + at + 3];
  }
  for (; at < length; at++) first += one[from + at] * other[start + at];
  return first + second + (third + fourth);
}

/** Adds a stretch, so many times, to another one. */
function addTimes(found, to, share, values, from, length) {
  if (share === 0) return;
  for (let at = 0; at < length; at++) found[to + at] += share * values[from + at];
}

/** Each channel, or unit, times its weight, plus its bias. */
function scaleLayer(layer, take) {
  const [channels, ...sides] = layer.before;
  const area = sides.reduce((product, side) => product * side, 1);
  const weight = take(channels);
  const bias = take(channels);
  return (x) => ({
    value: x.map((number, at) => {
      const channel = Math.floor(at / area);
      return number * weight[channel] + bias[channel];
    }),
    back: (flow) => flow.map((number, at) => number * weight[Math.floor(at / area)]),
  });
}

/** The positive part; its derivative at 0 is 0. */
function reluLayer() {
  return (x) => ({
    value: x.map((number) => (number > 0 ? number : 0)),
    back: (flow) => flow.map((number, at) => (x[at] > 0 ? number : 0)),
  });
}

/** The largest of each window; of equal ones the first, by rows, gets the gradient. */
function maxPoolLayer(layer) {
  const frame = frameOf(layer.before, layer.padding);
  const windows = windowsOf(layer, frame);
  return (x) => {
    const padded = frame.put(x, -Infinity);
    const best = windows.begins.map((begin) => {
      let chosen = begin;
      for (const offset of windows.offsets) {
        if (padded[begin + offset] > padded[chosen]) chosen = begin + offset;
      }
      return chosen;
    });
    const back = (flow) => frame.cut(scattered(flow, best, frame.empty()));
    return { value: gathered(padded, best), back };
  };
}

/** The mean of each window. */
function meanPoolLayer(layer) {
  const frame = frameOf(layer.before, [[0, 0], [0, 0]]);
  const { begins, offsets } = windowsOf(layer, frame);
  const share = 1 / offsets.length;
  return (x) => {
    const value = new Float64Array(begins.length);
    for (let at = 0; at < begins.length; at++) {
      for (const offset of offsets) value[at] += x[begins[at] + offset];
      value[at] *= share;
    }
    const back = (flow) => {
      const found = frame.empty();
      begins.forEach((begin, at) => {
        for (const offset of offsets) found[begin + offset] += flow[at] * share;
      });
      return found;
    };
    return { value, back };
  };
}

/** Maps to a vector, the channel last or first. */
function flattenLayer(layer) {
  if (!layer.last || layer.before.length !== 3) return (x) => ({ value: x, back: (flow) => flow });
  const [depth, rows, columns] = layer.before;
  const order = channelsLastOrder(depth, rows * columns);
  return (x) => ({
    value: gathered(x, order),
    back: (flow) => scattered(flow, order, new Float64Array(flow.length)),
  });
}

/** The sum of two branches; an empty one is the identity. */
function residualLayer(layer, take) {
  const [branch, shortcut] = [layer.branch, layer.shortcut].map((part) => sequenceOf(part, take));
  return (x) => {
    const [one, other] = [branch(x), shortcut(x)];
    const back = (flow) => added(one.back(flow), other.back(flow));
    return { value: added(one.value, other.value), back };
  };
}

/** Images with the channel last become maps. */
function channelsFirstLayer({ before: [rows, columns, depth] }) {
  const order = channelsLastOrder(depth, rows * columns);
  return (x) => ({
    value: scattered(x, order, new Float64Array(x.length)),
    back: (flow) => gathered(flow, order),
  });
}

/** Where in maps each number is, in the order of images with the channel last. */
function channelsLastOrder(depth, area) {
  const placeOf = (at) => (at % depth) * area + Math.floor(at / depth);
  return Int32Array.from({ length: depth * area }, (_, at) => placeOf(at));
}

/** Values in another order; the loops are plain because most of the time is spent in them. */
function gathered(values, order) {
  const found = new Float64Array(order.length);
  for (let at = 0; at < order.length; at++) found[at] = values[order[at]];
  return found;
}

/** Adds each value to a number of its own place in an array, which it returns. */
function scattered(values, order, found) {
  for (let at = 0; at < order.length; at++) found[order[at]] += values[at];
  return found;
}

function added(one, other) {
  return one.map((number, at) => number + other[at]);
}

/** Maps with room around them. */
function frameOf([depth, rows, columns], [[top, bottom], [left, right]]) {
  const width = left + columns + right;
  const area = width * (top + rows + bottom);
  const place = (channel, row, column) => channel * area + row * width + column;
  const eachRow = (touch) => {
    for (let line = 0; line < depth * rows; line++) {
      touch(line * columns, place(Math.floor(line / rows), top + (line % rows), left));
    }
  };
  const empty = () => new Float64Array(depth * area);
  const put = (maps, around) => {
    const whole = empty().fill(around);
    eachRow((at, to) => whole.set(maps.subarray(at, at + columns), to));
    return whole;
  };
  const cut = (whole) => {
    const maps = new Float64Array(depth * rows * columns);
    eachRow((at, from) => maps.set(whole.subarray(from, from + columns), at));
    return maps;
  };
  return { width, place, empty, put, cut };
}

/** Where windows begin in a frame, and where their numbers are from there, by rows. */
function windowsOf(layer, frame) {
  const [depth, rows, columns] = layer.after;
  const [height, width] = layer.size;
  const begins = new Int32Array(depth * rows * columns);
  const offsets = new Int32Array(height * width);
  for (let at = 0; at < begins.length; at++) {
    const [channel, inside] = [Math.floor(at / (rows * columns)), at % (rows * columns)];
    const [row, column] = [Math.floor(inside / columns), inside % columns];
    begins[at] = frame.place(channel, row * layer.stride[0], column * layer.stride[1]);
  }
  for (let at = 0; at < offsets.length; at++) {
    offsets[at] = frame.place(0, Math.floor(at / width), at % width);
  }
  return { begins, offsets };
}
