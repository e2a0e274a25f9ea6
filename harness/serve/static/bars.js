// The probabilities of the classes as a table of bars.

import { percent } from "./words.js";

const MOST = 10, LONG = 4; // classes that are shown; letters of a name that needs room

/** Classes in their order; of many only the likeliest, before and after the attack. */
function shownClasses(clean, adversarial) {
  const all = clean.map((_, label) => label);
  if (all.length <= MOST) return all;
  const either = (label) => Math.max(clean[label], adversarial?.[label] ?? 0);
  return all.sort((a, b) => either(b) - either(a)).slice(0, MOST).sort((a, b) => a - b);
}

/** One row a class; the class that is attacked and the ones that are predicted stand out. */
export function showBars(table, info, { clean, adversarial, label }) {
  const labels = shownClasses(clean.probabilities, adversarial?.probabilities);
  const body = table.tBodies[0];
  table.classList.toggle("named", labels.some((one) => String(info.classes[one]).length > LONG));
  while (body.rows.length < labels.length) body.append(newRow());
  while (body.rows.length > labels.length) body.lastChild.remove();
  labels.forEach((one, at) => {
    const row = body.rows[at];
    row.cells[0].textContent = info.classes[one] ?? one;
    row.classList.toggle("right", one === label);
    showBar(row.cells[1], clean, one);
    showBar(row.cells[2], adversarial, one);
  });
}

function newRow() {
  const row = document.createElement("tr"), head = document.createElement("th");
  head.scope = "row";
  row.append(head, document.createElement("td"), document.createElement("td"));
  for (const cell of [...row.cells].slice(1)) {
    const bar = document.createElement("span"), said = document.createElement("span");
    bar.className = "bar";
    cell.append(bar, said);
  }
  return row;
}

function showBar(cell, prediction, label) {
  const share = prediction ? prediction.probabilities[label] : 0;
  cell.firstChild.style.setProperty("--share", share.toFixed(4));
  cell.lastChild.textContent = prediction ? percent(share) : "";
  cell.classList.toggle("small", share < 0.005);
  cell.classList.toggle("predicted", prediction?.label === label);
}
