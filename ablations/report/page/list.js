// Lists of runs that can be filtered and sorted.

page.LISTED = 200; // runs of a list, until all are asked for

page.runColumns = function (study) {
  const final = (key) => ({
    header: page.isFraction(key) ? `${page.label(key)}, %` : page.label(key),
    text: (run) => (page.isFraction(key) ? page.percent(run.final?.[key]) : page.number(run.final?.[key])),
  });
  return [
    { header: "run", text: (run) => run.id, cell: (run) => page.element("a", { href: page.link("run", run.id) },
      page.element("code", {}, run.id)) },
    { header: "arm", kind: "words", text: (run) => study.arms[run.arm].label, cell: (run) => [page.swatch(study.arms[run.arm]),
      ` ${study.arms[run.arm].label}`] },
    { header: "seed", text: (run) => `${run.seed}` },
    { header: "status", text: (run) => run.status, cell: (run) => [page.status(run)] },
    { header: "epochs", text: (run) => (run.curves ? `${study.grids[run.grid].epochs.at(-1)}` : "0") },
    ...study.finals.map(final),
    { header: "wall time", text: (run) => page.duration(run.own?.wall_time_s),
      key: (run) => (run.own?.wall_time_s === undefined ? [2, ""] : [0, run.own.wall_time_s]) },
  ];
};

/** A list of runs that can be filtered by arm and status, and sorted. */
page.listRuns = function (place, study, runs, query, keep) {
  const chosen = { arm: query.get("arm") ?? "", status: query.get("status") ?? "", all: false, sort: null };
  const columns = page.runColumns(study);
  const body = page.element("tbody");
  const counted = page.element("p", { class: "meta", role: "status" });
  const more = page.element("button", { type: "button", class: "more", onclick: () => { chosen.all = true; fill(); } });
  const fill = () => {
    let found = runs.filter((run) => (!chosen.arm || study.arms[run.arm].name === chosen.arm) &&
      (!chosen.status || run.status === chosen.status));
    if (chosen.sort) {
      const { column, way } = chosen.sort;
      const keyed = found.map((run) => [column.key ? column.key(run) : page.sortKey(column.text(run)), run]);
      keyed.sort(([a], [b]) => (a[0] === 2 || b[0] === 2 ? a[0] - b[0] : way * page.compareKeys(a, b)));
      found = keyed.map(([, run]) => run);
    }
    const shown = chosen.all ? found : found.slice(0, page.LISTED);
    const cell = (run, column, at) => page.element(at ? "td" : "th",
      at ? { class: column.kind ?? "value" } : { scope: "row" },
      ...[column.cell ? column.cell(run) : column.text(run)].flat());
    body.replaceChildren(...shown.map((run) => page.element("tr", {},
      ...columns.map((column, at) => cell(run, column, at)))));
    counted.textContent = `${page.number(found.length)} of ${page.number(runs.length)} runs`;
    more.textContent = `Show all ${page.number(found.length)}`;
    more.hidden = shown.length === found.length;
  };
  const head = page.element("tr", {}, ...columns.map((column) => {
    const button = page.element("button", { type: "button", onclick: () => {
      chosen.sort = { column, way: page.turn(header) };
      fill();
    } }, column.header);
    const header = page.element("th", { scope: "col" }, button);
    return header;
  }));
  const filter = (name) => (value) => { chosen[name] = value; keep?.(name, value); fill(); };
  const statuses = [...new Set(runs.map((run) => run.status))];
  const arms = [...new Set(runs.map((run) => run.arm))].map((at) => study.arms[at]);
  const count = (status) => runs.filter((run) => run.status === status).length;
  const tools = page.element("div", { class: "tools controls" },
    page.select("Status", [["", "any"], ...statuses.map((each) => [each, `${each} (${page.number(count(each))})`])],
      chosen.status, filter("status")),
    page.select("Arm", [["", "any"], ...arms.map((arm) => [arm.name, arm.label])], chosen.arm, filter("arm")));
  const caption = "Runs, how they stand and where they ended; a diverged run counts as chance";
  place.replaceChildren(tools, counted, page.element("div", { class: "scroll", tabindex: 0, role: "region",
    "aria-label": "Runs" }, page.element("table", {}, page.caption(caption),
    page.element("thead", {}, head), body)), more);
  page.onPrint = () => { chosen.all = true; fill(); };
  fill();
};

window.addEventListener("beforeprint", () => page.onPrint?.());
