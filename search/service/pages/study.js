"use strict";
// One study: its front, live; what a budget buys; what one point is; its trials.

const NAME = new URLSearchParams(location.search).get("name") || "";
const COLUMNS = { macs: "macs_mean", macs_p95: "macs_p95", parameters: "parameters" };
const STANDINGS = {
  AHEAD: ["better", "significantly better than each baseline of no more cost"],
  LEVEL: ["", "as good as the baselines of no more cost"],
  BEHIND: ["worse", "significantly worse than a baseline of no more cost"],
  CHEAPER: ["better", "cheaper than any baseline"],
};
const HEADS = [
  ["name", "trial"], ["state", "state"], ["accuracy", "accuracy"], ["macs_mean", "MACs"], ["network", "network"], ["seconds", "time"], ["error", "error"],
];
const NUMERIC = new Set(["accuracy", "macs_mean", "seconds"]);
const view = { study: null, points: null, trials: [], chosen: null, budget: null, sort: ["name", 1], drawn: false };
const by = (id) => document.getElementById(id);
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const column = () => COLUMNS[by("axis").value] || "macs_mean";

function trace(points, name, look) {
  const x = points.map((p) => p[column()]);
  const text = points.map((p) => `${p.name}: ${percent(p.accuracy)} at ${amount(p[column()])}<br>${safe(p.network)}<br>${safe(p.knobs)}`);
  return { x, y: points.map((p) => p.accuracy), text, customdata: points.map((p) => p.id), name, mode: "markers", type: "scatter", hovertemplate: "%{text}<extra></extra>", ...look };
}

function safe(text) {
  // plotly reads a few tags in labels
  return text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
}

function interval(points, shade) {
  return { type: "data", symmetric: false, array: points.map((p) => p.accuracy_high - p.accuracy), arrayminus: points.map((p) => p.accuracy - p.accuracy_low), color: shade, thickness: 1, width: 0 };
}

function byCost(points) {
  return [...points].sort((a, b) => a[column()] - b[column()]);
}

function lowest() {
  const { front, baselines, others } = view.points;
  const least = [...front, ...baselines].map((p) => Math.min(p.accuracy, p.accuracy_low));
  return (least.length ? Math.min(...least) : Math.min(0, ...others.map((p) => p.accuracy))) - 0.01;
}

function shapes() {
  const found = [];
  if (view.study.majority) found.push({ type: "line", xref: "paper", x0: 0, x1: 1, y0: view.study.majority, y1: view.study.majority, line: { color: colour("bad"), width: 1, dash: "dot" } });
  if (view.budget) found.push({ type: "line", yref: "paper", y0: 0, y1: 1, x0: view.budget, x1: view.budget, line: { color: colour("soft"), width: 2, dash: "dash" }, editable: true, name: "budget" });
  return found;
}

function draw() {
  if (!view.points || !view.study || !window.Plotly) return;
  const { front, baselines, others } = view.points;
  const ranked = byCost(front), static_ = byCost(baselines);
  const chosen = view.chosen ? [...front, ...baselines, ...others].filter((p) => p.id === view.chosen) : [];
  const traces = [
    trace(by("others").checked ? others : [], "other points", { marker: { color: colour("other"), size: 4, opacity: 0.6 } }),
    trace(static_, "baselines", { mode: "lines+markers", line: { color: colour("baseline"), width: 1 }, marker: { color: colour("baseline"), symbol: "square", size: 9 }, error_y: interval(static_, colour("baseline")) }),
    trace(ranked, "front", { mode: "lines+markers", line: { color: colour("front"), width: 1, shape: "hv" }, marker: { color: colour("front"), size: 9 }, error_y: interval(ranked, colour("front")) }),
    trace(ranked.filter((p) => p.id === view.points.efficient), "efficient", { marker: { color: "rgba(0,0,0,0)", size: 18, line: { color: colour("front"), width: 2 } }, hoverinfo: "skip", hovertemplate: null }),
    trace(chosen, "chosen", { marker: { color: "rgba(0,0,0,0)", size: 22, line: { color: colour("text"), width: 2 } }, hoverinfo: "skip", hovertemplate: null, showlegend: false }),
  ];
  const top = Math.min(1, Math.max(0, ...[...front, ...baselines].map((p) => p.accuracy_high)) + 0.01);
  const layout = {
    uirevision: `${by("axis").value} ${by("log").checked}`,
    margin: { l: 60, r: 10, t: 10, b: 50 },
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: colour("text"), size: 13 },
    xaxis: { title: { text: view.study.axes[by("axis").value] }, type: by("log").checked ? "log" : "linear", gridcolor: colour("line"), zeroline: false, exponentformat: "SI" },
    yaxis: { title: { text: "accuracy (validation)" }, tickformat: ".0%", gridcolor: colour("line"), zeroline: false, range: [lowest(), top] },
    legend: { orientation: "h", y: 1.08 }, hovermode: "closest", shapes: shapes(), dragmode: "zoom",
  };
  Plotly.react("chart", traces, layout, { responsive: true, displaylogo: false, edits: { shapePosition: true } });
  if (!view.drawn) {
    view.drawn = true;
    by("chart").on("plotly_click", (event) => choose(event.points[0].customdata));
    by("chart").on("plotly_relayout", (change) => {
      const moved = Object.entries(change).find(([key]) => /^shapes\[\d+\]\.x0$/.test(key));
      if (moved) setBudget(moved[1]);
    });
  }
}

