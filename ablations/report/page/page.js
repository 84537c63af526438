"use strict";
const one = (selector, root = document) => root.querySelector(selector);
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const say = (text) => { one("#said").textContent = text; };
const dark = matchMedia("(prefers-color-scheme: dark)"), paper = matchMedia("print");
const onDark = new Map(Object.entries(JSON.parse(one("#dark").textContent)));
const NARROW = 600; // CSS pixels, of a chart whose panels are drawn one below the other
const TOOLS = matchMedia("(hover: hover)").matches ? "hover" : false; // a finger cannot hover, and the bar covers the chart
const PAPER_WIDTH = 680; // CSS pixels between the margins of an upright A4

/** The text of an element that holds it compressed; unpacked once. */
const unpacked = {};
function unpack(id) {
  unpacked[id] ??= (async () => {
    const bytes = Uint8Array.from(atob(document.getElementById(id).textContent), (letter) => letter.charCodeAt(0));
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
  })();
  return unpacked[id];
}
const libraries = {};
function library(id) {
  libraries[id] ??= unpack(id).then((code) => import(URL.createObjectURL(new Blob([code], { type: "text/javascript" }))));
  return libraries[id];
}

// Charts: what is chosen in the form next to a chart is drawn, in the colours of the theme.

async function draw(plot) {
  await library("plotly");
  const onPaper = paper.matches;
  const figure = JSON.parse(one("script", plot).textContent,
    (key, value) => (dark.matches && !onPaper && onDark.get(value)) || value);
  const layout = { ...figure.layout, ...(onPaper && { width: PAPER_WIDTH, height: plot.clientHeight, autosize: false }) };
  if (layout.grid && plot.clientWidth < NARROW) layout.grid = { ...layout.grid, rows: layout.grid.columns, columns: 1 };
  const form = one("form", plot.parentElement);
  if (form) {
    const chosen = new FormData(form), over = chosen.get("over"), curve = chosen.get("curve");
    const lines = chosen.getAll("line"), layers = chosen.getAll("layer");
    figure.data = figure.data
      .filter(({ meta }) => meta.curve === curve && lines.includes(meta.line) && layers.includes(meta.layer))
      .filter(({ meta }) => over === "step" || meta.x?.[over])
      .map((trace) => (over === "step" ? trace : { ...trace, x: trace.meta.x[over] }));
    const axis = form.elements.over.selectedOptions?.[0].text;
    if (axis) layout.xaxis = { ...layout.xaxis, title: { text: axis } };
    layout.yaxis = { ...layout.yaxis, ...figure.curves[curve] };
    all("[data-curve]", plot.parentElement).forEach((each) => { each.hidden = each.dataset.curve !== curve; });
  }
  const place = one(".drawn", plot) ?? plot.appendChild(Object.assign(document.createElement("div"), { className: "drawn", style: "height:100%" }));
  await window.Plotly.react(place, figure.data, layout, { responsive: true, displaylogo: false, displayModeBar: TOOLS });
  if (!plot.dataset.drawn) place.on("plotly_click", ({ points }) => {
    const { run } = points[0].data.meta;
    if (run) location.hash = `#run-${encodeURIComponent(run)}`;
  });
  plot.dataset.drawn = "yes";
}

const selected = new Set(); // ids of the runs that are to be compared
let comparedIn = ""; // the study in which they were selected
document.addEventListener("change", ({ target }) => {
  const form = target.form ?? (target.matches("form") ? target : null);
  if (target.closest(".runs")) {
    selected[target.checked ? "add" : "delete"](target.value);
    all("[data-compare]").forEach((button) => { button.disabled = selected.size < 2; });
  }
  if (!form) return;
  if (view().id !== "compare") keepChosen();
  draw(one(".plot", form.parentElement));
});
const redraw = () => all(".plot[data-drawn]", view()).forEach(draw);
dark.addEventListener("change", redraw);
paper.addEventListener("change", redraw);

/** What is chosen in the first chart of the view is kept in the address, so that it can be sent. */
const chosenIn = (form) => new URLSearchParams(form ? new FormData(form) : "").toString();
const first = new Map(all("main form").map((form) => [form, chosenIn(form)]));
function keepChosen() {
  const form = one("form", view()), now = chosenIn(form);
  history.replaceState(null, "", location.pathname + (now === (first.get(form) ?? "") ? "" : `?${now}`) + location.hash);
}
function restoreChosen() {
  const asked = new URLSearchParams(location.search), form = one("form", view());
  if (form && asked.has("curve")) for (const field of form.elements) {
    if (field.type === "checkbox") field.checked = asked.getAll(field.name).includes(field.value);
    else if (asked.has(field.name)) field.value = asked.get(field.name);
  }
}

// Tables

