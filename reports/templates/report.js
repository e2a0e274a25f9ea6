// The page is complete without this; it lets a reader choose a model and an epsilon for all of it,
// keeps the choice in the address, and tells the values of a chart's points.
"use strict";

const all = (selector, within = document) => [...within.querySelectorAll(selector)];
const choose = document.getElementById("choose");
const models = document.getElementById("choose-model");
const slider = document.getElementById("choose-epsilon");
const blocks = all(".choice");
const modelsOf = (block) => JSON.parse(block.dataset.models);
const matrices = all("script.matrices-by-epsilon").map((stored) => {
  const block = stored.parentElement;
  return { table: block.querySelector("table.attacked"), ...JSON.parse(stored.textContent) };
});
const epsilons = [...new Set([
  ...all(".gallery tr[data-step]").map((row) => row.dataset.step),
  ...matrices.flatMap((one) => one.epsilons),
])].sort((a, b) => a - b);
/* Epsilons as they are read, where that is not as they are told apart: 8/255. */
const written = JSON.parse(document.getElementById("content").dataset.written);
const start = { model: "", eps: document.getElementById("content").dataset.epsilon };

/* Of blocks that stand beside each other the one of the chosen model is shown, or else the first. */
function showModel(model) {
  for (const parent of new Set(blocks.map((block) => block.parentElement))) {
    const beside = all(":scope > .choice", parent);
    const chosen = beside.find((block) => modelsOf(block).includes(model)) ?? beside[0];
    for (const block of beside) block.hidden = block !== chosen;
    chosen.open = true;
  }
}

/* Of a gallery only the clean images, those at the chosen epsilon, and the change are shown. */
function showEpsilon(epsilon) {
  for (const gallery of all(".gallery")) {
    const rows = all("tr[data-step]", gallery);
    if (!rows.some((row) => row.dataset.step === epsilon)) continue;
    for (const row of rows) row.hidden = !["0", epsilon].includes(row.dataset.step);
  }
  for (const one of matrices) showCounts(one, epsilon);
  for (const cell of all("[data-at]")) cell.classList.toggle("at", cell.dataset.at === epsilon);
}

function showCounts({ table, attack, epsilons: stored, counts, unanswered }, epsilon) {
  const place = stored.indexOf(epsilon);
  if (place < 0) return;
  let right = 0, total = 0;
  counts[place].forEach((row, truth) => {
    const sum = row.reduce((a, b) => a + b, 0);
    total += sum;
    right += row[truth];
    row.forEach((count, predicted) => {
      const cell = table.tBodies[0].rows[truth].cells[predicted + 1];
      cell.textContent = count;
      cell.classList.toggle("zero", count === 0);
      cell.style.setProperty("--share", (count / Math.max(sum, 1)).toFixed(3));
    });
  });
  table.querySelector(".what").textContent = `${attack} at ε = ${written[epsilon] ?? epsilon}`;
  table.querySelector(".accuracy").textContent = `${(100 * right / Math.max(total, 1)).toFixed(1)}\u202f%`;
  const missing = unanswered[place], images = missing === 1 ? "image" : "images";
  table.querySelector(".unanswered").textContent = missing ? `, ${missing} ${images} not answered and left out` : "";
}

/* The address's fragment is an anchor, and behind a question mark what was chosen. */
function chosenInAddress() {
  const [anchor, query = ""] = location.hash.slice(1).split("?");
  return { anchor, ...Object.fromEntries(new URLSearchParams(query)) };
}

function show() {
  const epsilon = epsilons[slider.value] ?? "";
  slider.nextElementSibling.textContent = epsilon === "0" ? "0, clean" : written[epsilon] ?? epsilon;
  slider.setAttribute("aria-valuetext", `epsilon ${written[epsilon] ?? epsilon}`);
  showModel(models.value);
  showEpsilon(epsilon);
}

function choice() {
  const told = {};
  if (models.value !== start.model) told.model = models.value;
  if (epsilons.length && epsilons[slider.value] !== start.eps) told.eps = epsilons[slider.value];
  return String(new URLSearchParams(told));
}

function keep() {
  const query = choice();
  const hash = `#${chosenInAddress().anchor}${query && "?"}${query}`;
  history.replaceState(null, "", hash === "#" ? location.href.split("#")[0] : hash);
}

/* Where the address leads: to a choice, and to an element, of another model if it is of one. */
function follow() {
  const { anchor, model, eps } = chosenInAddress();
  const target = document.getElementById(anchor);
  const within = target?.closest(".choice");
  if (all("option", models).some((option) => option.value === model)) models.value = model;
  if (within && !modelsOf(within).includes(models.value)) models.value = modelsOf(within)[0];
  if (epsilons.includes(eps)) slider.value = epsilons.indexOf(eps);
  show();
  for (let block = target; block; block = block.parentElement) if (block.tagName === "DETAILS") block.open = true;
  target?.scrollIntoView({ behavior: "instant" });
  keep();
}

models.append(...[...new Set(blocks.flatMap(modelsOf))].map((label) => new Option(label)));
start.model = models.value;
slider.max = Math.max(0, epsilons.length - 1);
if (!epsilons.includes(start.eps)) start.eps = epsilons.find((epsilon) => epsilon > 0) ?? epsilons[0];
slider.value = Math.max(0, epsilons.indexOf(start.eps));
models.parentElement.hidden = models.options.length < 2;
slider.parentElement.hidden = epsilons.length < 2;
choose.hidden = models.parentElement.hidden && slider.parentElement.hidden;
document.documentElement.classList.add("scripted");
choose.addEventListener("submit", (event) => event.preventDefault());
choose.addEventListener("input", () => { show(); keep(); });
addEventListener("hashchange", follow);
if (location.hash) follow(); else show();

/* A point of a chart tells its values at once instead of after the browser's delay. */
const tip = document.createElement("div");
tip.className = "tip";
tip.hidden = true;
document.body.append(tip);
for (const spot of all(".spot")) {
  const title = spot.querySelector("title");
  const text = title.textContent;
  title.remove();
  spot.addEventListener("pointerenter", (event) => {
    tip.textContent = text;
    tip.hidden = false;
    const left = Math.min(event.pageX + 12, document.documentElement.clientWidth - tip.offsetWidth - 8);
    tip.style.left = `${Math.max(8, left)}px`;
    tip.style.top = `${event.pageY - tip.offsetHeight - 10}px`;
  });
  spot.addEventListener("pointerleave", () => { tip.hidden = true; });
}
