"use strict";
// One study: what a budget buys, and everything kept up to date.

const NAME = new URLSearchParams(location.search).get("name") || "";
const SCALES = { "": 1, k: 1e3, m: 1e6, g: 1e9 };
const budgets = { asking: false, next: null };

function setBudget(value, typed = false) {
  view.budget = value;
  if (!typed) by("budget").value = timed(column()) ? String(Number(value.toPrecision(3))) : amount(value).replace(" ", "");
  placeLine();
  budgets.next = value;
  if (!budgets.asking) answerBudget();
}

async function answerBudget() {
  // one question at a time; of those that came meanwhile only the last
  budgets.asking = true;
  while (budgets.next !== null) {
    const value = budgets.next;
    budgets.next = null;
    try {
      const max = timed(column()) ? value : Math.round(value);
      const answer = await ask("answer", { study: NAME, max, axis: by("axis").value });
      by("words").textContent = answer.words;
      if (budgets.next === null && answer.point !== view.chosen) choose(answer.point);
    } catch (error) {
      by("words").textContent = error.message;
    }
    placeLine();
  }
  budgets.asking = false;
}

function typedBudget() {
  const match = /^\s*(\d*\.?\d+)\s*([kmg]?)/i.exec(by("budget").value);
  const value = match ? Number(match[1]) * SCALES[timed(column()) ? "" : match[2].toLowerCase()] : 0;
  if (value > 0) { setBudget(value, true); return; }
  view.budget = null;
  by("words").textContent = by("budget").value.trim() ? "That is no budget; write it like 500k, 20M or 1.5G." : "";
  placeLine();
}

function recommended() {
  return view.points.front.find((p) => p.id === view.points.efficient);
}

function begin() {
  // the budget that the recommended point needs: something to drag, and its answer in words
  const wanted = Number(new URLSearchParams(location.search).get("point"));
  if (wanted && view.chosen === null) { choose(wanted); return; }
  const p = recommended();
  if (view.budget === null && view.chosen === null && p && has(p)) setBudget(timed(column()) ? p[column()] : Math.ceil(p[column()]));
}

function setAxes(study) {
  const known = new Set([...by("axis").options].map((option) => option.value));
  const place = ([name]) => (name === study.cost ? 0 : ["latency", "measured"].includes(name) ? 2 : 1);
  for (const [name, label] of Object.entries(study.axes).sort((a, b) => place(a) - place(b))) {
    if (!known.has(name)) by("axis").append(new Option(label, name, false, name === study.cost && !known.size));
  }
}

function changeAxis() {
  const p = [...view.points.front, ...view.points.baselines].find((q) => q.id === view.chosen && has(q)) || recommended();
  view.budget = null;
  by("words").textContent = "";
  draw();
  if (p && has(p)) setBudget(timed(column()) ? p[column()] : Math.ceil(p[column()]));
}

function showStudy(study) {
  view.study = study;
  setAxes(study);
  document.title = `${study.study}: the front`;
  by("name").textContent = study.study;
  by("state").replaceChildren(stateOf(study));
  by("progress").textContent = progressText(study);
  by("title").textContent = study.title;
  by("why").href = `why?name=${encodeURIComponent(study.study)}`;
  by("compare").href = `compare?study=${encodeURIComponent(study.study)}`;
  if (study.experiment_id) by("mlflow").href = `../#/experiments/${encodeURIComponent(study.experiment_id)}/runs?viewStateShareKey=pareto&compareRunsMode=CHART&workflowType=machine_learning`;
}

function showPoints(points) {
  if (!points) return;
  view.points = points;
  cloud.points = points.others;
  draw();
  begin();
  if (points.left_out) by("below").textContent = `${by("below").textContent.split(" Not drawn")[0]} Not drawn: ${points.left_out} points off the front.`;
}

async function showTable() {
  const found = await ask("trials", { study: NAME });
  if (!found) return;
  table.trials = found.trials;
  showTrials();
}

let showing = false;
async function show() {
  if (showing) return;
  showing = true;
  try {
    const [study, points] = await Promise.all([ask("study", { study: NAME }), ask("points", { study: NAME })]);
    showStudy(study);
    showPoints(points);
    await showTable();
    await showGrowth();
    await showRunning();
  } catch (error) {
    by("title").textContent = error.message;
  }
  showing = false;
}

heads();
for (const id of ["log", "others", "zoom"]) by(id).onchange = draw;
by("axis").onchange = changeAxis;
by("budget").onchange = typedBudget;
by("filter").oninput = showTrials;
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { draw(); drawGrowth(); });
whenDrawable(draw);
every(3, show);
