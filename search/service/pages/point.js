"use strict";
// One point: what it is, what it does with images, the static network beside it; up to four points side by side.

const STANDINGS = {
  AHEAD: ["better", "significantly better than each baseline of no more cost"],
  LEVEL: ["", "as good as the baselines of no more cost"],
  BEHIND: ["worse", "significantly worse than a baseline of no more cost"],
  CHEAPER: ["better", "cheaper than any baseline"],
};
const ROWS = { cheapest: "cheapest images", dearest: "most expensive images", wrong: "answered wrong" };
const MOST_BESIDE = 4;

function accuracyText(p) {
  return `${percent(p.accuracy, 2)} (${percent(p.accuracy_low)} to ${percent(p.accuracy_high)})`;
}

function macsText(p) {
  return `${amount(p.macs_mean)} mean, ${amount(p.macs_p95)} p95, ${amount(p.macs_max)} max`;
}

function costText(p) {
  const macs = `${amount(p.macs_mean)} MACs`;
  return p.latency_mean === null ? macs : `${macs}, ${amountOf(p, "latency_mean")}`;
}

function standingText(p) {
  return p.kind === "static" ? ["", "a static network: a baseline"] : STANDINGS[p.standing];
}

async function choose(id) {
  view.chosen = id;
  draw();
  const panel = by("point");
  try {
    const p = await ask("point", { study: NAME, id });
    if (view.chosen !== id) return;
    fill(panel, ...pointParts(p));
    showInspected(p);
    if (window.addActions) window.addActions(panel, NAME, p.id, p.kind);
  } catch (error) {
    if (view.chosen === id) fill(panel, element("p", { class: "failed" }, error.message));
  }
}

function pointParts(p) {
  const [style, words] = standingText(p);
  const rows = element("table", {},
    row("accuracy", accuracyText(p)), row("MACs", macsText(p)), row("parameters", amount(p.parameters)),
    p.latency_mean === null ? null : row("latency, by the table", `${amountOf(p, "latency_mean")}, p95 ${amountOf(p, "latency_p95")}`),
    p.latency_ms === null ? null : row("latency, measured", `${amountOf(p, "latency_ms")} for one image`),
    row("network", p.network), row("setting", p.knobs),
  );
  if (p.beside) rows.append(row("static, of equal cost", `${p.beside.name}, ${p.beside.network}: ${accuracyText(p.beside)} at ${costText(p.beside)}`));
  const add = element("button", { type: "button" }, view.beside.includes(p.id) ? "take away" : "side by side");
  add.onclick = () => { putBeside(p.id); add.textContent = view.beside.includes(p.id) ? "take away" : "side by side"; };
  return [
    element("h2", {}, `${p.training}, point ${p.id}`), element("p", { class: style }, words),
    element("p", {}, p.words.join(" ")), rows,
    element("div", { id: "inspected" }), curveOf(p),
    element("p", { class: "links" }, runLink(p.experiment_id, p.run_id, "its MLflow run"), add),
    element("h3", {}, "Export it"), commandLine(p.export),
  ];
}

function curveOf(p) {
  // all settings of the training: the same weights, other thresholds
  if (p.curve.length < 2) return null;
  const box = element("details", {}, element("summary", {}, `all ${p.curve.length} settings of this training`));
  const list = element("table", {}, element("tr", {}, ...["accuracy", "MACs", "setting"].map((head) => element("th", {}, head))));
  for (const q of p.curve) {
    const pick = element("button", { type: "button", class: "plain" }, percent(q.accuracy, 2));
    pick.onclick = () => choose(q.id);
    list.append(element("tr", { class: q.id === p.id ? "now" : "" }, element("td", {}, pick), element("td", { class: "number" }, amount(q.macs_mean)), element("td", {}, q.knobs)));
  }
  box.append(list);
  return box;
}

async function showInspected(p, measured = null) {
  const query = { study: NAME, id: p.id };
  const box = by("inspected");
  try {
    const found = measured || await ask("inspected", query);
    if (view.chosen !== p.id || !box.isConnected) return;
    fill(box, ...inspectedParts(p, found));
    if (found.state === "measuring") setTimeout(() => { if (view.chosen === p.id && box.isConnected) showInspected(p); }, 1500);
  } catch (error) {
    fill(box, element("p", { class: "failed" }, error.message));
  }
}

