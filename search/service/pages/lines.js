"use strict";
// The curves of a training by epoch, small charts one below the other.

const SHADES = ["front", "baseline", "good", "bad"];

function drawCurves(box, charts) {
  // `charts` as the server gives them: name, epochs, values by line
  if (!charts.length) { fill(box, element("p", { class: "soft" }, "no epoch yet")); return; }
  if (!box.data) fill(box);
  box.style.height = `${150 * charts.length}px`;
  whenDrawable(() => {
    const traces = [], axes = {}, named = new Set();
    const step = charts[0].epochs.length > 12 ? undefined : 1;
    charts.forEach((chart, place) => {
      const number = place ? String(place + 1) : "", top = 1 - place / charts.length;
      axes[`xaxis${number}`] = { anchor: `y${number}`, gridcolor: colour("line"), zeroline: false, title: place + 1 === charts.length ? { text: "epoch" } : undefined, tickformat: "d", dtick: step };
      axes[`yaxis${number}`] = { domain: [top - 0.72 / charts.length, top - 0.08 / charts.length], gridcolor: colour("line"), zeroline: false, title: { text: safe(chart.name), font: { size: 11 } }, exponentformat: "SI", nticks: 4 };
      Object.entries(chart.lines).forEach(([name, values], index) => {
        traces.push({
          x: chart.epochs, y: values, name, mode: "lines+markers", type: "scatter", xaxis: `x${number}`, yaxis: `y${number}`, legendgroup: name,
          showlegend: !named.has(name), marker: { size: 4 }, line: { color: colour(SHADES[name === "validation" ? 0 : index + 1]), width: 1.5 },
        });
        named.add(name);
      });
    });
    const shared = layoutOf({ showlegend: true, legend: { orientation: "h", y: 1.06 }, margin: { l: 58, r: 8, t: 8, b: 36 }, font: { color: colour("text"), size: 11 } });
    Plotly.react(box, traces, { ...shared, ...axes }, { responsive: true, displayModeBar: false });
  });
}
