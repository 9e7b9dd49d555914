"use strict";
// A card for each study with what can be done to it, and the jobs that were started from pages.

const cards = new Map(), rows = new Map();
const WORDS = { search: "search", export: "export", register: "export and register", check: "estimate", init: "study file", delete: "deletion" };
const FEW = 6; // studies that are seen at a glance
let acting = true, known = [], underWay = new Map();

function smallFront(points) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("viewBox", "0 0 300 90");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", "the front, accuracy over the logarithm of cost");
  const costs = points.map(([cost]) => Math.log10(Math.max(cost, 1)));
  const accuracies = points.map(([, accuracy]) => accuracy);
  const scaled = (values, low, high) => {
    const least = Math.min(...values), span = Math.max(...values) - least || 1;
    return values.map((value) => low + ((value - least) / span) * (high - low));
  };
  const xs = scaled(costs, 8, 292), ys = scaled(accuracies, 82, 8);
  xs.forEach((x, index) => {
    const dot = document.createElementNS(space, "circle");
    for (const [key, value] of Object.entries({ cx: x, cy: ys[index], r: 3.5, fill: "var(--front)" })) dot.setAttribute(key, value);
    svg.append(dot);
  });
  return svg;
}

function stop(study) {
  question(`Stop ${study.study}?`, [element("p", {}, "As Ctrl-C does: all finished epochs are kept, and Resume goes on.")], "Stop",
    () => act("stop", { study: study.study }).then(show));
}

function resume(study) {
  const failed = study.trials.by_state.failed || 0;
  const again = element("input", { type: "checkbox" });
  const choice = element("label", {}, again, ` also train the ${failed} failed ${failed === 1 ? "trial" : "trials"} again`);
  const start = () => act("resume", { study: study.study, retry_failed: again.checked }).then(show);
  question(`Resume ${study.study}?`, [element("p", {}, "The search goes on where it was stopped."), ...(failed ? [choice] : [])], "Resume", start);
}

function more(study) {
  const count = element("input", { type: "number", min: 1, max: 100000, value: 8, required: "" });
  const words = element("p", {}, `The study has ${progress(study).done} of ${study.trials.budget} trials. All of them stay.`);
  question(`More trials for ${study.study}`, [words, element("label", {}, "How many more ", count)], "Start",
    () => act("more", { study: study.study, trials: Number(count.value) }).then(show));
}

function remove(study) {
  const runs = element("input", { type: "checkbox" });
  const words = "Its trials, points and checkpoints go, for good. Exported and registered models stay.";
  question(`Delete ${study.study}?`, [element("p", {}, words), element("label", {}, runs, " delete its runs in MLflow too")], "Delete for good",
    () => act("delete", { study: study.study, confirm: study.study, mlflow: runs.checked }).then(show), true);
}

function buttons(study, job) {
  const made = element("div", { class: "buttons" });
  if (!acting) return made;
  const named = (label, run, key, attributes = {}) => button(label, () => run(study), { "data-key": key, "aria-label": `${label}: ${study.study}`, ...attributes });
  if (study.state === "searching" || (job && job.kind === "search")) return made.append(named("Stop", stop, "stop")), made;
  if (job) return made;
  if (study.state !== "finished") made.append(named("Resume", resume, "resume"));
  made.append(named("Add trials", more, "more"), named("Delete", remove, "delete", { class: "danger" }));
  return made;
}

function card(study, job) {
  const href = `study?name=${encodeURIComponent(study.study)}`;
  const bar = element("div", { class: "bar" }, element("i"));
  bar.firstChild.style.width = `${100 * progress(study).share}%`;
  const points = study.front.points;
  const found = points ? `${points} ${points === 1 ? "point" : "points"} on the front, up to ${percent(study.best_accuracy)}` : "no point on the front yet";
  const picture = element("a", { class: "picture", href, tabindex: -1, "aria-hidden": "true" }, smallFront(study.small));
  return element("section", { class: "card", "aria-label": study.study },
    element("h2", {}, element("a", { href, "data-key": "open" }, study.study), " ", stateOf({ state: study.state.split(";")[0] })),
    element("div", { class: "soft" }, progressText(study)), bar, element("div", {}, found), picture,
    job ? element("div", { class: "soft", role: "status" }, `${WORDS[job.kind]}: ${job.state === "queued" ? "waits for its turn" : job.last || "starting"}`) : null,
    buttons(study, job));
}

