// One panel: what is shown, the image, the value under the cursor, the contrast, and the profile.

class Panel {
  constructor(app, key) {
    this.app = app;
    this.key = key;
    this.imageView = new ImageView(app, this);
    this.contrast = new Contrast((limits) => app.setLimits(this.key, limits));
    this.chooser = this.makeChooser();
    this.auto = element("button", {
      type: "button", class: "bare small push", title: "Contrast as at first",
      onclick: () => app.setLimits(this.key, null),
    }, "Auto");
    this.saver = element("button", {
      type: "button", class: "bare small",
      onclick: () => savePicture(`${this.key.replace(/\W+/g, "_")}.png`, this.imageView.canvas),
    }, "PNG");
    this.closer = element("button", { type: "button", class: "bare", onclick: () => app.removePanel(this) }, "×");
    this.tags = [element("span", { class: "tag first" }), element("span", { class: "tag second" })];
    this.split = this.makeSplit();
    this.frame = element("div", { class: "image-view" }, this.imageView.canvas, this.imageView.marks, this.split, ...this.tags);
    this.values = [element("output", {}), element("output", { class: "second" })];
    this.region = element("div", { class: "small region" });
    this.below = element("div", { class: "below" });
    this.profile = element("div", { class: "profile" });
    this.element = element(
      "section", { class: "panel" },
      element("div", { class: "panel-head" }, this.chooser, this.auto, this.saver, this.closer),
      this.frame,
      element("div", { class: "readout" }, ...this.values),
      this.region,
      this.below,
      this.profile,
    );
    this.choose(key);
  }

  makeChooser() {
    const list = element("select", { "aria-label": "What this image shows", onchange: () => this.choose(list.value) });
    const titles = { image: "Images", uncertainty: "Uncertainty", diagnostic: "To judge by" };
    for (const [group, title] of Object.entries(titles)) {
      const entries = this.app.entries.filter((entry) => entry.group === group);
      if (!entries.length) continue;
      const made = element("optgroup", { label: title });
      for (const entry of entries) made.append(element("option", { value: entry.key }, capital(entry.title)));
      list.append(made);
    }
    return list;
  }

  makeSplit() {
    const { app } = this;
    const made = element("div", {
      class: "split", role: "slider", tabindex: 0, "aria-label": "Border between the two results",
      "aria-valuemin": 0, "aria-valuemax": 100,
      onkeydown: (event) => {
        const steps = { ArrowLeft: -0.02, ArrowDown: -0.02, ArrowRight: 0.02, ArrowUp: 0.02, Home: -1, End: 1 };
        if (!(event.key in steps)) return;
        event.preventDefault();
        app.setSplit(app.split + steps[event.key]);
      },
    });
    draggable(made, () => app.split, (dx, from) => app.setSplit(from + dx / app.view.pageWidth));
    return made;
  }

  get title() {
    return this.app.entries.find((entry) => entry.key === this.key)?.title ?? this.key;
  }

  /** Show another channel. */
  choose(key) {
    this.key = key;
    this.shown = null;
    this.chooser.value = key;
    this.element.setAttribute("aria-label", capital(this.title));
    this.imageView.canvas.setAttribute("aria-label", `${capital(this.title)}. Arrow keys move the cursor; all keys are listed below`);
    this.saver.setAttribute("aria-label", `Save the image of the ${this.title} as PNG`);
    this.closer.setAttribute("aria-label", `Remove the image of the ${this.title}`);
    const { app } = this;
    for (const result of [app.first, app.second]) {
      for (const part of result ? [...result.parts(key), ...this.companions(result)] : []) {
        if (!part.levels) part.load().then(() => this.loaded());
      }
    }
    app.refresh();
  }

  /** An image can only be drawn when it has come; the contrast takes its histogram then. */
  loaded() {
    this.shown = null;
    this.app.refresh();
  }

  /** Images that tell more about a value: its uncertainty, and for directions the strength. */
  companions(result) {
    const found = [];
    const channel = result.images.get(this.key);
    if (channel?.std) found.push(result.images.get(channel.std));
    if (this.key === "direction" && result.images.has("dark_field")) found.push(result.images.get("dark_field"));
    return found;
  }

  /** The channel whose histogram decides the contrast. */
  judged(result) {
    return result?.images.get(this.key === "direction" ? "dark_field" : this.key);
  }

