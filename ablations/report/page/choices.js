// What is chosen of a study's curves: fields to choose with, and the address that it stands in.

/** "0-3, 7" as a set of numbers; null for a text that is none. */
page.numbersIn = function (text) {
  const found = new Set();
  for (const part of text.split(",").map((each) => each.trim()).filter(Boolean)) {
    const ends = /^(\d+)(?:\s*-\s*(\d+))?$/.exec(part);
    if (!ends) return null;
    const last = Math.min(Number(ends[2] ?? ends[1]), Number(ends[1]) + 100000);
    for (let number = Number(ends[1]); number <= last; number += 1) found.add(number);
  }
  return found;
};

/** Numbers as "0-3, 7". */
page.rangesOf = function (numbers) {
  const parts = [];
  for (const number of [...numbers].sort((a, b) => a - b)) {
    const last = parts.at(-1);
    if (last && last[1] === number - 1) last[1] = number;
    else parts.push([number, number]);
  }
  return parts.map(([from, to]) => (from === to ? `${from}` : `${from}-${to}`)).join(", ");
};

page.fields = 0;

page.select = function (label, options, value, onchange) {
  page.fields += 1;
  const id = `field-${page.fields}`;
  const select = page.element("select", { id, onchange: () => onchange(select.value) });
  for (const [key, text] of options) select.append(page.element("option", { value: key, selected: key === value }, text));
  return page.element("div", { class: "field" }, page.element("label", { for: id }, label), select);
};

page.tick = function (label, checked, onchange, ...before) {
  const box = page.element("input", { type: "checkbox", checked, onchange: () => onchange(box.checked) });
  return page.element("label", {}, box, ...before, label);
};

/** What is chosen of a study's curves, from the address. */
page.chosenOf = function (study, query) {
  const seeds = [...new Set(study.runs.map((run) => run.seed))].sort((a, b) => a - b);
  const named = query.get("arms")?.split(",");
  const asked = page.numbersIn(query.get("seeds") ?? "");
  const quantity = study.quantities.find((each) => each.key === query.get("y"));
  return {
    seeds,
    arms: new Set(study.arms.flatMap((arm, at) => (named && !named.includes(arm.name) ? [] : [at]))),
    shown: query.has("seeds") && asked ? asked : new Set(seeds.slice(0, page.SEEDS_DRAWN)),
    x: page.X_AXES[query.get("x")] ? query.get("x") : "step",
    quantity: quantity ?? study.quantities[0],
  };
};

/** Write what differs from what is first chosen into the address, so that it can be handed on. */
page.keepChosen = function (study, chosen) {
  const [path, text] = location.hash.split("?");
  const query = new URLSearchParams(text ?? "");
  const first = page.chosenOf(study, new URLSearchParams());
  const keep = (key, value, same) => (same ? query.delete(key) : query.set(key, value));
  keep("x", chosen.x, chosen.x === first.x);
  keep("y", chosen.quantity.key, chosen.quantity === first.quantity);
  keep("arms", [...chosen.arms].map((at) => study.arms[at].name).join(","), chosen.arms.size === study.arms.length);
  const seeds = page.rangesOf(chosen.shown);
  keep("seeds", seeds.replaceAll(" ", ""), seeds === page.rangesOf(first.shown));
  const after = query.toString().replaceAll("%2C", ",");
  history.replaceState(null, "", after ? `${path}?${after}` : path);
};

page.seedChoice = function (chosen, changed) {
  if (chosen.seeds.length <= 20) {
    const set = page.element("fieldset", { class: "seeds" }, page.element("legend", {}, "Seeds"));
    const boxes = chosen.seeds.map((seed) => page.tick(`${seed}`, chosen.shown.has(seed), (on) => {
      if (on) chosen.shown.add(seed); else chosen.shown.delete(seed);
      changed();
    }));
    set.append(page.element("div", { class: "choices" }, ...boxes));
    return set;
  }
  const field = page.element("input", { type: "text", value: page.rangesOf(chosen.shown), size: 24, onchange: () => {
    const numbers = page.numbersIn(field.value);
    field.setAttribute("aria-invalid", numbers ? "false" : "true");
    if (!numbers) { page.say("Seeds must be numbers, such as 0-9, 42"); return; }
    chosen.shown = numbers;
    changed();
  } });
  const all = page.rangesOf(chosen.seeds);
  return page.element("label", { class: "seeds" }, `Seeds drawn, of ${all} (such as 0-9, 42)`, field);
};
