// What a chart of curves draws of an arm: a band, its runs in one trace with gaps between, ends, the mean.

page.DOTS = 300; // points of an arm's runs that are marked, not only joined; more take long and hide each other

page.X_AXES = {
  step: { label: "training steps", shown: "step %{x}", of: (study, run) => study.grids[run.grid].steps,
    ofBand: (study, band) => study.grids[band.grid].steps },
  epoch: { label: "epochs", shown: "epoch %{x}", of: (study, run) => study.grids[run.grid].epochs,
    ofBand: (study, band) => study.grids[band.grid].epochs },
  time: { label: "time in training steps, s", shown: "%{x:.1f} s", of: (study, run) => run.seconds,
    ofBand: (study, band) => band.seconds, differs: true }, // no two runs have the same seconds: no band
};

// Plotly reads some markup in texts, and "%{x}" as a value; what stands in configurations is to be shown as it is.
page.plain = function (text) {
  const escaped = String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
  return escaped.replaceAll("%{", "%\u2060{"); // a word joiner, which has no width
};

page.DASHES = ["solid", "dash", "dashdot", "dot"];
page.MARKERS = ["circle", "square", "diamond", "triangle-up", "triangle-down", "cross"];

/** Values as a chart shows them; fractions in per cent. */
page.scaled = function (values, quantity) {
  return quantity.percent ? values.map((value) => (value === null ? null : 100 * value)) : values;
};

page.hover = function (arm, lines) {
  return [`<b>${page.plain(arm.label)}</b>`, ...lines].join("<br>") + "<extra></extra>";
};

/** "validation top-1 %{y} %" with as many digits as tell two epochs apart. */
page.shownValue = function (quantity) {
  return `${page.plain(quantity.label)} %{y:.4~g}${quantity.percent ? " %" : ""}`;
};

/** The single runs of an arm, thin beside a mean; and crosses where runs ended before their last epoch. */
page.runTraces = function (study, arm, runs, { quantity, axis, stride, color, thin }) {
  const x = [], y = [], about = [];
  const ends = { x: [], y: [], about: [] };
  for (const run of runs) {
    if (!run.curves?.[quantity.key]) continue;
    const values = page.scaled(run.curves[quantity.key], quantity);
    const xs = page.X_AXES[axis].of(study, run);
    const told = [run.seed, run.status, study.byId.get(run.id)];
    const last = values.length - 1;
    for (let i = 0; i <= last; i += 1) {
      if (i % stride && i !== last) continue;
      x.push(xs[i]); y.push(values[i]); about.push(told);
    }
    x.push(null); y.push(null); about.push(null);
    if (run.status === "diverged" || run.status === "failed") {
      ends.x.push(xs[last]); ends.y.push(values[last]); ends.about.push(told);
    }
  }
  if (!x.length) return [];
  const lines = ["seed %{customdata[0]} (%{customdata[1]})", page.X_AXES[axis].shown, page.shownValue(quantity)];
  const traces = [{
    type: "scatter", mode: x.length <= page.DOTS ? "lines+markers" : "lines", x, y, customdata: about, name: arm.label,
    line: { color, width: thin ? 1 : 2, dash: thin ? "solid" : page.DASHES[arm.dash] },
    marker: { color, size: thin ? 4 : 6, symbol: page.MARKERS[arm.marker] },
    opacity: thin ? (runs.length > 12 ? 0.3 : 0.55) : 1, hovertemplate: page.hover(arm, lines), connectgaps: false,
  }];
  if (ends.x.length) {
    traces.push({
      type: "scatter", mode: "markers", x: ends.x, y: ends.y, customdata: ends.about, name: arm.label,
      marker: { color, size: 11, symbol: "x" }, hovertemplate: page.hover(arm, [...lines, "ends here"]),
    });
  }
  return traces;
};

/** The mean of an arm's runs; where the hover tells its interval, the runs share their places on the axis. */
page.meanTrace = function (study, arm, band, { quantity, axis, color }) {
  const x = page.X_AXES[axis].ofBand(study, band);
  const [low, high] = [page.scaled(band.low, quantity), page.scaled(band.high, quantity)];
  const interval = page.X_AXES[axis].differs ? [] : ["95 % interval %{customdata[1]:.4~g} to %{customdata[2]:.4~g}"];
  return {
    type: "scatter", mode: x.length > 20 ? "lines" : "lines+markers", x, y: page.scaled(band.mean, quantity),
    name: arm.label, line: { color, width: 3, dash: page.DASHES[arm.dash] },
    marker: { color, size: 8, symbol: page.MARKERS[arm.marker] },
    customdata: x.map((_, i) => [{ set: `${band.runs}/${arm.name}` }, low[i], high[i]]),
    hovertemplate: page.hover(arm, [`mean of ${page.number(band.n)} runs`, page.X_AXES[axis].shown,
      page.shownValue(quantity), ...interval]), connectgaps: false,
  };
};

/** The 95 % interval of each epoch, a shape per stretch of epochs that have one. */
page.bandTrace = function (study, arm, band, { quantity, axis, color }) {
  const xs = page.X_AXES[axis].ofBand(study, band);
  const [low, high] = [page.scaled(band.low, quantity), page.scaled(band.high, quantity)];
  const x = [], y = [];
  let stretch = [];
  for (let i = 0; i <= xs.length; i += 1) {
    if (i < xs.length && low[i] !== null) { stretch.push(i); continue; }
    if (stretch.length > 1) {
      const back = [...stretch].reverse();
      x.push(...stretch.map((at) => xs[at]), ...back.map((at) => xs[at]), null);
      y.push(...stretch.map((at) => high[at]), ...back.map((at) => low[at]), null);
    }
    stretch = [];
  }
  return {
    type: "scatter", mode: "lines", x, y, name: arm.label, fill: "toself", fillcolor: color, opacity: 0.16,
    line: { width: 0 }, hoverinfo: "skip",
  };
};

/** All traces of a chart, what is to be seen on top last. */
page.traces = function (study, { runs, arms, layers, quantity, axis, stride }, colors) {
  const bands = [], singles = [], means = [];
  study.arms.forEach((arm, at) => {
    const color = colors(`arm-${arm.color}`);
    const band = arms.has(at) ? study.bands[at][quantity.key] : undefined;
    const placed = band && page.X_AXES[axis].ofBand(study, band);
    const drawn = { quantity, axis, stride, color, thin: Boolean(placed) && layers.has("means") };
    if (layers.has("runs")) singles.push(...page.runTraces(study, arm, runs.filter((run) => run.arm === at), drawn));
    if (placed && layers.has("means")) means.push(page.meanTrace(study, arm, band, drawn));
    if (placed && layers.has("bands") && !page.X_AXES[axis].differs) bands.push(page.bandTrace(study, arm, band, drawn));
  });
  return [...bands, ...singles, ...means];
};
