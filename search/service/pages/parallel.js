"use strict";
// Parallel coordinates in which a training may lack settings that it has no use for: its line goes through "none".

const SVG = "http://www.w3.org/2000/svg";
const HIGH = 300, TOP = 46, GAP = 26, STEP = 96, LEFT = 60;
const NONE = "none";

function shape(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

function scaleOf(dimension, values) {
  // where a value stands on its axis, and the words beside it
  const known = values.filter((value) => value !== null);
  if (dimension.kind === "choice") {
    const order = dimension.choices.filter((choice) => known.includes(choice));
    const at = (value) => TOP + (order.length < 2 ? HIGH / 2 : HIGH * (1 - order.indexOf(value) / (order.length - 1)));
    return { at, ticks: order.map((choice) => [at(choice), choice]) };
  }
  const through = dimension.log ? Math.log : (value) => value;
  const low = Math.min(...known), high = Math.max(...known), span = through(high) - through(low) || 1;
  const at = (value) => TOP + HIGH * (1 - (through(value) - through(low)) / span);
  return { at, ticks: [low, high].map((value) => [at(value), Number(value.toPrecision(3))]) };
}

function shade(share) {
  // from the colour of other points to that of the front
  return `color-mix(in oklab, var(--front) ${Math.round(100 * share)}%, var(--other))`;
}

function drawParallel(box, dimensions, trainings, objective) {
  // `dimensions` in the order of the axes; one value of the objective for each training
  const axes = [...dimensions, { name: objective.label, kind: "float", log: false, objective: true }];
  const svg = shape("svg", { width: LEFT + STEP * axes.length + 30, height: TOP + HIGH + GAP + 24, role: "img", "aria-label": `${trainings.length} trainings by their settings` });
  const value = (training, place, axis) => (axis.objective ? objective.values[place] : training.values[axis.name]);
  const scales = axes.map((axis) => scaleOf(axis, trainings.map((training, place) => value(training, place, axis))));
  // by rank: values often crowd at one end
  const order = objective.values.map((_, place) => place).sort((a, b) => (objective.higher ? 1 : -1) * (objective.values[a] - objective.values[b]));
  const worth = [];
  order.forEach((place, rank) => { worth[place] = ((rank + 1) / order.length) ** 3; });
  for (const place of order) {
    const points = axes.map((axis, number) => {
      const own = value(trainings[place], place, axis);
      return `${LEFT + STEP * number},${own === null || own === undefined ? TOP + HIGH + GAP : scales[number].at(own)}`;
    });
    const line = shape("polyline", { points: points.join(" "), fill: "none", stroke: shade(worth[place]), "stroke-width": 0.7 + worth[place], opacity: 0.25 + 0.6 * worth[place], class: "training" });
    line.append(shape("title", {}, `${trainings[place].name}: ${format(objective, objective.values[place])}`));
    svg.append(line);
  }
  axes.forEach((axis, number) => drawAxis(svg, axis, LEFT + STEP * number, scales[number], number));
  fill(box, svg);
}

function drawAxis(svg, axis, x, scale, number) {
  svg.append(shape("line", { x1: x, x2: x, y1: TOP, y2: TOP + HIGH, stroke: "var(--soft)" }));
  const name = shape("text", { x, y: number % 2 ? 14 : 30, "text-anchor": "middle", class: "name" }, short(axis.name, 20));
  name.append(shape("title", {}, axis.doc || axis.name));
  svg.append(name);
  for (const [y, text] of scale.ticks) svg.append(shape("text", { x: x + 4, y: y + 4, class: "tick" }, short(String(text), 13)));
  if (!axis.objective) svg.append(shape("text", { x, y: TOP + HIGH + GAP + 14, "text-anchor": "middle", class: "tick" }, NONE));
}

function short(text, length) {
  return text.length <= length ? text : `${text.slice(0, length - 1)}…`;
}
