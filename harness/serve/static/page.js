// The page: an image, an attack with its epsilon, and what the models make of it.

import { modelCard } from "./card.js";
import { drawingPad } from "./drawing.js";
import { epsilonScale } from "./epsilon.js";
import { fitted, manner } from "./fitting.js";
import { inOrder } from "./latest.js";
import { localEngine } from "./local.js";
import { markRow } from "./marks.js";
import { layoutOf, paintImage } from "./pictures.js";
import { remoteEngine } from "./remote.js";
import { attackName, className, comparisonSaid } from "./words.js";

const SEARCHES = { fgsm: "fgsm", linf: "pgd" }; // the search for the smallest epsilon, by attack or norm
const NORMS = { linf: "L∞", l2: "L2" };
const byId = (id) => document.getElementById(id);
const bundle = byId("bundle");
const engine = bundle ? localEngine(JSON.parse(bundle.textContent)) : remoteEngine("api/v1");
const state = { image: null, attack: null, epsilon: 0, method: "", side: "clean", scale: null };
const epsilons = {}; // that were chosen, by norm
let infos = [], cards = [], layout = null, pad = null;

void begin();

async function begin() {
  const trouble = byId("trouble");
  trouble.querySelector("button").onclick = () => void begin();
  try {
    infos = await engine.models();
    if (!infos.length) throw new Error("There is no model to try.");
    const chosen = chosenModels();
    setUpImages(chosen[0], await engine.examples(chosen[0].name), chosen);
    setUpControls();
    showCards(chosen);
    byId("note").textContent = engine.note ?? "";
    for (const id of ["image", "controls", "models"]) byId(id).hidden = false;
    trouble.hidden = true;
  } catch (error) {
    trouble.querySelector("span").textContent = error.message;
    trouble.hidden = false;
  }
}

/** A plain model and a defended one, where there are both for the same images; else the first ones. */
function chosenModels() {
  const plain = infos.find((info) => !info.adversarial) ?? infos[0];
  const kind = ({ input, classes }) => JSON.stringify([input, classes]);
  const others = infos.filter((info) => info !== plain && kind(info) === kind(plain));
  infos = [plain, ...others];
  const second = others.find((info) => info.adversarial && info.backend === plain.backend)
    ?? others.find((info) => info.adversarial) ?? others[0];
  return second ? [plain, second] : [plain];
}

function setUpImages(info, examples, chosen) {
  layout = layoutOf(info.input);
  const grey = layout.channels === 1 && layout.height > 1;
  if (grey) setUpPad(info, manner(layout, info.input.bounds, examples.map((one) => one.image)));
  setUpTitle(info, grey);
  const strip = byId("examples").querySelector(".strip");
  const radios = examples.map((example) => exampleChoice(info, example));
  strip.replaceChildren(...radios.map((radio) => radio.parentElement));
  byId("examples").hidden = !examples.length;
  const right = ({ predicted, label }) => chosen.every(({ name }) => (predicted?.[name] ?? label) === label);
  radios[Math.max(examples.findIndex(right), 0)]?.click();
}

function setUpTitle({ classes }, grey) {
  const digits = classes.every((name) => /^\d$/.test(name));
  if (grey && digits) return;
  byId("title").textContent = grey ? "Try it on your own drawing" : "Try it on a test image";
  byId("hint").textContent = "Draw here";
  byId("lead").textContent = `${grey ? "Draw something, or take" : "Take"} a test image, then raise ε: an attack changes `
    + "the image within that bound, and you hardly see a difference when the network takes it for another class.";
  if (!grey) byId("examples").querySelector("legend").textContent = "Test images";
}

function setUpPad(info, how) {
  const canvas = byId("drawing"), source = {};
  let waiting = 0, strokes = [];
  const draw = () => {
    waiting = 0;
    const pixels = fitted(strokes, layout, info.input.bounds, how);
    chooseImage(pixels && { pixels, source, label: null });
  };
  const drawn = (made) => {
    strokes = made;
    byId("hint").hidden = strokes.length > 0;
    for (const radio of document.querySelectorAll("input[name=example]")) radio.checked = false;
    waiting ||= requestAnimationFrame(draw);
  };
  pad = pad ?? drawingPad(canvas, { changed: drawn, said: (words) => { byId("pen").textContent = words; } });
  byId("undo").onclick = pad.undo;
  byId("clear").onclick = pad.clear;
  byId("pad").hidden = false;
}

