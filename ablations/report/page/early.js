// Before anything is drawn: the theme, and that scripts run.
(function () {
  var root = document.documentElement, kept = null;
  try { kept = localStorage.getItem("ablations-theme"); } catch (error) { /* a page from disk may have none */ }
  var dark = window.matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = kept === "dark" || kept === "light" ? kept : dark ? "dark" : "light";
  root.classList.add("scripts");
})();
