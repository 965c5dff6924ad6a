// The text below the images: findings, flags, convergence, configuration, citation, keys.

/** Everything below the images. */
function words(app) {
  const alone = app.results.length === 1;
  return [
    element("div", { class: alone ? "results alone" : "results" }, ...app.results.map((result) => resultWords(app, result, alone))),
    ...(alone ? [] : [keysHelp()]),
  ];
}

function resultWords(app, result, alone) {
  return element(
    "article", { class: alone ? "result alone" : "result", "aria-label": result.name },
    element("h2", { class: alone ? "hidden" : null }, result.name),
    section("Findings", findings(result)),
    section("Flags", flagTableOf(result)),
    convergence(result),
    section("Precision", valuesTable(result)),
    section("To cite", citation(result)),
    section("Configuration", configuration(result)),
    alone ? keysHelp() : null,
  );
}

function section(title, ...content) {
  return element("section", {}, element("h3", {}, title), ...content);
}

function findings(result) {
  if (!result.findings.length) return element("p", {}, "No warnings and no notes.");
  const item = ({ code, severity, message }) =>
    element("li", { class: severity, title: code }, `${capital(severity)}: ${message}`);
  return element("ul", { class: "findings" }, ...result.findings.map(item));
}

function flagTableOf(result) {
  const { rows, flagged, pixels } = result.flags;
  const found = rows.filter((row) => row.number);
  if (!found.length) return element("p", {}, `None of the ${pixels} pixels is flagged.`);
  const percent = (share) => `${short(100 * share, 2)} %`;
  return element(
    "div", {},
    element("p", { class: "small" }, `${flagged} of ${pixels} pixels (${percent(flagged / pixels)}) have a flag.`),
    table(
      ["", "Flag", "What it means", "Pixels", ""],
      found.map((row) => [swatch(row.colour), row.name, row.meaning, String(row.number), percent(row.share)]),
      [3, 4],
    ),
  );
}

function table(head, rows, numbers = []) {
  const kind = (content, n) => (numbers.includes(n) ? "number" : content.length > 40 ? "long" : null);
  const cell = (name) => (content, n) =>
    element(name, { class: kind(content, n), scope: name === "th" && content ? "col" : null }, content);
  // A column without a name is no heading.
  const heads = head.map((text, n) => cell(text ? "th" : "td")(text, n));
  return element(
    "table", {},
    element("thead", {}, element("tr", {}, ...heads)),
    element("tbody", {}, ...rows.map((row) => element("tr", {}, ...row.map(cell("td"))))),
  );
}

function convergence(result) {
  const record = result.convergence;
  if (!record || typeof record !== "object") return null;
  const misfit = (Array.isArray(record.misfit) ? record.misfit : []).filter((value) => typeof value === "number");
  const steps = `${misfit.length - 1} outer step${misfit.length === 2 ? "" : "s"}`;
  const verdict = record.converged === true ? `Settled after ${steps}.` : record.converged === false ? `Had not settled after ${steps}.` : "";
  const holder = element("div", { class: "curve-holder" });
  const draw = () => {
    const positive = misfit.every((value) => value > 0);
    const width = Math.min(holder.clientWidth, 36 * typeSize());
    if (misfit.length < 2 || !width) return;
    holder.replaceChildren(lineChart({
      width,
      height: Math.round(Math.min(0.6 * width, 15 * typeSize())),
      curves: [{ xs: misfit.map((_, n) => n), ys: misfit, dots: true }],
      xLabel: "outer step",
      yLabel: "misfit per datum",
      logarithmic: positive,
      label: `Misfit over the outer steps, from ${short(misfit[0])} to ${short(misfit.at(-1))}`,
    }));
  };
  new ResizeObserver(draw).observe(holder);
  const rest = Object.fromEntries(Object.entries(record).filter(([name]) => name !== "converged"));
  return section(
    "Convergence",
    verdict && misfit.length ? element("p", { class: "small" }, verdict) : null,
    holder,
    element("details", {}, element("summary", {}, "Numbers"), tree(rest)),
  );
}

