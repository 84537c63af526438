// Tables: sorting, copying.

/** What a cell is sorted by: the number it begins with, else its text; "–" comes last. */
page.sortKey = function (text) {
  const trimmed = text.trim();
  if (trimmed === "–" || trimmed === "") return [2, ""];
  if (trimmed.startsWith("never")) return [0, Infinity];
  const number = /^[+-]?(\d{1,3}(,\d{3})+|\d+)(\.\d+)?(e[+-]?\d+)?/i.exec(trimmed.replace(/^[✓✕○…]\s*/, ""));
  return number ? [0, Number(number[0].replaceAll(",", ""))] : [1, trimmed.toLowerCase()];
};

page.compareKeys = function (a, b) {
  if (a[0] !== b[0]) return a[0] - b[0];
  return a[1] < b[1] ? -1 : a[1] > b[1] ? 1 : 0;
};

/** Turn the way a column is sorted, and say so; returns 1 or -1. */
page.turn = function (header) {
  const way = header.getAttribute("aria-sort") === "ascending" ? -1 : 1;
  for (const other of header.parentElement.children) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", way === 1 ? "ascending" : "descending");
  page.say(`Sorted by ${header.textContent.trim()}, ${way === 1 ? "ascending" : "descending"}`);
  return way;
};

document.addEventListener("click", (event) => {
  const header = event.target.closest("table[data-sort] thead th");
  if (!header || !event.target.closest("button")) return;
  const way = page.turn(header);
  const place = [...header.parentElement.children].indexOf(header);
  const body = header.closest("table").tBodies[0];
  const rows = [...body.rows].map((row) => [page.sortKey(row.cells[place].textContent), row]);
  // What has no value stays last both ways.
  rows.sort(([a], [b]) => (a[0] === 2 || b[0] === 2 ? a[0] - b[0] : way * page.compareKeys(a, b)));
  body.append(...rows.map(([, row]) => row));
});

page.copy = async function (text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch (error) { // no permission, or a browser that gives none to pages from disk
    const area = page.element("textarea", { readonly: true, "aria-hidden": "true", class: "unseen" });
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    if (!done) throw error;
  }
};

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-copy]");
  if (!button) return;
  const source = document.getElementById(button.dataset.copy);
  const before = button.dataset.words ?? (button.dataset.words = button.textContent);
  const form = button.dataset.form === "commands" ? "Commands copied" : `Table copied as ${button.dataset.form}`;
  try {
    await page.copy(source.value ?? source.textContent);
    button.textContent = "Copied";
    page.say(form);
  } catch (error) {
    button.textContent = "Not copied";
    page.say("The browser did not let the page copy");
  }
  setTimeout(() => { button.textContent = before; }, 2000);
});
