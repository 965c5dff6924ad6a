// The page as a whole: its state, and what draws it anew when that changes.

// From harmless to grave; each also differs from its neighbours in lightness.
const FLAG_COLOURS = ["#9fb8c8", "#5b8fb0", "#7a7f83", "#d9b44a", "#b3762a", "#8c1f4b", "#68a06b", "#d0582f", "#6d5aa8"];
const MOST_PANELS = 6;

class App {
  constructor(data) {
    this.results = data.results.map((spec) => new Result(spec));
    for (const result of this.results) {
      result.flags.rows.forEach((row, n) => (row.colour = FLAG_COLOURS[n % FLAG_COLOURS.length]));
    }
    [this.first, this.second = null] = this.results;
    this.maps = data.maps;
    this.map = "grey";
    this.colours = mapColours(this.maps.grey);
    this.pixel = this.first.pixel;
    this.view = new View(this.first.size);
    this.way = "split";
    this.split = 0.5;
    this.flip = false;
    this.tool = "move";
    this.overlay = false;
    this.shownFlags = 65535;
    this.cursor = null;
    this.line = null;
    this.lining = false;
    this.region = null;
    this.common = false; // one contrast for all results, or one for each
    this.diverging = mapColours(data.maps.diverging);
    this.flagColours = flagTable(this.first.flags.rows, 65535, CLEAR);
    this.differences = new Map();
    this.limits = new Map();
    this.panels = [];
    this.stale = {};
    this.entries = this.union();
  }

  /** Everything that any result can show, in the order of the first that has it. */
  union() {
    const found = new Map();
    for (const result of this.results) {
      for (const entry of result.entries()) if (!found.has(entry.key)) found.set(entry.key, entry);
    }
    return [...found.values()];
  }

  /** The contrast of an image as at first: of a result, or of the first that has it for all. */
  firstLimits(key, shown) {
    const result = !this.common && shown?.has(key) ? shown : this.results.find((one) => one.has(key));
    if (key === "flags") return [0, 1];
    if (key === "direction") return [0, result.direction.brightest || 1];
    return result.images.get(key).limits;
  }

  /** Under which name the contrast of an image is kept. */
  limitsName(key, result) {
    return this.common ? key : `${this.results.indexOf(result)} ${key}`;
  }

  limitsOf(key, result) {
    return this.limits.get(this.limitsName(key, result)) ?? this.firstLimits(key, result);
  }

  /** The two images whose difference is drawn; none where that means nothing. */
  differing(key) {
    const found = [this.first, this.second].map((result) => result?.images.get(key));
    return found.every(Boolean) ? found : [];
  }

  /** What is subtracted from a difference besides, so that both have the same zero. */
  differenceShift(key) {
    const [one, other] = this.differing(key);
    return one.shiftOf(other);
  }

  differenceName(key) {
    return `${this.results.indexOf(this.first)} ${this.results.indexOf(this.second)} ${key}`;
  }

  /** The greatest difference that the colours show: 99 % of the pixels are within, at first. */
  differenceLimit(key) {
    const name = this.differenceName(key);
    if (!this.differences.has(name)) {
      const [one, other] = this.differing(key);
      const shift = this.differenceShift(key);
      const step = Math.max(1, Math.floor((one.width * one.height) / 50000));
      const found = [];
      for (let at = 0; at < one.width * one.height; at += step) {
        const value = one.value(one.levels[0].codes[at]) - other.value(other.levels[0].codes[at]) - shift;
        if (Number.isFinite(value)) found.push(Math.abs(value));
      }
      found.sort((a, b) => a - b);
      this.differences.set(name, found[Math.floor(0.99 * (found.length - 1))] || 1e-300);
    }
    return this.differences.get(name);
  }

  setDifferenceLimit(key, limit) {
    this.differences.set(this.differenceName(key), limit);
    this.refresh();
  }

  /** How two results are shown: "split", "blink", "difference", or null for one alone. */
  get comparing() {
    return this.second ? this.way : null;
  }