  /** Draw what the cursor and the line change, and what the mouse does not change if that is stale. */
  draw({ channels, profiles }) {
    if (channels) this.drawChannel();
    this.imageView.drawMarks();
    this.drawValues();
    this.drawRegionValues();
    if (!channels && !profiles) return;
    const chart = this.app.line ? profileChart(this.app, this.key, this.element.clientWidth) : null;
    this.profile.replaceChildren(...(chart ? [chart] : []));
  }

  drawChannel() {
    const { app } = this;
    this.frame.style.height = `${app.view.pageHeight}px`;
    this.imageView.canvas.classList.toggle("lining", app.tool === "profile");
    this.imageView.draw();
    this.split.hidden = app.comparing !== "split";
    this.split.style.left = `${100 * app.split}%`;
    this.split.setAttribute("aria-valuenow", Math.round(100 * app.split));
    const typed = app.limits.has(app.limitsName(this.key, app.seen));
    this.auto.hidden = !typed || this.key === "flags" || app.comparing === "difference";
    this.drawTags();
    this.drawBelow();
  }

  drawTags() {
    const { app } = this;
    const names = app.comparing === "split" ? [app.first.name, app.second.name]
      : app.comparing === "blink" ? [app.seen.name, ""]
      : app.comparing === "difference" ? ["A − B", ""] : ["", ""];
    const shown = app.comparing === "split" ? [app.first, app.second] : [app.seen];
    shown.forEach((result, n) => {
      if (!result.has(this.key)) names[n] = `not in ${result.name}`;
    });
    if (app.comparing === "difference" && !app.differing(this.key).length) names[0] = "no difference of these images";
    names.forEach((name, n) => {
      this.tags[n].textContent = name;
      this.tags[n].hidden = !name;
      this.tags[n].classList.toggle("wide", shown.length === 1);
    });
  }

  drawBelow() {
    const { app } = this;
    if (this.key === "flags") {
      if (this.shown !== "flags") this.below.replaceChildren(this.flagLegend());
      this.shown = "flags";
      return;
    }
    if (app.comparing === "difference") {
      this.drawDifferenceBelow();
      return;
    }
    const seen = !app.common && this.judged(app.seen) ? app.seen : this.judged(app.first) ? app.first : app.second;
    const channel = this.judged(seen);
    if (!channel?.levels) return;
    const other = channel === this.judged(app.first) ? this.judged(app.second) : null;
    const mark = [this.key, seen.name, app.first.name, app.second?.name, Boolean(other?.levels), app.common].join("\n");
    if (this.shown !== mark) {
      const directions = this.key === "direction";
      this.contrast.show(channel, other?.levels ? other : null, directions);
      this.below.replaceChildren(this.contrast.element, ...(directions ? [wheel()] : []), ...this.remarks(channel, other));
      this.shown = mark;
    }
    const [low, high] = app.limitsOf(this.key, seen);
    this.contrast.draw([low, high], (value) => {
      const part = Math.min(1, Math.max(0, (value - low) / (high - low)));
      if (this.key !== "direction") return app.colours[Math.min(255, Math.floor(256 * part))];
      return hsv(0, 0, Math.sqrt(part));
    });
  }

  /** What the colours of a difference mean, with the greatest one to type. */
  drawDifferenceBelow() {
    const { app } = this;
    const [one, other] = app.differing(this.key);
    if (!one?.levels || !other?.levels) {
      this.below.replaceChildren();
      this.shown = null;
      return;
    }
    const scale = channelScale(one);
    const mark = ["difference", this.key, app.first.name, app.second.name].join("\n");
    if (this.shown === mark) return;
    const input = numberInput("Greatest difference shown", (value) => {
      if (value > 0) app.setDifferenceLimit(this.key, value / scale.factor);
    });
    input.value = plainNumber(app.differenceLimit(this.key) * scale.factor);
    const shift = app.differenceShift(this.key);
    const remark = `Without the difference of the means, ${short(shift * scale.factor, 3)} ${scale.unit}.`;
    this.below.replaceChildren(
      element("p", { class: "small typed" }, "A − B: blue below 0, red above, up to ±", input, scale.unit),
      ...(shift ? [element("p", { class: "quiet small" }, remark)] : []),
    );
    this.shown = mark;
  }

