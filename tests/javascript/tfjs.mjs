// Loads a layers model into the real TensorFlow.js, and says its logits and shapes.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const { address, tfjs, shape, images } = JSON.parse(readFileSync("request.json", "utf8"));
const tf = createRequire(import.meta.url)(tfjs);

await tf.setBackend("cpu");
const model = await tf.loadLayersModel(`${address}/model.json`);
const logits = model.predict(tf.tensor(images, [images.length / shape.reduce((a, b) => a * b), ...shape]));
const said = {
  backend: tf.getBackend(),
  version: tf.version.tfjs,
  input: model.inputs[0].shape,
  output: model.outputs[0].shape,
  logits: await logits.array(),
};
process.stdout.write(JSON.stringify(said));
