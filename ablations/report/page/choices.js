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

page.LAYERS = { runs: "single runs", means: "means", bands: "95 % bands" };
page.ARMS_WITH_BANDS = 7; // of more, bands hide each other: they are drawn when they are asked for

/** What is chosen of a study's curves, from the address. */
page.chosenOf = function (study, query) {
  const seeds = [...new Set(study.runs.map((run) => run.seed))].sort((a, b) => a - b);
  const named = query.get("arms")?.split(",");
  const asked = page.numbersIn(query.get("seeds") ?? "");
  const layers = query.get("show")?.split(",") ??
    Object.keys(page.LAYERS).filter((layer) => layer !== "bands" || study.arms.length <= page.ARMS_WITH_BANDS);
  const quantity = study.quantities.find((each) => each.key === query.get("y"));
  return {
    seeds,
    arms: new Set(study.arms.flatMap((arm, at) => (named && !named.includes(arm.name) ? [] : [at]))),
    shown: query.has("seeds") && asked ? asked : new Set(seeds.slice(0, page.SEEDS_DRAWN)),
    x: page.X_AXES[query.get("x")] ? query.get("x") : "step",
    layers: new Set(layers),
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
  const layers = (of) => Object.keys(page.LAYERS).filter((layer) => of.layers.has(layer)).join(",");
  keep("show", layers(chosen), layers(chosen) === layers(first));
  const seeds = page.rangesOf(chosen.shown);
  keep("seeds", seeds.replaceAll(" ", ""), seeds === page.rangesOf(first.shown));
  const after = query.toString().replaceAll("%2C", ",");
  history.replaceState(null, "", after ? `${path}?${after}` : path);
};

/** Ticks of a set: a label and something before it by key, `[[key, label, ...before]]`. */
page.tickChoice = function (legend, kind, options, ticked, changed) {
  const boxes = options.map(([key, label, ...before]) => page.tick(label, ticked.has(key), (on) => {
    if (on) ticked.add(key); else ticked.delete(key);
    changed();
  }, ...before));
  return page.element("fieldset", { class: kind }, page.element("legend", {}, legend),
    page.element("div", { class: "choices" }, ...boxes));
};

page.seedChoice = function (chosen, changed) {
  if (chosen.seeds.length <= 20) {
    return page.tickChoice("Seeds", "seeds", chosen.seeds.map((seed) => [seed, `${seed}`]), chosen.shown, changed);
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