  get seen() {
    return this.comparing === "blink" && this.flip ? this.second : this.first;
  }

  show(first, second) {
    this.first = first;
    this.second = second === first ? null : second;
    this.panels.forEach((panel) => panel.choose(panel.key));
    this.describe();
  }

  turn() {
    this.flip = !this.flip;
    this.refresh();
  }

  setLimits(key, limits) {
    const name = this.limitsName(key, this.seen);
    if (limits) this.limits.set(name, limits);
    else this.limits.delete(name);
    this.refresh();
  }

  setSplit(split) {
    this.split = Math.min(1, Math.max(0, split));
    this.refresh();
  }

  setCursor(cursor) {
    this.cursor = cursor;
    this.refresh({});
  }

  setLine(line) {
    this.line = line;
    if (!line) this.lining = false;
    this.refresh({ profiles: true });
  }

  setRegion([x0, y0], [x1, y1]) {
    this.region = { x0: Math.min(x0, x1), y0: Math.min(y0, y1), x1: Math.max(x0, x1), y1: Math.max(y0, y1) };
    this.refresh({});
  }

  clamp(x, y) {
    const within = (value, size) => Math.min(size - 1, Math.max(0, value));
    return [within(x, this.view.width), within(y, this.view.height)];
  }

  speak(text) {
    document.getElementById("spoken").textContent = text;
  }

  addPanel(key) {
    if (this.panels.length >= MOST_PANELS) return;
    const panel = new Panel(this, key);
    this.panels.push(panel);
    document.getElementById("panels").append(panel.element);
    this.layOut();
  }

  removePanel(panel) {
    this.panels = this.panels.filter((other) => other !== panel);
    panel.element.remove();
    this.layOut();
    this.panels[0]?.imageView.canvas.focus();
  }

  /** Give the images as much room as they can use: all of the width, but no more than the window's height. */
  layOut() {
    const holder = document.getElementById("panels");
    if (!holder.clientWidth) return; // not on the screen yet
    const number = Math.max(1, this.panels.length);
    const type = typeSize();
    const gap = 1.6 * type;
    const fitting = innerWidth <= 700 ? 1 : Math.max(1, Math.floor((holder.clientWidth + gap) / (17.5 * type + gap)));
    const columns = number <= fitting ? number : Math.ceil(number / Math.ceil(number / fitting));
    holder.style.setProperty("--columns", columns);
    const width = (holder.clientWidth - (columns - 1) * gap) / columns;
    const [rows, across] = this.first.size;
    const height = Math.min((width * rows) / across, Math.max(0.7 * innerHeight, 16 * type));
    this.view.resize(width, Math.max(8 * type, Math.round(height)));
    this.panels.forEach((panel) => (panel.closer.hidden = this.panels.length < 2));
    if (this.adder) this.adder.disabled = this.panels.length >= MOST_PANELS;
    this.refresh();
  }

