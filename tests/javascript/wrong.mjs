// Asks the desk of the playground what it cannot answer, and says what it is told.

import { readFileSync } from "node:fs";
import { deskOf } from "./static/local-desk.js";

const { model, asks } = JSON.parse(readFileSync("request.json", "utf8"));
const desk = deskOf({ models: [model] }, 50);
const told = [];
for (const [method, image, options] of asks) {
  try {
    await desk[method](model.name, image, options, { aborted: false });
    told.push("");
  } catch (error) {
    told.push(error.message);
  }
}
process.stdout.write(JSON.stringify(told));
