// The page is complete without this; it lets a reader choose an epsilon and point at charts.
"use strict";

const sliders = [...document.querySelectorAll(".slider")];

function number(slider, place) {
  return slider.querySelector("input").dataset.epsilons.split(" ")[place];
}

/* Of a gallery, only the clean images, those at the chosen epsilon, and the change are shown. */
function showStep(block, epsilon) {
  for (const row of block.querySelectorAll(".gallery tr[data-step]")) {
    row.hidden = row.dataset.step !== "0" && row.dataset.step !== epsilon;
  }
}

function showCounts(block, epsilon, place) {
  const stored = block.querySelector("script.matrices-by-epsilon");
  if (!stored) return;
  const { attack, counts, unanswered } = JSON.parse(stored.textContent);
  const table = block.querySelector("table.attacked");
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
  table.querySelector(".what").textContent = `${attack} at ε = ${epsilon}`;
  table.querySelector(".accuracy").textContent = `${(100 * right / Math.max(total, 1)).toFixed(1)}\u202f%`;
  const missing = unanswered[place], images = missing === 1 ? "image" : "images";
  table.querySelector(".unanswered").textContent = missing ? `, ${missing} ${images} not answered and left out` : "";
}

function show(slider) {
  const input = slider.querySelector("input");
  const place = Number(input.value), epsilon = number(slider, place);
  slider.querySelector("output").textContent = epsilon === "0" ? "0, clean" : epsilon;
  input.setAttribute("aria-valuetext", `epsilon ${epsilon}`);
  const block = slider.parentElement;
  showStep(block, epsilon);
  showCounts(block, epsilon, place);
}

/* All sliders follow the one that is moved, as far as they have its epsilon. */
function follow(moved) {
  const epsilon = number(moved, Number(moved.querySelector("input").value));
  for (const slider of sliders) {
    const place = slider.querySelector("input").dataset.epsilons.split(" ").indexOf(epsilon);
    if (place >= 0) slider.querySelector("input").value = place;
    show(slider);
  }
}

for (const slider of sliders) {
  slider.hidden = false;
  slider.querySelector("input").addEventListener("input", () => follow(slider));
  show(slider);
}

/* A point of a chart tells its values at once instead of after the browser's delay. */
const tip = document.createElement("div");
tip.className = "tip";
tip.hidden = true;
document.body.append(tip);
for (const spot of document.querySelectorAll(".spot")) {
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

/* A printed page has no one to open what is closed. */
addEventListener("beforeprint", () => {
  for (const block of document.querySelectorAll("details:not([open])")) {
    block.open = true;
    block.dataset.opened = "";
  }
});
addEventListener("afterprint", () => {
  for (const block of document.querySelectorAll("details[data-opened]")) block.open = false;
});