  /** Draw anew at the next frame: the marks of the mouse always, and what else is stale. */
  refresh({ channels, profiles } = { channels: true }) {
    this.stale.channels ||= channels;
    this.stale.profiles ||= profiles;
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      if (!this.view.pageWidth) return;
      const { stale } = this;
      this.stale = {};
      this.panels.forEach((panel) => panel.draw(stale));
      this.drawStatus();
      const images = this.panels.flatMap((panel) => this.seen.parts(panel.key));
      document.body.dataset.ready = String(images.every((image) => image.levels));
    });
  }

  drawStatus() {
    const status = document.getElementById("status");
    const { cursor, first } = this;
    document.getElementById("profile-tools").hidden = !this.line;
    if (this.line) {
      for (const [name, input] of Object.entries(this.ends)) {
        if (document.activeElement !== input) input.value = this.line[name];
      }
    }
    if (!cursor) {
      status.textContent = "Drag to move, wheel to zoom, Shift and drag for a profile.";
      return;
    }
    const names = first.flagNames(cursor.x, cursor.y);
    const place = `x ${cursor.x}, y ${cursor.y} px`;
    const lengths = [cursor.x, cursor.y].map((value) => si(value * this.pixel, "m", 4)).join(", ");
    status.textContent = [place, lengths, names.length ? `flags: ${names.join(", ")}` : ""].filter(Boolean).join("  ·  ");
  }

  get dark() {
    return document.documentElement.dataset.theme === "dark";
  }

  /** Title and conditions of what is shown. */
  describe() {
    const shown = [this.first, this.second].filter(Boolean);
    const named = shown.length > 1 ? (result) => `${result === this.first ? "A" : "B"}: ` : () => "";
    document.getElementById("name").textContent = shown.map((result) => named(result) + result.name).join("   ");
    document.getElementById("conditions").replaceChildren(...shown.map((result) => {
      const positions = result.positions ? `N = ${result.positions}` : "";
      const said = [result.method, positions, ...result.conditions, `${result.size[1]} × ${result.size[0]} pixels`];
      return element("span", { class: "condition" }, named(result) + said.filter(Boolean).join("  ·  "));
    }));
    const warnings = shown.flatMap((result) => result.findings
      .filter((record) => record.severity === "warning")
      .map((record) => element("li", {}, `${named(result)}Warning: ${record.message}`)));
    document.getElementById("warnings").replaceChildren(...warnings);
  }
}

function toolbar(app) {
  const tools = choices("What dragging does", [["move", "Move"], ["profile", "Profile"], ["region", "Region"]], app.tool, (tool) => {
    app.tool = tool;
    app.refresh();
  });
  const fit = element("button", { type: "button", onclick: () => { app.view.fit(); app.refresh(); } }, "Whole image");
  const maps = Object.keys(app.maps).map((name) => [name, name]);
  const colours = selection("Colours", maps, app.map, (name) => {
    app.map = name;
    app.colours = mapColours(app.maps[name]);
    app.refresh();
  });
  const overlay = tick("Mark flagged pixels", app.overlay, (on) => {
    app.overlay = on;
    Promise.all([app.first, app.second].filter(Boolean).map((result) => result.flagImage.load())).then(() => app.refresh());
    app.refresh();
  });
  app.adder = element("button", { type: "button", onclick: () => app.addPanel(nextKey(app)) }, "Add an image");
  return [comparisonTools(app), element("div", { class: "group" }, tools, fit), colours, overlay, app.adder];
}

/** Fill the tools of the profile: its ends as numbers, for the keyboard and for exact places. */
function profileTools(app, holder) {
  app.ends = {};
  const change = () => {
    const [x0, y0] = app.clamp(...["x0", "y0"].map((name) => Math.round(app.ends[name].valueAsNumber || 0)));
    const [x1, y1] = app.clamp(...["x1", "y1"].map((name) => Math.round(app.ends[name].valueAsNumber || 0)));
    app.setLine({ x0, y0, x1, y1 });
  };
  const labels = { x0: "x of the start", y0: "y of the start", x1: "x of the end", y1: "y of the end" };
  for (const [name, label] of Object.entries(labels)) {
    app.ends[name] = element("input", { type: "number", min: 0, step: 1, "aria-label": `Profile: ${label} in pixels`, onchange: change });
  }
  const { x0, y0, x1, y1 } = app.ends;
  const keys = () => app.panels.map((panel) => panel.key);
  holder.append(
    element("span", { class: "quiet small" }, "Profile from"), x0, y0, element("span", { class: "quiet small" }, "to"), x1, y1,
    element("button", { type: "button", onclick: () => saveText("profile.csv", profileTable(app, keys())) }, "Save values"),
    element("button", { type: "button", onclick: () => app.setLine(null) }, "Remove"),
  );
}