let asked = 0;
async function setBudget(value, typed = false) {
  view.budget = value;
  if (!typed) by("budget").value = amount(value).replace(" ", "");
  draw();
  const mine = ++asked;
  try {
    const answer = await ask("answer", { study: NAME, max: Math.round(value), axis: by("axis").value });
    if (mine !== asked) return;
    by("words").textContent = answer.words;
    choose(answer.point);
  } catch (error) {
    if (mine === asked) by("words").textContent = error.message;
  }
}

function typedBudget() {
  const match = /^\s*([\d.]+)\s*([kmg]?)/i.exec(by("budget").value);
  if (!match) { view.budget = null; by("words").textContent = ""; draw(); return; }
  setBudget(Number(match[1]) * { "": 1, k: 1e3, m: 1e6, g: 1e9 }[match[2].toLowerCase()], true);
}

function line(label, value) {
  return element("tr", {}, element("th", {}, label), element("td", {}, value));
}

async function choose(id) {
  view.chosen = id;
  draw();
  const panel = by("point");
  try {
    const p = await ask("point", { study: NAME, id });
    if (view.chosen !== id) return;
    const [style, words] = STANDINGS[p.standing];
    const copy = element("button", { type: "button" }, "copy");
    copy.onclick = () => navigator.clipboard.writeText(p.export).then(() => { copy.textContent = "copied"; });
    const rows = element("table", {},
      line("accuracy", `${percent(p.accuracy, 2)} (${percent(p.accuracy_low)} to ${percent(p.accuracy_high)})`),
      line("MACs", `${amount(p.macs_mean)} mean, ${amount(p.macs_p95)} p95, ${amount(p.macs_max)} max`),
      line("parameters", amount(p.parameters)),
      line("network", p.network),
      line("setting", p.knobs),
      line("settings", `${p.curve.length} of this training`),
    );
    if (p.beside) rows.append(line("baseline", `${p.beside.name}: ${percent(p.beside.accuracy, 2)} at ${amount(p.beside.macs_mean)} MACs`));
    panel.replaceChildren(
      element("h2", {}, p.training),
      element("p", { class: style }, p.kind === "static" ? "a static network: a baseline" : words),
      rows,
      element("p", {}, "Export it:"),
      element("p", {}, element("code", {}, p.export), " ", copy),
    );
    addActions(panel, NAME, p.id);
  } catch (error) {
    panel.replaceChildren(element("p", { class: "failed" }, error.message));
  }
}

function value(trial, key) {
  if (key === "accuracy") return percent(trial.accuracy, 2);
  if (key === "macs_mean") return amount(trial.macs_mean);
  if (key === "seconds") return minutes(trial.seconds);
  if (key === "name") return `${trial.name}${trial.on_front ? " ★" : ""}`;
  return trial[key] || "";
}

function showTrials() {
  const [key, way] = view.sort, words = by("filter").value.toLowerCase().trim();
  const kept = view.trials.filter((t) => HEADS.some(([name]) => value(t, name).toLowerCase().includes(words)));
  const of = (t) => (key === "name" ? [t.kind, t.number] : [t[key] ?? (NUMERIC.has(key) ? -1 : ""), t.number]);
  kept.sort((a, b) => { const [x, i] = of(a), [y, j] = of(b); return way * (x < y ? -1 : x > y ? 1 : i - j); });
  by("count").textContent = `${kept.length} of ${view.trials.length}; ★ is on the front`;
  by("rows").replaceChildren(...kept.slice(0, 500).map((t) => element("tr", {}, ...HEADS.map(([name]) => {
    const kind = NUMERIC.has(name) ? "number" : name === "error" ? "error" : name === "state" && t.state === "failed" ? "failed" : "";
    return element("td", { class: kind }, value(t, name));
  }))));
}

function heads() {
  by("heads").replaceChildren(...HEADS.map(([key, label]) => {
    const button = element("button", { type: "button" }, label);
    button.onclick = () => { view.sort = [key, view.sort[0] === key ? -view.sort[1] : 1]; heads(); showTrials(); };
    const sorted = view.sort[0] === key ? (view.sort[1] > 0 ? "ascending" : "descending") : "none";
    return element("th", { class: NUMERIC.has(key) ? "number" : "", "aria-sort": sorted }, button);
  }));
}

async function show() {
  try {
    const study = await ask("study", { study: NAME });
    const first = view.study === null;
    view.study = study;
    if (first) {
      for (const [name, label] of Object.entries(study.axes)) by("axis").append(new Option(label, name, false, name === study.cost));
      if (study.experiment_id) by("mlflow").href = `../#/experiments/${encodeURIComponent(study.experiment_id)}/runs?viewStateShareKey=pareto&compareRunsMode=CHART&workflowType=machine_learning`;
    }
    document.title = `${study.study}: the front`;
    by("name").textContent = study.study;
    by("state").replaceChildren(stateOf(study));
    by("progress").textContent = progressText(study);
    by("title").textContent = study.title;
    const [points, trials] = await Promise.all([ask("points", { study: NAME }), ask("trials", { study: NAME })]);
    if (trials) { view.trials = trials.trials; showTrials(); }
    if (points) { view.points = points; draw(); begin(points); }
  } catch (error) {
    by("title").textContent = error.message;
  }
}

function begin(points) {
  // the budget that the recommended point needs: something to drag, and its answer in words
  const recommended = points.front.find((p) => p.id === points.efficient);
  if (view.budget === null && view.chosen === null && recommended) setBudget(Math.ceil(recommended[column()]));
}

heads();
for (const id of ["axis", "log", "others"]) by(id).onchange = () => { if (id === "axis" && view.budget) typedBudget(); draw(); };
by("budget").onchange = typedBudget;
by("filter").oninput = showTrials;
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
every(3, show);
