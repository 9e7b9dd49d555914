"use strict";
// Two to four studies on one chart, and for each pair the words of `dynafront compare`.

const MOST = 4;
const LOOKS = [["front", "circle", "solid"], ["baseline", "square", "dash"], ["good", "diamond", "dot"], ["bad", "triangle-up", "dashdot"]];
const chosen = () => [...document.querySelectorAll("#choice input:checked")].map((box) => box.value);

function drawFronts(found) {
  const traces = found.studies.map((study, place) => {
    const [shade, symbol, dash] = LOOKS[place], points = study.front, color = colour(shade);
    return {
      x: points.map((p) => p[found.column]), y: points.map((p) => p.accuracy), name: safe(study.study), mode: "lines+markers", type: "scatter",
      line: { color, width: 1.5, shape: "hv", dash }, marker: { color, symbol, size: 8 },
      error_y: { type: "data", symmetric: false, array: points.map((p) => p.accuracy_high - p.accuracy), arrayminus: points.map((p) => p.accuracy - p.accuracy_low), color, thickness: 1, width: 0 },
      text: points.map((p) => `${safe(study.study)}, ${p.name}: ${percent(p.accuracy)} at ${amount(p[found.column])}<br>${safe(p.network)}<br>${safe(p.knobs)}`), hovertemplate: "%{text}<extra></extra>",
    };
  });
  const layout = layoutOf({
    xaxis: { title: { text: safe(found.label) }, type: "log", exponentformat: "SI" }, yaxis: { title: { text: `${safe(found.metric)} (validation)` }, tickformat: ".0%" },
    legend: { orientation: "h", y: 1.09 }, showlegend: true,
  });
  whenDrawable(() => Plotly.react("chart", traces, layout, { responsive: true, displaylogo: false }));
}

function bestText(p, ahead) {
  return p === null ? "none" : `${percent(p.accuracy)}${ahead ? " *" : ""} (${percent(p.accuracy_low)} to ${percent(p.accuracy_high)}); point ${p.point}, ${p.training}`;
}

function volumeText(study) {
  const between = study.hypervolume_interval;
  return study.hypervolume.toFixed(4) + (between ? ` (${between[0].toFixed(4)} to ${between[1].toFixed(4)})` : "");
}

function pairOf(pair, found) {
  const [one, two] = pair.studies;
  const unit = found.cost === "parameters" ? "parameters" : "MACs";
  const rows = [
    ["points on the front", one.points, two.points], ["hypervolume", volumeText(one), volumeText(two)], ["covers of the other", percent(one.coverage), percent(two.coverage)],
    ...pair.within.map((within) => [`best ${found.metric} within ${amount(within.budget)} ${unit}`, ...within.points.map((p, place) => bestText(p, within.better === pair.studies[place].study))]),
  ];
  const head = element("tr", {}, element("td"), element("th", { scope: "col" }, one.study), element("th", { scope: "col" }, two.study));
  const body = rows.map(([label, first, second]) => element("tr", {}, element("th", { scope: "row" }, label), element("td", {}, String(first)), element("td", {}, String(second))));
  return element("section", { class: "panel" }, element("h2", {}, `${one.study} and ${two.study}`), element("div", { class: "scroll" }, element("table", {}, head, ...body)), ...pair.words.map((words) => element("p", {}, words)), commandLine(pair.command));
}

async function show() {
  const names = chosen();
  for (const box of document.querySelectorAll("#choice input")) box.disabled = !box.checked && names.length >= MOST;
  const address = new URL(location.href);
  address.search = names.map((name) => `study=${encodeURIComponent(name)}`).join("&");
  history.replaceState(null, "", address);
  const chart = document.querySelector("section[aria-label='The fronts']");
  chart.hidden = true;
  fill(by("pairs"));
  if (names.length < 2) { by("title").textContent = "Choose two to four studies on the same images with the same objectives."; return; }
  by("title").textContent = "comparing";
  try {
    const found = await ask("compare", { study: names });
    if (names.join() !== chosen().join()) return;
    by("title").textContent = found.pairs.map((pair) => pair.words[0]).join("; ");
    chart.hidden = false;
    drawFronts(found);
    fill(by("pairs"), ...found.pairs.map((pair) => pairOf(pair, found)));
  } catch (error) {
    if (names.join() === chosen().join()) by("title").textContent = error.message;
  }
}

async function begin() {
  const asked = new Set(new URLSearchParams(location.search).getAll("study"));
  try {
    const { studies } = await ask("studies");
    by("choice").append(...studies.map((study) => {
      const box = element("input", { type: "checkbox", value: study.study });
      box.checked = asked.has(study.study);
      box.onchange = show;
      return element("label", {}, box, ` ${study.study} `, element("span", { class: "soft" }, `${study.front.points} points`));
    }));
    await show();
  } catch (error) {
    by("title").textContent = error.message;
  }
}

begin();