/** What is not shown yet. */
function nextKey(app) {
  const shown = new Set(app.panels.map((panel) => panel.key));
  const wanted = ["direction", "diagnostics residual", "flags", ...app.entries.map((entry) => entry.key)];
  return wanted.find((key) => !shown.has(key) && app.entries.some((entry) => entry.key === key)) ?? "flags";
}

/** The images to begin with. */
function firstKeys(app) {
  const usual = ["transmission", "phase", "dark_field", "direction"].filter((key) => app.first.has(key));
  if (usual.length >= 2) return usual;
  const others = app.first.entries().map((entry) => entry.key).filter((key) => key !== "flags" && !usual.includes(key));
  return [...usual, ...others].slice(0, 3);
}

function themeChoice(app) {
  const system = matchMedia("(prefers-color-scheme: dark)");
  let chosen = "auto";
  const dress = () => {
    document.documentElement.dataset.theme = chosen === "auto" ? (system.matches ? "dark" : "light") : chosen;
    app.refresh();
  };
  system.addEventListener("change", dress);
  dress();
  return choices("Light or dark", [["auto", "Auto"], ["light", "Light"], ["dark", "Dark"]], chosen, (theme) => {
    chosen = theme;
    dress();
  });
}

/** Show the images of the results, or the raw frames. */
function frameTabs(app, frames) {
  const views = { images: document.getElementById("images"), frames: document.getElementById("frames") };
  const [low, high] = frames.limits;
  const pictures = frames.shown.map(({ title, range, png }) => element(
    "figure", {},
    element("img", { src: `data:image/png;base64,${png}`, alt: title }),
    element("figcaption", { class: "small" }, title, element("span", { class: "quiet" }, range.length ? ` (${range.map((value) => short(value)).join(" to ")})` : " (no usable pixel)")),
  ));
  const binned = frames.binning > 1 ? `, means of ${frames.binning} × ${frames.binning} pixels` : "";
  const of = frames.name ? ` of ${frames.name}` : "";
  const said = `Raw frames${of} at ${frames.columns} of ${frames.positions} positions, before any preprocessing${binned}. Black is ${short(low)}, white ${short(high)}.`;
  const grid = element("div", { class: "frames" }, ...pictures);
  grid.style.setProperty("--columns", frames.columns);
  views.frames.append(element("p", { class: "quiet small" }, said), grid);
  return choices("Images or raw frames", [["images", "Images"], ["frames", "Raw frames"]], "images", (name) => {
    for (const [key, view] of Object.entries(views)) view.hidden = key !== name;
    app.layOut();
  });
}

function start() {
  if (typeof DecompressionStream === "undefined") {
    document.getElementById("status").textContent =
      "This browser is too old to unpack the images. Those of 2023 and later can: Firefox 113, Chrome 80, Safari 16.4.";
    return;
  }
  const data = JSON.parse(document.getElementById("data").textContent);
  const app = new App(data);
  document.getElementById("toolbar").append(...toolbar(app).filter(Boolean));
  profileTools(app, document.getElementById("profile-tools"));
  document.getElementById("theme").replaceWith(themeChoice(app));
  if (data.frames) {
    const tabs = document.getElementById("tabs");
    tabs.append(frameTabs(app, data.frames));
    tabs.hidden = false;
  }
  document.getElementById("words").append(...words(app));
  document.getElementById("foot").textContent = `Written by xmist ${data.version}.`;
  app.describe();
  firstKeys(app).forEach((key) => app.addPanel(key));
  app.results.forEach((result) => result.flagImage.load().then(() => app.refresh()));
  new ResizeObserver(() => app.layOut()).observe(document.getElementById("panels"));
  addEventListener("resize", () => app.layOut());
  addEventListener("keydown", (event) => {
    const typing = event.target.matches?.("input, select, textarea");
    if (event.key.toLowerCase() !== "b" || typing || event.ctrlKey || event.metaKey || event.altKey || !app.second) return;
    if (app.way !== "blink") return;
    clearInterval(app.blinking); // who turns by hand wants to look
    app.turn();
  });
}

start();
