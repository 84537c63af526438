// Which part of the page is shown: "#/", "#/study/NAME", "#/runs/STUDY/SET", "#/run/ID".

page.routes = {
  study(query, name) {
    const study = page.studyNamed(name);
    if (!study) return null;
    const view = document.getElementById(`view-study-${study.place}`);
    return { view, title: study.title, fill() {
      view.querySelectorAll("img[data-same]").forEach((image) => {
        image.src = document.getElementById(image.dataset.same).src;
        image.removeAttribute("data-same");
      });
      page.drawCurves(view.querySelector("[data-curves]"), study, query);
      page.listRuns(view.querySelector("[data-list]"), study, study.runs, query, (key, value) => {
        const [path, text] = location.hash.split("?");
        const now = new URLSearchParams(text ?? "");
        if (value) now.set(key, value); else now.delete(key);
        history.replaceState(null, "", now.size ? `${path}?${now}` : path);
      });
    } };
  },
  runs(query, name, ...rest) {
    const key = rest.join("/"); // "results/ARM"
    const study = page.studyNamed(name);
    const set = study && Object.hasOwn(study.sets, key) ? study.sets[key] : null;
    if (!set) return null;
    const view = document.getElementById("view-set");
    return { view, title: set.title, study, fill() {
      page.listRuns(view.querySelector("[data-list]"), study, set.runs.map((at) => study.runs[at]), query);
    } };
  },
  run(query, id) {
    const places = page.index.runs.get(id);
    if (!places) return null;
    const studies = places.map(page.study);
    const view = document.getElementById("view-run");
    const run = studies[0].runs[studies[0].byId.get(id)];
    return { view, title: `Run ${id}`, study: studies[0], fill() {
      page.showRun(view.querySelector("[data-run]"), studies[0], run, studies);
    } };
  },
};

page.found = function (path, query) {
  if (path === "") return { view: document.getElementById("view-home"), title: "Claims and verdicts", fill() {} };
  let parts;
  try { parts = path.split("/").map(decodeURIComponent); } catch (error) { return null; }
  const [kind, ...names] = parts;
  return Object.hasOwn(page.routes, kind) ? page.routes[kind](query, ...names) : null;
};

page.scrolls = new Map();

page.show = function (first) {
  if (location.hash && !location.hash.startsWith("#/")) return;
  const [path, text] = location.hash.replace(/^#\/?/, "").split("?");
  const query = new URLSearchParams(text ?? "");
  const nothing = { view: document.getElementById("view-nothing"), title: "Nothing here", fill() {
    this.view.querySelector("[data-what]").textContent = path;
  } };
  const shown = page.found(path, query) ?? nothing;
  document.querySelectorAll(".view.open").forEach((view) => {
    view.classList.remove("open");
  });
  page.themed = [];
  page.onPrint = null;
  shown.view.classList.add("open");
  const heading = shown.view.querySelector("h1");
  if (["view-set", "view-run"].includes(shown.view.id)) heading.textContent = shown.title;
  const back = shown.view.querySelector("a[data-study]");
  if (back) {
    back.textContent = shown.study.title;
    back.href = page.link("study", shown.study.name);
  }
  document.title = `${shown.title}: ablations`;
  const current = shown.study ? page.link("study", shown.study.name) : `#/${path}`;
  document.querySelectorAll(".top nav a").forEach((link) => {
    if (link.getAttribute("href") === current) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  });
  shown.fill();
  page.shownHash = location.hash;
  if (!first) {
    window.scrollTo(0, page.scrolls.get(location.hash) ?? 0);
    heading.focus({ preventScroll: true });
  }
};

window.addEventListener("scroll", () => page.scrolls.set(page.shownHash, window.scrollY), { passive: true });
// A link shows its page from the top; going back shows it where it was left.
document.addEventListener("click", (event) => {
  const link = event.target.closest('a[href^="#/"]');
  if (link) page.scrolls.delete(link.getAttribute("href"));
});
if ("scrollRestoration" in history) history.scrollRestoration = "manual";
window.addEventListener("hashchange", () => page.show(false));
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  document.getElementById("main").focus();
});
page.show(true);
document.documentElement.dataset.ready = "yes";