function jobRow(job) {
  const made = element("div", { class: `job${location.hash === `#job-${job.id}` ? " target" : ""}`, id: `job-${job.id}` });
  const words = job.kind === "search" && job.state === "cancelled" ? "stopped" : job.state;
  const state = element("span", { class: `state ${job.state === "running" ? "searching" : ""}` }, words);
  const what = element("div", {}, `${WORDS[job.kind]} ${job.study}`, element("div", { class: job.error ? "failed" : "soft" }, job.error || job.last || job.command));
  const side = element("div", {});
  if (OPEN.has(job.state) && acting) side.append(button("Cancel", (it) => pressed(it, what.lastChild, () => act("cancel", { job: job.id }).then(show)), { "data-key": "cancel", "aria-label": `Cancel ${WORDS[job.kind]} ${job.study}` }));
  if (job.result.export) side.append(element("a", { href: exportAddress(job.study, { id: job.result.export }) }, "The model"));
  const log = element("pre", {}), details = element("details", {}, element("summary", {}, "log"), log);
  details.ontoggle = async () => { if (details.open) log.textContent = await ask("job", { id: job.id }).then((found) => found.log.join("\n"), (error) => error.message); };
  made.append(state, what, side, details);
  return made;
}

// what has not changed stays as it is; in what has, the focus stays where it was
function update(place, kept, values, keyOf, make) {
  const made = values.map((value) => {
    const key = keyOf(value), text = JSON.stringify([value, acting]), old = kept.get(key);
    if (old && old.text === text) return old.node;
    const focus = old && old.node.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    const open = old && old.node.querySelector("details[open]");
    const node = make(value);
    kept.set(key, { text, node });
    if (open) node.querySelector("details").open = true;
    if (focus) queueMicrotask(() => { const again = node.querySelector(`[data-key="${focus}"]`); if (again) again.focus(); });
    return node;
  });
  if (made.length !== place.children.length || made.some((node, index) => place.children[index] !== node)) place.replaceChildren(...made);
}

function showCards() {
  const wanted = by("filter").value.trim().toLowerCase();
  const found = known.filter((study) => `${study.study} ${study.state}`.toLowerCase().includes(wanted));
  by("finding").hidden = known.length <= FEW && !wanted;
  by("count").textContent = `${found.length} of ${known.length}`;
  by("compare").hidden = known.length < 2;
  update(by("cards"), cards, found.map((study) => [study, underWay.get(study.study) || null]), ([study]) => study.study, ([study, job]) => card(study, job));
}

async function show() {
  const message = document.getElementById("message");
  try {
    const [{ studies }, { jobs }] = await Promise.all([ask("studies"), ask("jobs")]);
    acting = await mayAct;
    document.getElementById("new").hidden = !acting;
    message.textContent = studies.length ? "" : "No study yet. Start one with New study, or: dynafront search studies/digits.yml";
    known = studies;
    underWay = new Map(jobs.filter((job) => OPEN.has(job.state) && job.kind !== "check").map((job) => [job.study, job]));
    showCards();
    const shown = jobs.filter((job) => OPEN.has(job.state) || !["check", "init"].includes(job.kind)).slice(0, 20);
    document.getElementById("under-way").hidden = !shown.length;
    update(document.getElementById("jobs"), rows, shown, (job) => job.id, jobRow);
  } catch (error) {
    message.textContent = `The studies cannot be read: ${error.message}`;
  }
}

by("filter").oninput = showCards;
every(5, show);
