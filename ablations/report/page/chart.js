// Charts of curves, drawn by Plotly: a trace per arm, its runs one after the other with gaps between.

page.SEEDS_DRAWN = 50; // per arm, unless others are asked for: more hide each other
page.POINTS_DRAWN = 30000; // of one chart; of more, epochs are left out evenly

page.X_AXES = {
  step: { label: "training steps", of: (study, run) => study.grids[run.grid].steps },
  epoch: { label: "epochs", of: (study, run) => study.grids[run.grid].epochs },
  time: { label: "time in training steps, s", of: (study, run) => run.seconds },
};

/** Start the chart library, once: it lies in the page compressed, so that opening the page need not wait. */
page.plotly = function () {
  if (!page.plotlyStarted) {
    page.plotlyStarted = (async () => {
      const source = document.getElementById("library");
      const letters = atob(source.textContent);
      const bytes = new Uint8Array(letters.length);
      for (let i = 0; i < letters.length; i += 1) bytes[i] = letters.charCodeAt(i);
      const plain = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
      const code = await new Response(plain).blob();
      const address = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
      await new Promise((done, failed) => {
        const script = page.element("script", { src: address, onload: done, onerror: failed });
        document.head.append(script);
      });
      URL.revokeObjectURL(address);
      source.remove();
      return window.Plotly;
    })();
  }
  return page.plotlyStarted;
};

// Plotly reads some markup in texts; what stands in configurations is not to be read as such.
page.plain = function (text) {
  return String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
};

page.DASHES = ["solid", "dash", "dashdot", "dot"];
page.MARKERS = ["circle", "square", "diamond", "triangle-up", "triangle-down", "cross"];

page.colors = function () {
  const style = getComputedStyle(document.documentElement);
  return (name) => style.getPropertyValue(`--${name}`).trim();
};

/** The values of a run that a chart shows; fractions in per cent. */
page.curve = function (run, quantity) {
  const values = run.curves?.[quantity.key];
  return values && quantity.percent ? values.map((value) => (value === null ? null : 100 * value)) : values;
};

/** Mean per place of a grid; a diverged run counts as chance from where it ends, where chance is known. */
page.meanCurve = function (study, runs, quantity, axis) {
  const chance = study.chance[quantity.key];
  const counted = runs.filter((run) =>
    run.curves && (run.status === "completed" || (run.status === "diverged" && chance !== undefined)));
  const longest = counted.filter((run) => run.status === "completed").sort(
    (a, b) => study.grids[b.grid].steps.length - study.grids[a.grid].steps.length)[0];
  if (counted.length < 2 || !longest) return null;
  const xs = [], ys = [];
  for (let i = 0; i < study.grids[longest.grid].steps.length; i += 1) {
    let x = 0, timed = 0, y = 0, n = 0;
    for (const run of counted) {
      const value = page.curve(run, quantity)?.[i];
      if (value !== null && value !== undefined) { y += value; n += 1; }
      else if (run.status === "diverged") { y += 100 * chance; n += 1; }
      const at = page.X_AXES[axis].of(study, run)?.[i];
      if (run.status === "completed" && at !== undefined) { x += at; timed += 1; }
    }
    if (n && timed) { xs.push(x / timed); ys.push(y / n); }
  }
  return { xs, ys, n: counted.length };
};

page.armTraces = function (study, arm, runs, quantity, axis, stride, colors) {
  const color = colors(`arm-${arm.color}`);
  const x = [], y = [], at = [], ends = { x: [], y: [], at: [], text: [] };
  for (const run of runs) {
    const values = page.curve(run, quantity);
    if (!values) continue;
    const xs = page.X_AXES[axis].of(study, run);
    const place = study.byId.get(run.id);
    for (let i = 0; i < values.length; i += stride) { x.push(xs[i]); y.push(values[i]); at.push(place); }
    const last = values.length - 1;
    if (last % stride) { x.push(xs[last]); y.push(values[last]); at.push(place); }
    x.push(null); y.push(null); at.push(null);
    if (run.status === "diverged" || run.status === "failed") {
      ends.x.push(xs[last]); ends.y.push(values[last]); ends.at.push(place); ends.text.push(run.status);
    }
  }
  if (!x.length) return [];
  const label = page.plain(arm.label);
  const unit = quantity.percent ? " %" : "";
  const shownX = { step: "step %{x}", epoch: "epoch %{x}", time: "%{x:.1f} s" }[axis];
  const about = (places) => places.map((place) =>
    place === null ? null : [study.runs[place].seed, study.runs[place].status, place]);
  const hover = `<b>${label}</b><br>seed %{customdata[0]} (%{customdata[1]})<br>${shownX}` +
    `<br>${page.plain(quantity.label)} %{y:.4~g}${unit}<extra></extra>`;
  const mean = page.meanCurve(study, runs, quantity, axis);
  const many = runs.length > 12;
  const dots = x.length < 1500;
  const traces = [{
    type: "scatter", mode: dots ? "lines+markers" : "lines", x, y, customdata: about(at), name: label,
    line: { color, width: mean ? 1 : 2, dash: mean ? "solid" : page.DASHES[arm.dash] },
    marker: { color, size: mean ? 4 : 6, symbol: page.MARKERS[arm.marker] },
    opacity: mean ? (many ? 0.3 : 0.55) : 1, hovertemplate: hover, connectgaps: false,
  }];
  if (ends.x.length) {
    traces.push({
      type: "scatter", mode: "markers", x: ends.x, y: ends.y, customdata: about(ends.at), name: label,
      marker: { color, size: 11, symbol: "x" }, hovertemplate: hover.replace("<extra>", "<br>ends here<extra>"),
    });
  }
  if (mean) {
    traces.push({
      type: "scatter", mode: mean.xs.length > 20 ? "lines" : "lines+markers", x: mean.xs, y: mean.ys, name: label,
      line: { color, width: 3, dash: page.DASHES[arm.dash] },
      marker: { color, size: 8, symbol: page.MARKERS[arm.marker] }, customdata: mean.xs.map(() => arm.name),
      hovertemplate: `<b>${label}</b><br>mean of ${mean.n} runs<br>${shownX}` +
        `<br>${page.plain(quantity.label)} %{y:.4~g}${unit}<extra></extra>`,
    });
  }
  return traces;
};

