// Charts of curves, drawn by Plotly.

page.SEEDS_DRAWN = 50; // per arm, unless others are asked for: more hide each other
page.POINTS_DRAWN = 30000; // of one chart; of more, epochs are left out evenly

page.PAPER = { alone: 680, beside: 335 }; // pixels that a chart is wide on paper: what A4 and Letter upright have

page.onPaper = window.matchMedia("print");

page.colors = function () {
  const style = getComputedStyle(document.documentElement);
  return (name) => style.getPropertyValue(`--${name}`).trim();
};

/** What the vertical axis shows: runs and means. Not bands: that of two seeds may be wider than all accuracies. */
page.range = function (traces, target, percent) {
  let [low, high] = [target ?? Infinity, target ?? -Infinity];
  for (const trace of traces.filter((each) => each.fill === undefined)) {
    for (const value of trace.y) {
      if (value === null) continue;
      if (value < low) low = value;
      if (value > high) high = value;
    }
  }
  if (low > high) return undefined;
  const pad = 0.06 * (high - low) || 1;
  const bottom = low < 0 ? low - pad : Math.max(0, low - pad);
  return [bottom, percent ? Math.min(101, high + pad) : high + pad];
};

page.layout = function (traces, { quantity, axis, target, narrow, width }, colors) {
  const axisStyle = {
    gridcolor: colors("grid"), linecolor: colors("strong-line"), zeroline: false, automargin: true,
    showline: true, ticks: "outside", tickcolor: colors("strong-line"),
  };
  const size = Math.round(0.8125 * parseFloat(getComputedStyle(document.documentElement).fontSize));
  return {
    ...(width ? { width } : { autosize: true }),
    font: { family: "system-ui, sans-serif", size, color: colors("text") },
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: false, hovermode: "closest",
    hoverdistance: 12, hoverlabel: { bgcolor: colors("raised"), bordercolor: colors("strong-line"),
      font: { color: colors("text"), size }, align: "left" },
    margin: narrow ? { l: 48, r: 6, t: 8, b: 44 } : { l: 56, r: 12, t: 36, b: 48 }, dragmode: "zoom",
    modebar: { bgcolor: "rgba(0,0,0,0)", color: colors("soft"), activecolor: colors("text"), orientation: "h" },
    xaxis: { ...axisStyle, title: { text: page.X_AXES[axis].label }, showgrid: false, rangemode: "tozero" },
    yaxis: { ...axisStyle, title: { text: page.plain(quantity.label) + (quantity.percent ? ", %" : "") },
      range: page.range(traces, target, quantity.percent) },
    shapes: target === null ? [] : [{ type: "line", xref: "paper", x0: 0, x1: 1, y0: target, y1: target,
      line: { color: colors("strong-line"), width: 1, dash: "dot" } }],
    annotations: target === null ? [] : [{ xref: "paper", x: 0, y: target, xanchor: "left", yanchor: "bottom",
      text: `target ${Number(target.toPrecision(3))} %`, showarrow: false, font: { size: size - 1, color: colors("soft") } }],
  };
};

/** Where a click on a point leads: its run, or the runs of its mean. */
page.follow = function (study, point) {
  const [first, , place] = point.customdata;
  location.hash = first.set ? page.link("runs", study.name, first.set) : page.link("run", study.runs[place].id);
};

/** Draw runs and the means of arms into a place of the page; returns how many of every how many epochs were drawn. */
page.draw = async function (place, study, { runs, arms, layers, quantity, axis }) {
  const Plotly = await page.plotly();
  const colors = page.colors();
  const points = runs.reduce((sum, run) => sum + (run.curves?.[quantity.key]?.length ?? 0), 0);
  const stride = Math.max(1, Math.ceil(points / page.POINTS_DRAWN));
  const traces = page.traces(study, { runs, arms, layers, quantity, axis, stride }, colors);
  const target = quantity.key === study.metric && traces.length ? 100 * study.target : null;
  // Only a browser that lays the page out for paper knows how wide that is, and then no script draws any more.
  const width = page.onPaper.matches ? page.PAPER[place.closest(".plots") ? "beside" : "alone"] : undefined;
  const narrow = (width ?? place.clientWidth) < 500;
  await Plotly.react(place, traces, page.layout(traces, { quantity, axis, target, narrow, width }, colors), {
    responsive: true, displaylogo: false, displayModeBar: !narrow,
    modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
    toImageButtonOptions: { format: "svg", filename: `${study.name}_${quantity.key}` },
  });
  if (!place.dataset.clicks) {
    place.dataset.clicks = "yes";
    place.on("plotly_click", (event) => page.follow(study, event.points[0]));
  }
  return stride;
};
