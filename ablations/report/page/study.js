// A study: its curves with what can be switched, and lists of runs. What is chosen stands in the address.

/** "0-3, 7" as a set of numbers; null for a text that is none. */
page.numbersIn = function (text) {
  const found = new Set();
  for (const part of text.split(",").map((each) => each.trim()).filter(Boolean)) {
    const ends = /^(\d+)(?:\s*-\s*(\d+))?$/.exec(part);
    if (!ends) return null;
    const last = Math.min(Number(ends[2] ?? ends[1]), Number(ends[1]) + 100000);
    for (let number = Number(ends[1]); number <= last; number += 1) found.add(number);
  }
  return found;
};

/** Numbers as "0-3, 7". */
page.rangesOf = function (numbers) {
  const parts = [];
  for (const number of [...numbers].sort((a, b) => a - b)) {
    const last = parts.at(-1);
    if (last && last[1] === number - 1) last[1] = number;
    else parts.push([number, number]);
  }
  return parts.map(([from, to]) => (from === to ? `${from}` : `${from}-${to}`)).join(", ");
};

page.fields = 0;

page.select = function (label, options, value, onchange) {
  page.fields += 1;
  const id = `field-${page.fields}`;
  const select = page.element("select", { id, onchange: () => onchange(select.value) });
  for (const [key, text] of options) select.append(page.element("option", { value: key, selected: key === value }, text));
  return page.element("div", { class: "field" }, page.element("label", { for: id }, label), select);
};

page.tick = function (label, checked, onchange, ...before) {
  const box = page.element("input", { type: "checkbox", checked, onchange: () => onchange(box.checked) });
  return page.element("label", {}, box, ...before, label);
};

/** What is chosen of a study's curves, from the address. */
page.chosenOf = function (study, query) {
  const seeds = [...new Set(study.runs.map((run) => run.seed))].sort((a, b) => a - b);
  const named = query.get("arms")?.split(",");
  const asked = page.numbersIn(query.get("seeds") ?? "");
  const quantity = study.quantities.find((each) => each.key === query.get("y"));
  return {
    seeds,
    arms: new Set(study.arms.flatMap((arm, at) => (named && !named.includes(arm.name) ? [] : [at]))),
    shown: query.has("seeds") && asked ? asked : new Set(seeds.slice(0, page.SEEDS_DRAWN)),
    x: page.X_AXES[query.get("x")] ? query.get("x") : "step",
    quantity: quantity ?? study.quantities[0],
  };
};

/** Write what differs from what is first chosen into the address, so that it can be handed on. */
page.keepChosen = function (study, chosen) {
  const [path, text] = location.hash.split("?");
  const query = new URLSearchParams(text ?? "");
  const first = page.chosenOf(study, new URLSearchParams());
  const keep = (key, value, same) => (same ? query.delete(key) : query.set(key, value));
  keep("x", chosen.x, chosen.x === first.x);
  keep("y", chosen.quantity.key, chosen.quantity === first.quantity);
  keep("arms", [...chosen.arms].map((at) => study.arms[at].name).join(","), chosen.arms.size === study.arms.length);
  const seeds = page.rangesOf(chosen.shown);
  keep("seeds", seeds.replaceAll(" ", ""), seeds === page.rangesOf(first.shown));
  const after = query.toString().replaceAll("%2C", ",");
  history.replaceState(null, "", after ? `${path}?${after}` : path);
};

page.seedChoice = function (chosen, changed) {
  if (chosen.seeds.length <= 20) {
    const set = page.element("fieldset", { class: "seeds" }, page.element("legend", {}, "Seeds"));
    const boxes = chosen.seeds.map((seed) => page.tick(`${seed}`, chosen.shown.has(seed), (on) => {
      if (on) chosen.shown.add(seed); else chosen.shown.delete(seed);
      changed();
    }));
    set.append(page.element("div", { class: "choices" }, ...boxes));
    return set;
  }
  const field = page.element("input", { type: "text", value: page.rangesOf(chosen.shown), size: 24, onchange: () => {
    const numbers = page.numbersIn(field.value);
    field.setAttribute("aria-invalid", numbers ? "false" : "true");
    if (!numbers) { page.say("Seeds must be numbers, such as 0-9, 42"); return; }
    chosen.shown = numbers;
    changed();
  } });
  const all = page.rangesOf(chosen.seeds);
  return page.element("label", { class: "seeds" }, `Seeds drawn, of ${all} (such as 0-9, 42)`, field);
};