page.layout = function (quantity, axis, target, colors) {
  const axisStyle = {
    gridcolor: colors("grid"), linecolor: colors("strong-line"), zeroline: false, automargin: true,
    showline: true, ticks: "outside", tickcolor: colors("strong-line"),
  };
  const unit = quantity.percent ? ", %" : "";
  return {
    font: { family: "system-ui, sans-serif", size: 13, color: colors("text") },
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: false, hovermode: "closest",
    hoverdistance: 12, hoverlabel: { bgcolor: colors("raised"), bordercolor: colors("strong-line"),
      font: { color: colors("text"), size: 13 }, align: "left" },
    margin: { l: 56, r: 12, t: 36, b: 48 }, dragmode: "zoom",
    modebar: { bgcolor: "rgba(0,0,0,0)", color: colors("soft"), activecolor: colors("text"), orientation: "h" },
    xaxis: { ...axisStyle, title: { text: page.X_AXES[axis].label }, showgrid: false, rangemode: "tozero" },
    yaxis: { ...axisStyle, title: { text: page.plain(quantity.label) + unit } },
    shapes: target === null ? [] : [{ type: "line", xref: "paper", x0: 0, x1: 1, y0: target, y1: target,
      line: { color: colors("strong-line"), width: 1, dash: "dot" } }],
    annotations: target === null ? [] : [{ xref: "paper", x: 0, y: target, xanchor: "left", yanchor: "bottom",
      text: `target ${Number(target.toPrecision(3))} %`, showarrow: false, font: { size: 12, color: colors("soft") } }],
  };
};

/** Draw runs into a place of the page; returns how many of every how many epochs were drawn. */
page.draw = async function (place, study, runs, quantity, axis) {
  const Plotly = await page.plotly();
  const colors = page.colors();
  const points = runs.reduce((sum, run) => sum + (run.curves?.[quantity.key]?.length ?? 0), 0);
  const stride = Math.max(1, Math.ceil(points / page.POINTS_DRAWN));
  const traces = study.arms.flatMap((arm, at) => page.armTraces(
    study, arm, runs.filter((run) => run.arm === at), quantity, axis, stride, colors));
  const means = traces.filter((trace) => trace.line?.width === 3); // above the single runs of all arms
  const ordered = [...traces.filter((trace) => !means.includes(trace)), ...means];
  const target = quantity.key === study.metric && runs.length ? 100 * study.target : null;
  const narrow = place.clientWidth < 500;
  const layout = page.layout(quantity, axis, target, colors);
  if (narrow) layout.margin = { l: 48, r: 6, t: 8, b: 44 };
  await Plotly.react(place, ordered, layout, {
    responsive: true, displaylogo: false, displayModeBar: !narrow,
    modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
    toImageButtonOptions: { format: "svg", filename: `${study.name}_${quantity.key}` },
  });
  if (!place.dataset.clicks) {
    place.dataset.clicks = "yes";
    place.on("plotly_click", (event) => {
      const about = event.points[0].customdata;
      if (Array.isArray(about)) location.hash = page.link("run", study.runs[about[2]].id);
      else if (about) location.hash = page.link("runs", study.name, `results/${about}`);
    });
  }
  return stride;
};

// Once the page stands and nobody waits for anything, so that the first study opens quickly.
window.addEventListener("load", () => {
  const start = () => { page.plotly().catch(() => { /* told where a chart is asked for */ }); };
  if ("requestIdleCallback" in window) requestIdleCallback(start, { timeout: 3000 });
  else setTimeout(start, 500);
});