/** What each image holds, and how finely it travelled. */
function valuesTable(result) {
  const rows = [...result.images.values()].map((channel) => {
    const scale = scaleFor(channel, Math.max(...channel.range.map(Math.abs)));
    const value = (number) => short(number * scale.factor, 4);
    return [
      capital(channel.title), value(channel.range[0]), value(channel.range[1]), scale.unit || "1",
      short(channel.step * scale.factor, 2), String(channel.missing),
    ];
  });
  return element(
    "details", {},
    element("summary", {}, "Range and precision of each image"),
    table(["Image", "Least", "Greatest", "Unit", "Step", "No value"], rows, [1, 2, 4, 5]),
    element("p", { class: "quiet small" }, "Values were rounded to whole steps for this page; the file of the result holds them as they are."),
  );
}

function configuration(result) {
  const parts = Object.entries(result.configuration).map(([name, value]) =>
    isTree(value)
      ? element("details", { open: name !== "provenance" },
        element("summary", {}, capital(name)), tree(value))
      : tree({ [name]: value }),
  );
  const copy = copyButton("Copy as JSON", () => JSON.stringify(result.configuration, null, 2));
  return element("div", {}, ...parts, copy);
}

function isTree(value) {
  return value !== null && typeof value === "object" && Object.keys(value).length > 0;
}

/** Plain data as terms and what they are; what is nested stands below its term. */
function tree(data) {
  const list = element("dl", {});
  for (const [name, value] of Object.entries(data)) {
    const inner = isTree(value) && !isFlat(value);
    list.append(element("dt", {}, Array.isArray(data) ? String(Number(name) + 1) : name));
    if (inner) list.append(element("dd", {}), element("dd", { class: "nest" }, records(value) ?? tree(value)));
    else list.append(element("dd", {}, namedText(name, value)));
  }
  return list;
}

/** A list of things of one kind, such as the files of the input, as a table; null for anything else. */
function records(value) {
  if (!Array.isArray(value) || value.length < 2) return null;
  const names = isTree(value[0]) ? Object.keys(value[0]) : [];
  const alike = (item) => isTree(item) && Object.keys(item).join("\n") === names.join("\n") && !Object.values(item).some(isTree);
  return names.length > 1 && value.every(alike)
    ? table(names, value.map((item) => names.map((name) => namedText(name, item[name]))))
    : null;
}

function isFlat(value) {
  return Array.isArray(value) && value.every((item) => item === null || typeof item !== "object") &&
    flatText(value).length < 200;
}

function namedText(name, value) {
  return name === "bytes" && typeof value === "number" ? bytesText(value) : flatText(value);
}

function flatText(value) {
  if (value === null) return "not given";
  if (typeof value === "number") return short(value, 7);
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (Array.isArray(value)) {
    const sentences = value.some((item) => typeof item === "string" && /[,;]/.test(item));
    return value.length ? value.map(flatText).join(sentences ? "; " : ", ") : "none";
  }
  return typeof value === "object" ? "none" : String(value);
}

function citation(result) {
  const text = result.citation.join("\n");
  return element(
    "div", {},
    ...result.citation.map((line) => element("p", { class: "citation" }, line)),
    copyButton("Copy", () => text),
  );
}

function keysHelp() {
  const rows = [
    ["Arrows", "move the cursor by a pixel, with Shift by ten"],
    ["+  −", "zoom"],
    ["0", "the whole image"],
    ["1", "a pixel of the image for one of the screen"],
    ["P", "start a profile at the cursor; once more ends it"],
    ["Esc", "remove the profile and the region"],
    ["B", "while two results blink: stop, and show the other"],
  ];
  const list = element("dl", {});
  for (const [key, text] of rows) list.append(element("dt", {}, element("kbd", {}, key)), element("dd", {}, text));
  return element(
    "section", { class: "keys" },
    element("h3", {}, "Keys and mouse"),
    element("p", { class: "small" },
      "Drag an image to move it, turn the wheel to zoom, double-click for the whole image, hold Shift and drag for a profile. ",
      "With Region chosen, drag a box for the mean and the standard deviation in it. ",
      "Drag the handles below an image, or what lies between them, for its contrast. With an image in focus:"),
    list,
  );
}
