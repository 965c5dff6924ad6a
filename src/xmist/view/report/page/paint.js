// Colours: codes to pixels, through a table of all 65536 codes that changes with the contrast.

const CLEAR = 0;

/** Colours of a map as little-endian RGBA numbers. */
function mapColours(hex) {
  const colours = new Uint32Array(256);
  for (let place = 0; place < 256; place++) colours[place] = hexColour(hex.slice(6 * place, 6 * place + 6));
  return colours;
}

/** "#rrggbb" as a little-endian RGBA number. */
function hexColour(hex) {
  const number = parseInt(hex.replace("#", ""), 16);
  return rgb(number >> 16, (number >> 8) & 255, number & 255);
}

function rgb(red, green, blue) {
  return (0xff000000 | (blue << 16) | (green << 8) | red) >>> 0;
}

/** The colour of every code of a channel; nothing where there is no value, so that the hatching shows. */
function colourTable(channel, low, high, colours) {
  const table = new Uint32Array(65536);
  const scale = 256 / (high - low);
  for (let code = 1; code < ABOVE; code++) {
    const place = Math.floor((channel.low + (code - 1) * channel.step - low) * scale);
    table[code] = colours[place < 0 ? 0 : place > 255 ? 255 : place];
  }
  table[BELOW] = colours[0];
  table[ABOVE] = colours[255];
  table[NO_VALUE] = CLEAR;
  return table;
}

/** The colour of every combination of flags: that of its gravest one among those that are shown. */
function flagTable(rows, shown, ground) {
  const table = new Uint32Array(65536).fill(ground);
  for (let code = 1; code < 65536; code++) {
    for (const row of rows) {
      if (code & row.bit & shown) table[code] = hexColour(row.colour);
    }
  }
  return table;
}

/** Paint part of an image through a table of colours. */
function paintTable(level, box, table, out) {
  let place = 0;
  for (let y = box.y0; y < box.y1; y++) {
    const row = y * level.width;
    for (let x = box.x0; x < box.x1; x++) out[place++] = table[level.codes[row + x]];
  }
}

/** Paint the difference of two images, symmetric about 0; nothing where one has no value. */
function paintDifference([one, other], [first, second], shift, limit, box, colours, out) {
  let place = 0;
  for (let y = box.y0; y < box.y1; y++) {
    for (let x = box.x0; x < box.x1; x++, place++) {
      const at = y * first.width + x;
      const value = one.value(first.codes[at]) - other.value(second.codes[at]) - shift;
      if (Number.isNaN(value)) continue;
      const part = Math.floor(128 * (1 + value / limit));
      out[place] = colours[part < 0 ? 0 : part > 255 ? 255 : part];
    }
  }
}

/** Lay flagged pixels over what was painted, in the colours of their flags. */
function paintOverlay(level, box, table, out) {
  let place = 0;
  for (let y = box.y0; y < box.y1; y++) {
    const row = y * level.width;
    for (let x = box.x0; x < box.x1; x++, place++) if (level.codes[row + x]) out[place] = table[level.codes[row + x]];
  }
}

/**
 * Paint directions of scatter: hue is the direction of the major axis, purity the anisotropy, brightness the
 * root of the strength. A tensor with a negative eigenvalue is shown as the nearest one without.
 */
function paintDirections(parts, levels, box, brightest, out) {
  const [xx, xy, yy] = levels.map((level) => level.codes);
  const { width } = levels[0];
  let place = 0;
  for (let y = box.y0; y < box.y1; y++) {
    for (let x = box.x0; x < box.x1; x++) {
      const at = y * width + x;
      const a = parts[0].value(xx[at]);
      const b = parts[1].value(xy[at]);
      const c = parts[2].value(yy[at]);
      const found = principal(a, b, c);
      out[place++] = found
        ? hsv(found.angle / Math.PI, found.anisotropy, Math.sqrt(Math.min(1, found.strength / brightest)))
        : CLEAR;
    }
  }
}

/** Direction, anisotropy and strength of the nearest positive tensor; null without a value. */
function principal(xx, xy, yy) {
  const mean = (xx + yy) / 2;
  const half = (xx - yy) / 2;
  const radius = Math.hypot(half, xy);
  if (!Number.isFinite(mean) || !Number.isFinite(radius)) return null;
  const larger = Math.max(0, mean + radius);
  const smaller = Math.max(0, mean - radius);
  const sum = larger + smaller;
  let angle = Math.atan2(xy, half) / 2;
  if (angle < 0) angle += Math.PI;
  return { angle, anisotropy: sum > 0 ? (larger - smaller) / sum : 0, strength: sum / 2 };
}

function hsv(hue, saturation, value) {
  const part = (hue % 1) * 6;
  const sector = Math.floor(part);
  const rise = part - sector;
  const high = Math.round(255 * value);
  const low = Math.round(255 * value * (1 - saturation));
  const falling = Math.round(255 * value * (1 - saturation * rise));
  const rising = Math.round(255 * value * (1 - saturation * (1 - rise)));
  switch (sector % 6) {
    case 0: return rgb(high, rising, low);
    case 1: return rgb(falling, high, low);
    case 2: return rgb(low, high, rising);
    case 3: return rgb(low, falling, high);
    case 4: return rgb(rising, low, high);
    default: return rgb(high, low, falling);
  }
}

/** Hatching for pixels without a value: quiet, and apart from every grey also where there is no colour. */
function hatching(context, ratio) {
  const style = getComputedStyle(document.documentElement);
  const size = Math.round(8 * ratio);
  const tile = document.createElement("canvas");
  Object.assign(tile, { width: size, height: size });
  const brush = tile.getContext("2d");
  brush.fillStyle = style.getPropertyValue("--hatch-ground");
  brush.fillRect(0, 0, size, size);
  brush.strokeStyle = style.getPropertyValue("--hatch");
  brush.lineWidth = 1.2 * ratio;
  brush.beginPath();
  for (const shift of [-size, 0, size]) {
    brush.moveTo(shift - 1, size + 1);
    brush.lineTo(shift + size + 1, -1);
  }
  brush.stroke();
  return context.createPattern(tile, "repeat");
}

/** Draw the wheel of directions: direction around, anisotropy outwards. */
function paintWheel(canvas) {
  const size = canvas.width;
  const context = canvas.getContext("2d");
  const image = context.createImageData(size, size);
  const out = new Uint32Array(image.data.buffer);
  const middle = (size - 1) / 2;
  for (let y = 0; y < size; y++) {
    for (let x = 0; x < size; x++) {
      const radius = Math.hypot(x - middle, y - middle) / middle;
      if (radius > 1) continue;
      const angle = Math.atan2(y - middle, x - middle) / Math.PI;
      out[y * size + x] = hsv(((angle % 1) + 1) % 1, radius, 1);
    }
  }
  context.putImageData(image, 0, 0);
}
