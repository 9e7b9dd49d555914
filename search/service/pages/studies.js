"use strict";
// A card for each study.

function smallFront(points) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("viewBox", "0 0 300 90");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", "the front, accuracy over the logarithm of cost");
  const costs = points.map(([cost]) => Math.log10(Math.max(cost, 1)));
  const accuracies = points.map(([, accuracy]) => accuracy);
  const scaled = (values, low, high) => {
    const least = Math.min(...values), span = Math.max(...values) - least || 1;
    return values.map((value) => low + ((value - least) / span) * (high - low));
  };
  const xs = scaled(costs, 8, 292), ys = scaled(accuracies, 82, 8);
  xs.forEach((x, index) => {
    const dot = document.createElementNS(space, "circle");
    for (const [key, value] of Object.entries({ cx: x, cy: ys[index], r: 3.5, fill: "var(--front)" })) dot.setAttribute(key, value);
    svg.append(dot);
  });
  return svg;
}

function card(study) {
  const made = element("a", { class: "card", href: `study?name=${encodeURIComponent(study.study)}` });
  const bar = element("div", { class: "bar" }, element("i"));
  bar.firstChild.style.width = `${100 * progress(study).share}%`;
  const points = study.front.points;
  const found = points ? `${points} ${points === 1 ? "point" : "points"} on the front, up to ${percent(study.best_accuracy)}` : "no point on the front yet";
  made.append(
    element("h2", {}, study.study, " ", stateOf(study)),
    element("div", { class: "soft" }, progressText(study)),
    bar,
    element("div", {}, found),
    smallFront(study.small),
  );
  return made;
}

async function show() {
  const message = document.getElementById("message");
  try {
    const { studies } = await ask("studies");
    message.textContent = studies.length ? "" : "No study yet. Launch one: dynafront search studies/digits.yml";
    document.getElementById("cards").replaceChildren(...studies.map(card));
  } catch (error) {
    message.textContent = `The studies cannot be read: ${error.message}`;
  }
}

every(5, show);
