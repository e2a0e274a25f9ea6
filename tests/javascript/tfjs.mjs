// Loads a layers model into the real TensorFlow.js, and says its logits and shapes.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const { address, tfjs, shape, images } = JSON.parse(readFileSync("request.json", "utf8"));
const tf = createRequire(import.meta.url)(tfjs);

await tf.setBackend("cpu");
const model = await tf.loadLayersModel(`${address}/model.json`);
const count = images.length / shape.reduce((product, side) => product * side);
const logits = model.predict(tf.tensor(images, [count, ...shape]));
const said = {
  backend: tf.getBackend(),
  version: tf.version.tfjs,
  input: model.inputs[0].shape,
  output: model.outputs[0].shape,
  logits: await logits.array(),
};
process.stdout.write(JSON.stringify(said));
