// One run: how it stands, curves, what it ran on, its configuration, its error.

page.facts = function (pairs) {
  return page.element("dl", { class: "facts" }, ...pairs.map(([name, ...value]) => page.element("div", {},
    page.element("dt", {}, name), page.element("dd", {}, ...value))));
};

page.runFacts = function (study, run) {
  const own = run.own ?? {};
  const facts = Object.entries(run.final ?? {}).map(([key, value]) => (page.isFraction(key)
    ? [page.label(key) + (run.status === "diverged" ? " (chance)" : ""), `${page.percent(value)} %`]
    : [page.label(key), page.number(value, 4)]));
  const common = (path) => {
    const place = study.common.paths.indexOf(path);
    return place < 0 ? undefined : page.value(study, run, place);
  };
  const add = (name, value) => { if (value !== undefined && value !== "–") facts.push([name, value]); };
  add("parameters", page.number(common("parameters")));
  add("multiply-adds", page.number(common("multiply_adds")));
  add("depth, layers", page.number(common("depth")));
  add("steps", page.number(own.steps));
  add("steps/second", page.number(own.steps_per_second));
  add("wall time", page.duration(own.wall_time_s));
  const time = (text) => text?.replace("T", " ").replace("+00:00", " UTC");
  add("started", time(own.started));
  add("finished", time(own.finished));
  if (own.diverged_at_step !== undefined) add("diverged after step", page.number(own.diverged_at_step));
  const device = Object.fromEntries(page.values(study, run, "device").map(({ path, value }) => [path, value]));
  if (device.name) add("device", `${device.name} (${device.type}; threads: ${device.threads}; processes: ${device.processes ?? 1})`);
  const commit = common("git.commit");
  if (commit) add("commit", `${commit.slice(0, 10)}${common("git.dirty") ? " with uncommitted changes" : ""}`);
  facts.push(["W&B run", own.wandb_run_id ?? "not logged"]);
  return facts;
};

page.settings = function (study, run) {
  const body = page.element("tbody");
  for (const { path, place, value } of page.values(study, run, "config")) {
    const usual = study.common.values[place][0];
    const other = run.differs[place] === undefined ? "" : page.shown(usual);
    body.append(page.element("tr", { class: other ? "other" : null }, page.element("th", { scope: "row" }, page.breakable(path)),
      page.element("td", { class: "long" }, page.breakable(page.shown(value))),
      page.element("td", {}, other ? page.breakable(other) : "")));
  }
  const field = page.element("input", { type: "search", oninput: () => {
    for (const row of body.rows) row.hidden = !row.textContent.toLowerCase().includes(field.value.toLowerCase());
  } });
  return [page.element("div", { class: "tools controls" }, page.element("label", {}, "Find a setting", field)),
    page.element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Configuration" },
      page.element("table", {}, page.caption("The resolved configuration"),
        page.element("thead", {}, page.element("tr", {}, ...["setting", "value", "most runs of the study, where another"].map(
          (text) => page.element("th", { scope: "col" }, text)))), body))];
};

page.pairsTable = function (caption, heads, rows) {
  return page.element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption }, page.element(
    "table", {}, page.caption(caption),
    page.element("thead", {}, page.element("tr", {}, ...heads.map((head) => page.element("th", { scope: "col" }, head)))),
    page.element("tbody", {}, ...rows.map(({ path, value }) => page.element("tr", {},
      page.element("th", { scope: "row" }, path), page.element("td", {}, page.shown(value)))))));
};

/** The curves of one run: one chart of fractions, one of losses. */
page.runCurves = function (place, study, run) {
  const of = study.quantities.filter((each) => run.curves?.[each.key]);
  if (!of.length) {
    place.append(page.element("p", { class: "note" }, "No epoch of this run has been recorded."));
    return;
  }
  const figures = of.slice(0, 6).map((quantity) => {
    const plot = page.element("div", { class: "plot" });
    const figure = page.element("figure", {}, plot, page.element("figcaption", { class: "unseen" }, quantity.label));
    const redraw = () => page.draw(plot, study, {
      runs: [run], arms: new Set(), layers: new Set(["runs"]), quantity, axis: "step" }).then(() => { plot.dataset.drawn = "yes"; })
      .catch((error) => plot.replaceChildren(page.element("p", { class: "note" }, `The chart could not be drawn: ${error}`)));
    return { figure, redraw };
  });
  place.append(page.element("div", { class: "plots" }, ...figures.map(({ figure }) => figure)),
    page.foldedTable("The curves as numbers", () => page.runValues(study, run)));
  page.themed = figures.map(({ redraw }) => redraw);
  page.themed.forEach((redraw) => redraw());
};

page.showRun = function (place, study, run, studies) {
  const heading = (text) => page.element("h2", {}, text);
  const parts = [];
  const planned = studies.map((each) => {
    const own = each.runs[each.byId.get(run.id)];
    return page.element("li", {}, page.element("a", { href: page.link("study", each.name) }, each.title), ": ",
      page.swatch(each.arms[own.arm]), ` ${each.arms[own.arm].label}, seed ${own.seed}`);
  });
  parts.push(page.element("p", { class: "lead" }, page.status(run),
    run.record === null || run.differs === undefined ? ": no record." : ""));
  parts.push(page.element("ul", { class: "plain" }, ...planned));
  if (run.problem) parts.push(page.element("p", { class: "note" }, run.problem));
  if (run.differs === undefined) { place.replaceChildren(...parts); return; }
  const error = page.values(study, run, "error")[0];
  if (error) parts.push(heading("Error"), page.element("pre", { class: "error", tabindex: 0 }, error.value));
  const curves = page.element("div");
  parts.push(heading("Result and cost"), page.facts(page.runFacts(study, run)), heading("Curves"), curves);
  parts.push(heading("Options and versions"), page.element("div", { class: "pair" },
    page.pairsTable("Options chosen", ["group", "option"], page.values(study, run, "choices")),
    page.pairsTable("Packages it ran with", ["package", "version"], page.values(study, run, "versions"))));
  parts.push(heading("Configuration"), ...page.settings(study, run));
  place.replaceChildren(...parts);
  page.runCurves(curves, study, run);
};
