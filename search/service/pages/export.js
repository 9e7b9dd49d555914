"use strict";
// An export: its progress, then what it measured beside the static network, its files, and how to use it.

const QUERY = new URLSearchParams(location.search);
const STUDY = QUERY.get("study") || "";
const at = (id) => document.getElementById(id);

function table(found) {
  const head = element("tr", {}, ...["on the test images", "this model", found.static.name].map((text, index) => element("th", index ? { class: "number", scope: "col" } : { scope: "col" }, text)));
  const rows = found.rows.map(([what, own, other]) => element("tr", {}, element("th", { scope: "row" }, what), element("td", { class: "number" }, own), element("td", { class: "number" }, other)));
  return element("div", { class: "scroll" }, element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows)));
}

function uses(found) {
  const made = element("section", { class: "panel" }, element("h2", {}, "Use it"));
  for (const [where, text] of found.uses) {
    made.append(element("div", { class: "buttons" }, element("strong", {}, where), copied(text)), element("pre", {}, text));
  }
  return made;
}

function download(found) {
  const address = new URL("download", API);
  address.search = new URLSearchParams({ study: STUDY, id: found.id });
  const bytes = Object.values(found.files).reduce((sum, size) => sum + size, 0);
  const link = element("a", { class: "button main", href: address.href, download: "" }, `Download (${amount(bytes)}B)`);
  return found.here ? link : element("span", { class: "soft" }, "Its files are not below the data folder of this server.");
}

function again(found, message) {
  const made = button("Register in MLflow", (it) => pressed(it, message, async () => {
    const { job } = await act("register", { study: STUDY, point: found.point });
    location.href = exportAddress(STUDY, { job: job.id });
  }));
  return made;
}

async function showModel(id) {
  const found = await ask("export", { study: STUDY, id });
  const message = element("p", { class: "failed", role: "alert" });
  const line = element("div", { class: "buttons" }, download(found));
  if (found.model) line.append(element("span", { class: "soft" }, `registered as ${found.model}`));
  else if (found.point && await mayAct) line.append(again(found, message));
  at("message").textContent = `${STUDY}, ${found.point ? `point ${found.point}` : found.pick}: the model is in ${found.folder}`;
  const measured = element("section", { class: "panel" }, element("h2", {}, "Measured"), table(found), element("p", { class: "soft" }, `Beside it: ${found.static.why}.`));
  if (found.static.standing) measured.append(element("p", {}, `On these images the exported model is ${found.static.standing}.`));
  const card = element("details", { class: "panel" }, element("summary", {}, "The model card"), element("pre", {}, found.card));
  at("model").replaceChildren(line, message, element("div", { class: "halves measured" }, measured, uses(found)), element("div", { style: "margin-top:1rem" }, found.card ? card : ""));
}

async function showOthers() {
  const { exports } = await ask("exports", { study: STUDY });
  at("others").hidden = !exports.length;
  at("list").replaceChildren(...exports.map((one) => element("li", {},
    element("a", { href: exportAddress(STUDY, { id: one.id }) }, one.point ? `point ${one.point}` : one.pick),
    `, ${new Date(one.created).toLocaleString()}${one.model ? `, ${one.model}` : ""}`)));
  return exports;
}

function showJob(job) {
  const open = OPEN.has(job.state);
  at("working").hidden = job.state === "done";
  at("working").querySelector("progress").hidden = !open;
  at("state").replaceChildren(element("span", { class: `state ${job.state === "running" ? "searching" : ""}` }, job.state));
  at("log").textContent = job.log.join("\n");
  at("message").textContent = job.error || (open ? (job.state === "queued" ? "waits for its turn" : job.last || "starting") : `the job is ${job.state}`);
  at("message").className = job.error ? "failed" : "";
  if (!open) at("job-buttons").replaceChildren();
}

async function show() {
  at("name").textContent = `Export: ${STUDY}`;
  document.title = `${STUDY}: export`;
  at("back").href = `study?name=${encodeURIComponent(STUDY)}`;
  try {
    let id = QUERY.get("id");
    if (QUERY.get("job")) {
      if (await mayAct) at("job-buttons").append(button("Cancel", (it) => pressed(it, at("message"), () => act("cancel", { job: Number(QUERY.get("job")) }))));
      const job = await follow(QUERY.get("job"), showJob);
      id = job.result.export;
      if (id) history.replaceState(null, "", exportAddress(STUDY, { id }));
    }
    const exports = await showOthers();
    if (!id && !QUERY.get("job") && exports.length) id = exports[0].id;
    if (id) await showModel(id);
    else if (!QUERY.get("job")) at("message").textContent = "Nothing was exported yet. Choose a point of the study.";
  } catch (error) {
    at("message").textContent = error.message;
    at("message").className = "failed";
  }
}

show();
