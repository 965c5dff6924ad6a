"""Step bad-pixels: mask hot, dead, stuck and saturated pixels.

A speckle grain spreads over several pixels, edges and lines of a sample continue in them, and speckle changes
between diffuser positions; a defect does none of these.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xmist.core.arrays import Image
from xmist.core.options import Options, Range
from xmist.numerics.images.neighbours import HIGH, LOW, neighbour_outliers, neighbour_ranks
from xmist.preprocess.frames import Frames, check_frames, count_pixels, lit_level

Mask = NDArray[np.bool_]

_SAMPLES: Final = 65536  # pixels that a frame's own distribution is read from
_SMALLEST: Final = 0.2  # relative; smaller deviations are left to the flat
_DARK: Final = 0.05  # of the lit level: below, there is no beam to be hot or dead in
_CERTAIN: Final = 20.0  # photons; a Poisson count of 20 is zero at 2 of 10⁹ pixels
_ABSENT: Final = 0.01  # of the lit level: what a dead pixel may still show
_RARE: Final = 0.02  # share of zeros up to which a zero is a defect and not a count
_COPIED: Final = 0.05  # share of equal neighbours from which a row or column is a copy
# Steps that leave counts as they are.
_KEEPING: Final = ("saturated", "bad-pixels", "unlit", "crop")
_STUCK_FRAMES: Final = 4  # frames from which the scatter of a single pixel over time is meaningful


class BadPixelsOptions(Options):
    """Options of `bad-pixels`; see `xmist.preprocess.find_bad_pixels`.

    Parameters
    ----------
    saturation : float, optional
        Value from which a pixel is saturated; None looks for a plateau.
    size : int
        Side of the window of neighbours, odd.
    loss : float
        Share of the good pixels that may be lost to each test.
    grow : int
        Pixels around each bad one that are masked too.

    Examples
    --------
    >>> BadPixelsOptions(saturation=65535).saturation
    65535.0
    """

    saturation: Annotated[float, Range(0.0, above=True)] | None = None
    size: Annotated[int, Range(3, 15, odd=True, unit="pixels")] = 5
    loss: Annotated[float, Range(0.0, 0.01, above=True)] = 1e-4
    grow: Annotated[int, Range(0, 100, unit="pixels")] = 0


@dataclass
class BadPixels:
    """Bad pixels: mask (position, y, x), counts by kind and frame, number that is bad at every position."""

    bad: Mask
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    lasting: int = 0

    def count(self, kind: str, name: str, mask: Mask) -> None:
        """Add the pixels of `mask` to the counts."""
        number = int(np.count_nonzero(mask))
        if number:
            frames = self.counts.setdefault(kind, {})
            frames[name] = frames.get(name, 0) + number


def find_bad_pixels(
    frames: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    saturation: float | None = None,
    size: int = 5,
    loss: float = 1e-4,
    grow: int = 0,
    threads: int | None = None,
) -> Image:
    """Return weights that are 0 at hot, dead, stuck and saturated pixels.

    Parameters
    ----------
    frames : (position, y, x) array_like
        Frames of one kind, all with or all without the sample.
    weights : (position, y, x) array_like, optional
        Weights so far; 0 stays 0, and such a pixel does not count as a neighbour.
    saturation : float, optional
        Value from which a pixel is saturated. None looks for a plateau: at least four pixels share the
        highest value of a frame, and fewer lie in the 1 % below it.
    size : int
        Side of the window of neighbours, odd, at least 3: clusters of up to size − 1 pixels are found, and a
        line one pixel wide that crosses the window is kept.
    loss : float
        Share of the good pixels that a test for bright pixels may reject; a test for dark pixels, which
        deviate more, may reject a tenth of it.
    grow : int
        Pixels around each bad one that are masked too, for detectors whose charge spreads.
    threads : int, optional
        Threads; the result does not depend on it.

    Returns
    -------
    (position, y, x) float32 array
        Weights.

    Raises
    ------
    InputError
        If the options, the frames or the weights are invalid.

    Notes
    -----
    A pixel is compared with the k-th highest value h and the k-th lowest l of its neighbours, k = size − 1:
    relative excess I/h − 1 for bright pixels, log(l/I) for dark ones. Both thresholds come from the frame:
    the tail between its 80th and 95th percentile is extrapolated exponentially to the share `loss`. Fully
    developed speckle, P(I) ∝ exp(−I/⟨I⟩), has exponential tails on both sides; weaker speckle falls faster
    and loses fewer pixels. The same two tests run on the mean over positions, where speckle averages out and
    permanent defects remain, and, from 4 positions, on the standard deviation over positions, which is too
    small for stuck pixels and too large for blinking ones. NaN and infinities are bad. Values at or below 0
    in the beam are bad if they are rare (up to 2 % of the lit pixels) and the level is at least 20 counts;
    below, a zero may be a photon count. Neighbouring rows or columns that hold equal values where others do
    not are bad, because detectors fill the seams between their modules with copies. Nothing is interpolated.

    Examples
    --------
    >>> frames = np.random.default_rng(1).uniform(90, 110, (2, 32, 40))
    >>> frames[0, 5, 6], frames[:, 20, 30] = 500.0, 0.0
    >>> np.argwhere(find_bad_pixels(frames) == 0).tolist()
    [[0, 5, 6], [0, 20, 30], [1, 20, 30]]
    """
    options = BadPixelsOptions(saturation=saturation, size=size, loss=loss, grow=grow)
    series, given = check_frames("frames", frames, weights)
    found = survey({"frame": series}, given, options, threads=threads)
    out = np.ones(series.shape, np.float32) if given is None else given.copy()
    out[found.bad] = 0.0
    return out


def survey(
    series: dict[str, Image], weights: Image | None, options: BadPixelsOptions, *, threads: int | None
) -> BadPixels:
    """Find the bad pixels of frames (position, y, x), by name, that share their positions."""
    shape = next(iter(series.values())).shape
    found = BadPixels(np.zeros(shape, bool))
    tests: dict[str, Any] = {"radius": options.size // 2, "loss": options.loss, "threads": threads}
    everywhere = np.zeros(shape[1:], bool)
    seams = _Seams(shape[1:])
    for name, frames in series.items():
        mean = _Moments(shape[1:])
        for n, frame in enumerate(frames):
            used = np.ones(shape[1:], bool) if weights is None else weights[n] > 0
            values = frame[used & np.isfinite(frame)]
            level = lit_level(values)
            photons = level if _whole_numbers(values) else math.inf
            bad = _single(frame, used, f"{name} {n}", options.saturation, tests | {"photons": photons}, found)
            mean.add(frame, used & ~bad, level, photons)
            found.bad[n] |= bad
            seams.add(frame, used & ~bad, _DARK * level)
        everywhere |= _lasting(mean, len(frames), name, tests, found)
    copied = seams.find()
    found.count("copied along a seam", "all frames", copied)
    everywhere |= copied
    found.lasting = int(np.count_nonzero(everywhere))
    found.bad |= everywhere
    if options.grow:
        from scipy.ndimage import binary_dilation

        for n in range(len(found.bad)):
            found.bad[n] = binary_dilation(found.bad[n], iterations=options.grow)
    return found


def _single(
    frame: Image, used: Mask, name: str, saturation: float | None, tests: dict[str, Any], found: BadPixels
) -> Mask:
    """Return the (y, x) mask of the bad pixels that a single frame shows."""
    finite = np.isfinite(frame)
    bad = used & ~finite
    found.count("not finite", name, bad)
    good = used & finite
    level = saturation if saturation is not None else _plateau(frame[good])
    if level is not None:
        over = good & (frame >= level)
        found.count("saturated", name, over)
        bad |= over
        good &= ~over
    hot, dead = _outliers(frame, good, **tests)
    found.count("hot", name, hot)
    found.count("dead", name, dead)
    return bad | hot | dead


def _plateau(values: NDArray[Any]) -> float | None:
    """Return the highest value if the detector evidently saturates there."""
    if values.size == 0:
        return None
    top = float(values.max())
    at_top = int(np.count_nonzero(values == top))
    if at_top < 4 or top <= 0:
        return None
    # Three counts at least: neighbouring integers of a weak frame are no interval.
    below = int(np.count_nonzero(values >= min(0.99 * top, top - 3.0))) - at_top
    return top if below < at_top < values.size // 2 else None


def _tail(values: NDArray[Any], loss: float) -> float:
    """Extrapolate the tail of a distribution exponentially from its 80th and 95th percentile."""
    if values.size == 0:
        return math.inf
    low, high = (float(q) for q in np.quantile(values, [0.8, 0.95]))
    scale = (high - low) / math.log(0.20 / 0.05)
    return max(_SMALLEST, high + scale * math.log(0.05 / loss))


def _whole_numbers(values: NDArray[Any]) -> bool:
    """Return whether values may be photon counts."""
    few = values[:1000]
    return bool((few == np.floor(few)).all() and (values == np.floor(values)).all())


def _outliers(
    image: Image, good: Mask, *, photons: float, radius: int, loss: float, threads: int | None
) -> tuple[Mask, Mask]:
    """Return masks (y, x) of hot and dead pixels, by the distribution of the image."""
    nothing = np.zeros(image.shape, bool)
    level = lit_level(image[good])
    if level <= 0.0:
        return nothing, nothing
    floor, offset = _DARK * level, _ABSENT * level
    step = max(1, math.isqrt(image.size // _SAMPLES))
    low, high = neighbour_ranks(image, good, radius=radius, step=step, threads=threads)
    at, known = image[::step, ::step], good[::step, ::step] & np.isfinite(low)
    bright = known & (high > floor)
    excess = _tail((at[bright] / high[bright]).astype(np.float64) - 1.0, loss)
    bright = known & (low > floor)
    least = np.maximum(at[bright], np.float32(0.0))
    deficit = _tail(np.log((low[bright] + offset) / (least + offset), dtype=np.float64), 0.1 * loss)
    kinds = neighbour_outliers(
        image,
        good,
        excess=excess,
        deficit=deficit,
        floor=floor,
        offset=offset,
        radius=radius,
        threads=threads,
    )
    hot, dead = kinds == HIGH, kinds == LOW
    absent = good & (image <= 0)
    if photons < _CERTAIN:
        dead &= ~absent | (image < 0)
    elif absent.any():
        # A value at or below 0 among lit neighbours.
        lit = np.count_nonzero(good & (image > floor))
        ones = np.where(absent, np.float32(0.0), np.float32(1.0))
        alone = neighbour_outliers(
            np.where(image > floor, ones, np.float32(0.0)),
            good,
            excess=math.inf,
            deficit=_SMALLEST,
            floor=0.0,
            offset=_ABSENT,
            radius=radius,
            threads=threads,
        )
        absent &= alone == LOW
        if np.count_nonzero(absent) <= _RARE * lit:
            dead |= absent
    return hot, dead


class _Moments:
    """Mean and scatter over frames of the good pixels, each frame relative to its level."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.number = np.zeros(shape, np.int32)
        self.sum = np.zeros(shape)
        self.square = np.zeros(shape)
        self.photons = 0.0

    def add(self, frame: Image, good: Mask, level: float, photons: float) -> None:
        if level > 0.0:
            self.photons += photons
            self.number += good
            relative = np.where(good, frame / np.float32(level), np.float32(0.0)).astype(np.float64)
            self.sum += relative
            self.square += relative * relative

    def mean(self) -> Image:
        return (self.sum / np.maximum(self.number, 1)).astype(np.float32)

    def scatter(self) -> Image:
        number = np.maximum(self.number, 1)
        variance = self.square / number - (self.sum / number) ** 2
        return np.sqrt(np.maximum(variance, 0.0)).astype(np.float32)


