"use strict";
// Sorts the tables by a click on a heading, and takes differences to the entry that is chosen.
const points = (change) => {
  const text = Math.abs(100 * change).toFixed(1);
  return text === "0.0" ? text : (change < 0 ? "−" : "+") + text;
};
const value = (row, column) => {
  const cell = row.cells[column];
  const number = Number(cell.dataset.value);
  return "value" in cell.dataset && !Number.isNaN(number) ? number : cell.textContent.trim();
};
const compared = (a, b) =>
  typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));

const sort = (table, heading) => {
  const column = heading.cellIndex;
  // What is best comes first at the first click: ranks and names rise, accuracies fall.
  const rises = column < 2;
  const before = heading.getAttribute("aria-sort");
  const first = rises ? "ascending" : "descending";
  const next = before === first ? (rises ? "descending" : "ascending") : first;
  for (const other of heading.parentElement.cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", next);
  const sign = next === "ascending" ? 1 : -1;
  const body = table.tBodies[0];
  body.append(...[...body.rows].sort((a, b) => sign * compared(value(a, column), value(b, column))));
};

for (const table of document.querySelectorAll("table.board")) {
  for (const heading of table.tHead.querySelectorAll("th")) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    button.addEventListener("click", () => sort(table, heading));
    heading.append(button);
  }
}

const differences = (section, chosen) => {
  for (const table of section.querySelectorAll("table.board")) {
    const rows = [...table.tBodies[0].rows];
    const worst = (row) => Number(row.dataset.worst);
    const best = rows.reduce((a, b) => (worst(b) > worst(a) ? b : a));
    const base = chosen === "" ? best : rows.find((row) => row.dataset.entry === chosen);
    const title = table.tHead.querySelector("[data-title] button");
    if (title) title.textContent = chosen === "" ? "Points to the best" : "Points to the chosen";
    for (const row of rows) {
      row.classList.toggle("compared", chosen !== "" && row === base);
      const cell = row.querySelector(".difference");
      if (!cell) continue;
      const change = base ? worst(row) - worst(base) : Number.NaN;
      cell.dataset.value = base ? change : -2;
      cell.textContent = base ? points(change) : "—";
    }
  }
};

for (const select of document.querySelectorAll(".chosen-one select")) {
  select.parentElement.hidden = false;
  select.addEventListener("change", () => differences(select.closest("section"), select.value));
}
