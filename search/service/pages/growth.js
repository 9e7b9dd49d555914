"use strict";
// How the front grew: whether more trials are worth their time.

const growth = { shown: null };

async function showGrowth() {
  const found = await ask("growth", { study: NAME });
  if (!found) return;
  growth.shown = found;
  by("growth").hidden = found.trainings.length < 2;
  by("grown").textContent = found.words;
  whenDrawable(drawGrowth);
}

function drawGrowth() {
  const found = growth.shown;
  if (!found || by("growth").hidden || !window.Plotly) return;
  const text = found.trainings.map((name, index) => `after ${name}: hypervolume ${found.hypervolume[index].toFixed(4)}, ${found.points[index]} on the front`);
  const line = { x: found.trainings.map((_, index) => index + 1), y: found.hypervolume, text, mode: found.trainings.length > 60 ? "lines" : "lines+markers", type: "scatter", line: { color: colour("front"), width: 1.5, shape: "hv" }, marker: { size: 5 }, hovertemplate: "%{text}<extra></extra>" };
  const axes = { xaxis: { title: { text: "trainings that ended" }, tickformat: "d" }, yaxis: { title: { text: "hypervolume" }, nticks: 5 } };
  Plotly.react("growth-chart", [line], layoutOf({ ...axes, showlegend: false, margin: { l: 60, r: 12, t: 8, b: 40 } }), { responsive: true, displayModeBar: false });
}
