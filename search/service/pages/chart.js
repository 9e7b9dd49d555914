"use strict";
// The front: baselines, intervals, other points behind; a budget that one drags.

const view = { study: null, points: null, chosen: null, beside: [], budget: null, drawn: false, watched: false };
const column = () => (view.study ? view.study.columns[by("axis").value] : null) || "macs_mean";
const has = (p) => p[column()] !== null && p[column()] !== undefined;
const byCost = (points) => points.filter(has).sort((a, b) => a[column()] - b[column()]);

function undominated(points) {
  // of points by cost those that are better than all cheaper ones
  let best = -1;
  return points.filter((p) => p.accuracy > best && ((best = p.accuracy), true));
}

function trace(points, name, look) {
  const text = points.map((p) => `${p.name}: ${percent(p.accuracy)} at ${amountOf(p, column())}<br>${safe(p.network)}<br>${safe(p.knobs)}`);
  return { x: points.map((p) => p[column()]), y: points.map((p) => p.accuracy), text, name, mode: "markers", type: "scatter", hovertemplate: "%{text}<extra></extra>", ...look };
}

function interval(points, shade) {
  return { type: "data", symmetric: false, array: points.map((p) => p.accuracy_high - p.accuracy), arrayminus: points.map((p) => p.accuracy - p.accuracy_low), color: shade, thickness: 1, width: 0 };
}

function traces() {
  const front = byCost(view.points.front), statics = byCost(view.points.baselines), line = undominated(statics);
  const all = [...front, ...statics], ring = { hoverinfo: "skip", hovertemplate: null };
  const marked = (ids, size, shade) => ({ marker: { color: "rgba(0,0,0,0)", size, line: { color: shade, width: 2 } }, ...ring });
  return [
    trace(line, "baselines", { mode: "lines", line: { color: colour("baseline"), width: 1.5, shape: "hv", dash: "dot" }, hoverinfo: "skip", hovertemplate: null, showlegend: false }),
    trace(statics, "baselines", { marker: { color: colour("baseline"), symbol: "square", size: 8 }, error_y: interval(statics, colour("baseline")) }),
    trace(front, "front", { mode: "lines+markers", line: { color: colour("front"), width: 1.5, shape: "hv" }, marker: { color: colour("front"), size: 9 }, error_y: interval(front, colour("front")) }),
    trace(front.filter((p) => p.id === view.points.efficient), "efficient", marked(null, 17, colour("front"))),
    trace(all.filter((p) => view.beside.includes(p.id)), "side by side", { ...marked(null, 22, colour("good")), showlegend: false }),
    trace(all.filter((p) => p.id === view.chosen), "chosen", { ...marked(null, 23, colour("text")), showlegend: false }),
  ];
}

function ranges() {
  // all of it, or what a choice is made from: without points far below the front's better half
  const front = byCost(view.points.front), statics = byCost(view.points.baselines);
  const all = [...front, ...statics];
  if (!all.length) return { x: by("log").checked ? [4, 9] : [0, 1e9], y: [0, 1] };
  const top = Math.min(1.005, Math.max(...all.map((p) => p.accuracy_high)) + 0.01);
  const useful = by("zoom").checked && front.length > 0;
  const shown = useful ? [...front, ...undominated(statics)] : all;
  const accuracies = front.map((p) => p.accuracy).sort((a, b) => a - b);
  const floor = useful ? accuracies[Math.floor(accuracies.length / 4)] : 0;
  const kept = useful ? shown.filter((p) => p.accuracy >= floor) : shown;
  const behind = !useful && by("others").checked ? cloud.points : { accuracy: [], [column()]: [] };
  const low = Math.min(...kept.map((p) => p.accuracy_low), ...behind.accuracy);
  const costs = [...shown.map((p) => p[column()]), ...behind[column()]].filter((cost) => cost > 0);
  const [least, most] = [Math.min(...costs), Math.max(...costs)];
  const log = by("log").checked;
  const x = log ? [Math.log10(least / 1.2), Math.log10(most * 1.2)] : [0, most * 1.06];
  return { x, y: [low - 0.04 * (top - low), top] };
}

function overBudget(range) {
  // what costs more than the study's file allows: nothing there is picked unasked
  const most = view.study.budget[column()], end = by("log").checked ? 10 ** range[1] : range[1];
  if (!most || most >= end) return [];
  const label = { text: `over ${amountOf({ [column()]: most }, column())}`, textposition: "bottom left", font: { size: 11, color: colour("soft") } };
  return [{ type: "rect", yref: "paper", x0: most, x1: 1e3 * end, y0: 0, y1: 1, layer: "below", line: { width: 0 }, fillcolor: colour("line"), opacity: 0.45, label }];
}

function layout() {
  const { x, y } = ranges(), majority = view.study.majority;
  const floor = { type: "line", xref: "paper", x0: 0, x1: 1, y0: majority, y1: majority, line: { color: colour("bad"), width: 1, dash: "dot" } };
  const shapes = [...(majority ? [floor] : []), ...overBudget(x)];
  const latency = timed(column()), empty = !view.points.front.length && !view.points.baselines.length;
  const wait = { text: "The front appears when the first training has ended.", showarrow: false, xref: "paper", yref: "paper", x: 0.5, y: 0.5, font: { color: colour("soft") } };
  return layoutOf({
    uirevision: ["axis", "log", "zoom"].map((id) => by(id).value + by(id).checked).join(" "),
    xaxis: { title: { text: safe(view.study.axes[by("axis").value]) }, type: by("log").checked ? "log" : "linear", exponentformat: latency ? "none" : "SI", range: x },
    yaxis: { title: { text: "accuracy (validation)" }, tickformat: y && y[1] - y[0] < 0.05 ? ".1%" : ".0%", range: y },
    legend: { orientation: "h", y: 1.09 }, shapes, annotations: empty ? [wait] : [], dragmode: "zoom", margin: { l: 60, r: 12, t: 8, b: 48 },
  });
}

