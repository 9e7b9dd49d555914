"use strict";
// A new study: a form and the file beside it, each changing the other; checked while one types, estimated, started.

const REGIONS = { "": "near the best accuracy", max_macs: "at most so many MACs", min_accuracy: "at least this accuracy", within: "so far below the best" };
const FIELDS = [
  ["main-fields", "study", "Name", "text"],
  ["main-fields", "data", "Data", "text"],
  ["main-fields", "image_size", "Image size, or sizes", "whole"],
  ["main-fields", "init_from", "Weights to start from", "text"],
  ["budget-fields", "budget.trials", "Trials", "whole"],
  ["budget-fields", "budget.epochs", "Epochs", "whole"],
  ["budget-fields", "budget.warm_epochs", "Epochs from a baseline", "whole"],
  ["budget-fields", "budget.hours", "Hours at most", "number"],
  ["aim-fields", "metric", "Maximise", "choice"],
  ["aim-fields", "cost", "Minimise", "choice"],
  ["aim-fields", "region", "Points that count", "choice"],
  ["aim-fields", "limit", "Limit", "text"],
  ["aim-fields", "validation", "Share held out", "number"],
  ["aim-fields", "seed", "Seed", "whole"],
];
const form = new Map();
const shown = { version: 0, checked: "", values: {}, families: [], wait: null };
const part = (id) => document.getElementById(id);

function field([place, key, label, kind]) {
  const made = kind === "choice" ? element("select") : element("input", kind === "text" ? { spellcheck: "false" } : { inputmode: "decimal" });
  made.name = key;
  made.onchange = () => change(key);
  form.set(key, made);
  part(place).append(element("label", {}, label, made));
}

function familyBox({ name, doc }) {
  const box = element("input", { type: "checkbox", value: name });
  box.onchange = () => edit({ families: shown.families.filter((one) => one.checked).map((one) => one.value) });
  shown.families.push(box);
  part("families").append(element("label", { title: doc }, box, ` ${name}`));
}

// what is typed as the file has it: a number where it is one
function typed(key) {
  const text = form.get(key).value.trim();
  if (text === "") return null;
  if (["study", "data", "init_from"].includes(key)) return text;
  if (key === "image_size" && text.includes(",")) return text.split(",").map((one) => numberOf(one.trim()));
  return numberOf(text);
}

function numberOf(text) {
  return text !== "" && Number.isFinite(Number(text)) ? Number(text) : text;
}

function change(key) {
  if (key === "metric" || key === "cost") {
    const cost = form.get("cost").value;
    return edit({ objectives: cost ? [form.get("metric").value, cost, ...moreCosts(cost)] : [form.get("metric").value] });
  }
  if (key === "region" || key === "limit") {
    const kind = form.get("region").value, limit = typed("limit");
    form.get("limit").disabled = !kind;
    if (kind && limit === null) return form.get("limit").focus();
    return edit({ region: kind ? { [kind]: limit } : null });
  }
  return edit({ [key]: typed(key) });
}

function moreCosts(first) {
  return list("objectives").slice(2).filter((name) => name !== first);
}

function list(key) {
  const found = value(key);
  return Array.isArray(found) ? found : [];
}

function value(key) {
  return key.split(".").reduce((found, name) => (found && typeof found === "object" ? found[name] : undefined), shown.values);
}

function put(key, found) {
  const made = form.get(key), many = found !== null && typeof found === "object" && !Array.isArray(found);
  made.disabled = many; // by family: the file alone says it
  if (made === document.activeElement) return;
  if (many || found === undefined || found === null) made.value = "";
  else made.value = Array.isArray(found) ? found.join(", ") : String(found);
}

function fill() {
  for (const [, key, , kind] of FIELDS) if (kind !== "choice" && key !== "limit") put(key, value(key));
  const objectives = list("objectives");
  put("metric", objectives.length ? objectives[0] : "accuracy");
  put("cost", objectives.length ? objectives[1] : "macs");
  const region = value("region") || {}, kind = Object.keys(REGIONS).find((name) => name && name in region) || "";
  put("region", kind);
  put("limit", kind ? region[kind] : "");
  form.get("limit").disabled = !kind && document.activeElement !== form.get("limit");
  const families = list("families");
  for (const box of shown.families) box.checked = families.includes(box.value);
}

function toLine(number) {
  const text = part("text"), lines = text.value.split("\n");
  const begin = lines.slice(0, number - 1).join("\n").length + (number > 1 ? 1 : 0);
  text.focus();
  text.setSelectionRange(begin, begin + (lines[number - 1] || "").length);
}

function show(found) {
  shown.values = found.values;
  fill();
  const keys = new Set(found.errors.map((one) => one.key));
  for (const [key, made] of form) made.setAttribute("aria-invalid", keys.has(key) || (key === "limit" && [...keys].some((one) => one && one.startsWith("region"))) ? "true" : "false");
  const fine = !found.errors.length;
  part("start").disabled = part("estimate").disabled = !fine;
  part("start").textContent = found.known ? "Go on with it" : "Start";
  const mistakes = found.errors.map((one) => element("button", { type: "button", class: "mistake", ...(one.line ? { "data-line": one.line } : {}) }, `${one.line ? `line ${one.line}: ` : ""}${one.message}`));
  for (const made of mistakes) made.onclick = () => { if (made.dataset.line) toLine(Number(made.dataset.line)); };
  const lines = fine ? [found.words, ...Object.entries(found.space).map(([name, size]) => `${name}: ${spaceText(size)}`)] : [];
  if (found.known) lines.push(`There is a study ${found.study} already: starting goes on with it, under this file.`);
  part("checked").replaceChildren(...mistakes, ...lines.map((line) => element("div", { class: "soft" }, line)));
}