/** A test image to choose; named by its place in the data and its class. */
function exampleChoice(info, { index, label, image }) {
  const choice = document.createElement("label"), radio = document.createElement("input");
  const canvas = document.createElement("canvas");
  Object.assign(radio, { type: "radio", name: "example", value: index });
  radio.setAttribute("aria-label", `Test image ${index}, ${className(info, label)}`);
  choice.title = `Test image ${index}: ${info.classes[label]}`;
  canvas.setAttribute("aria-hidden", "true");
  paintImage(canvas, layout, image, info.input.bounds);
  choice.append(radio, canvas);
  radio.addEventListener("change", () => {
    pad?.wipe();
    byId("hint").hidden = false;
    chooseImage({ pixels: image, source: {}, label });
  });
  return radio;
}

function chooseImage(image) {
  state.image = image;
  askAll();
}

function setUpControls() {
  byId("attack").onchange = () => chooseAttack();
  byId("epsilon").oninput = () => chooseEpsilon(state.scale.nearest(Number(byId("epsilon").value)));
  byId("method").onchange = () => {
    state.method = byId("method").value;
    askAll();
  };
  for (const radio of document.querySelectorAll("input[name=side]")) {
    radio.onchange = () => {
      state.side = radio.value;
      askAll();
    };
  }
}

/** Cards of one or two models, and the attacks and methods that they have. */
function showCards(chosen) {
  cards = chosen.map((info, place) => newCard(info, place, chosen));
  byId("cards").replaceChildren(...cards.map((card) => card.element));
  byId("marks").replaceChildren(...cards.map((card) => card.mark.row));
  const attacks = chosen[0].attacks.filter(({ name }) => chosen.every((info) => info.attacks.some((one) => one.name === name)));
  offer(byId("attack"), attacks.map(({ name, norm }) => [name, attackName(name), NORMS[norm]]), byId("attack").value || "fgsm");
  const methods = [...new Set(chosen.flatMap((info) => info.methods))];
  offer(byId("method"), methods.map((name) => [name, name.replaceAll(/[-_]/g, " ")]), byId("method").value || "gradient");
  byId("method").closest("section").hidden = !methods.length;
  state.method = byId("method").value;
  chooseAttack();
}

function newCard(info, place, chosen) {
  const card = modelCard(byId("model"), info, layout, () => askAll());
  card.mark = markRow(info, (epsilon) => chooseEpsilon(state.scale.above(epsilon)));
  const known = remembering();
  card.ask = inOrder((question, turn) => answer(card, known, question, turn));
  const choice = card.element.querySelector(".choice");
  choice.hidden = infos.length <= chosen.length;
  card.element.querySelector("h2").hidden = !choice.hidden;
  const free = infos.filter((one) => one === info || !chosen.includes(one));
  const select = choice.querySelector("select");
  offer(select, free.map(({ name }) => [name, name]), info.name);
  select.onchange = () => {
    showCards(chosen.map((one, at) => (at === place ? free.find(({ name }) => name === select.value) : one)));
    cards[place].element.querySelector("select").focus();
  };
  return card;
}

/** Options of a select, [value, text, group], and the one that is chosen, if it is among them. */
function offer(select, options, value) {
  const groups = [...new Set(options.map(([, , group]) => group))].map((label) => {
    const made = options.filter(([, , group]) => group === label).map(([name, text]) => new Option(text, name));
    if (!label) return made;
    const group = Object.assign(document.createElement("optgroup"), { label });
    group.append(...made);
    return [group];
  });
  select.replaceChildren(...groups.flat());
  if (options.some(([name]) => name === value)) select.value = value;
}