page.drawCurves = function (place, study, query) {
  const chosen = page.chosenOf(study, query);
  if (!chosen.quantity) {
    place.replaceChildren(page.element("p", { class: "note" }, "No run of this study has trained an epoch yet."));
    return;
  }
  const plot = page.element("div", { class: "plot" });
  const caption = page.element("figcaption", {});
  const redraw = async () => {
    const runs = study.runs.filter((run) => run.status !== "missing" && chosen.arms.has(run.arm) &&
      chosen.shown.has(run.seed)); // what counts as missing is shown on the run's own page
    try {
      const stride = await page.draw(plot, study, runs, chosen.quantity, chosen.x);
      caption.textContent = page.captionOf(study, chosen, runs, stride);
      plot.dataset.drawn = "yes";
    } catch (error) {
      plot.replaceChildren(page.element("p", { class: "note" }, `The chart could not be drawn: ${error}`));
    }
  };
  const changed = () => { page.keepChosen(study, chosen); return redraw(); };
  const arms = page.element("fieldset", {}, page.element("legend", {}, "Arms"));
  arms.append(page.element("div", { class: "choices" }, ...study.arms.map((arm, at) => page.tick(
    arm.baseline ? `${arm.label} (baseline)` : arm.label, chosen.arms.has(at), (on) => {
      if (on) chosen.arms.add(at); else chosen.arms.delete(at);
      changed();
    }, page.swatch(arm)))));
  const axes = page.element("div", { class: "tools controls" },
    page.select("Curve", study.quantities.map((each) => [each.key, each.label]), chosen.quantity.key, (key) => {
      chosen.quantity = study.quantities.find((each) => each.key === key);
      changed();
    }),
    page.select("Over", [["step", "training steps"], ["epoch", "epochs"], ["time", "time in training steps"]],
      chosen.x, (x) => { chosen.x = x; changed(); }));
  place.replaceChildren(axes, page.element("div", { class: "chosen" }, arms, page.seedChoice(chosen, changed)),
    page.element("figure", {}, plot, caption));
  page.themed = [redraw];
  redraw();
};

page.captionOf = function (study, chosen, runs, stride) {
  const drawn = runs.filter((run) => run.curves?.[chosen.quantity.key]).length;
  const parts = [`${chosen.quantity.label}: ${page.number(drawn)} of ${page.number(study.runs.length)} runs`];
  if (chosen.shown.size > 1) parts[0] += ", thin, and per arm their mean, thick";
  if (runs.some((run) => run.curves && ["diverged", "failed"].includes(run.status))) {
    const counted = study.chance[chosen.quantity.key] !== undefined
      ? "diverged runs count as chance in the mean" : "only completed runs count in the mean";
    parts.push(`a cross is where a run ended before its last epoch; ${counted}`);
  }
  if (stride > 1) parts.push(`one epoch in ${stride} is drawn`);
  const kept = Math.max(0, ...study.grids.map((grid) => grid.steps.length));
  if (study.epochs > kept) parts.push(`this page keeps ${kept} of ${study.epochs} epochs`);
  const text = parts.join("; ");
  return `${text[0].toUpperCase()}${text.slice(1)}. Click a point for its run, or a mean for its runs.`;
};

page.LISTED = 200; // runs of a list, until all are asked for

page.runColumns = function (study) {
  const final = (key) => ({
    header: page.isFraction(key) ? `${page.label(key)}, %` : page.label(key),
    text: (run) => (page.isFraction(key) ? page.percent(run.final?.[key]) : page.number(run.final?.[key])),
  });
  return [
    { header: "run", text: (run) => run.id, cell: (run) => page.element("a", { href: page.link("run", run.id) },
      page.element("code", {}, run.id)) },
    { header: "arm", text: (run) => study.arms[run.arm].label, cell: (run) => [page.swatch(study.arms[run.arm]),
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
    body.replaceChildren(...shown.map((run) => page.element("tr", {}, ...columns.map((column, at) => page.element(
      at ? "td" : "th", at ? {} : { scope: "row" }, ...[column.cell ? column.cell(run) : column.text(run)].flat())))));
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
    "aria-label": "Runs" }, page.element("table", {}, page.element("caption", {}, caption),
    page.element("thead", {}, head), body)), more);
  page.onPrint = () => { chosen.all = true; fill(); };
  fill();
};

window.addEventListener("beforeprint", () => page.onPrint?.());