function spaceText(size) {
  const count = size.combinations < 1e9 ? size.combinations.toLocaleString() : size.combinations.toExponential(1);
  const some = size.continuous.slice(0, 3).join(", "), rest = size.continuous.length - 3;
  const over = some ? `, each over ranges of ${some}${rest > 0 ? ` and ${rest} more` : ""}` : "";
  return `${count} ${size.combinations === 1 ? "combination" : "combinations"}${over}`;
}

// the newest question alone is answered
async function asked(path, body) {
  const mine = ++shown.version;
  clearTimeout(shown.wait);
  try {
    const found = await act(path, body);
    if (mine !== shown.version) return null;
    part("failed").textContent = "";
    return found;
  } catch (error) {
    if (mine === shown.version) part("failed").textContent = error.message;
    return null;
  }
}

async function edit(changes) {
  const found = await asked("edit", { text: part("text").value, changes });
  if (found === null) return;
  part("text").value = found.text;
  show(found);
}

async function check() {
  const text = part("text").value;
  if (!text.trim()) return;
  const found = await asked("check", { text });
  if (found !== null) show(found);
}

async function suggest(made) {
  const failed = part("failed"), reasons = part("reasons");
  await pressed(made, failed, async () => {
    reasons.hidden = false;
    reasons.textContent = "looking at the images";
    const { job } = await act("suggest", { data: part("images").value.trim(), hours: Number(part("hours").value) });
    const ended = await follow(job.id, (found) => { reasons.textContent = found.log.slice(1).join("\n"); });
    if (ended.state !== "done") throw new Error(ended.error || `the job is ${ended.state}`);
    part("text").value = ended.result.text;
    await check();
  });
}

function range(pair, text) {
  const [low, high] = [text(pair.low), text(pair.high)];
  return low === high ? `about ${low}` : `about ${low} to ${high}`;
}

function workers() {
  const text = part("workers").value.trim();
  return text === "" ? {} : { workers: Number(text) };
}

async function estimate(made) {
  await pressed(made, part("failed"), async () => {
    const text = part("text").value, place = part("estimated");
    const { job } = await act("estimate", { text, ...workers() });
    const ended = await follow(job.id, (found) => { place.textContent = found.state === "queued" ? "waits for its turn" : found.last || "starting"; });
    if (ended.state !== "done") { place.textContent = ""; throw new Error(ended.error || `the job is ${ended.state}`); }
    const found = ended.result, images = found.images;
    const rows = [
      ["time", `${range(found.seconds, minutes)} on this machine (${found.device}${found.workers > 1 ? `, ${found.workers} at once` : ""})`],
      ["disk", `${range(found.checkpoint_bytes, (bytes) => `${amount(bytes)}B`)} of checkpoints`],
      ["images", `${images.train.toLocaleString()} to train on, ${images.validation.toLocaleString()} for validation, ${images.test.toLocaleString()} for test; ${images.classes} classes`],
    ];
    if (found.sizes.beyond_limits) rows.push(["limits", `${found.sizes.beyond_limits} of ${found.sizes.searched} sizes are beyond them`]);
    place.replaceChildren(element("table", {}, ...rows.map(([label, words]) => element("tr", {}, element("th", { scope: "row" }, label), element("td", {}, words)))));
  });
}

async function start(made) {
  await pressed(made, part("failed"), async () => {
    const { job } = await act("launch", { text: part("text").value, baselines: part("baselines").checked, ...workers() });
    location.href = `./#job-${job.id}`;
  });
}

async function begin() {
  try {
    const found = await ask("choices");
    for (const one of FIELDS) field(one);
    const fillWith = (key, options) => { for (const [name, label] of Object.entries(options)) form.get(key).append(new Option(label, name)); };
    fillWith("metric", found.metrics);
    fillWith("cost", { ...found.costs, "": "nothing" });
    fillWith("region", REGIONS);
    found.families.forEach(familyBox);
    for (const name of found.data) part("known").append(element("option", { value: name }));
    form.get("data").setAttribute("list", "known");
    if (found.folders) part("folders").textContent = found.folders.length ? `below ${found.folders.join(", ")}` : "";
    part("text").value = found.text;
    await check();
  } catch (error) {
    part("failed").textContent = error.message;
  }
}

part("form").onsubmit = (event) => event.preventDefault();
part("text").oninput = () => { clearTimeout(shown.wait); shown.wait = setTimeout(check, 300); part("estimated").replaceChildren(); };
part("suggest").onclick = () => suggest(part("suggest"));
part("estimate").onclick = () => estimate(part("estimate"));
part("start").onclick = () => start(part("start"));
begin();
