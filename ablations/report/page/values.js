// What charts show as tables, for those who read numbers or hear the page.

/** A table that is filled when it is opened, and again when what it shows has changed while it is open. */
page.foldedTable = function (summary, filled) {
  const place = page.element("div");
  const details = page.element("details", { class: "values", ontoggle: () => details.refill() },
    page.element("summary", {}, summary), place);
  details.refill = () => {
    if (!details.open) return;
    const { caption, heads, rows } = filled();
    const head = heads.map((text) => page.element("th", { scope: "col" }, ...[text].flat()));
    const body = rows.map((cells) => page.element("tr", {}, ...cells.map((cell, at) =>
      page.element(at ? "td" : "th", at ? { class: "value" } : { scope: "row" }, cell))));
    place.replaceChildren(page.element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption },
      page.element("table", {}, page.caption(caption), page.element("thead", {}, page.element("tr", {}, ...head)),
        page.element("tbody", {}, ...body))));
  };
  return details;
};

/** A value of a curve with the digits that its hover has. */
page.curveValue = function (value, quantity) {
  if (value === null || value === undefined) return "–";
  return quantity.percent ? (100 * value).toFixed(1) : `${Number(value.toPrecision(4))}`;
};

/** Mean and interval of the chosen arms at each epoch. */
page.meanValues = function (study, { arms, quantity }) {
  const shown = study.arms.map((arm, at) => ({ arm, band: arms.has(at) ? study.bands[at][quantity.key] : undefined }))
    .filter(({ band }) => band).map(({ arm, band }) => {
      const { epochs } = study.grids[band.grid];
      return { arm, band, places: new Map(epochs.map((epoch, i) => [epoch, i])) };
    });
  const epochs = [...new Set(shown.flatMap(({ places }) => [...places.keys()]))].sort((a, b) => a - b);
  const cell = ({ arm, band, places }, epoch) => {
    const i = places.get(epoch);
    const text = (name) => page.curveValue(band[name][i], quantity);
    if (i === undefined || band.mean[i] === null) return "–";
    return page.element("a", { href: page.link("runs", study.name, `${band.runs}/${arm.name}`) },
      `${text("mean")} [${text("low")}, ${text("high")}]`);
  };
  const unit = quantity.percent ? ", %" : "";
  return {
    caption: `${quantity.label}${unit}: mean over seeds [95 % t interval of the epoch]`,
    heads: ["epoch", ...shown.map(({ arm, band }) => [page.swatch(arm), ` ${arm.label} (n = ${page.number(band.n)})`])],
    rows: epochs.map((epoch) => [page.number(epoch), ...shown.map((each) => cell(each, epoch))]),
  };
};

/** Every curve of a run at each epoch. */
page.runValues = function (study, run) {
  const of = study.quantities.filter((each) => run.curves?.[each.key]);
  const { epochs, steps } = study.grids[run.grid];
  return {
    caption: "Curves of the run, by epoch",
    heads: ["epoch", "training steps", "time in training steps, s",
      ...of.map((each) => each.label + (each.percent ? ", %" : ""))],
    rows: epochs.map((epoch, i) => [page.number(epoch), page.number(steps[i]), page.number(run.seconds[i], 1),
      ...of.map((each) => page.curveValue(run.curves[each.key][i], each))]),
  };
};
