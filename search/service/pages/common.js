"use strict";
// What all pages share: asking the server, and writing numbers as people do. Text from data is only ever set as text.

const API = new URL("../api/3.0/dynafront/", new URL("./", location.href));
const tags = new Map();

function addressOf(path, query) {
  // a list of values stands there once for each
  const address = new URL(path, API);
  for (const [name, value] of Object.entries(query)) for (const one of [value].flat()) address.searchParams.append(name, one);
  return address;
}

async function ask(path, query = {}) {
  const address = addressOf(path, query);
  const headers = tags.has(address.href) ? { "If-None-Match": tags.get(address.href) } : {};
  const answer = await fetch(address, { headers, cache: "no-store" });
  if (answer.status === 304) return null;
  const content = await answer.json();
  if (!answer.ok) throw new Error(content.error || `the server answers ${answer.status}`);
  if (answer.headers.get("ETag")) tags.set(address.href, answer.headers.get("ETag"));
  return content;
}

async function send(path, query = {}, content = {}) {
  // what changes something: JSON, which no other site's form can send
  const address = addressOf(path, query);
  const answer = await fetch(address, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(content) });
  const found = await answer.json();
  if (!answer.ok) throw new Error(found.error || `the server answers ${answer.status}`);
  return found;
}

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children.filter((child) => child !== null));
  return made;
}

function fill(box, ...parts) {
  box.replaceChildren(...parts.filter((part) => part !== null));
}

function amount(value) {
  if (value === null || value === undefined) return "-";
  for (const [size, unit] of [[1e9, " G"], [1e6, " M"], [1e3, " k"]]) {
    if (value >= size) return Number((value / size).toPrecision(3)) + unit;
  }
  return String(Math.round(value));
}

function timed(column) {
  return column.startsWith("latency_");
}

function amountOf(point, column) {
  if (timed(column)) return point[column] === null ? "-" : `${Number(point[column].toPrecision(3))} ms`;
  return amount(point[column]);
}

function percent(value, digits = 1) {
  return value === null || value === undefined ? "-" : `${(100 * value).toFixed(digits)} %`;
}

function minutes(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

function progress(study) {
  const states = study.trials.by_state;
  const done = ["complete", "stopped", "failed"].reduce((sum, state) => sum + (states[state] || 0), 0);
  return { done, share: study.trials.budget ? Math.min(1, done / study.trials.budget) : 0 };
}

function progressText(study) {
  const parts = [`${progress(study).done} of ${study.trials.budget} trials`];
  if (study.eta_seconds) parts.push(`about ${minutes(study.eta_seconds)} left`);
  if (study.trials.by_state.failed) parts.push(`${study.trials.by_state.failed} failed`);
  return parts.join(", ");
}

function stateOf(study) {
  const made = element("span", { class: `state ${study.state === "searching" ? "searching" : ""}` });
  made.textContent = study.state;
  return made;
}

function every(seconds, action) {
  const go = () => { if (!document.hidden) action(); };
  action();
  setInterval(go, 1000 * seconds);
  document.addEventListener("visibilitychange", go);
}

const by = (id) => document.getElementById(id);
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

function safe(text) {
  // plotly reads a few tags in labels
  return String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
}

function commandLine(text) {
  const copy = element("button", { type: "button" }, "copy");
  copy.onclick = () => navigator.clipboard.writeText(text).then(() => { copy.textContent = "copied"; });
  return element("p", {}, element("code", {}, text), " ", copy);
}

function runLink(experiment, run, words) {
  if (!experiment || !run) return null;
  const href = `../#/experiments/${encodeURIComponent(experiment)}/runs/${encodeURIComponent(run)}?workflowType=machine_learning`;
  return element("a", { href }, words);
}

function row(label, value) {
  return element("tr", {}, element("th", { scope: "row" }, label), element("td", {}, value));
}

function layoutOf(more) {
  // what all of plotly's charts share; colours follow the page's
  const axis = { gridcolor: colour("line"), zeroline: false, linecolor: colour("line") };
  const { xaxis = {}, yaxis = {}, ...rest } = more;
  return {
    margin: { l: 55, r: 10, t: 10, b: 45 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: colour("text"), size: 13 }, xaxis: { ...axis, ...xaxis }, yaxis: { ...axis, ...yaxis }, hovermode: "closest", ...rest,
  };
}

function whenDrawable(action) {
  // plotly is large: words stand on the page before it is there
  if (window.Plotly) action();
  else by("plotly").addEventListener("load", action);
}