function draw() {
  if (!view.points || !view.study) return;
  const chart = by("chart");
  if (window.Plotly) drawWhole(chart);
  else {
    const front = byCost(view.points.front), statics = byCost(view.points.baselines);
    const how = { log: by("log").checked, column: column(), label: view.study.axes[by("axis").value] };
    drawSketch(chart, ranges(), { front, statics, line: undominated(statics) }, how);
  }
  if (!view.watched) {
    view.watched = true;
    performance.mark("front drawn");
    watchPointer(chart);
    watchLine(chart, by("budget-line"));
  }
  overlay();
}

function drawWhole(chart) {
  wipeSketch();
  Plotly.react(chart, traces(), layout(), { responsive: true, displaylogo: false });
  if (view.drawn) return;
  view.drawn = true;
  performance.mark("chart drawn");
  for (const event of ["plotly_afterplot", "plotly_relayouting"]) chart.on(event, overlay);
}

function overlay() {
  drawCloud(by("chart"), column(), by("others").checked);
  placeLine();
}

function placeLine() {
  const line = by("budget-line"), chart = by("chart"), axes = axesOf(chart);
  const at = view.budget && axes ? place(chart, view.budget, 0) : null;
  line.hidden = !at || at[0] < axes.x._offset - 1 || at[0] > axes.x._offset + axes.x._length + 1;
  if (line.hidden) return;
  line.style.left = `${at[0]}px`;
  line.style.top = `${axes.y._offset}px`;
  line.style.height = `${axes.y._length}px`;
  line.setAttribute("aria-valuenow", String(Math.round(view.budget)));
  line.setAttribute("aria-valuetext", by("words").textContent || amount(view.budget));
}

function watchLine(chart, line) {
  let held = false;
  const costAt = (event) => {
    const { x } = axesOf(chart), left = chart.getBoundingClientRect().left + x._offset;
    return x.p2d(Math.min(x._length, Math.max(0, event.clientX - left)));
  };
  line.addEventListener("pointerdown", (event) => {
    held = true;
    try { line.setPointerCapture(event.pointerId); } catch { /* a pointer that a program made */ }
    event.preventDefault();
    line.focus();
  });
  line.addEventListener("pointermove", (event) => { if (held) setBudget(costAt(event)); });
  for (const end of ["pointerup", "pointercancel"]) line.addEventListener(end, () => { held = false; });
  line.addEventListener("keydown", (event) => {
    // from point to point of the front
    const costs = byCost(view.points.front).map((p) => p[column()]);
    const below = costs.filter((cost) => cost < view.budget * 0.9999), above = costs.filter((cost) => cost > view.budget * 1.0001);
    const next = { ArrowLeft: below.at(-1), ArrowDown: below.at(-1), ArrowRight: above[0], ArrowUp: above[0], Home: costs[0], End: costs.at(-1) }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    setBudget(next);
  });
}

function under(chart, event) {
  // the point at the pointer: of the front or a baseline before any other
  const box = chart.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
  if (!axesOf(chart) || !inside(chart, [x, y])) return null;
  let found = null, least = 12 * 12;
  for (const p of [...view.points.front, ...view.points.baselines]) {
    const at = place(chart, p[column()], p.accuracy);
    const distance = at ? (at[0] - x) ** 2 + (at[1] - y) ** 2 : Infinity;
    if (distance < least) { least = distance; found = p; }
  }
  const index = found ? -1 : nearestInCloud(x, y, 8);
  if (index < 0) return found;
  const { id, name, accuracy } = cloud.points;
  return { id: id[index], name: name[index], accuracy: accuracy[index], [column()]: cloud.points[column()][index], other: true };
}

function watchPointer(chart) {
  let down = null;
  const tip = by("tip");
  // the line may lie on a point: a click on it is one on the chart
  by("plot").addEventListener("pointerdown", (event) => { down = [event.clientX, event.clientY]; }, true);
  window.addEventListener("pointerup", (event) => {
    const still = down && Math.hypot(event.clientX - down[0], event.clientY - down[1]) < 5;
    down = null;
    const p = still ? under(chart, event) : null;
    if (p && event.shiftKey) putBeside(p.id);
    else if (p) choose(p.id);
  }, true);
  chart.addEventListener("pointermove", (event) => {
    const p = under(chart, event);
    tip.hidden = !(p && p.other);
    if (tip.hidden) return;
    tip.textContent = `${p.name}: ${percent(p.accuracy)} at ${amountOf(p, column())}`;
    const box = chart.getBoundingClientRect();
    tip.style.left = `${Math.min(event.clientX - box.left + 12, box.width - 220)}px`;
    tip.style.top = `${event.clientY - box.top + 14}px`;
  });
  chart.addEventListener("pointerleave", () => { tip.hidden = true; });
}
