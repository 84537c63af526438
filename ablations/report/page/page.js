"use strict";
const one = (selector, root = document) => root.querySelector(selector);
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const say = (text) => { one("#said").textContent = text; };
const dark = matchMedia("(prefers-color-scheme: dark)"), paper = matchMedia("print");
const onDark = new Map(Object.entries(JSON.parse(one("#dark").textContent)));
const NARROW = 600; // CSS pixels, of a chart whose panels are drawn one below the other
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
  const layout = { ...figure.layout, ...(onPaper && { width: PAPER_WIDTH, autosize: false }) };
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
  await window.Plotly.react(place, figure.data, layout, { responsive: true, displaylogo: false });
  if (!plot.dataset.drawn) place.on("plotly_click", ({ points }) => {
    const { run } = points[0].data.meta;
    if (run) location.hash = `#run-${encodeURIComponent(run)}`;
  });
  plot.dataset.drawn = "yes";
}

document.addEventListener("change", (event) => {
  const form = event.target.form;
  if (!form) return;
  keepChosen();
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

// The view that the address leads to

const view = () => one(".view:target, .view:has(:target)") ?? one("#home");
async function show() {
  const shown = view(), packed = one(":scope > script", shown);
  if (packed) shown.innerHTML = await unpack(packed.id);
  document.title = `${one("h1", shown).textContent}: ${document.querySelector("header a").textContent}`;
  for (const link of all("#menu a")) link.ariaCurrent = decodeURIComponent(link.hash) === `#${shown.id}` ? "page" : null;
  keepChosen();
  await Promise.all([...all(".plot", shown).map(draw), ...all(".sorted, .runs", shown).map(enhance)]).catch((error) => {
    shown.prepend(Object.assign(document.createElement("p"), { className: "note", textContent: `No charts: ${error}` }));
  });
  shown.dataset.shown = "yes";
}
one("#menu").addEventListener("click", () => one("#menu:popover-open")?.hidePopover());
addEventListener("hashchange", show);
addEventListener("load", () => { // from then on `:target` holds
  restoreChosen();
  show();
});
