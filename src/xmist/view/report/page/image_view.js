// The drawing of one image: the image as the view shows it with its scale bar, and above it, on a canvas of
// their own since they move with the mouse, the line and the cursor.

const LINE = "#ffc53d";

class ImageView {
  constructor(app, panel) {
    this.app = app;
    this.panel = panel;
    this.canvas = element("canvas", { tabindex: 0, role: "application", "aria-roledescription": "image" });
    this.context = this.canvas.getContext("2d");
    this.marks = element("canvas", { class: "marks", "aria-hidden": "true" });
    this.scratch = document.createElement("canvas");
    this.tables = new Map();
    this.listen();
  }

  draw() {
    const { app, context } = this;
    const { ratio, width } = this.clear(this.canvas);
    if (app.comparing === "difference") {
      this.drawResult(app.first, ratio, 0, width);
    } else if (app.comparing === "split") {
      const middle = app.split * width;
      this.drawResult(app.first, ratio, 0, middle);
      this.drawResult(app.second, ratio, middle, width);
    } else {
      this.drawResult(app.seen, ratio, 0, width);
    }
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.drawScaleBar();
  }

  drawMarks() {
    const { app } = this;
    const { ratio } = this.clear(this.marks);
    const context = this.marks.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    if (app.line) this.drawLine(context);
    if (app.region) this.drawRegion(context);
    if (app.cursor && (app.cursor.panel !== this.panel || app.cursor.keyboard)) this.drawCursor(context);
  }