const SCROLLED = ".scroll, .dt-layout-table:not(.scroll *)";
const markMore = (box) => box.toggleAttribute("data-more", box.scrollLeft + box.clientWidth < box.scrollWidth - 1);
const sizes = new ResizeObserver((changed) => changed.forEach(({ target }) => markMore(target)));
document.addEventListener("scroll", ({ target }) => { if (target.matches?.(SCROLLED)) markMore(target); }, true);

const LENGTH = 50; // rows of the table of runs
const BARE = { paging: false, searching: false, info: false, autoWidth: false, order: [] };
const RUNS = { autoWidth: false, order: [], pageLength: LENGTH, lengthChange: false, language: { search: "Filter" },
  layout: { topStart: "search", bottomStart: "info", bottomEnd: "paging",
    topEnd: { buttons: ["copy", "csv"].map((extend) => ({ extend, title: null, messageTop: null })) } } };
const tables = new Map();
function enhance(table) {
  const options = table.matches(".sorted") ? BARE : { ...RUNS, paging: table.tBodies[0].rows.length > LENGTH };
  if (!tables.has(table)) tables.set(table, library("datatables").then(({ default: DataTable }) => new DataTable(table, options)));
  return tables.get(table);
}

/** Show those rows of a study's table of runs, or all. */
async function showOnly(section, rows, title) {
  const table = await enhance(one(".runs", section)), note = one(".only", section);
  const chosen = new Set(rows?.split(" ").map(Number));
  table.search.fixed("only", rows ? (text, row, at) => chosen.has(at) : null).draw();
  note.hidden = !rows;
  one("span", note).textContent = `Only ${title}.`;
}

addEventListener("beforeprint", () => tables.forEach(async (table) => (await table).page.len(-1).draw()));
addEventListener("afterprint", () => tables.forEach(async (table) => (await table).page.len(LENGTH).draw()));

document.addEventListener("click", async (event) => {
  const { target } = event;
  const link = target.closest("a[data-runs]"), button = target.closest("button"), copied = button?.dataset.copy;
  if (target.closest(".skip")) { // its address would lead out of the view
    event.preventDefault();
    one("#main").focus();
  }
  if (link) showOnly(document.getElementById(decodeURIComponent(link.hash.slice(1))).closest("section"), link.dataset.runs, link.dataset.title);
  if (button?.dataset.compare) {
    comparedIn = button.dataset.compare;
    location.hash = "#compare";
  }
  if (button?.dataset.check) {
    all(`[name=${button.dataset.check}]`, button.form).forEach((box) => { box.checked = true; });
    button.form.dispatchEvent(new Event("change", { bubbles: true }));
  }
  if (button?.closest(".only")) showOnly(button.closest("section"));
  if (copied) {
    const source = document.getElementById(copied);
    await navigator.clipboard.writeText(source.value ?? source.textContent).then(() => say("Copied"), () => {
      source.hidden = false;
      getSelection().selectAllChildren(source);
      source.select?.();
      say("The browser did not copy: press Ctrl+C");
    });
    button.dataset.done = one("#said").textContent === "Copied" ? "✓" : "press Ctrl+C";
  }
});

// Runs side by side: what their own pages say, in one chart and two tables.