function chooseAttack() {
  const [{ info }] = cards;
  state.attack = info.attacks.find(({ name }) => name === byId("attack").value);
  const { norm } = state.attack, slider = byId("epsilon");
  state.scale = epsilonScale(info, state.attack);
  Object.assign(slider, { max: state.scale.max, step: state.scale.step });
  byId("bound").textContent = norm === "l2" ? "ε, the L2 norm of the change" : "ε, the largest change of a pixel";
  chooseEpsilon(epsilons[norm] ?? state.scale.start);
}

function chooseEpsilon(epsilon) {
  state.epsilon = state.scale.nearest(epsilon);
  epsilons[state.attack.norm] = state.epsilon;
  byId("epsilon").value = state.epsilon;
  byId("epsilon").setAttribute("aria-valuetext", `ε = ${state.scale.said(state.epsilon)}`);
  byId("epsilon-said").textContent = state.scale.said(state.epsilon);
  askAll();
}

function askAll() {
  for (const card of cards) card.ask({ ...state });
}

/** Keeps the last answer of each kind, for as long as what it depends on is the same. */
function remembering() {
  const last = {};
  return {
    has: (kind, on) => last[kind]?.on.length === on.length && on.every((one, at) => one === last[kind].on[at]),
    async get(kind, on, ask) {
      if (!this.has(kind, on)) last[kind] = { on, found: await ask() };
      return last[kind].found;
    },
    forget: (kind) => { delete last[kind]; },
  };
}

/** Asks one model everything about one state of the page, and shows each answer as it comes. */
async function answer(card, known, question, turn) {
  const { image } = question;
  // What is in the making while another image is taken is of no use any more.
  const gone = () => turn.next() !== null && turn.next().image?.source !== image?.source;
  if (!image) {
    card.empty(layout.channels === 1 ? "Draw something, or take a test image." : "Take a test image.");
    showSmallest(card, null);
    return;
  }
  card.wait(true);
  if (!known.has("smallest", [image, searchOf(card, question)?.name])) showSmallest(card, null);
  try {
    const result = await attacked(card, known, question);
    if (gone()) return;
    card.showAttack(image, result, question);
    const found = await explained(card, known, question, result);
    if (gone()) return;
    card.showSaliency(found);
    card.wait(false);
    await searched(card, known, question, turn, result.label);
  } catch (error) {
    if (!gone()) card.fail(error);
  } finally {
    card.wait(false);
  }
}

function attacked(card, known, { image, attack, epsilon }) {
  const options = { attack: attack.name, epsilon, label: image.label };
  return known.get("attack", [image, attack.name, epsilon], () => engine.attack(card.info.name, image.pixels, options));
}

/** The saliency of the attacked class, or null if the model has no such method. */
async function explained(card, known, { image, method, side }, result) {
  const { name, methods, top } = card.info;
  if (!methods.includes(method)) return null;
  const pixels = side === "clean" ? image.pixels : result.image;
  const { label } = result;
  const ask = () => engine.explain(name, pixels, { method, top, label });
  return { ...await known.get("saliency", [pixels, label, method], ask), pixels, label, method, side };
}

/** The smallest epsilon, once the page has been still for a moment. */
async function searched(card, known, question, turn, label) {
  const { image, scale } = question;
  const search = searchOf(card, question), on = [image, search?.name];
  if (!search) return;
  const options = { attack: search.name, label, limit: search.epsilon_max };
  const ask = (signal) => engine.smallest(card.info.name, image.pixels, options, signal);
  const found = await known.get("smallest", on, () => turn.whileQuiet(ask));
  if (!found) known.forget("smallest");
  else if (!turn.next()) showSmallest(card, { ...found, image, search: search.name, said: scale.said });
}

/** The attack by which the smallest epsilon is searched for; undefined where there is none. */
function searchOf({ info }, { attack }) {
  const search = SEARCHES[attack.name] ?? SEARCHES[attack.norm];
  return info.attacks.find(({ name }) => name === search);
}

function showSmallest(card, smallest) {
  card.showSmallest(smallest);
  if (smallest) card.mark.show(smallest, state.scale);
  else card.mark.hide();
  byId("comparison").textContent = comparisonSaid(...cards);
}
