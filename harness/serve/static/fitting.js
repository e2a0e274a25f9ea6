// Strokes become an image as the test images are: fitted into a box, their centre of mass in the middle.

const MNIST = { side: 28, box: 20, centre: 14.5, pen: 2.4 }; // pixels; the edge of the first is at 0
const INK = 0.01, CLOSE = 0.08; // share of the range; a drawing smaller than this share of the sheet is not enlarged more
const SPECK = 1e-4; // of the sheet: a line without a length would not be drawn
const FINE = 8; // each pixel is the mean of so many squared

/**
 * How the digits of a model's images are drawn: measured on test images, else in proportion to MNIST's.
 *
 * @returns {{box: number, x: number, y: number, pen: number, dark: boolean}} in pixels; dark: on light ground.
 */
export function manner(layout, [low, high], images) {
  const side = Math.min(layout.height, layout.width), scale = side / MNIST.side;
  const usual = { box: scale * MNIST.box, x: scale * MNIST.centre, y: scale * MNIST.centre, pen: scale * MNIST.pen, dark: false };
  const shares = images.map((image) => image.map((value) => (value - low) / (high - low)));
  const dark = shares.length > 0 && median(shares.map((share) => edge(layout, share))) > 0.5;
  const found = shares.map((share) => measured(layout, dark ? share.map((value) => 1 - value) : share)).filter(Boolean);
  if (!found.length) return { ...usual, dark };
  const box = median(found.map((one) => one.box));
  return {
    box, x: mean(found.map((one) => one.x)), y: mean(found.map((one) => one.y)),
    pen: mean(found.map((one) => one.ink)) / (2 * box), // a digit's line is about twice as long as its box
    dark,
  };
}

/** The longer side of the box around an image's ink, its centre of mass, and the sum of its ink. */
function measured({ height, width, at }, share) {
  let ink = 0, x = 0, y = 0, left = width, right = 0, top = height, bottom = 0;
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      const value = share[at(row, column)];
      ink += value;
      x += value * (column + 0.5);
      y += value * (row + 0.5);
      if (value <= INK) continue;
      [left, right] = [Math.min(left, column), Math.max(right, column + 1)];
      [top, bottom] = [Math.min(top, row), Math.max(bottom, row + 1)];
    }
  }
  return right > left ? { ink, x: x / ink, y: y / ink, box: Math.max(right - left, bottom - top) } : null;
}

/** The mean of the pixels along the edge of an image. */
function edge({ height, width, at }, share) {
  const values = [];
  for (let column = 0; column < width; column++) values.push(share[at(0, column)], share[at(height - 1, column)]);
  for (let row = 0; row < height; row++) values.push(share[at(row, 0)], share[at(row, width - 1)]);
  return mean(values);
}

/**
 * The image of strokes, or null if nothing is drawn.
 *
 * @param {{x: number, y: number}[][]} strokes in shares of the sheet.
 * @returns {?Float64Array} bytes scaled into the bounds, in the model's layout.
 */
export function fitted(strokes, layout, [low, high], how) {
  const points = strokes.flat();
  if (!points.length) return null;
  const spread = (of) => [Math.min(...points.map(of)), Math.max(...points.map(of))];
  const [left, right] = spread((point) => point.x), [top, bottom] = spread((point) => point.y);
  const scale = (how.box - how.pen) / Math.max(right - left, bottom - top, CLOSE);
  const middle = { x: layout.width / 2 - (scale * (left + right)) / 2, y: layout.height / 2 - (scale * (top + bottom)) / 2 };
  const first = measured({ ...layout, at: (row, column) => row * layout.width + column }, ink(strokes, layout, how.pen, scale, middle));
  const shifted = (size, begin, end, by) => {
    const half = (scale * (end - begin) + how.pen) / 2, room = Math.max(size / 2 - half, 0);
    return Math.min(Math.max(by, -room), room); // nothing is moved over the edge
  };
  const drawn = ink(strokes, layout, how.pen, scale, {
    x: middle.x + shifted(layout.width, left, right, how.x - first.x),
    y: middle.y + shifted(layout.height, top, bottom, how.y - first.y),
  });
  const image = new Float64Array(drawn.length);
  for (let row = 0; row < layout.height; row++) {
    for (let column = 0; column < layout.width; column++) {
      const byte = Math.round(255 * drawn[row * layout.width + column]) / 255;
      image[layout.at(row, column)] = low + (how.dark ? 1 - byte : byte) * (high - low);
    }
  }
  return image;
}

/** The share of each pixel that is covered with ink, row by row. */
function ink(strokes, { height, width }, pen, scale, origin) {
  const sheet = document.createElement("canvas");
  sheet.width = FINE * width;
  sheet.height = FINE * height;
  const context = sheet.getContext("2d", { willReadFrequently: true });
  context.setTransform(FINE * scale, 0, 0, FINE * scale, FINE * origin.x, FINE * origin.y);
  drawStrokes(context, strokes, pen / scale);
  const { data } = context.getImageData(0, 0, sheet.width, sheet.height);
  const found = new Float64Array(height * width);
  for (let y = 0; y < sheet.height; y++) {
    for (let x = 0; x < sheet.width; x++) {
      found[Math.floor(y / FINE) * width + Math.floor(x / FINE)] += data[4 * (y * sheet.width + x) + 3];
    }
  }
  return found.map((sum) => sum / (255 * FINE * FINE));
}

/** Round lines through the points of each stroke; a single point is a dot. */
export function drawStrokes(context, strokes, thickness) {
  Object.assign(context, { lineWidth: thickness, lineCap: "round", lineJoin: "round" });
  for (const stroke of strokes) {
    context.beginPath();
    context.moveTo(stroke[0].x - SPECK, stroke[0].y);
    for (const point of stroke) context.lineTo(point.x, point.y);
    context.stroke();
  }
}

function mean(values) {
  return values.reduce((a, b) => a + b, 0) / values.length;
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)];
}
