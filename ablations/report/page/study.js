// A study's curves with what can be switched.

page.drawCurves = function (place, study, query) {
  const chosen = page.chosenOf(study, query);
  if (!chosen.quantity) {
    place.replaceChildren(page.element("p", { class: "note" }, "No run of this study has trained an epoch yet."));
    return;
  }
  const plot = page.element("div", { class: "plot" });
  const caption = page.element("figcaption", {});
  const numbers = page.foldedTable("The means as numbers", () => page.meanValues(study, chosen));
  const redraw = async () => {
    const runs = study.runs.filter((run) => run.status !== "missing" && chosen.arms.has(run.arm) &&
      chosen.shown.has(run.seed)); // what counts as missing is shown on the run's own page
    try {
      const { arms, layers, quantity, x: axis } = chosen;
      const stride = await page.draw(plot, study, { runs, arms, layers, quantity, axis });
      caption.textContent = page.captionOf(study, chosen, runs, stride);
      numbers.refill();
      plot.dataset.drawn = "yes";
    } catch (error) {
      plot.replaceChildren(page.element("p", { class: "note" }, `The chart could not be drawn: ${error}`));
    }
  };
  const changed = () => { page.keepChosen(study, chosen); return redraw(); };
  const arms = page.tickChoice("Arms", "arms", study.arms.map((arm, at) => [
    at, arm.baseline ? `${arm.label} (baseline)` : arm.label, page.swatch(arm)]), chosen.arms, changed);
  const layers = page.tickChoice("Shown", "layers", Object.entries(page.LAYERS), chosen.layers, changed);
  const axes = page.element("div", { class: "tools controls" },
    page.select("Curve", study.quantities.map((each) => [each.key, each.label]), chosen.quantity.key, (key) => {
      chosen.quantity = study.quantities.find((each) => each.key === key);
      changed();
    }),
    page.select("Over", [["step", "training steps"], ["epoch", "epochs"], ["time", "time in training steps"]],
      chosen.x, (x) => { chosen.x = x; changed(); }), layers);
  place.replaceChildren(axes, page.element("div", { class: "chosen" }, arms, page.seedChoice(chosen, changed)),
    page.element("figure", {}, plot, caption), numbers);
  page.themed = [redraw];
  redraw();
};

/** What the chart shows, of how many runs, and by which rules. */
page.captionOf = function (study, chosen, runs, stride) {
  const { layers, quantity, x: axis } = chosen;
  const drawn = layers.has("runs") ? runs.filter((run) => run.curves?.[quantity.key]).length : 0;
  const bands = [...chosen.arms].map((at) => study.bands[at][quantity.key]).filter(Boolean);
  const told = [`${quantity.label}: ${page.number(drawn)} of ${page.number(study.runs.length)} runs` +
    (bands.length && layers.has("means") ? ", thin" : "")];
  const counted = bands[0]?.runs === "results" ? "with a result" : "that completed";
  const all = chosen.seeds.every((seed) => chosen.shown.has(seed)) ? "" : ", also of those not drawn";
  const mean = `the mean of all runs of an arm ${counted}${all}`;
  const differs = page.X_AXES[axis].differs;
  if (bands.length && layers.has("means")) {
    told.push(`thick, ${mean}${differs ? ", each epoch's at the mean time of its runs" : ""}`);
  }
  if (bands.length && layers.has("bands")) {
    told.push(differs ? "no band over time, since no two runs share their times"
      : `shaded, the 95 % t interval of ${layers.has("means") ? "that mean" : mean}, at each epoch by itself`);
  }
  if (runs.some((run) => run.curves && ["diverged", "failed"].includes(run.status))) {
    told.push("a cross is where a run ended before its last epoch");
  }
  if (bands[0]?.runs === "results" && study.runs.some((run) => run.status === "diverged" && chosen.arms.has(run.arm))) {
    told.push("a diverged run counts as chance in the mean, from where it ended");
  }
  if (stride > 1) told.push(`one epoch in ${stride} of single runs is drawn`);
  const kept = Math.max(0, ...study.grids.map((grid) => grid.steps.length));
  if (study.epochs > kept) told.push(`this page keeps ${kept} of ${study.epochs} epochs`);
  const sentences = [...told, "Click a point for its run, or a mean for its runs"];
  return sentences.map((text) => `${text[0].toUpperCase()}${text.slice(1)}.`).join(" ");
};
