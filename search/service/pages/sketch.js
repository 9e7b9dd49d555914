"use strict";
// The front while plotly is still on its way: axes, baselines and the front as a few lines of SVG, where plotly puts them.

const sketch = { axes: null };
const EDGES = { left: 60, right: 12, top: 43, bottom: 48 };

function svg(name, attributes, text = "") {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
}

function scale(range, log, offset, length, upward) {
  // as plotly's axes: from data to pixels and back, within the axis
  const [from, to] = range;
  const share = (value) => ((log ? Math.log10(value) : value) - from) / (to - from);
  const value = (part) => (log ? 10 ** (from + part * (to - from)) : from + part * (to - from));
  return {
    type: log ? "log" : "linear", range, _offset: offset, _length: length,
    d2p: (at) => length * (upward ? 1 - share(at) : share(at)), p2d: (pixel) => value(upward ? 1 - pixel / length : pixel / length),
  };
}

function ticks({ type, range: [from, to] }) {
  // round values, about six
  if (type === "log") {
    const powers = [...Array(20).keys()].filter((power) => power >= Math.floor(from) && power <= to);
    return powers.flatMap((power) => (to - from > 2 ? [1] : [1, 2, 5]).map((step) => step * 10 ** power)).filter((at) => Math.log10(at) >= from && Math.log10(at) <= to);
  }
  const rough = (to - from) / 6, power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((round) => round * power >= rough);
  return [...Array(12).keys()].map((index) => (Math.ceil(from / step) + index) * step).filter((at) => at <= to);
}

function steps(points, x, y) {
  // a line that keeps its height to the next point
  return points.map((p, index) => (index ? `H${x(p)}V${y(p)}` : `M${x(p)} ${y(p)}`)).join("");
}

function drawSketch(chart, ranges, { front, statics, line }, { log, column, label }) {
  const box = by("sketch"), width = chart.clientWidth, height = chart.clientHeight;
  const across = scale(ranges.x, log, EDGES.left, width - EDGES.left - EDGES.right, false);
  const up = scale(ranges.y, false, EDGES.top, height - EDGES.top - EDGES.bottom, true);
  const x = (p) => (across._offset + across.d2p(p[column])).toFixed(1), y = (p) => (up._offset + up.d2p(p.accuracy)).toFixed(1);
  const [right, bottom] = [across._offset + across._length, up._offset + up._length];
  const grid = ticks(across).flatMap((at) => [
    svg("path", { class: "grid", d: `M${across._offset + across.d2p(at)} ${up._offset}V${bottom}` }),
    svg("text", { x: across._offset + across.d2p(at), y: bottom + 18, "text-anchor": "middle" }, column === "latency_ms" ? String(at) : amount(at)),
  ]);
  const levels = ticks(up).flatMap((at) => [
    svg("path", { class: "grid", d: `M${across._offset} ${up._offset + up.d2p(at)}H${right}` }),
    svg("text", { x: across._offset - 6, y: up._offset + up.d2p(at) + 4, "text-anchor": "end" }, percent(at, ranges.y[1] - ranges.y[0] < 0.05 ? 1 : 0)),
  ]);
  const clip = svg("svg", { x: across._offset, y: up._offset, width: across._length, height: up._length, viewBox: `${across._offset} ${up._offset} ${across._length} ${up._length}` });
  clip.append(
    svg("path", { class: "baselines line", d: steps(line, x, y) }), svg("path", { class: "front line", d: steps(front, x, y) }),
    ...statics.map((p) => svg("rect", { class: "baselines", x: x(p) - 4, y: y(p) - 4, width: 8, height: 8 })),
    ...front.map((p) => svg("circle", { class: "front", cx: x(p), cy: y(p), r: 4.5 })),
  );
  const title = svg("text", { x: (across._offset + right) / 2, y: height - 8, "text-anchor": "middle" }, label);
  box.replaceChildren(...grid, ...levels, clip, title);
  sketch.axes = { x: across, y: up };
}

function wipeSketch() {
  by("sketch").replaceChildren();
  sketch.axes = null;
}
