"use strict";
// What the other parts use: elements, texts, studies and runs of the page, what is said aloud.

const page = window.ablations = {};

/** An element; a text among its children stands there as it is, never as markup. */
page.element = function (name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value === true) node.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(key, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
};

/** A table's caption, which stays in sight while the table is scrolled sideways. */
page.caption = function (text) {
  return page.element("caption", {}, page.element("span", { class: "held" }, text));
};

/** A path that may break after its dots. */
page.breakable = function (text) {
  const parts = text.split(".");
  return page.element("code", {}, ...parts.flatMap((part, at) =>
    (at < parts.length - 1 ? [`${part}.`, page.element("wbr")] : [part])));
};

page.parsed = function (id) {
  return JSON.parse(document.getElementById(id).textContent);
};

page.index = page.parsed("index");
page.index.places = new Map(page.index.studies.map((name, place) => [name, place]));
page.index.runs = new Map(Object.entries(page.index.runs));
page.studies = [];

/** The runs of a study, parsed when they are first asked for. */
page.study = function (place) {
  if (!page.studies[place]) {
    const study = page.parsed(`data-${place}`);
    study.place = place;
    study.byId = new Map(study.runs.map((run, at) => [run.id, at]));
    page.studies[place] = study;
  }
  return page.studies[place];
};

page.studyNamed = function (name) {
  return page.index.places.has(name) ? page.study(page.index.places.get(name)) : null;
};

/** What a run's record has at a path; undefined where it has nothing. */
page.value = function (study, run, place) {
  if (run.differs === undefined) return undefined;
  const at = run.differs[place] ?? 0;
  return at < 0 ? undefined : study.common.values[place][at];
};

page.values = function (study, run, prefix) {
  const found = [];
  study.common.paths.forEach((path, place) => {
    if (path === prefix || path.startsWith(`${prefix}.`)) {
      const value = page.value(study, run, place);
      if (value !== undefined) found.push({ path: path.slice(prefix.length + 1), place, value });
    }
  });
  return found;
};

page.shown = function (value) {
  return typeof value === "string" ? value : JSON.stringify(value);
};

page.number = function (value, digits = 3) {
  return value === undefined || value === null ? "–" : value.toLocaleString("en", { maximumFractionDigits: digits });
};

page.percent = function (value) {
  return value === undefined || value === null ? "–" : (100 * value).toFixed(1);
};

page.duration = function (seconds) {
  if (seconds === undefined || seconds === null) return "–";
  if (seconds < 120) return `${seconds.toFixed(1)} s`;
  return seconds < 7200 ? `${(seconds / 60).toFixed(1)} min` : `${(seconds / 3600).toFixed(1)} h`;
};

page.label = function (key) {
  const [part, ...rest] = key.split("_");
  const parts = { val: "validation", test: "test", train: "training" };
  const names = { top1: "top-1", top5: "top-5", map100: "MAP@100" };
  const name = rest.join("_");
  return `${parts[part] ?? part} ${names[name] ?? name.replaceAll("_", " ")}`;
};

page.isFraction = function (key) {
  return /_(top1|top5|map100)$/.test(key);
};

page.link = function (...parts) {
  return `#/${parts.map(encodeURIComponent).join("/")}`;
};

page.swatch = function (arm) {
  return page.element("span", {
    class: `swatch dash-${arm.dash}`, style: `--arm: var(--arm-${arm.color})`, "aria-hidden": "true",
  });
};

page.status = function (run) {
  const marks = { completed: "✓", diverged: "✕", failed: "✕", running: "…", missing: "○" };
  const mark = page.element("span", { "aria-hidden": "true" }, `${marks[run.status] ?? ""} `);
  return page.element("span", { class: `status ${run.status}` }, mark, run.status);
};

/** Say something to a screen reader. */
page.say = function (text) {
  const place = document.getElementById("said");
  place.textContent = "";
  requestAnimationFrame(() => { place.textContent = text; });
};

page.themed = [];

page.setTheme = function (theme) {
  document.documentElement.dataset.theme = theme;
  document.getElementById("theme").textContent = theme === "dark" ? "Light theme" : "Dark theme";
  page.themed.forEach((redraw) => redraw());
};

document.getElementById("theme").addEventListener("click", () => {
  const theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  try { localStorage.setItem("ablations-theme", theme); } catch (error) { /* then it is not kept */ }
  page.setTheme(theme);
});
page.setTheme(document.documentElement.dataset.theme);
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", (event) => {
  let kept = null;
  try { kept = localStorage.getItem("ablations-theme"); } catch (error) { /* none */ }
  if (!kept) page.setTheme(event.matches ? "dark" : "light");
});
// Paper is light, whatever the screen is.
window.matchMedia("print").addEventListener("change", () => page.themed.forEach((redraw) => redraw()));
