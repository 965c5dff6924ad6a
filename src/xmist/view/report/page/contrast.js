// The histogram of an image over its colour bar; the contrast is what lies between two handles.

const PARTS = 160;

class Contrast {
  /** `change(limits)` is called with [low, high] while a handle or the window between them is dragged. */
  constructor(change) {
    this.change = change;
    this.limits = [0, 1];
    this.domain = [0, 1];
    this.bars = shape("path", { class: "bars" });
    this.otherBars = shape("path", { class: "bars second" });
    this.shades = [shape("rect", { class: "shade" }), shape("rect", { class: "shade" })];
    this.window = shape("rect", { class: "window" });
    this.marks = shape("g");
    this.drawing = shape("svg", { "aria-hidden": "true" }, this.bars, this.otherBars, ...this.shades, this.marks, this.window);
    this.bar = element("canvas", { class: "bar", "aria-hidden": "true" });
    this.handles = ["Lower", "Upper"].map((name, end) => this.handle(name, end));
    this.inputs = ["Least value shown", "Greatest value shown"].map((label, end) => numberInput(label, (value) => this.type(end, value)));
    this.unit = element("span", { class: "quiet" });
    this.typed = element(
      "div", { class: "typed small" }, this.inputs[0], element("span", { class: "quiet" }, "to"), this.inputs[1], this.unit,
    );
    this.scaled = element("div", { class: "scaled" }, this.drawing, this.bar, ...this.handles);
    this.element = element("div", { class: "contrast" }, this.scaled, this.typed);
    draggable(this.window, () => [...this.limits], (dx, from) => this.shift(this.span(dx), from));
  }

  handle(name, end) {
    const made = element("div", {
      class: "handle", role: "slider", tabindex: 0, "aria-label": `${name} limit of the contrast`,
      onkeydown: (event) => this.key(event, end),
    });
    draggable(made, () => this.limits[end], (dx, from) => this.set(end, from + this.span(dx)));
    return made;
  }

  /** What a length on the page means in values. */
  span(dx) {
    return (dx / this.width) * (this.domain[1] - this.domain[0]);
  }

  set(end, value) {
    const limits = [...this.limits];
    const [low, high] = this.domain;
    const least = (high - low) / 1000;
    limits[end] = end
      ? Math.max(limits[0] + least, Math.min(high, value))
      : Math.min(limits[1] - least, Math.max(low, value));
    this.change(limits);
  }

  /** Take a limit as it is typed, also beyond the histogram. */
  type(end, value) {
    const limits = [...this.limits];
    limits[end] = value / this.scale.factor;
    if (limits[0] < limits[1]) this.change(limits);
    else this.inputs[end].value = plainNumber(this.limits[end] * this.scale.factor);
  }

  /** Move both limits and keep their distance. */
  shift(by, [low, high]) {
    const move = Math.max(this.domain[0] - low, Math.min(this.domain[1] - high, by));
    this.change([low + move, high + move]);
  }

