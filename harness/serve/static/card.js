// One model's card: what it predicts, before and after the attack, and why.

import { showBars } from "./bars.js";
import { paintChange, paintImage, paintSaliency } from "./pictures.js";
import { className, modelSaid, percent, predictionsSaid, recordSaid, smallestSaid } from "./words.js";

const CALM = 250, SLOW = 500; // milliseconds before words change again, and before waiting is said

/**
 * @param {HTMLTemplateElement} template of a card.
 * @param {object} info of the model.
 * @param {object} layout of its images.
 * @param {() => void} again asks what failed once more.
 */
export function modelCard(template, info, layout, again) {
  const element = template.content.firstElementChild.cloneNode(true);
  const find = (selector) => element.querySelector(selector);
  const { bounds } = info.input;
  const told = calmly(find(".said")), trouble = find(".trouble");
  find(".name").textContent = info.name;
  find(".about").textContent = modelSaid(info);
  trouble.querySelector("button").addEventListener("click", again);
  let waiting = 0;

  function picture(kind, paint, about, caption) {
    const canvas = find(`.${kind} canvas`);
    paint(canvas);
    canvas.setAttribute("aria-label", about);
    find(`.${kind} figcaption span`).textContent = caption;
  }
  function predicted(kind, title, pixels, prediction, wrong) {
    const said = `${info.classes[prediction.label]} · ${percent(prediction.probabilities[prediction.label])}`;
    picture(kind, (canvas) => paintImage(canvas, layout, pixels, bounds), `${title}, taken for ${className(info, prediction.label)}`, said);
    find(`.${kind} figcaption`).classList.toggle("wrong", wrong);
  }

  return {
    element, info, smallest: null,
    /** Nothing is asked: there is no image. */
    empty(words) {
      find(".answer").hidden = true;
      trouble.hidden = true;
      told(words);
    },
    /** The predictions of an image and of its adversarial version. */
    showAttack(image, result, question) {
      find(".answer").hidden = false;
      trouble.hidden = true;
      element.classList.remove("old");
      predicted("clean", "Image", image.pixels, result.clean, result.clean.label !== result.label);
      predicted("adversarial", "Adversarial image", result.image, result.adversarial, result.misclassified);
      const reach = result.perturbation.reduce((a, b) => Math.max(a, Math.abs(b)), 0);
      const times = reach ? `× ${Number(((bounds[1] - bounds[0]) / reach).toPrecision(2))}` : "none";
      picture("change", (canvas) => paintChange(canvas, layout, result.perturbation, reach),
        `Perturbation, magnified ${times}: blue is darker, red lighter`, times);
      showBars(find(".bars"), info, result);
      told(predictionsSaid(info, result, image.label, question));
      find(".record").textContent = recordSaid(info, question);
    },
    /** Which pixels matter most to the class; null if the model cannot say. */
    showSaliency(found) {
      find(".map").hidden = !found;
      if (!found) return;
      const name = className(info, found.label), of = found.side === "clean" ? "image" : "adversarial image";
      picture("map", (canvas) => paintSaliency(canvas, layout, found.pixels, bounds, found),
        `Saliency of the ${of} for ${name}, by ${found.method}: the ${percent(info.top)} most salient pixels are outlined`,
        `for ${name}`);
    },
    /** How far the image must be moved; null while that is not known. */
    showSmallest(smallest) {
      this.smallest = smallest;
      find(".smallest").textContent = smallest ? smallestSaid(smallest) : "";
    },
    fail(error) {
      trouble.querySelector("span").textContent = error.message;
      trouble.hidden = false;
      element.classList.add("old");
    },
    /** While an answer takes long, and when none comes, the last one fades. */
    wait(busy) {
      clearTimeout(waiting);
      if (busy) waiting = setTimeout(() => element.classList.add("waiting"), SLOW);
      else element.classList.remove("waiting");
    },
  };
}

/** Words that change often are put there once they have not for a while, for those who hear them. */
function calmly(place) {
  let timer = 0;
  return (words) => {
    clearTimeout(timer);
    timer = setTimeout(() => { if (place.textContent !== words) place.textContent = words; }, CALM);
  };
}
