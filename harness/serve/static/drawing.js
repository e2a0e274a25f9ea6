// A sheet to draw on, with mouse, finger, pen or keys.

import { drawStrokes } from "./fitting.js";

const THICKNESS = 0.085, STEP = 0.05; // shares of the sheet: of a line, and of an arrow key
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/**
 * Strokes are lists of points in shares of the sheet.
 *
 * @param {{changed: (strokes: object[][]) => void, said: (words: string) => void}} tell what happens.
 */
export function drawingPad(canvas, { changed, said }) {
  let strokes = [], pen = { x: 0.3, y: 0.2 }, keyed = false, pointer = null;

  function show() {
    const context = canvas.getContext("2d");
    context.setTransform(canvas.width, 0, 0, canvas.height, 0, 0);
    context.clearRect(0, 0, 1, 1);
    context.strokeStyle = "#ffffff";
    drawStrokes(context, strokes, THICKNESS);
    if (!canvas.matches(":focus-visible")) return;
    context.strokeStyle = keyed ? "#ff9d5c" : "#4de3ff";
    const across = [{ x: pen.x - 0.04, y: pen.y }, { x: pen.x + 0.04, y: pen.y }];
    drawStrokes(context, [across, across.map(({ x }) => ({ x: pen.x, y: pen.y + x - pen.x }))], 0.01);
  }
  function change(made) {
    strokes = made;
    show();
    changed(strokes);
  }
  function extend(points) {
    change([...strokes.slice(0, -1), [...strokes.at(-1), ...points]]);
  }
  const lift = () => { keyed = false; };
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return { x: inside((event.clientX - box.left) / box.width), y: inside((event.clientY - box.top) / box.height) };
  };

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || pointer !== null) return;
    pointer = event.pointerId;
    canvas.setPointerCapture(pointer);
    lift();
    change([...strokes, [place(event)]]);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (event.pointerId !== pointer) return;
    const between = event.getCoalescedEvents?.() ?? [];
    extend((between.length ? between : [event]).map(place));
  });
  for (const end of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(end, (event) => { if (event.pointerId === pointer) pointer = null; });
  }
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || !pressed(event.key)) return;
    event.preventDefault();
  });
  canvas.addEventListener("focus", show);
  canvas.addEventListener("blur", () => { lift(); said(""); show(); });

  /** Whether the key is one of the sheet's. */
  function pressed(key) {
    if (key in ARROWS) {
      const [right, down] = ARROWS[key];
      pen = { x: inside(pen.x + right * STEP), y: inside(pen.y + down * STEP) };
      if (keyed) extend([pen]);
      else show();
    } else if (key === " ") {
      keyed = !keyed;
      if (keyed) change([...strokes, [pen]]);
      else show();
      said(keyed ? "Pen down: arrow keys draw." : "Pen up.");
    } else if (key === "Backspace") pad.undo();
    else if (key === "Delete") pad.clear();
    else return false;
    return true;
  }

  const pad = {
    undo() {
      lift();
      if (strokes.length) change(strokes.slice(0, -1));
    },
    clear() {
      pad.wipe();
      changed(strokes);
    },
    /** Nothing is drawn any more, and nobody is told. */
    wipe() {
      lift();
      strokes = [];
      show();
    },
  };
  return pad;
}

function inside(share) {
  return Math.min(Math.max(share, 0), 1);
}
