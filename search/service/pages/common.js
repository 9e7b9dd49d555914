"use strict";
// What all pages share: asking the server, and writing numbers as people do. Text from data is only ever set as text.

const API = new URL("../api/3.0/dynafront/", new URL("./", location.href));
const tags = new Map();

async function ask(path, query = {}) {
  const address = new URL(path, API);
  for (const [name, value] of Object.entries(query)) address.searchParams.set(name, value);
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
  const address = new URL(path, API);
  for (const [name, value] of Object.entries(query)) address.searchParams.set(name, value);
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

function amount(value) {
  if (value === null || value === undefined) return "-";
  for (const [size, unit] of [[1e9, " G"], [1e6, " M"], [1e3, " k"]]) {
    if (value >= size) return Number((value / size).toPrecision(3)) + unit;
  }
  return String(Math.round(value));
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
