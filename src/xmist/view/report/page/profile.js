// Values along a line between two pixels.

/** The pixels of a line, with their distance from its start in metres. */
function linePixels({ x0, y0, x1, y1 }, pixel) {
  const steps = Math.max(Math.abs(x1 - x0), Math.abs(y1 - y0));
  const length = Math.hypot(x1 - x0, y1 - y0) * pixel;
  return Array.from({ length: steps + 1 }, (_, n) => {
    const part = steps ? n / steps : 0;
    return { x: Math.round(x0 + (x1 - x0) * part), y: Math.round(y0 + (y1 - y0) * part), distance: length * part };
  });
}

/** Mean and standard deviation of the values in a region. */
function regionStatistics(channel, { x0, y0, x1, y1 }) {
  let number = 0;
  let mean = 0;
  let squares = 0; // of the distances from the mean
  for (let y = y0; y <= y1; y++) {
    for (let x = x0; x <= x1; x++) {
      const value = channel.at(x, y);
      if (!Number.isFinite(value)) continue;
      number++;
      const away = value - mean;
      mean += away / number;
      squares += away * (value - mean);
    }
  }
  return { mean, std: Math.sqrt(squares / number), number };
}

/** The curve of a channel along a line, and its uncertainty where the result has it. */
function profileOf(result, channel, pixels) {
  const std = channel.std ? result.images.get(channel.std) : null;
  const finite = (value) => (Number.isFinite(value) ? value : NaN);
  return {
    values: pixels.map(({ x, y }) => finite(channel.at(x, y))),
    spread: std && std.levels ? pixels.map(({ x, y }) => finite(std.at(x, y))) : null,
  };
}

/** Draw the profile of a channel, of one result or two. */
function profileChart(app, key, width) {
  const channel = app.first.images.get(key);
  if (!channel || !channel.levels || !app.line) return null;
  const pixels = linePixels(app.line, app.pixel);
  const length = pixels.at(-1).distance;
  const prefix = prefixExponent(length);
  const xs = pixels.map(({ distance }) => distance * 10 ** -prefix);
  const sources = [app.first, app.second].filter((result) => result?.images.get(key)?.levels);
  const found = sources.map((result) => profileOf(result, result.images.get(key), pixels));
  const scale = channelScale(channel);
  const shifts = sources.map((result) => channel.shiftOf(result.images.get(key)));
  const chart = lineChart({
    width,
    height: Math.round(Math.min(0.55 * width, 13 * typeSize())),
    curves: found.map(({ values, spread }, n) => ({
      xs,
      ys: values.map((value) => (value + shifts[n]) * scale.factor),
      spread: spread ? spread.map((value) => value * scale.factor) : null,
      second: n === 1,
    })),
    xLabel: `${PREFIXES[prefix]}m`,
    yLabel: scale.unit ? `${channel.title} (${scale.unit})` : channel.title,
    label: `Profile of the ${channel.title} along a line of ${si(length, "m")}`,
  });
  if (sources.length < 2) return chart;
  const names = sources.map((result, n) =>
    element("span", { class: n ? "key second" : "key" }, element("span", { class: "dash", "aria-hidden": "true" }), result.name));
  return element("div", {}, element("div", { class: "profile-key small" }, ...names), chart);
}

/** All profiles as text in columns, in SI units. */
function profileTable(app, keys) {
  const pixels = linePixels(app.line, app.pixel);
  const columns = [];
  for (const result of [app.first, app.second]) {
    for (const key of result ? keys : []) {
      const channel = result.images.get(key);
      if (!channel || !channel.levels) continue;
      const { values, spread } = profileOf(result, channel, pixels);
      const name = [channel.title, channel.unit ? `(${channel.unit})` : "", app.second ? `of ${result.name}` : ""];
      columns.push([name.filter(Boolean).join(" "), values]);
      if (spread) columns.push([`standard deviation of ${name.filter(Boolean).join(" ")}`, spread]);
    }
  }
  const quote = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const head = ["distance (m)", "x (pixel)", "y (pixel)", ...columns.map(([name]) => quote(name))];
  const rows = pixels.map(({ x, y, distance }, n) => [distance, x, y, ...columns.map(([, values]) => values[n])]);
  return [head, ...rows].map((row) => row.join(",")).join("\n") + "\n";
}