function inspectedParts(p, found) {
  const measure = element("button", { type: "button" }, "measure on images");
  measure.onclick = async () => {
    try { showInspected(p, await send("inspected", { study: NAME, id: p.id })); } catch (error) { fill(by("inspected"), element("p", { class: "failed" }, error.message)); }
  };
  const parts = [element("h3", {}, "What it does with images")];
  if (p.kind === "cascade") return [...parts, element("p", { class: "soft" }, "Each of its networks has pictures of its own: choose one of its trials.")];
  if (found.state === "measuring") return [...parts, element("p", { class: "soft" }, "measuring, this takes some seconds")];
  if (found.state === "failed") return [...parts, element("p", { class: "failed" }, found.error), measure];
  if (found.state === "none") return [...parts, shareBars(exitShares(p)), element("p", { class: "soft" }, "Which images are cheap, dear or wrong is not measured at this setting yet."), measure];
  parts.push(shareBars(found.costs.length ? costShares(found.costs) : exitShares(p)));
  if (!found.costs.length && !exitShares(p)) parts.push(element("p", { class: "soft" }, found.page ? "Every image takes the same." : ""));
  for (const [name, shots] of Object.entries(found.rows)) {
    parts.push(element("h4", {}, ROWS[name]), element("div", { class: "shots" }, ...shots.map((shot, number) => picture(p, name, shot, number))));
  }
  const where = addressOf("inspected.html", { study: NAME, id: p.id });
  parts.push(found.page ? element("p", {}, element("a", { href: where.href, target: "_blank", rel: "noopener" }, "all that this network does"), ` with ${found.images} images`) : measure);
  return parts;
}

function picture(p, name, shot, number) {
  const address = addressOf("image", { study: NAME, id: p.id, row: name, number });
  const wrong = shot.label !== shot.answer;
  return element("figure", {}, element("img", { src: address.href, alt: `class ${shot.label}`, loading: "lazy" }),
    element("figcaption", { class: wrong ? "failed" : "" }, wrong ? `${shot.label}, took for ${shot.answer}` : shot.label, element("br"), amount(shot.macs)));
}

function costShares(costs) {
  return costs.map((one) => ({ words: one.low === one.high ? amount(one.low) : `${amount(one.low)} to ${amount(one.high)}`, share: one.share, more: `${percent(one.accuracy)} right` }));
}

function exitShares(p) {
  return p.exits.length ? p.exits.map((share, place) => ({ words: p.exit_names[place], share, more: "" })) : null;
}

function shareBars(shares) {
  if (!shares) return null;
  const list = element("table", { class: "shares" }, element("caption", {}, "share of the images by cost"));
  for (const one of shares) {
    const bar = element("i");
    bar.style.width = `${100 * one.share}%`;
    list.append(element("tr", {}, element("th", { scope: "row" }, one.words), element("td", { class: "track" }, bar), element("td", { class: "number" }, percent(one.share)), element("td", { class: "soft" }, one.more)));
  }
  return list;
}

function putBeside(id) {
  if (view.beside.includes(id)) view.beside = view.beside.filter((other) => other !== id);
  else view.beside = [...view.beside, id].slice(-MOST_BESIDE);
  draw();
  showBeside();
}

async function showBeside() {
  const box = by("beside"), ids = [...view.beside];
  box.hidden = !ids.length;
  if (!ids.length) return;
  const points = (await Promise.all(ids.map((id) => ask("point", { study: NAME, id }).catch(() => null)))).filter((p) => p !== null);
  if (ids.join() !== view.beside.join()) return;
  const lines = [
    ["accuracy", accuracyText], ["against static networks", (p) => standingText(p)[1]], ["MACs mean", (p) => amount(p.macs_mean)],
    ["MACs p95", (p) => amount(p.macs_p95)], ["MACs max", (p) => amount(p.macs_max)], ["parameters", (p) => amount(p.parameters)],
    ["latency", (p) => amountOf(p, "latency_ms")], ["network", (p) => p.network], ["setting", (p) => p.knobs], ["in words", (p) => p.words.join(" ")], ["export", (p) => p.export],
  ];
  const names = points.map((p) => {
    const away = element("button", { type: "button", "aria-label": `take ${p.training} away` }, "×");
    away.onclick = () => putBeside(p.id);
    return element("th", { scope: "col" }, `${p.training}, point ${p.id} `, away);
  });
  const head = element("tr", {}, element("th"), ...names);
  const body = lines.map(([label, text]) => element("tr", {}, element("th", { scope: "row" }, label), ...points.map((p) => element("td", {}, text(p)))));
  fill(box, element("h2", {}, "Side by side"), element("div", { class: "scroll" }, element("table", { class: "even" }, head, ...body)));
}
