"use strict";
// Why some trainings are better: importance, one setting, all settings at once.

const NAME = new URLSearchParams(location.search).get("name") || "";
const MOST_BARS = 12, MOST_AXES = 12;
const seen = { found: null };

function format(objective, value) {
  if (objective.name === "macs" || objective.name === "macs_p95" || objective.name === "parameters") return amount(value);
  return objective.name === "hypervolume" ? value.toFixed(4) : percent(value);
}

function objectiveNow() {
  return seen.found.objectives.find((one) => one.name === by("objective").value) || seen.found.objectives[0];
}

function ranked(objective) {
  // dimensions, the most important first; in their own order where importance is not known
  const shares = seen.found.importance ? seen.found.importance[objective.name] || {} : {};
  return [...seen.found.dimensions].sort((a, b) => (shares[b.name] || 0) - (shares[a.name] || 0));
}

function bars(objective) {
  const shares = Object.entries(seen.found.importance[objective.name] || {}).filter(([, share]) => share > 0).sort((a, b) => b[1] - a[1]);
  const total = shares.reduce((sum, [, share]) => sum + share, 0) || 1;
  const list = element("table", { class: "shares" }, element("caption", {}, objective.label));
  for (const [name, share] of shares.slice(0, MOST_BARS)) {
    const bar = element("i"), pick = element("button", { type: "button", class: "plain" }, name);
    bar.style.width = `${100 * share / total}%`;
    pick.onclick = () => { by("dimension").value = name; by("objective").value = objective.name; drawSlice(); by("slice").scrollIntoView({ behavior: "smooth", block: "center" }); };
    list.append(element("tr", {}, element("th", { scope: "row" }, pick), element("td", { class: "track" }, bar), element("td", { class: "number" }, percent(share / total, 0))));
  }
  const more = shares.length - MOST_BARS;
  return element("div", {}, list, more > 0 ? element("p", { class: "soft" }, `and ${more} that matter less`) : null);
}

function showImportance() {
  const { importance, computing, words, error } = seen.found;
  let said = words;
  if (!words && error) said = `Importance could not be computed: ${error}`;
  else if (!words && computing) said = importance ? "of fewer trainings than there are now; newer ones are being computed" : "being computed, this takes some seconds";
  else if (importance && !Object.keys(importance).length) said = "No setting is shared by enough trainings.";
  by("state").textContent = said;
  fill(by("importance"), ...(importance && Object.keys(importance).length ? seen.found.objectives.map(bars) : []));
}

function drawSlice() {
  const objective = objectiveNow(), dimension = seen.found.dimensions.find((one) => one.name === by("dimension").value);
  if (!dimension) { fill(by("slice"), element("p", { class: "soft" }, "All trainings have the same settings.")); return; }
  const numeric = dimension.kind !== "choice";
  const values = seen.found.trainings.map((training) => training.values[dimension.name] ?? null);
  const none = values.some((value) => value === null);
  const known = values.filter((value) => value !== null);
  const categories = numeric ? [] : [...dimension.choices.filter((choice) => known.includes(choice)), ...(none ? [NONE] : [])];
  // dots of one choice stand beside each other, not on each other
  const spread = (place) => ((place * 0.618) % 1 - 0.5) * 0.5;
  const low = numeric ? Math.min(...known) : 0;
  const missing = dimension.log ? low / 1.6 : low - 0.08 * (Math.max(...known) - low || 1);
  const x = values.map((value, place) => (numeric ? value ?? missing : categories.indexOf(value ?? NONE) + spread(place)));
  const trainings = seen.found.trainings;
  const dots = {
    x, y: objective.values, mode: "markers", type: "scatter", marker: { color: colour("front"), size: 6, opacity: trainings.length > 200 ? 0.45 : 0.8 },
    text: trainings.map((training, place) => `${training.name}: ${safe(values[place] ?? NONE)}, ${format(objective, objective.values[place])}`), hovertemplate: "%{text}<extra></extra>",
  };
  const xaxis = numeric
    ? { title: { text: safe(dimension.name) }, type: dimension.log ? "log" : "linear" }
    : { title: { text: safe(dimension.name) }, tickvals: categories.map((_, place) => place), ticktext: categories.map(safe), range: [-0.6, categories.length - 0.4] };
  const cost = objective.name !== "hypervolume" && format(objective, 0.5) !== percent(0.5);
  const yaxis = { title: { text: safe(objective.label), font: { size: 11 } }, type: cost ? "log" : "linear", tickformat: format(objective, 0.5) === percent(0.5) ? ".0%" : undefined, exponentformat: "SI" };
  const lines = numeric && none ? [{ type: "line", x0: missing, x1: missing, yref: "paper", y0: 0, y1: 1, line: { color: colour("soft"), dash: "dot", width: 1 } }] : [];
  const notes = numeric && none ? [{ x: dimension.log ? Math.log10(missing) : missing, y: 1, yref: "paper", text: NONE, showarrow: false, yanchor: "bottom", font: { color: colour("soft") } }] : [];
  whenDrawable(() => {
    const chart = by("slice");
    Plotly.react(chart, [dots], layoutOf({ xaxis, yaxis, shapes: lines, annotations: notes, margin: { l: 65, r: 10, t: 22, b: 48 } }), { responsive: true, displaylogo: false });
    chart.removeAllListeners("plotly_click");
    chart.on("plotly_click", (event) => { location.href = `study?name=${encodeURIComponent(NAME)}&point=${trainings[event.points[0].pointIndex].point}`; });
  });
}

function drawAll() {
  const objective = objectiveNow();
  by("by").textContent = objective.label;
  drawSlice();
  drawParallel(by("parallel"), ranked(objective).slice(0, MOST_AXES), seen.found.trainings, objective);
}

function choices() {
  const chosen = by("dimension").value, objective = by("objective").value;
  const order = ranked(objectiveNow());
  fill(by("objective"), ...seen.found.objectives.map((one) => new Option(one.label, one.name)));
  fill(by("dimension"), ...order.map((one) => new Option(one.name, one.name)));
  if (objective) by("objective").value = objective;
  if (order.some((one) => one.name === chosen)) by("dimension").value = chosen;
}

async function show() {
  by("name").textContent = NAME;
  document.title = `${NAME}: why`;
  by("front").href = `study?name=${encodeURIComponent(NAME)}`;
  try {
    const found = await ask("why", { study: NAME });
    const same = JSON.stringify(found) === JSON.stringify(seen.found);
    seen.found = found;
    if (same) return;
    const count = found.trainings.length;
    by("title").textContent = `${count} ${count === 1 ? "training" : "trainings"} that ended, which differ in ${found.dimensions.length} settings`;
    showImportance();
    if (!count) return;
    choices();
    drawAll();
  } catch (error) {
    by("title").textContent = error.message;
  }
}

by("objective").onchange = drawAll;
by("dimension").onchange = drawSlice;
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { if (seen.found) drawSlice(); });
every(8, show);