class _Seams:
    """Rows and columns that copy their neighbours, as detectors write seams between modules."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self.equal = [np.zeros(size - 1) for size in shape]
        self.lit = [np.zeros(size - 1) for size in shape]

    def add(self, frame: Image, good: Mask, floor: float) -> None:
        lit = good & (frame > floor)
        for axis in (0, 1):
            a, b = (slice(None, -1), slice(1, None)) if axis == 0 else (np.s_[:, :-1], np.s_[:, 1:])
            both = lit[a] & lit[b]
            self.lit[axis] += np.count_nonzero(both, axis=1 - axis)
            self.equal[axis] += np.count_nonzero(both & (frame[a] == frame[b]), axis=1 - axis)

    def find(self) -> Mask:
        mask = np.zeros(self.shape, bool)
        for axis in (0, 1):
            share = self.equal[axis] / np.maximum(self.lit[axis], 1)
            # Weak counts are equal by chance, in every row and column alike.
            usual = np.median(share[self.lit[axis] > 0]) if self.lit[axis].any() else 0.0
            enough = self.lit[axis] >= 0.25 * self.lit[axis].max()
            for first in np.flatnonzero(enough & (share > _COPIED + 5.0 * usual)):
                mask[(slice(first, first + 2), slice(None))[:: 1 if axis == 0 else -1]] = True
        return mask


def _lasting(moments: _Moments, positions: int, name: str, tests: dict[str, Any], found: BadPixels) -> Mask:
    """Return the (y, x) mask of the bad pixels that all positions show together."""
    # A pixel that is bad in most frames is bad in all.
    bad: Mask = moments.number < 0.5 * min(positions, int(moments.number.max()))
    if positions == 1:
        return np.zeros_like(bad)
    bad &= moments.number.max() > 0
    good = (moments.number > 0) & ~bad
    hot, dead = _outliers(moments.mean(), good, photons=moments.photons, **tests)
    found.count("hot on average", name, hot)
    found.count("dead on average", name, dead)
    bad |= hot | dead
    if positions >= _STUCK_FRAMES:
        enough = moments.number >= _STUCK_FRAMES
        blinking, stuck = _outliers(moments.scatter(), good & enough & ~bad, photons=moments.photons, **tests)
        found.count("blinking", name, blinking)
        found.count("stuck", name, stuck)
        bad |= blinking | stuck
    return bad


def apply_bad_pixels(frames: Frames, options: BadPixelsOptions) -> Frames:
    """Mask the bad pixels of reference and sample frames."""
    if not is_raw(frames) and options.saturation is not None:
        # Counts of the detector, which `mask_saturated` looked for before the first step.
        options = replace(options, saturation=None)
    found = survey(
        {"reference": frames.reference, "sample": frames.sample}, frames.weights, options, threads=None
    )
    weights = frames.weights.copy()
    before = np.count_nonzero(weights == 0)
    weights[found.bad] = 0.0
    new = (np.count_nonzero(weights == 0) - before) / frames.positions
    kinds = [f"{kind} {_spread(list(counts.values()))}" for kind, counts in found.counts.items()]
    return frames.replace(
        f"bad-pixels: {new:.6g} pixels masked per position, {count_pixels(found.lasting)} of them at all "
        f"positions ({'; '.join(kinds) or 'none found'})",
        weights=weights,
    )


def is_raw(frames: Frames) -> bool:
    """Return whether the frames hold counts of the detector: no step has computed with them."""
    return all(entry.partition(":")[0] in _KEEPING for entry in frames.history)


def mask_saturated(frames: Frames, saturation: float | None) -> Frames:
    """Mask the saturated pixels of raw frames; None looks for a plateau in each frame."""
    weights = frames.weights
    total = 0
    for images in (frames.reference, frames.sample):
        for n, frame in enumerate(images):
            good = np.isfinite(frame) & (frames.weights[n] > 0)
            level = saturation if saturation is not None else _plateau(frame[good])
            if level is None or not (over := good & (frame >= level)).any():
                continue
            if weights is frames.weights:
                weights = frames.weights.copy()
            weights[n][over] = 0.0
            total += int(np.count_nonzero(over))
    if not total:
        return frames
    return frames.replace(f"saturated: {count_pixels(total)} of all frames masked", weights=weights)


def _spread(counts: list[int]) -> str:
    return str(counts[0]) if min(counts) == max(counts) else f"{min(counts)} to {max(counts)} per frame"
