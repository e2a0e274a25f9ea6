// Under the slider: the smallest epsilon at which each model misclassifies the image.

/** A row of one model; `chosen` is told the epsilon of a mark that is pressed. */
export function markRow(info, chosen) {
  const row = document.createElement("div"), button = document.createElement("button");
  const said = document.createElement("span"), purpose = document.createElement("span");
  row.className = "mark";
  row.hidden = true;
  button.type = "button";
  purpose.className = "hidden";
  button.append(said, purpose);
  row.append(button);
  let epsilon = null;
  button.addEventListener("click", () => chosen(epsilon));
  return {
    row,
    hide() { row.hidden = true; },
    /** Puts the mark where the slider has the epsilon that was found. */
    show(smallest, scale) {
      epsilon = smallest.epsilon;
      row.hidden = false;
      button.disabled = epsilon === null;
      const share = Math.min((epsilon ?? scale.max) / scale.max, 1);
      row.style.setProperty("--share", share.toFixed(4));
      row.classList.toggle("before", share > 0.5);
      row.classList.toggle("none", epsilon === null);
      said.textContent = `${epsilon === null ? `none up to ${scale.said(smallest.limit)}` : scale.said(epsilon)} ${info.name}`;
      purpose.textContent = epsilon === null ? "" : ", the smallest ε found: set ε to it";
    },
  };
}
