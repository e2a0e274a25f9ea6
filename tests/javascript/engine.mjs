// Runs the engine of the playground on images, and says what it finds.

import { readFileSync } from "node:fs";
import { deskOf } from "./static/local-desk.js";
import { networkOf } from "./static/engine.js";

const request = JSON.parse(readFileSync("request.json", "utf8"));
const { model, images, labels, flow = [], ask = {} } = request;
const signal = { aborted: false };
const desk = deskOf({ models: [model] }, 50);
const net = networkOf(model);
const said = { logits: [], gradients: [], attack: [], explain: [], smallest: [] };

for (const [at, pixels] of images.entries()) {
  const image = Float64Array.from(pixels);
  const { value, back } = net.forward(image);
  said.logits.push([...value]);
  if (flow.length) said.gradients.push([...back(Float64Array.from(flow[at]))]);
  for (const [method, all] of Object.entries(ask)) {
    const answers = [];
    for (const options of all) {
      const given = { ...options, label: labels[at] };
      const answer = await desk[method](model.name, image, given, signal);
      for (const [key, value] of Object.entries(answer)) {
        if (ArrayBuffer.isView(value)) answer[key] = [...value];
      }
      answers.push(answer);
    }
    said[method].push(answers);
  }
}
process.stdout.write(JSON.stringify(said));
