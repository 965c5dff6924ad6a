// Images: unpacked from the page when they are first needed, with smaller copies for a view from afar.

const BELOW = 0;
const ABOVE = 65534;
const NO_VALUE = 65535;

/** Unpack the codes of an image; the counterpart of `unpack` in encode.py. */
async function unpack(block, [height, width], predictor) {
  const holder = document.getElementById(`block-${block}`);
  const stream = new Blob([fromBase64(holder.textContent)]).stream();
  const bytes = new Uint8Array(
    await new Response(stream.pipeThrough(new DecompressionStream("deflate"))).arrayBuffer(),
  );
  holder.remove(); // its text is needed no more
  const size = height * width;
  const codes = new Uint16Array(size);
  for (let row = 0; row < height; row++) {
    const start = row * width;
    let left = 0;
    for (let place = start; place < start + width; place++) {
      const folded = bytes[place] | (bytes[place + size] << 8);
      left += (folded >> 1) ^ -(folded & 1);
      codes[place] = left; // modulo 65536
    }
  }
  if (predictor === "plane") {
    for (let place = width; place < size; place++) codes[place] += codes[place - width];
  }
  return codes;
}

function fromBase64(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let place = 0; place < binary.length; place++) bytes[place] = binary.charCodeAt(place);
  return bytes;
}

/** Halve an image: the mean of what has a value, or of flags what any pixel has. */
function halve({ codes, width, height }, flags) {
  const w = (width + 1) >> 1;
  const h = (height + 1) >> 1;
  const smaller = new Uint16Array(w * h);
  for (let y = 0; y < h; y++) {
    const upper = 2 * y * width;
    const lower = Math.min(2 * y + 1, height - 1) * width;
    for (let x = 0; x < w; x++) {
      const left = 2 * x;
      const right = Math.min(left + 1, width - 1);
      const a = codes[upper + left];
      const b = codes[upper + right];
      const c = codes[lower + left];
      const d = codes[lower + right];
      if (flags) {
        smaller[y * w + x] = a | b | c | d;
      } else if (a < NO_VALUE && b < NO_VALUE && c < NO_VALUE && d < NO_VALUE) {
        smaller[y * w + x] = (a + b + c + d + 2) >> 2;
      } else {
        let sum = 0;
        let count = 0;
        for (const code of [a, b, c, d]) {
          if (code < NO_VALUE) {
            sum += code;
            count++;
          }
        }
        smaller[y * w + x] = count ? Math.round(sum / count) : NO_VALUE;
      }
    }
  }
  return { codes: smaller, width: w, height: h };
}

/** One image of a result. */
class Channel {
  constructor(spec, size, flags = false) {
    Object.assign(this, spec);
    [this.height, this.width] = size;
    this.isFlags = flags;
    this.levels = null;
    this.loading = null;
  }

  /** Unpack the image; the promise is kept when it has its levels. */
  load() {
    this.loading ??= unpack(this.block, [this.height, this.width], this.predictor).then((codes) => {
      const levels = [{ codes, width: this.width, height: this.height }];
      while (Math.max(levels.at(-1).width, levels.at(-1).height) > 128) {
        levels.push(halve(levels.at(-1), this.isFlags));
      }
      this.levels = levels;
    });
    return this.loading;
  }

  /** The value that a code stands for. */
  value(code) {
    if (code === NO_VALUE) return NaN;
    if (code === BELOW) return -Infinity;
    if (code === ABOVE) return Infinity;
    return this.low + (code - 1) * this.step;
  }

  /** What to add to another result's channel to lay it over this one: the mean of a phase is not determined. */
  shiftOf(other) {
    if (this.zeroed && other?.zeroed) return 0;
    return this.free && other && other !== this && this.mean !== null && other.mean !== null ? this.mean - other.mean : 0;
  }

  /** The code of a pixel. */
  code(x, y) {
    return this.levels[0].codes[y * this.width + x];
  }

  /** The value of a pixel; NaN outside the image. */
  at(x, y) {
    if (!this.levels || x < 0 || y < 0 || x >= this.width || y >= this.height) return NaN;
    return this.value(this.code(x, y));
  }

