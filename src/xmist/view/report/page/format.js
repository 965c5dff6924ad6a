// Numbers for people: SI prefixes, uncertainties, round ticks.

const PREFIXES = { 0: "", "-3": "m", "-6": "µ", "-9": "n", "-12": "p", "-15": "f", "-18": "a" };

/** Power of ten of the SI prefix that suits a size; none above 1. */
function prefixExponent(size) {
  if (!(size > 0) || !Number.isFinite(size)) return 0;
  // A hair above, so that 1e-6 does not come out as 1000 n.
  return Math.min(0, Math.max(-18, 3 * Math.floor(Math.log10(size * (1 + 1e-9)) / 3)));
}

/** How values of a channel are written: what they are multiplied with, and their unit with its prefix. */
function scaleFor(channel, size) {
  const exponent = channel.scaled ? channel.prefix ?? prefixExponent(size) : 0;
  return { factor: 10 ** -exponent, unit: channel.scaled ? PREFIXES[exponent] + channel.unit : channel.unit };
}

/** How the values of a channel are written everywhere on the page. */
function channelScale(channel) {
  return scaleFor(channel, Math.max(...channel.limits.map(Math.abs)));
}

/** A number with a fixed number of decimals and a real minus sign. */
function fixed(value, decimals) {
  const text = value.toFixed(Math.min(12, Math.max(0, decimals)));
  return (/^-0(\.0*)?$/.test(text) ? text.slice(1) : text).replace("-", "−");
}

/** A number with so many significant digits, without trailing zeros. */
function short(value, digits = 4) {
  if (!Number.isFinite(value)) return String(value);
  const size = Math.abs(value);
  const far = size !== 0 && (size < 1e-4 || size >= 1e6);
  const text = far ? value.toExponential(digits - 1) : size >= 10 ** digits ? value.toFixed(0) : value.toPrecision(digits);
  return String(text.includes("e") ? text.replace(/\.?0+e/, "e") : Number(text)).replaceAll("-", "−");
}

/** A length, or another quantity, with its prefix: "5.8 µm". */
function si(value, unit, digits = 4) {
  const exponent = prefixExponent(Math.abs(value));
  return `${short(value * 10 ** -exponent, digits)} ${PREFIXES[exponent]}${unit}`;
}

/** A number of bytes: "1.07 MB". */
function bytesText(size) {
  const power = size > 0 ? Math.min(4, Math.floor(Math.log10(size) / 3)) : 0;
  return `${short(size / 1000 ** power, 3)} ${["B", "kB", "MB", "GB", "TB"][power]}`;
}

/** Decimals that show a value as finely as its step. */
function decimalsOf(step) {
  return step > 0 ? Math.min(9, Math.max(0, Math.ceil(-Math.log10(step) - 1e-9))) : 3;
}

/** A measured value: digits as its uncertainty, or else as the step in which it travelled, has meaning. */
function measured(value, std, scale, step) {
  const unit = scale.unit ? ` ${scale.unit}` : "";
  if (Number.isNaN(value)) return "no value";
  if (!Number.isFinite(value)) return value > 0 ? "above the range" : "below the range";
  const shown = value * scale.factor;
  if (std !== null && Number.isFinite(std) && std > 0) {
    const spread = std * scale.factor;
    const decimals = Math.max(0, 1 - Math.floor(Math.log10(spread)));
    return `${fixed(shown, decimals)} ± ${fixed(spread, decimals)}${unit}`;
  }
  return `${fixed(shown, decimalsOf(step * scale.factor))}${unit}`;
}

/** Round numbers between two limits. */
function ticks(low, high, about) {
  const span = high - low;
  if (!(span > 0) || !Number.isFinite(span)) return { values: [low], decimals: 3 };
  const rough = span / Math.max(1, about);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((part) => part * power >= rough * (1 - 1e-9));
  const values = [];
  for (let number = Math.ceil(low / step - 1e-9); number * step <= high + 1e-9 * step; number++) {
    values.push(number * step);
  }
  return { values, decimals: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) };
}

/** A length of 1, 2 or 5 times a power of ten that is at most so long. */
function roundBelow(length) {
  const power = 10 ** Math.floor(Math.log10(length) + 1e-12);
  return power * [5, 2, 1].find((part) => part * power <= length * (1 + 1e-9));
}