  /** Empty a canvas, and give it the pixels that the image has on the screen. */
  clear(canvas) {
    const { view } = this.app;
    const ratio = devicePixelRatio || 1;
    const width = Math.max(1, Math.round(view.pageWidth * ratio));
    const height = Math.max(1, Math.round(view.pageHeight * ratio));
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const context = canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, width, height);
    return { ratio, width };
  }

  drawResult(result, ratio, from, to) {
    const { key } = this.panel;
    const { view } = this.app;
    const parts = this.app.comparing === "difference" ? this.app.differing(key) : result.parts(key);
    if (!parts.length || parts.some((part) => !part.levels) || to <= from) return;
    // Smaller copies stand for the image seen from afar: about one of their pixels a pixel of the screen.
    const levels = parts[0].levels.length - 1;
    const texels = 1 / (view.scale * ratio);
    const level = Math.max(0, Math.min(levels, Math.floor(Math.log2(texels / 0.75))));
    const size = 2 ** level;
    const { width, height } = parts[0].levels[level];
    const [left, top] = view.toImage(from / ratio, 0);
    const [right, bottom] = view.toImage(to / ratio, view.pageHeight);
    const within = (value, limit) => Math.min(limit, Math.max(0, value));
    const box = {
      x0: within(Math.floor(left / size), width), y0: within(Math.floor(top / size), height),
      x1: within(Math.ceil(right / size), width), y1: within(Math.ceil(bottom / size), height),
    };
    const across = box.x1 - box.x0;
    const down = box.y1 - box.y0;
    if (across < 1 || down < 1) return;
    this.paint(result, parts, level, box, across, down);
    const { context } = this;
    const [x, y] = view.toPage(box.x0 * size, box.y0 * size);
    const [edgeX, edgeY] = view.toPage(0, 0);
    const pixels = size * view.scale * ratio;
    context.save();
    context.beginPath();
    context.rect(from, 0, to - from, context.canvas.height);
    context.clip();
    context.beginPath(); // the last pixel of a smaller copy can reach beyond the image
    context.rect(edgeX * ratio, edgeY * ratio, view.width * view.scale * ratio, view.height * view.scale * ratio);
    context.clip();
    context.fillStyle = this.hatching(ratio);
    context.fillRect(0, 0, context.canvas.width, context.canvas.height);
    context.imageSmoothingEnabled = level > 0 || pixels < 1;
    context.drawImage(this.scratch, 0, 0, across, down, x * ratio, y * ratio, across * pixels, down * pixels);
    context.restore();
  }

  paint(result, parts, level, box, across, down) {
    const { app, scratch } = this;
    const { key } = this.panel;
    if (scratch.width < across || scratch.height < down) {
      scratch.width = Math.max(scratch.width, across);
      scratch.height = Math.max(scratch.height, down);
    }
    const context = scratch.getContext("2d", { willReadFrequently: true });
    const image = new ImageData(across, down);
    const out = new Uint32Array(image.data.buffer);
    if (app.comparing === "difference") {
      const levels = parts.map((part) => part.levels[level]);
      paintDifference(parts, levels, app.differenceShift(key), app.differenceLimit(key), box, app.diverging, out);
    } else if (key === "direction") {
      const levels = parts.map((part) => part.levels[level]);
      paintDirections(parts, levels, box, app.limitsOf(key, result)[1], out);
    } else {
      paintTable(parts[0].levels[level], box, this.table(parts[0], result), out);
    }
    if (app.overlay && key !== "flags" && result.flagImage.levels) {
      paintOverlay(result.flagImage.levels[level], box, app.flagColours, out);
    }
    context.putImageData(image, 0, 0);
  }

  hatching(ratio) {
    const state = `${this.app.dark} ${ratio}`;
    if (this.hatched?.state !== state) this.hatched = { state, pattern: hatching(this.context, ratio) };
    return this.hatched.pattern;
  }

  /** The colours of all codes of a channel, kept until the contrast or the colours change. */
  table(channel, result) {
    const { app } = this;
    const { key } = this.panel;
    const limits = app.limitsOf(key, result);
    // A contrast of its own needs no shift.
    const shift = key === "flags" || !app.common ? 0 : app.first.images.get(key)?.shiftOf(channel) ?? 0;
    const state = key === "flags" ? `${app.shownFlags} ${app.dark}` : `${limits} ${shift} ${app.map}`;
    const kept = this.tables.get(channel);
    if (kept?.state === state) return kept.table;
    const table = key === "flags"
      ? flagTable(app.first.flags.rows, app.shownFlags, hexColour(app.dark ? "#2c3134" : "#e3e3dd"))
      : colourTable(channel, ...limits.map((limit) => limit - shift), app.colours);
    this.tables.set(channel, { state, table });
    return table;
  }

  drawScaleBar() {
    const { app, context } = this;
    const { view } = app;
    const seen = Math.min(view.pageWidth, view.width * view.scale);
    const length = roundBelow((0.3 * seen * app.pixel) / view.scale);
    const width = (length / app.pixel) * view.scale;
    const type = 0.87 * typeSize();
    // In the image's corner, where that is on the page.
    const [edge] = view.toPage(0, 0);
    const [, foot] = view.toPage(0, view.height);
    const left = Math.max(0, edge) + 0.9 * type;
    const bottom = Math.min(view.pageHeight, foot) - 0.9 * type;
    context.font = `600 ${type}px ${getComputedStyle(document.body).fontFamily}`;
    context.textAlign = "left";
    context.textBaseline = "alphabetic";
    context.lineJoin = "round";
    const text = si(length, "m", 3);
    context.strokeStyle = "rgba(0, 0, 0, 0.75)";
    context.fillStyle = "#fff";
    context.lineWidth = 3;
    context.strokeText(text, left, bottom - 0.55 * type);
    context.fillText(text, left, bottom - 0.55 * type);
    context.lineWidth = 2;
    context.strokeRect(left, bottom - 0.2 * type, width, 0.22 * type);
    context.fillRect(left, bottom - 0.2 * type, width, 0.22 * type);
  }

  drawLine(context) {
    const { line, view } = this.app;
    const from = view.toPage(line.x0 + 0.5, line.y0 + 0.5);
    const to = view.toPage(line.x1 + 0.5, line.y1 + 0.5);
    for (const [width, colour] of [[4, "rgba(0, 0, 0, 0.7)"], [2, LINE]]) {
      context.strokeStyle = colour;
      context.lineWidth = width;
      context.beginPath();
      context.moveTo(...from);
      context.lineTo(...to);
      context.stroke();
      context.beginPath(); // a ring where it starts, as the axis of the profile does
      context.arc(...from, 5, 0, 2 * Math.PI);
      context.stroke();
    }
  }

  drawRegion(context) {
    const { region, view } = this.app;
    const from = view.toPage(region.x0, region.y0);
    const to = view.toPage(region.x1 + 1, region.y1 + 1);
    for (const [width, colour] of [[4, "rgba(0, 0, 0, 0.7)"], [2, LINE]]) {
      context.strokeStyle = colour;
      context.lineWidth = width;
      context.strokeRect(...from, to[0] - from[0], to[1] - from[1]);
    }
  }

  drawCursor(context) {
    const { cursor, view } = this.app;
    const [x, y] = view.toPage(cursor.x + 0.5, cursor.y + 0.5);
    const gap = Math.max(4, view.scale / 2 + 1);
    for (const [width, colour] of [[3.5, "rgba(0, 0, 0, 0.7)"], [1.5, "#fff"]]) {
      context.strokeStyle = colour;
      context.lineWidth = width;
      context.beginPath();
      for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
        context.moveTo(x + dx * gap, y + dy * gap);
        context.lineTo(x + dx * (gap + 8), y + dy * (gap + 8));
      }
      context.stroke();
    }
  }

  listen() {
    const { app, canvas } = this;
    let drag = null;
    const pixelAt = (event) => {
      const box = canvas.getBoundingClientRect();
      const [x, y] = app.view.toImage(event.clientX - box.left, event.clientY - box.top);
      return app.clamp(Math.floor(x), Math.floor(y));
    };
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      canvas.setPointerCapture(event.pointerId);
      const marking = !event.shiftKey && app.tool === "region";
      drag = { x: event.clientX, y: event.clientY, lining: event.shiftKey || app.tool === "profile", marking };
      if (marking) {
        drag.start = pixelAt(event);
        app.setRegion(drag.start, drag.start);
      }
      if (drag.lining) {
        const [x, y] = pixelAt(event);
        app.setLine({ x0: x, y0: y, x1: x, y1: y });
      }
    });
    canvas.addEventListener("pointermove", (event) => {
      const [x, y] = pixelAt(event);
      app.setCursor({ x, y, panel: this.panel });
      if (!drag) return;
      if (drag.lining) {
        app.setLine({ ...app.line, x1: x, y1: y });
      } else if (drag.marking) {
        app.setRegion(drag.start, [x, y]);
      } else {
        app.view.pan(event.clientX - drag.x, event.clientY - drag.y);
        Object.assign(drag, { x: event.clientX, y: event.clientY });
        app.refresh();
      }
    });
    const stop = () => (drag = null);
    canvas.addEventListener("pointerup", stop);
    canvas.addEventListener("pointercancel", stop);
    canvas.addEventListener("pointerleave", () => drag || app.setCursor(null));
    canvas.addEventListener("wheel", (event) => {
      if (app.view.fitted && event.deltaY > 0) return; // nothing to zoom out of: the page scrolls
      event.preventDefault();
      const box = canvas.getBoundingClientRect();
      const lines = event.deltaMode ? 30 : 1;
      const factor = 2 ** (-event.deltaY * lines / 300);
      app.view.zoom(Math.min(4, Math.max(0.25, factor)), event.clientX - box.left, event.clientY - box.top);
      app.refresh();
    }, { passive: false });
    canvas.addEventListener("dblclick", () => {
      app.view.fit();
      app.refresh();
    });
    canvas.addEventListener("keydown", (event) => this.key(event));
    canvas.addEventListener("blur", () => app.cursor?.keyboard && app.setCursor(null));
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const { app } = this;
    const { view } = app;
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const middle = [view.pageWidth / 2, view.pageHeight / 2];
    const about = app.cursor ? view.toPage(app.cursor.x + 0.5, app.cursor.y + 0.5) : middle;
    const letter = event.key.toLowerCase();
    if (event.key in moves) {
      const start = app.cursor ?? { x: Math.floor(view.x), y: Math.floor(view.y) };
      const far = event.shiftKey ? 10 : 1;
      const [dx, dy] = moves[event.key];
      const [x, y] = app.clamp(start.x + far * dx, start.y + far * dy);
      view.reveal(x, y);
      app.setCursor({ x, y, panel: this.panel, keyboard: true });
      if (app.lining) app.setLine({ ...app.line, x1: x, y1: y });
      app.speak(this.panel.spoken());
    } else if (event.key === "+" || event.key === "=") {
      view.zoom(2, ...about);
    } else if (event.key === "-") {
      view.zoom(0.5, ...about);
    } else if (event.key === "0") {
      view.fit();
    } else if (event.key === "1") {
      view.actual();
    } else if (letter === "p") {
      const { x, y } = app.cursor ?? { x: Math.floor(view.x), y: Math.floor(view.y) };
      app.lining = !app.lining;
      if (app.lining) app.setLine({ x0: x, y0: y, x1: x, y1: y });
      app.speak(app.lining ? `Profile starts at ${x}, ${y}` : `Profile ends at ${x}, ${y}`);
    } else if (event.key === "Escape") {
      app.region = null;
      app.setLine(null);
    } else {
      return;
    }
    event.preventDefault();
    app.refresh();
  }
}