  key(event, end) {
    const part = (this.domain[1] - this.domain[0]) / 100;
    const steps = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10 };
    if (event.key in steps) this.set(end, this.limits[end] + part * steps[event.key]);
    else if (event.key === "Home") this.set(end, this.domain[0]);
    else if (event.key === "End") this.set(end, this.domain[1]);
    else return;
    event.preventDefault();
  }

  /** Show another channel: its histogram between limits somewhat wider than those of the contrast. */
  show(channel, other, fixedLow) {
    const [low, high] = channel.limits;
    const reach = 0.6 * (high - low);
    this.channel = channel;
    this.domain = [Math.max(low - reach, Math.min(low, channel.range[0])), Math.min(high + reach, Math.max(high, channel.range[1]))];
    if (fixedLow) this.domain = [0, Math.max(channel.range[1], high, 1e-300)];
    this.fixedLow = fixedLow;
    this.handles[0].hidden = this.inputs[0].hidden = fixedLow;
    this.counts = channel.histogram(...this.domain, PARTS);
    const shift = channel.shiftOf(other);
    this.otherCounts = other ? other.histogram(...this.domain.map((value) => value - shift), PARTS) : null;
    this.scale = channelScale(channel);
  }

  /** Draw everything for these limits and this table of colours. */
  draw(limits, colour) {
    this.limits = limits;
    const type = 0.8 * typeSize();
    this.inputs.forEach((input, end) => {
      if (document.activeElement !== input && this.scale) input.value = plainNumber(limits[end] * this.scale.factor);
    });
    this.unit.textContent = this.scale?.unit ?? "";
    const width = this.scaled.clientWidth;
    if (!width || !this.channel) return;
    this.width = width;
    const height = Math.round(3.6 * type);
    const thick = Math.round(0.75 * type);
    const [low, high] = this.domain;
    const px = (value) => Math.min(width, Math.max(0, ((value - low) / (high - low)) * width));
    const whole = height + thick + 1.7 * type;
    this.drawing.setAttribute("viewBox", `0 0 ${width} ${whole}`);
    this.drawing.style.height = `${whole}px`;
    this.bars.setAttribute("d", areaPath(this.counts, width, height));
    this.otherBars.setAttribute("d", this.otherCounts ? areaPath(this.otherCounts, width, height) : "");
    const edges = [[0, px(limits[0])], [px(limits[1]), width]];
    edges.forEach(([from, to], n) => place(this.shades[n], from, 0, Math.max(0, to - from), height));
    place(this.window, px(limits[0]), 0, Math.max(0, px(limits[1]) - px(limits[0])), height + thick);
    this.drawBar(width, height, thick, colour);
    this.drawMarks(px, height + thick, type, width);
    this.handles.forEach((handle, end) => {
      handle.style.left = `${px(limits[end])}px`;
      handle.style.height = `${height + thick}px`;
      handle.setAttribute("aria-valuemin", low * this.scale.factor);
      handle.setAttribute("aria-valuemax", high * this.scale.factor);
      handle.setAttribute("aria-valuenow", limits[end] * this.scale.factor);
      handle.setAttribute("aria-valuetext", `${short(limits[end] * this.scale.factor)} ${this.scale.unit}`.trim());
    });
  }

  drawBar(width, top, thick, colour) {
    const { bar } = this;
    bar.style.top = `${top}px`;
    bar.style.height = `${thick}px`;
    bar.width = Math.max(1, Math.round(width));
    bar.height = 1;
    const context = bar.getContext("2d");
    const image = context.createImageData(bar.width, 1);
    const out = new Uint32Array(image.data.buffer);
    const [low, high] = this.domain;
    for (let x = 0; x < bar.width; x++) out[x] = colour(low + ((x + 0.5) / bar.width) * (high - low));
    context.putImageData(image, 0, 0);
  }

  drawMarks(px, top, type, width) {
    const { factor, unit } = this.scale;
    const marks = ticks(this.domain[0] * factor, this.domain[1] * factor, width / (6.5 * type));
    const name = unit ? `${unit}` : "";
    const room = width - 0.6 * type * (name.length + 1);
    this.marks.replaceChildren(shape("text", { x: width, y: top + 1.45 * type, "text-anchor": "end" }, name));
    for (const value of marks.values) {
      const x = px(value / factor);
      const text = fixed(value, marks.decimals);
      const half = 0.3 * type * text.length;
      this.marks.append(shape("line", { class: "mark", x1: x, x2: x, y1: top, y2: top + 4 }));
      if (x + half > room) continue;
      this.marks.append(
        shape("text", { x: Math.max(half, x), y: top + 1.45 * type, "text-anchor": "middle" }, text),
      );
    }
  }
}

function place(rectangle, x, y, width, height) {
  for (const [name, value] of Object.entries({ x, y, width, height })) rectangle.setAttribute(name, value);
}

/** The area under a histogram; roots of the numbers, so that the rare is seen beside the frequent. */
function areaPath(counts, width, height) {
  const top = Math.sqrt(Math.max(...counts)) || 1;
  const step = width / counts.length;
  let path = `M0 ${height}`;
  counts.forEach((count, n) => {
    const y = (height * (1 - (0.96 * Math.sqrt(count)) / top)).toFixed(1);
    path += `L${(n * step).toFixed(1)} ${y}L${((n + 1) * step).toFixed(1)} ${y}`;
  });
  return `${path}L${width} ${height}Z`;
}
