// Curves with axes, as drawings that scale and print.

/** Size of the root's type in pixels of the page. */
function typeSize() {
  return parseFloat(getComputedStyle(document.documentElement).fontSize);
}

/**
 * Draw curves. Each has `xs`, `ys`, and may have `spread` (a band of so much about the curve), `second` (drawn
 * dashed) and `dots`. NaN interrupts a curve.
 */
function lineChart({ width, height, curves, xLabel, yLabel, logarithmic = false, label }) {
  const type = 0.8 * typeSize();
  const rise = logarithmic ? Math.log10 : (value) => value;
  const [left, right] = extent(curves.flatMap((curve) => Array.from(curve.xs)), 0);
  const values = curves.flatMap(({ ys, spread }) =>
    Array.from(ys).flatMap((y, n) => (spread && spread[n] > 0 ? [y - spread[n], y + spread[n]] : [y])),
  );
  const [low, high] = extent(values.map(rise), 0.06);
  const marks = logarithmic ? decades(low, high) : ticks(low, high, Math.max(2, height / (3 * type)));
  const texts = logarithmic ? marks.texts : marks.values.map((value) => fixed(value, marks.decimals));
  const room = {
    left: 0.62 * type * Math.max(...texts.map((text) => text.length)) + 8,
    right: 0.7 * type,
    top: 1.7 * type,
    bottom: 1.7 * type,
  };
  const inner = { width: width - room.left - room.right, height: height - room.top - room.bottom };
  const px = (x) => room.left + ((x - left) / (right - left)) * inner.width;
  const py = (y) => room.top + (1 - (rise(y) - low) / (high - low)) * inner.height;
  const drawing = shape("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
  marks.values.forEach((value, n) => {
    const y = logarithmic ? py(10 ** value) : py(value);
    drawing.append(
      shape("line", { class: "axis", x1: room.left, x2: width - room.right, y1: y, y2: y }),
      shape("text", { x: room.left - 6, y: y + 0.35 * type, "text-anchor": "end" }, texts[n]),
    );
  });
  const along = ticks(left, right, inner.width / (5.5 * type));
  const taken = width - room.right - 0.62 * type * (xLabel.length + 1);
  for (const value of along.values) {
    const x = px(value);
    const text = fixed(value, along.decimals);
    drawing.append(shape("line", { class: "mark", x1: x, x2: x, y1: height - room.bottom, y2: height - room.bottom + 4 }));
    if (x + 0.31 * type * text.length > taken) continue; // the name of the axis stands there
    drawing.append(shape("text", { x, y: height - 0.3 * type, "text-anchor": "middle" }, text));
  }
  drawing.append(
    shape("line", {
      class: "mark", x1: room.left, x2: width - room.right, y1: height - room.bottom, y2: height - room.bottom,
    }),
    shape("text", { x: room.left, y: 0.9 * type }, yLabel),
    shape("text", { x: width - room.right, y: height - 0.3 * type, "text-anchor": "end" }, xLabel),
  );
  for (const { xs, ys, spread, second, dots } of curves) {
    if (spread) drawing.append(shape("path", { class: "band", d: bandPath(xs, ys, spread, px, py) }));
    drawing.append(shape("path", { class: second ? "curve second" : "curve", d: curvePath(xs, ys, px, py) }));
    if (dots) ys.forEach((y, n) => drawing.append(shape("circle", { class: "dot", cx: px(xs[n]), cy: py(y), r: 3 })));
  }
  return drawing;
}

function extent(values, margin) {
  let low = Infinity;
  let high = -Infinity;
  for (const value of values) {
    if (!Number.isFinite(value)) continue;
    if (value < low) low = value;
    if (value > high) high = value;
  }
  if (low > high) return [0, 1];
  if (low === high) {
    const half = Math.abs(low) / 2 || 1;
    return [low - half, high + half];
  }
  const extra = margin * (high - low);
  return [low - extra, high + extra];
}

/** Marks of a logarithmic axis, as exponents: decades, or also 2 and 5 of each where there are few. */
function decades(low, high) {
  const parts = high - low > 3 ? [1] : high - low > 1 ? [1, 3] : [1, 2, 5];
  const found = [];
  for (let power = Math.floor(low); power <= Math.ceil(high); power++) {
    for (const part of parts) {
      const place = power + Math.log10(part);
      if (place >= low - 1e-9 && place <= high + 1e-9) found.push([place, short(part * 10 ** power, 3)]);
    }
  }
  if (!found.length) found.push([(low + high) / 2, short(10 ** ((low + high) / 2), 3)]);
  return { values: found.map(([place]) => place), texts: found.map(([, text]) => text) };
}

function curvePath(xs, ys, px, py) {
  let path = "";
  let pen = "M";
  for (let n = 0; n < xs.length; n++) {
    if (Number.isFinite(ys[n])) {
      path += `${pen}${px(xs[n]).toFixed(1)} ${py(ys[n]).toFixed(1)}`;
      pen = "L";
    } else {
      pen = "M";
    }
  }
  return path;
}

function bandPath(xs, ys, spread, px, py) {
  let path = "";
  for (let from = 0; from < xs.length; from++) {
    if (!Number.isFinite(ys[from] + spread[from])) continue;
    let to = from;
    while (to + 1 < xs.length && Number.isFinite(ys[to + 1] + spread[to + 1])) to++;
    const upper = [];
    const lower = [];
    for (let n = from; n <= to; n++) {
      upper.push(`${px(xs[n]).toFixed(1)} ${py(ys[n] + spread[n]).toFixed(1)}`);
      lower.push(`${px(xs[n]).toFixed(1)} ${py(ys[n] - spread[n]).toFixed(1)}`);
    }
    path += `M${upper.join("L")}L${lower.reverse().join("L")}Z`;
    from = to;
  }
  return path;
}
