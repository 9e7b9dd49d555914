"use strict";
// What pages can start: posting an action, following its job, asking before it. Text from data is only ever set as text.

const OPEN = new Set(["queued", "running"]);

const act = (path, body) => send(path, {}, body);

// resolves once the job has ended; `shown` gets it whenever it was read
async function follow(id, shown = () => {}) {
  for (;;) {
    const job = await ask("job", { id });
    shown(job);
    if (!OPEN.has(job.state)) return job;
    await new Promise((done) => setTimeout(done, 1000));
  }
}

// who may only read gets no buttons; a server without users has no such people
const mayAct = ask("user").then((user) => user.admin, () => true);

function button(label, run, attributes = {}) {
  const made = element("button", { type: "button", ...attributes }, label);
  made.onclick = () => run(made);
  return made;
}

// runs an action from a button: it cannot be pressed twice, and an error is told beside it
async function pressed(made, message, run) {
  made.disabled = true;
  message.textContent = "";
  try {
    await run();
  } catch (error) {
    message.textContent = error.message;
  } finally {
    made.disabled = false;
  }
}

// a question before an action; `run` may fail, and is then told in the dialog
function question(title, content, label, run, danger = false) {
  const message = element("p", { class: "failed", role: "alert" });
  const made = element("dialog", { "aria-label": title });
  const form = element("form", { method: "dialog" });
  const yes = element("button", { type: "submit", class: danger ? "danger" : "main" }, label);
  const no = button("Cancel", () => made.close());
  form.append(element("h2", {}, title), ...content, message, element("div", { class: "buttons" }, yes, no));
  form.onsubmit = (event) => { event.preventDefault(); pressed(yes, message, async () => { await run(); made.close(); }); };
  made.append(form);
  made.onclose = () => made.remove();
  document.body.append(made);
  made.showModal();
}

function copied(text) {
  const made = button("Copy", () => navigator.clipboard.writeText(text).then(() => { made.textContent = "Copied"; }));
  return made;
}

function exportAddress(study, query) {
  return `export?${new URLSearchParams({ study, ...query })}`;
}

// buttons that make a model of a point, below the first words of the panel that shows it
async function addActions(panel, study, point, kind = "") {
  const place = element("div", { class: "actions" }), head = panel.querySelector("h2 + p");
  if (head) head.after(place);
  else panel.append(place);
  const message = element("p", { class: "failed", role: "alert" });
  const whole = element("input", { type: "checkbox", name: "whole_curve" });
  const formats = { int8: "8-bit integers", float16: "float16, half the size", bfloat16: "bfloat16, half the size" };
  const boxes = Object.keys(formats).map((name) => element("input", { type: "checkbox", name }));
  const start = (path) => (made) => pressed(made, message, async () => {
    const quantize = boxes.filter((box) => box.checked).map((box) => box.name);
    const { job } = await act(path, { study, point, whole_curve: whole.checked, quantize });
    location.href = exportAddress(study, { job: job.id });
  });
  const [may, { exports }] = await Promise.all([mayAct, ask("exports", { study })]).catch(() => [true, { exports: [] }]);
  const earlier = exports.find((one) => one.point === point && one.here);
  const buttons = element("div", { class: "buttons" }), options = [];
  if (may) {
    buttons.append(button(earlier ? "Export again" : "Export", start("export"), { class: "main" }));
    if (!earlier || !earlier.model) buttons.append(button("Export and register in MLflow", start("register")));
    const more = element("details", {}, element("summary", {}, "What else the folder holds"));
    if (kind !== "cascade") more.append(element("label", {}, whole, " all operating points of the training, though more gates then decide per image"));
    for (const box of boxes) more.append(element("label", {}, box, ` another file in ${formats[box.name]}, measured beside the first`));
    options.push(more);
  }
  place.append(buttons, ...options, message);
  if (earlier) place.append(element("a", { href: exportAddress(study, { id: earlier.id }) }, "The exported model"));
}