  /** Mean and standard deviation of the region. */
  drawRegionValues() {
    const { app } = this;
    const texts = [];
    for (const result of app.region ? [app.first, app.second] : []) {
      const channel = result?.images.get(this.key);
      if (!channel?.levels) continue;
      const { mean, std, number } = regionStatistics(channel, app.region);
      const { factor, unit } = channelScale(channel);
      const name = app.second ? `${result === app.first ? "A" : "B"}: ` : "";
      const value = `${short(mean * factor)} ± ${short(std * factor, 2)} ${unit}`.trim();
      texts.push(number ? `${name}${value} (${number} pixels)` : `${name}no value`);
    }
    this.region.textContent = texts.join("   ");
    this.region.hidden = !texts.length;
  }

  remarks(channel, other) {
    const found = [];
    if (channel.about && this.key !== "direction") found.push(channel.about);
    const shift = this.app.common ? channel.shiftOf(other) : 0;
    if (shift) {
      const { factor, unit } = channelScale(channel);
      const by = `${shift > 0 ? "+" : ""}${short(shift * factor, 3)} ${unit}`;
      found.push(`only differences of phase are determined: the second is drawn with ${by}, so that the means agree`);
    }
    if (channel.missing) {
      const share = short((100 * channel.missing) / (channel.width * channel.height), 2);
      found.push(element("span", { class: "legend-line" }, element("span", { class: "swatch hatched" }), `no value (${share} % of the pixels)`));
    }
    if (channel.outside) found.push(`${channel.outside} far values lie beyond the range that travelled`);
    return found.map((item) => element("p", { class: "quiet small" }, typeof item === "string" ? capital(item) : item));
  }

  flagLegend() {
    const { app } = this;
    const rows = app.first.flags.rows.filter((row) => row.number || app.second?.flags.rows.some((other) => other.bit === row.bit && other.number));
    if (!rows.length) return element("p", { class: "quiet small" }, "No pixel is flagged.");
    const legend = element("div", { class: "legend" });
    for (const row of rows) {
      const box = tick(row.name, Boolean(app.shownFlags & row.bit), (on) => {
        app.shownFlags = on ? app.shownFlags | row.bit : app.shownFlags & ~row.bit;
        app.refresh();
      });
      box.title = row.meaning;
      box.insertBefore(swatch(row.colour), box.lastChild);
      legend.append(box);
    }
    return legend;
  }

  drawValues() {
    const { app } = this;
    const results = [app.first, app.second];
    this.values.forEach((output, n) => {
      output.textContent = app.cursor && results[n] ? this.valueText(results[n]) : "";
    });
    if (!app.cursor) {
      const channel = app.first.images.get(this.key);
      if (channel) this.values[0].replaceChildren(symbol(channel.symbol));
    }
  }

  /** The value under the cursor in words. */
  valueText(result) {
    const { x, y } = this.app.cursor;
    if (this.key === "flags") return result.flagNames(x, y).join(", ") || "no flag";
    if (this.key === "direction") {
      const parts = result.parts("direction");
      if (!parts.length || parts.some((part) => !part.levels)) return "";
      const found = principal(...parts.map((part) => part.at(x, y)));
      if (!found) return "no value";
      if (!found.strength) return "no scatter";
      const degrees = fixed((found.angle * 180) / Math.PI, 0);
      return `${degrees}°, anisotropy ${fixed(found.anisotropy, 2)}, D ${si(found.strength, "m", 3)}`;
    }
    const channel = result.images.get(this.key);
    if (!channel?.levels) return "";
    const std = channel.std ? result.images.get(channel.std) : null;
    const scale = channelScale(channel);
    return measured(channel.at(x, y), std?.levels ? std.at(x, y) : null, scale, channel.step);
  }

  /** What a person who does not see the image hears when the cursor moves. */
  spoken() {
    const { app } = this;
    const { x, y } = app.cursor;
    const flags = app.first.flagNames(x, y).join(", ");
    return `${x}, ${y}: ${this.valueText(app.seen)}${flags && this.key !== "flags" ? `, ${flags}` : ""}`;
  }
}

function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

function swatch(colour) {
  const made = element("span", { class: "swatch" });
  made.style.background = colour;
  return made;
}

function wheel() {
  const canvas = element("canvas", { width: 160, height: 160, role: "img", "aria-label": "Wheel of directions" });
  paintWheel(canvas);
  return element(
    "div", { class: "wheel" }, canvas,
    element("p", { class: "quiet small" }, "Colour: the direction along which it scatters. Grey: the same in all directions. Dark: little."),
  );
}