  /** How often values fall into each of so many equal parts between two limits. */
  histogram(low, high, parts) {
    if (!this.counts) {
      this.counts = new Uint32Array(65536);
      for (const code of this.levels[0].codes) this.counts[code]++;
    }
    const found = new Float64Array(parts);
    const width = (high - low) / parts;
    // A step can be wider than a part: its pixels are spread over all parts that it covers.
    for (let code = 1; code < ABOVE; code++) {
      const number = this.counts[code];
      if (!number) continue;
      const from = (this.low + (code - 1.5) * this.step - low) / width;
      const to = from + this.step / width;
      const first = Math.max(0, Math.floor(from));
      const last = Math.min(parts - 1, Math.floor(to));
      if (last < 0 || first >= parts) continue;
      if (first === last || !(to > from)) {
        found[first] += number;
        continue;
      }
      for (let part = first; part <= last; part++) {
        found[part] += (number * (Math.min(to, part + 1) - Math.max(from, part))) / (to - from);
      }
    }
    return found;
  }
}

/** An image that follows from another one of its result; see `_derived` in content.py. */
class DerivedChannel extends Channel {
  constructor(spec, size, source) {
    super(spec, size);
    this.from = source;
  }

  /** Compute the image when its source has come. */
  load() {
    this.loading ??= this.from.load().then(() => {
      const table = new Uint16Array(65536);
      for (let code = 0; code < 65536; code++) {
        const value = this.derive(this.from.value(code));
        const own = Math.round((value - this.low) / this.step) + 1;
        table[code] = Number.isNaN(value) ? NO_VALUE : own < 1 ? BELOW : own >= ABOVE ? ABOVE : own;
      }
      const codes = this.from.levels[0].codes.map((code) => table[code]);
      const levels = [{ codes, width: this.width, height: this.height }];
      while (Math.max(levels.at(-1).width, levels.at(-1).height) > 128) levels.push(halve(levels.at(-1), false));
      this.levels = levels;
    });
    return this.loading;
  }

  derive(value) {
    if (!Number.isFinite(value)) return value;
    if (this.kind === "root") return Math.sign(value) * Math.sqrt(Math.abs(value) * this.factor);
    if (this.kind === "complement") return 1 - value;
    return (this.factor * value) / (1 + this.factor * value);
  }
}

/** A result with its images by key. */
class Result {
  constructor(spec) {
    Object.assign(this, spec);
    this.images = new Map(spec.channels.map((channel) => [channel.key, new Channel(channel, spec.size)]));
    for (const one of spec.derived) {
      const source = this.images.get(one.source);
      if (source) this.images.set(one.key, new DerivedChannel(one, spec.size, source));
    }
    this.flagImage = new Channel({ ...spec.flags, key: "flags", title: "flags" }, spec.size, true);
  }

  /** The packed images that an image needs. */
  parts(key) {
    if (key === "flags") return [this.flagImage];
    if (!this.has(key)) return [];
    if (key === "direction") return ["xx", "xy", "yy"].map((part) => this.images.get(`dark_field_tensor ${part}`));
    return [this.images.get(key)];
  }

  /** Everything that can be shown: key, title and group. */
  entries() {
    const found = [...this.images.values()].map(({ key, title, group }) => ({ key, title, group }));
    if (this.direction) found.push({ key: "direction", title: "direction of scatter", group: "image" });
    found.push({ key: "flags", title: "flags", group: "diagnostic" });
    return found;
  }

  /** Whether an image can be shown. */
  has(key) {
    return key === "flags" || (key === "direction" ? Boolean(this.direction) : this.images.has(key));
  }

  /** Names of the flags of a pixel. */
  flagNames(x, y) {
    if (!this.flagImage.levels || x < 0 || y < 0 || x >= this.size[1] || y >= this.size[0]) return [];
    const code = this.flagImage.code(x, y);
    return this.flags.rows.filter((row) => code & row.bit).map((row) => row.name);
  }
}