function element(tag, content, attributes = {}) {
  const made = Object.assign(document.createElement(tag), attributes);
  made.append(...[content].flat());
  return made;
}
function sideBySide(caption, titles, columns, rows, className = "") {
  const head = element("tr", [className ? "setting" : "metric", ...titles].map((title) => element("th", title, { scope: "col" })));
  const body = rows.map((row) => element("tr", [element("th", row, { scope: "row" }),
    ...columns.map((of) => element("td", of.get(row) ?? "–"))]));
  const table = element("table", [element("caption", element("span", caption)), element("thead", head), element("tbody", body)], { className });
  return element("div", table, { className: "scroll", tabIndex: 0, role: "region", ariaLabel: caption });
}
function chartOf(runs, titles) {
  const colors = JSON.parse(one("#colors").textContent), data = [], curves = {};
  const figures = runs.map((run) => one(".plot script", run)).map((script) => script && JSON.parse(script.textContent));
  figures.forEach((figure, at) => figure?.data.forEach((trace) => {
    const axis = figure.layout[`yaxis${trace.yaxis.slice(1)}`];
    curves[trace.meta.line] ??= { title: { text: `${trace.name}${axis.title.text === "%" ? ", %" : ""}` }, type: axis.type ?? "linear" };
    data.push({ ...trace, xaxis: "x", yaxis: "y", name: titles[at].replaceAll("&", "&amp;").replaceAll("<", "&lt;"),
      meta: { line: String(at), curve: trace.meta.line, layer: "mean" },
      line: { color: colors[at % colors.length], width: 2 }, marker: { color: colors[at % colors.length], size: 5 } });
  }));
  if (!data.length) return [];
  const { layout } = figures.find(Boolean), { grid, xaxis2, yaxis2, ...shared } = layout;
  const names = document.createElement("textarea"); // the chart's labels are escaped
  const select = element("select", Object.entries(curves).map(([value, { title }]) => {
    names.innerHTML = title.text;
    return element("option", names.value, { value });
  }), { name: "curve" });
  const fixed = [["over", "step"], ["layer", "mean"], ...titles.map((_, at) => ["line", at])];
  const form = element("form", [element("label", ["Shown ", select]),
    ...fixed.map(([name, value]) => element("input", [], { type: "hidden", name, value }))]);
  const script = element("script", JSON.stringify({ data, layout: { ...shared, showlegend: true }, curves }), { type: "application/json" });
  return [element("figure", [form, element("div", script, { className: "plot", role: "group", ariaLabel: "Curves" })])];
}
/** The second run's metrics minus the first's. */
function differences(first, second) {
  return new Map([...second].flatMap(([name, fact]) => {
    const { number, unit } = fact.dataset, before = first.get(name);
    if (!number || !before?.dataset.number) return [];
    const digits = (/\.(\d+)/.exec(fact.textContent) ?? ["", ""])[1].length;
    const value = new Intl.NumberFormat("en", { signDisplay: "exceptZero", minimumFractionDigits: digits, maximumFractionDigits: digits })
      .format(number - before.dataset.number).replace("-", "−");
    return [[name, `${value} ${unit}`.trim()]];
  }));
}
function backTo(study, run) {
  const of = all("#menu a").find(({ hash }) => hash === `#study-${encodeURIComponent(study)}`) ?? one(".lead a", run);
  return element("p", ["Runs of ", element("a", of.textContent, { href: of.hash.replace("study", "runs") })], { className: "lead" });
}
async function compare(shown) {
  const asked = new URLSearchParams(location.search), known = (id) => document.getElementById(`run-${id}`);
  const ids = (selected.size > 1 ? [...selected] : (asked.get("runs") ?? "").split(",")).filter(known);
  const study = comparedIn || (asked.get("study") ?? "");
  const runs = await Promise.all(ids.map(async (id) => element("div", document.createRange().createContextualFragment(await unpack(`page-${id}`)))));
  const titles = runs.map((run) => one("h1", run).textContent), place = one(":scope > div", shown);
  const facts = runs.map((run) => new Map(all("dl > div", run).map((fact) => [one("dt", fact).textContent, one("dd", fact)])));
  const settings = runs.map((run) => new Map(all(".settings tbody tr", run).map(({ cells }) => [cells[0].textContent, cells[1].textContent])));
  const names = (maps) => [...new Set(maps.flatMap((map) => [...map.keys()]))];
  const values = (name) => settings.map((of) => of.get(name)).join("\n");
  const changed = names(settings).filter((name) => new Set(settings.map((of) => of.get(name))).size > 1);
  const repeats = (name) => changed.some((other) => name.endsWith(`.${other}`) && values(other) === values(name));
  const differ = changed.filter((name) => !repeats(name));
  const texts = facts.map((of) => new Map([...of].map(([name, fact]) => [name, fact.textContent])));
  const columns = runs.length === 2 ? [...texts, differences(...facts)] : texts;
  place.replaceChildren(...(runs.length ? [backTo(study, runs[0]), ...chartOf(runs, titles),
    sideBySide("Results", columns === texts ? titles : [...titles, "difference"], columns, names(texts)),
    sideBySide("Settings that differ", titles, settings, differ, "code")] : ["Select two or more runs in the table of a study."]));
  history.replaceState(null, "", `${location.pathname}?${new URLSearchParams({ runs: ids.join(","), study })}${location.hash}`);
}

// The view that the address leads to

const view = () => one(".view:target, .view:has(:target)") ?? one("#home");
async function show() {
  const shown = view(), packed = one(":scope > script", shown);
  if (packed) shown.innerHTML = await unpack(packed.id);
  if (shown.id === "compare") await compare(shown);
  document.title = `${one("h1", shown).textContent}: ${document.querySelector("header a").textContent}`;
  for (const link of all("#menu a")) link.ariaCurrent = link.hash === location.hash ? "true" : decodeURIComponent(link.hash) === `#${shown.id}` ? "page" : null;
  if (shown.id !== "compare") keepChosen();
  await Promise.all([...all(".plot", shown).map(draw), ...all(".sorted, .runs", shown).map(enhance)]).catch((error) => {
    shown.prepend(Object.assign(document.createElement("p"), { className: "note", textContent: `No charts: ${error}` }));
  });
  all(SCROLLED, shown).forEach((box) => sizes.observe(box));
  shown.dataset.shown = "yes";
}
one("#menu").addEventListener("click", () => one("#menu:popover-open")?.hidePopover());
addEventListener("hashchange", show);
addEventListener("load", () => { // from then on `:target` holds
  restoreChosen();
  show();
});
