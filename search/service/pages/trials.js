"use strict";
// The table of trials; one of them with its curves and failures; what runs now.

const HEADS = [
  ["name", "trial"], ["state", "state"], ["accuracy", "accuracy"], ["macs_mean", "MACs"], ["network", "network"], ["epochs", "epochs"], ["seconds", "time"], ["error", "error"],
];
const NUMERIC = new Set(["accuracy", "macs_mean", "epochs", "seconds"]);
const AT_FIRST = 50, MOST_LIVE = 8; // rows; trainings that run now
const table = { trials: [], sort: ["name", 1], all: false, open: null };
const UNDER_WAY = new Set(["running", "interrupted"]);

function cell(trial, key) {
  if (key === "accuracy") return percent(trial.accuracy, 2);
  if (key === "macs_mean") return amount(trial.macs_mean);
  if (key === "seconds") return minutes(trial.seconds);
  if (key === "name") return `${trial.name}${trial.on_front ? " ★" : ""}`;
  return String(trial[key] ?? "");
}

function sorted(trials) {
  const [key, way] = table.sort;
  const value = (t) => (key === "name" ? t.kind : NUMERIC.has(key) ? t[key] ?? -1 : t[key] ?? "");
  return trials.sort((a, b) => {
    const [x, y] = [value(a), value(b)];
    return way * (x < y ? -1 : x > y ? 1 : a.number - b.number);
  });
}

function showTrials() {
  const words = by("filter").value.toLowerCase().trim();
  const kept = sorted(table.trials.filter((t) => HEADS.some(([name]) => cell(t, name).toLowerCase().includes(words))));
  by("count").textContent = `${kept.length} of ${table.trials.length}; ★ is on the front`;
  const shown = table.all ? kept : kept.slice(0, AT_FIRST);
  fill(by("rows"), ...shown.map(trialRow));
  by("more").hidden = shown.length === kept.length;
  by("more").textContent = `show all ${kept.length}`;
}

function trialRow(t) {
  const open = element("button", { type: "button", class: "plain" }, cell(t, "name"));
  const cells = HEADS.map(([name]) => {
    const kind = NUMERIC.has(name) ? "number" : name === "error" ? "error" : name === "state" && t.state === "failed" ? "failed" : "";
    return element("td", { class: kind }, name === "name" ? open : cell(t, name));
  });
  const made = element("tr", { class: table.open === `${t.kind} ${t.number}` ? "now" : "" }, ...cells);
  made.onclick = () => openTrial(t.kind, t.number);
  return made;
}

function heads() {
  fill(by("heads"), ...HEADS.map(([key, label]) => {
    const button = element("button", { type: "button" }, label);
    button.onclick = () => { table.sort = [key, table.sort[0] === key ? -table.sort[1] : NUMERIC.has(key) ? -1 : 1]; heads(); showTrials(); };
    const way = table.sort[0] === key ? (table.sort[1] > 0 ? "ascending" : "descending") : "none";
    return element("th", { class: NUMERIC.has(key) ? "number" : "", "aria-sort": way }, button);
  }));
}

async function openTrial(kind, number) {
  table.open = `${kind} ${number}`;
  showTrials();
  const panel = by("trial");
  try {
    const t = await ask("trial", { study: NAME, kind, number });
    if (table.open !== `${kind} ${number}`) return;
    const curves = element("div", { class: "curves" });
    fill(panel, ...trialParts(t, curves));
    drawCurves(curves, t.charts);
    if (UNDER_WAY.has(t.state)) setTimeout(() => { if (table.open === `${kind} ${number}`) openTrial(kind, number); }, 3000);
  } catch (error) {
    fill(panel, element("p", { class: "failed" }, error.message));
  }
}

function trialParts(t, curves) {
  const state = element("span", { class: t.state === "failed" ? "failed" : "" }, t.state);
  const stopped = t.stopped_at ? `, stopped after epoch ${t.stopped_at}` : "";
  const rows = element("table", {},
    row("state", state), row("epochs", `${t.epochs_done} of ${t.epochs}${stopped}`), row("begun", new Date(t.started).toLocaleString()), row("time", minutes(t.seconds)), row("network", t.network),
    t.accuracy === null ? null : row("best setting", `${percent(t.accuracy, 2)} at ${amount(t.macs_mean)} MACs: ${t.knobs}`),
  );
  const show = t.point === null ? null : element("button", { type: "button" }, "show its best point");
  if (show) show.onclick = () => { choose(t.point); by("plot").scrollIntoView({ behavior: "smooth", block: "center" }); };
  return [
    element("h2", {}, t.name), rows, curves, ...t.failures.map((failure, place) => failureOf(failure, place, t.failures.length)),
    element("p", { class: "links" }, runLink(t.experiment_id, t.run_id, "its MLflow run"), show),
    ...t.commands.flatMap(([why, command]) => [element("h3", {}, why), commandLine(command)]),
    settingsOf(t),
  ];
}

function failureOf(failure, place, count) {
  const when = failure.epoch === null ? "before its first epoch" : `in epoch ${failure.epoch}`;
  return element("details", { class: "failure", open: "" }, element("summary", {}, `attempt ${place + 1} of ${count} failed ${when}, ${new Date(failure.at).toLocaleString()}`),
    element("p", { class: "failed" }, failure.error), element("pre", { tabindex: "0" }, failure.trace || "no traceback: the reason says all"));
}

function settingsOf(t) {
  const list = element("table", {}, row("seed", String(t.seed)));
  for (const [name, value] of Object.entries(t.params)) list.append(row(name, value));
  return element("details", {}, element("summary", {}, "all of its settings"), list);
}

const live = new Map(); // by training that runs now: where its curve is drawn

async function showRunning() {
  // every training that runs now, with its curve so far; a chart that is there is drawn on
  const box = by("running"), found = [...view.study.running, ...view.study.interrupted].slice(0, MOST_LIVE);
  box.hidden = !found.length;
  const trials = await Promise.all(found.map((one) => ask("trial", { study: NAME, kind: one.kind, number: one.trial })));
  const names = trials.map((t) => t.name);
  for (const name of live.keys()) if (!names.includes(name)) live.delete(name);
  for (const name of names) if (!live.has(name)) live.set(name, { words: element("p"), curves: element("div", { class: "curves" }) });
  const shown = [...box.querySelectorAll(".live > div")].map((one) => one.dataset.name);
  if (shown.join() !== names.join()) {
    fill(box, element("h2", {}, view.study.running.length ? "Running now" : "Interrupted"),
      element("div", { class: "live" }, ...names.map((name) => element("div", { "data-name": name }, live.get(name).words, live.get(name).curves))));
  }
  for (const t of trials) {
    const { words, curves } = live.get(t.name);
    const far = t.epochs_done ? `epoch ${t.epochs_done} of ${t.epochs}` : `in its first epoch of ${t.epochs}`;
    fill(words, element("strong", {}, t.name), element("span", { class: "soft" }, ` ${far}`), element("br"), t.network);
    drawCurves(curves, t.charts.filter((chart) => chart.name === "accuracy" || chart.name === "loss"));
  }
}

by("more").onclick = () => { table.all = true; showTrials(); };
