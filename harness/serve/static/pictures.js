// Images, perturbations and saliency maps on canvases.

const OUTLINE = "#4de3ff";
const MAGMA = [
  [0, 0, 4], [29, 17, 71], [81, 18, 124], [130, 38, 129], [183, 55, 121], [231, 82, 99],
  [252, 137, 97], [254, 196, 136], [252, 253, 191],
];
const CHANGE = [[33, 102, 172], [247, 247, 247], [178, 24, 43]]; // darker, unchanged, lighter
const DETAIL = 224; // pixels of a picture with an outline, at least

/**
 * Where the numbers of an image are: `at(row, column, channel)` is a place in the flat array.
 *
 * @param {{shape: number[], channel_axis: ?number}} input of a model.
 */
export function layoutOf({ shape, channel_axis: said }) {
  if (shape.length === 1) {
    const side = Math.sqrt(shape[0]);
    const [height, width] = Number.isInteger(side) ? [side, side] : [1, shape[0]];
    return { height, width, channels: 1, at: (row, column) => row * width + column };
  }
  if (shape.length === 2) {
    return { height: shape[0], width: shape[1], channels: 1, at: (row, column) => row * shape[1] + column };
  }
  const axis = said ?? (shape[0] <= 4 ? 0 : 2);
  const strides = [shape[1] * shape[2], shape[2], 1];
  const [rows, columns] = [0, 1, 2].filter((one) => one !== axis);
  return {
    height: shape[rows], width: shape[columns], channels: shape[axis],
    at: (row, column, channel = 0) => row * strides[rows] + column * strides[columns] + channel * strides[axis],
  };
}

/** An image from black to white, or in its colours. */
export function paintImage(canvas, layout, pixels, bounds) {
  painted(canvas, layout, colourOf(layout, pixels, bounds));
}

/** A perturbation between -reach and reach: blue is darker, red lighter; of colours their mean. */
export function paintChange(canvas, layout, change, reach) {
  painted(canvas, layout, (row, column) => {
    let sum = 0;
    for (let channel = 0; channel < layout.channels; channel++) sum += change[layout.at(row, column, channel)];
    return shade(CHANGE, 0.5 + (reach ? sum / layout.channels / reach / 2 : 0));
  });
}

/** The size of a map's numbers laid over its image, the pixels of the mask outlined. */
export function paintSaliency(canvas, layout, pixels, bounds, { scores, mask }) {
  const colour = colourOf(layout, pixels, bounds);
  const largest = scores.reduce((a, b) => Math.max(a, b), 0) || 1;
  const small = document.createElement("canvas");
  painted(small, layout, (row, column) => {
    const share = scores[row * layout.width + column] / largest;
    const hot = shade(MAGMA, 0.25 + 0.75 * share);
    return colour(row, column).map((value, at) => (1 - share) * 0.55 * value + share * hot[at]);
  });
  const scale = Math.max(1, Math.ceil(DETAIL / Math.max(layout.height, layout.width)));
  canvas.width = scale * layout.width;
  canvas.height = scale * layout.height;
  const pen = canvas.getContext("2d");
  pen.imageSmoothingEnabled = false;
  pen.drawImage(small, 0, 0, canvas.width, canvas.height);
  outline(pen, layout, mask, scale);
}

function outline(pen, { height, width }, mask, scale) {
  const inside = (row, column) =>
    row >= 0 && column >= 0 && row < height && column < width && mask[row * width + column];
  const line = (x, y, right, down) => {
    pen.moveTo(x * scale, y * scale);
    pen.lineTo((x + right) * scale, (y + down) * scale);
  };
  pen.beginPath();
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      if (!inside(row, column)) continue;
      if (!inside(row - 1, column)) line(column, row, 1, 0);
      if (!inside(row + 1, column)) line(column, row + 1, 1, 0);
      if (!inside(row, column - 1)) line(column, row, 0, 1);
      if (!inside(row, column + 1)) line(column + 1, row, 0, 1);
    }
  }
  Object.assign(pen, { strokeStyle: OUTLINE, lineWidth: 2, lineCap: "square" });
  pen.stroke();
}

/** Red, green and blue of each pixel, 0 to 255. */
function colourOf(layout, pixels, [low, high]) {
  const byte = (value) => (255 * (value - low)) / (high - low);
  return (row, column) =>
    [0, 1, 2].map((channel) => byte(pixels[layout.at(row, column, layout.channels < 3 ? 0 : channel)]));
}

function painted(canvas, { height, width }, colour) {
  canvas.width = width;
  canvas.height = height;
  const picture = new ImageData(width, height); // it clamps and rounds
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      picture.data.set([...colour(row, column), 255], 4 * (row * width + column));
    }
  }
  canvas.getContext("2d").putImageData(picture, 0, 0);
}

function shade(colours, share) {
  const place = Math.min(Math.max(share, 0), 1) * (colours.length - 1);
  const below = Math.min(Math.floor(place), colours.length - 2);
  return colours[below].map((value, at) => value + (place - below) * (colours[below + 1][at] - value));
}
