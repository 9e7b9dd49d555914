"use strict";
// Points off the front, on a canvas below the chart: tens of thousands are drawn in a few milliseconds.

const cloud = { points: null, xs: [], ys: [] };

function axesOf(chart) {
  // plotly's, or those of the sketch before it is there
  const full = chart._fullLayout;
  return full && full.xaxis ? { x: full.xaxis, y: full.yaxis } : sketch.axes;
}

function place(chart, cost, accuracy) {
  // pixels in the chart of a point; null where it cannot be drawn
  const axes = axesOf(chart);
  if (!axes || cost === null || (axes.x.type === "log" && cost <= 0)) return null;
  return [axes.x._offset + axes.x.d2p(cost), axes.y._offset + axes.y.d2p(accuracy)];
}

function inside(chart, [x, y]) {
  const { x: across, y: up } = axesOf(chart);
  return x >= across._offset && x <= across._offset + across._length && y >= up._offset && y <= up._offset + up._length;
}

function drawCloud(chart, column, shown) {
  const canvas = by("cloud"), scale = window.devicePixelRatio || 1;
  const width = chart.clientWidth, height = chart.clientHeight;
  if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.clearRect(0, 0, width, height);
  cloud.xs = [];
  cloud.ys = [];
  if (!shown || !cloud.points || !axesOf(chart)) return;
  pen.fillStyle = colour("other");
  pen.globalAlpha = cloud.points.id.length > 2000 ? 0.45 : 0.75;
  const side = cloud.points.id.length > 2000 ? 3 : 4;
  cloud.points.id.forEach((_, index) => {
    const at = place(chart, cloud.points[column][index], cloud.points.accuracy[index]);
    const drawn = at !== null && inside(chart, at);
    cloud.xs.push(drawn ? at[0] : NaN);
    cloud.ys.push(drawn ? at[1] : NaN);
    if (drawn) pen.fillRect(at[0] - side / 2, at[1] - side / 2, side, side);
  });
}

function nearestInCloud(x, y, reach) {
  // index of the point under the pointer, -1 where there is none
  let found = -1, least = reach * reach;
  for (let index = 0; index < cloud.xs.length; index++) {
    const distance = (cloud.xs[index] - x) ** 2 + (cloud.ys[index] - y) ** 2;
    if (distance < least) { least = distance; found = index; }
  }
  return found;
}
