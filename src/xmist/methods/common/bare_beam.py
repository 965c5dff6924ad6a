"""Use bare beam beside the sample: set the zero of the phase, and find errors of a result.

In bare beam φ is constant, T is 1 and D is 0. It is given (`background`), or found in the frames.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from xmist.core import flags as flag
from xmist.core.data import Retrieval
from xmist.core.findings import Finding, finding, percent
from xmist.methods.common.parts import SMALLEST, border_of, level_parts
from xmist.methods.common.reference import prepare_reference
from xmist.numerics.images.bare_beam import bare_blocks
from xmist.numerics.images.block_moments import BLOCK, BlockMoments, FramePairs, SlopeMoments
from xmist.numerics.images.blocks import block_sums
from xmist.numerics.images.components import part_sizes

Real = NDArray[Any]
Mask = NDArray[np.bool_]

_CUT: Final = flag.FILLED | flag.ILL_DETERMINED | flag.UNDETERMINED | flag.SEARCH_EDGE
_GROUP: Final = 4  # blocks a side that a shift is measured in
_FEWEST: Final = 4  # blocks of a group that have bare beam
_MOVED: Final = 60.0  # χ² of five parameters of the motion; noise has 5 ± 3.2
_ALL_MOVED: Final = 0.1  # pixels that all speckles moved by, from which bare beam is looked for again
_FARTHEST: Final = 16.0
_SORTED: Final = 1 << 15  # pixels that a median is taken of, about
_ROWS: Final = 512  # of large images, that findings are read from
_TILTED: Final = 3.0  # deviations of φ over bare beam by which a tilt or a curvature must change it
_EXPLAINED: Final = 4.0  # times what the motion makes of φ: more has another cause
_ABOVE: Final = 5.0  # times the noise of φ over bare beam, by which that of the sample is above it
_ONE_SIDED: Final = 3.0  # times what it is below
_OFF: Final = 5.0  # standard errors of a mean over bare beam
_BRIGHTER: Final = 0.02  # of T; flux is not known better
_UNEVEN: Final = 0.3  # of the scatter of φ, by which patches of bare beam must differ
_STRAY: Final = 0.1  # of the sample's signal: smaller offsets do not matter
_MEAN: Final = 0.3  # of the sample's mean
_BLUR: Final = 0.1  # pixels; less blur of the speckles does not matter


def use_bare_beam(
    result: Retrieval,
    reference: Real,
    sample: Real,
    weights: Real | None,
    *,
    background: Mask | None,
    carried: bool = False,
    threads: int | None = None,
) -> Retrieval:
    """Return a result whose φ is 0 in bare beam, with findings about φ, T and D there.

    Frames (position, y, x) and weights as the method used them, NaN in the sample where it has none;
    `background` (y, x): bare beam that was given; another is looked for if it has no value. `carried`: a
    prior of the method carries φ over pixels without a value. A constant is subtracted from φ, never a plane;
    nothing where δ/β relates φ to T. Where no bare beam is known, only findings are added.
    """
    tied = result.options.get("delta_over_beta") is not None
    set_somewhere = int(np.bitwise_or.reduce(result.flags, axis=None))
    used = (result.flags & flag.BAD_SAMPLE) == 0 if set_somewhere & flag.BAD_SAMPLE else None
    cut = _CUT | flag.NOT_POSITIVE
    sure = (result.flags & cut) == 0 if set_somewhere & cut else np.ones(result.flags.shape, bool)
    pairs = FramePairs(reference=reference, sample=sample, weights=weights, used=used, threads=threads)
    moments = pairs.light()
    if background is None or not (background & sure).any():
        blocks = bare_blocks(moments)
        bare = moments.mask(np.zeros(moments.count.shape, bool) if blocks is None else blocks)
    else:
        side = moments.side
        share = ndimage.uniform_filter(background.astype(np.float32), side, origin=-(side // 2))
        blocks = share[::side, ::side] > 0.99
        bare = background
    known = bare & sure
    if blocks is None or np.count_nonzero(known) < SMALLEST:
        moved = _all_moved(result, pairs, sure)
        if result.phase is not None and not tied:
            none = np.zeros_like(sure)
            _, parts = level_parts(
                result.phase, none, sure, result, level=False, given=False, carried=carried
            )
            moved += parts
        return replace(result, findings=(*result.findings, *moved, *_zero(result, None)))
    found: list[Finding] = []
    tilted: list[Finding] = []
    phase = result.phase
    if phase is not None and not tied:
        tilted = _tilted(phase, known, blocks, pairs, result)
        phase = phase - np.float32(phase.mean(where=known, dtype=np.float64))
        phase, parts = level_parts(
            phase, known, sure, result, level=not tilted, given=bare is background, carried=carried
        )
        found += tilted + parts
        if not (tilted or parts or bare is background):
            apart = _apart(phase, known, sure)
            if apart.any():
                known = known & ~apart
                phase = phase - np.float32(phase.mean(where=known, dtype=np.float64))
                found += _uneven(phase, apart, known)
        if not tilted:
            found += _positive(phase, known, bare, sure)
    elif phase is not None:
        found += _positive(phase, known, bare, sure)
    unequal = [] if background is not None else _unequal_flux(moments, blocks)
    found += unequal or _transmission(result, known)
    if "bare-beam-dark-field" not in {record.code for record in result.findings}:
        found += _dark_field(result, known, bare, sure)
    found += _zero(result, known)
    return replace(result, phase=phase, findings=(*result.findings, *found))


def _all_moved(result: Retrieval, pairs: FramePairs, sure: Mask) -> list[Finding]:
    """Return a warning where bare beam and a sample are found once the reference is moved as the beam was.

    Bare beam that moved by more than noise differs from the reference as a sample does.
    """
    if result.refraction_angle is None:
        return []
    every = max(1, round((sure.size / _SORTED) ** 0.5))
    some = result.refraction_angle[:, ::every, ::every]
    known = sure[::every, ::every] & np.isfinite(some).all(axis=0)
    if not known.any():
        return []
    experiment = result.experiment
    pixels = experiment.effective_distance / experiment.effective_pixel
    shift = np.median(some[:, known], axis=1).astype(np.float64) * pixels
    length = float(np.hypot(*shift))
    if not _ALL_MOVED < length < _FARTHEST:
        return []
    moved = np.stack(
        [ndimage.shift(frame, shift[::-1], np.float32, mode="nearest") for frame in pairs.reference]
    )
    inside = np.zeros(sure.shape, np.bool_)
    edge = int(np.ceil(np.abs(shift).max())) + 3  # pixels whose speckles come from outside, and a spline's
    inside[edge:-edge, edge:-edge] = True
    used = inside if pairs.used is None else pairs.used & inside
    if bare_blocks(replace(pairs, reference=moved, used=used).light()) is None:
        return []
    scale = experiment.wavenumber * experiment.effective_pixel**2 / experiment.effective_distance
    tilt = scale * float(np.abs(shift) @ sure.shape[::-1])
    message = (
        f"all speckles, those of bare beam too, moved by {length:.2g} pixels between reference and sample "
        f"frames, which tilts the phase by {tilt:.3g} rad across the frame: preprocess with drift"
    )
    return [finding("bare-beam-tilted", message)]


def _zero(result: Retrieval, known: Mask | None) -> list[Finding]:
    """Return the finding that says where φ is 0."""
    if result.phase is None:
        return []
    if result.options.get("delta_over_beta") is not None:
        return [finding("phase-zero-transmission", "phase zero where the transmission is 1")]
    if known is None:
        return [finding("phase-zero-mean", "phase zero: mean zero, because no bare beam is known")]
    message = f"phase zero on bare beam, {percent(np.count_nonzero(known) / known.size)} of the frame"
    return [finding("phase-zero-bare-beam", message)]


def _tilted(phase: Real, known: Mask, blocks: Mask, pairs: FramePairs, result: Retrieval) -> list[Finding]:
    """Return a warning where speckles moved, and φ is tilted or curved over bare beam by more than noise."""
    values, places, within = _block_means(*_some_rows(phase, known))
    if len(values) < 2 * _FEWEST:
        return []
    x, y = places.T
    columns = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=1)
    fit = np.linalg.lstsq(columns, values, rcond=1e-9)[0]
    noise = float(np.sqrt(within + np.mean((values - columns @ fit) ** 2)))
    tilt, curve = (float(np.ptp(columns[:, part] @ fit[part])) for part in (slice(1, 3), slice(3, 6)))
    if float(np.ptp(columns @ fit)) < _TILTED * noise:
        return []
    motion = bare_motion(pairs.slopes(blocks), blocks)
    if motion is None or motion.significance < _MOVED:
        return []
    experiment = result.experiment
    scale = experiment.wavenumber * experiment.effective_pixel**2 / experiment.effective_distance
    if max(tilt, curve) > _EXPLAINED * scale * motion.potential(places, phase.shape):
        remedy = "that is not all: the method lacks attenuation, or slow noise is large; use another method"
    elif tilt >= curve:
        remedy = "preprocess with drift"
    else:
        remedy = "take references closer in time to the samples, or subtract what is smooth"
    message = (
        f"bare beam {'tilted' if tilt >= curve else 'curved'} by {max(tilt, curve):.3g} rad across the "
        f"frame, with a noise of {noise:.2g} rad: the phase is wrong by as much; speckles of the bare beam "
        f"moved by {motion.rms:.2g} pixels between reference and sample frames: {remedy}"
    )
    return [finding("bare-beam-tilted", message)]


def _apart(phase: Real, known: Mask, sure: Mask) -> Mask:
    """Return the patches (y, x) of found bare beam whose φ is not that of the patch at the border.

    A flat sample has unchanged speckles, as bare beam has.
    """
    if len(part_sizes(known, diagonal=True)) < 2:
        return np.zeros_like(known)
    labels, number = ndimage.label(known, np.ones((3, 3)))
    every = np.arange(number + 1)
    sizes = np.bincount(labels.ravel())
    outer = np.bincount(labels[border_of(known)], minlength=number + 1)
    sizes[0] = outer[0] = 0
    main = int(np.argmax(outer * known.size + sizes))
    means = np.append(np.nan, ndimage.mean(phase, labels, every[1:]))
    off = np.abs(means - means[main]) > _UNEVEN * float(phase.std(where=sure, dtype=np.float64))
    return np.asarray((off & (sizes >= SMALLEST))[labels])


def _uneven(phase: Real, apart: Mask, known: Mask) -> list[Finding]:
    """Return a note of patches (y, x) like bare beam whose φ is not that of the others."""
    off = float(np.abs(phase[apart]).max())
    share = np.count_nonzero(apart) / np.count_nonzero(apart | known)
    message = (
        f"{percent(share)} of what looks like bare beam reads up to {off:.2g} rad, where the rest reads 0, "
        "and counts as a flat part of the sample; if it is bare beam, give it as background"
    )
    return [finding("bare-beam-uneven", message)]


def _positive(phase: Real, known: Mask, bare: Mask, sure: Mask) -> list[Finding]:
    """Return a warning where φ is above that of bare beam all over the sample, which is `sure` (y, x)."""
    phase, known, bare, sure = _some_rows(phase, known, bare, sure)
    zero, _, _ = _block_means(phase, known)
    values, _, _ = _block_means(phase, ~bare & sure & np.isfinite(phase))
    if len(zero) < _FEWEST or len(values) < _FEWEST:
        return []
    noise = float(np.sqrt(np.mean(zero**2)))
    low, high = (float(value) for value in np.quantile(values, (0.05, 0.95)))
    if high < max(_ABOVE * noise, -_ONE_SIDED * low):
        return []
    message = (
        f"the phase of the sample is up to {high:.2g} rad above that of bare beam, with a noise of "
        f"{noise:.2g} rad, and matter lowers it: sample and reference are swapped, unless the sample is a "
        "void or thinner than what surrounds it; check the files"
    )
    return [finding("phase-positive", message)]


@dataclass(frozen=True, eq=False)
class BareMotion:
    """Shift (a + c x + e y, b + e x + d y) in pixels of speckles in bare beam, and its χ² against none.

    x and y are parts of the frame, from its middle; `rms` in pixels.
    """

    polynomial: Real  # (5,): a, b, c, d, e
    rms: float
    significance: float

    def potential(self, places: Real, shape: tuple[int, ...]) -> float:
        """Return the range in pixels² of the ψ whose gradient is the shift, over places (number, 2)."""
        a, b, c, d, e = self.polynomial
        x, y = places.T
        height, width = shape
        # The slopes of a shift without curl differ along x and y where the frame is not square.
        psi = (
            width * (a * x + 0.5 * c * x**2)
            + height * (b * y + 0.5 * d * y**2)
            + 0.5 * (width + height) * (e * x * y)
        )
        return float(np.ptp(psi))


def drift_of_pair(reference: Real, sample: Real, weights: Real | None) -> float | None:
    """Return the rms shift in pixels of bare beam beside a sample; None where none moved, or none is found.

    Frames (position, y, x) as they come; those of several positions count together.
    """
    prepared = prepare_reference(reference, weights, method="drift", minimum=1, threads=None)
    frames, _ = prepared.check(sample, weights)
    pairs = FramePairs(reference=prepared.frames, sample=frames, weights=prepared.weights)
    blocks = bare_blocks(pairs.light())
    motion = None if blocks is None else bare_motion(pairs.slopes(blocks), blocks)
    return None if motion is None or motion.significance < _MOVED else motion.rms


def bare_motion(moments: SlopeMoments, blocks: Mask) -> BareMotion | None:
    """Return how the speckles in blocks (y, x) of bare beam moved.

    S = a R − a u·∇R in groups of blocks, then u linear in x and y without curl; the scatter that this leaves
    widens the errors. None where there are too few groups.
    """
    shifts, roots, places = _shifts(moments, blocks)
    if len(shifts) < 4:
        return None
    (x, y), one, none = places.T, np.ones(len(places)), np.zeros(len(places))
    rows = np.stack([np.stack([one, none, x, none, y], -1), np.stack([none, one, none, y, x], -1)], 1)
    matrix, vector = (roots @ rows).reshape(-1, 5), (roots @ shifts[..., None]).ravel()
    solution = np.linalg.lstsq(matrix, vector, rcond=1e-9)[0]
    rest = float(np.sum((vector - matrix @ solution) ** 2))
    explained = float(vector @ vector) - rest
    wider = max(1.0, rest / max(len(vector) - 5, 1))
    square = np.mean(((rows @ solution) ** 2).sum(axis=1))
    return BareMotion(solution, float(np.sqrt(square)), explained / wider)


def _shifts(moments: SlopeMoments, blocks: Mask) -> tuple[Real, Real, Real]:
    """Return shifts (group, 2) along x and y in pixels, roots of their inverse covariances, and places.

    Roots (group, 2, 2); places (group, 2) as parts of the frame from its middle.
    """
    tall, wide = (-(-size // _GROUP) for size in blocks.shape)
    missing = [(0, whole * _GROUP - size) for whole, size in zip((tall, wide), blocks.shape, strict=True)]

    def total(image: Real) -> Real:
        padded = np.pad(np.where(blocks, image, 0.0), missing)
        summed: Real = padded.reshape(tall, _GROUP, wide, _GROUP).sum(axis=(1, 3)).ravel()
        return summed

    number, rr, rs, ss = (total(image) for image in (moments.count, moments.rr, moments.rs, moments.ss))
    (xx, xy, yy), (xr, yr), (xs, ys) = (
        [total(image) for image in images] for images in (moments.gg, moments.gr, moments.gs)
    )
    matrix = np.array([[rr, xr, yr], [xr, xx, xy], [yr, xy, yy]]).transpose(2, 0, 1)
    right = np.stack([rs, xs, ys], axis=1)
    scale = np.sqrt(np.maximum(np.diagonal(matrix, axis1=1, axis2=2), 0.0))
    usable = (total(np.ones(blocks.shape)) >= _FEWEST) & (scale > 0.0).all(axis=1)
    unit = matrix[usable] / (scale[usable, :, None] * scale[usable, None, :])
    known = np.flatnonzero(usable)[np.linalg.cond(unit) < 1e8] if usable.any() else np.empty(0, int)
    inverse = np.linalg.inv(matrix[known])
    solution = (inverse @ right[known][..., None])[..., 0]
    kept = solution[:, 0] > 0.0
    known, inverse, solution = known[kept], inverse[kept], solution[kept]
    # Rounding of float32 frames is noise, too.
    rest = ss[known] - (right[known] * solution).sum(axis=1)
    variance = np.maximum(rest / np.maximum(number[known] - 3.0, 1.0), 1e-14 * ss[known] / number[known])
    covariance = inverse[:, 1:, 1:] * (variance / solution[:, 0] ** 2)[:, None, None]
    roots = np.linalg.cholesky(np.linalg.inv(covariance)).transpose(0, 2, 1)
    y, x = np.divmod(known, wide)
    height, width = blocks.shape
    places = np.stack([(x + 0.5) * _GROUP / width - 0.5, (y + 0.5) * _GROUP / height - 0.5], axis=1)
    return -solution[:, 1:] / solution[:, :1], roots, places


def _some_rows(*images: Real) -> list[Real]:
    """Return every few rows of large images (y, x)."""
    return [image[:: max(1, len(image) // _ROWS)] for image in images]


def _block_means(image: Real, known: Mask) -> tuple[Real, Real, float]:
    """Return means of blocks (number,), places (number, 2) as parts of the frame, and the variance within."""
    tall, wide = (size // BLOCK for size in image.shape)
    number, _, total, squares = block_sums(image, known, BLOCK)[:, :tall, :wide]
    full = number >= 0.5 * BLOCK**2
    if not full.any():
        return np.empty(0), np.empty((0, 2)), 0.0
    mean = total[full] / number[full]
    within = squares[full] / number[full] - mean**2
    y, x = np.nonzero(full)
    places = np.stack([(x + 0.5) / wide - 0.5, (y + 0.5) / tall - 0.5], axis=1)
    return mean, places, float(np.maximum(within, 0.0).mean())


def _middle(values: Real) -> tuple[float, float]:
    """Return the median of values (number,) and its standard error."""
    middle = float(np.median(values))
    spread = 1.4826 * float(np.median(np.abs(values - middle)))
    return middle, 1.2533 * spread / np.sqrt(len(values))


def _unequal_flux(moments: BlockMoments, blocks: Mask) -> list[Finding]:
    """Return a warning where bare beam has another flux in sample frames than in reference frames."""
    flux = moments.flux[:, :, blocks].sum(axis=2)
    ratio = flux[:, 1] / np.maximum(flux[:, 0], 1e-300)
    worst = float(ratio[np.argmax(np.abs(ratio - 1.0))])
    if abs(worst - 1.0) <= _BRIGHTER:
        return []
    where = "" if np.ptp(ratio) <= _BRIGHTER else f" at position {int(np.argmax(np.abs(ratio - 1.0)))}"
    message = (
        f"bare beam has {worst:.3g} times the flux of the reference frames in the sample frames{where}: "
        "exposure time or beam differ; the transmission is wrong by this factor, and so is the phase of "
        "methods without it; preprocess with flux"
    )
    return [finding("flux-differs", message)]


def _transmission(result: Retrieval, known: Mask) -> list[Finding]:
    """Return a warning where T is not 1 in bare beam."""
    if result.transmission is None:
        return []
    image, known = _some_rows(result.transmission, known)
    values, _, _ = _block_means(image, known & np.isfinite(image))
    if len(values) < _FEWEST:
        return []
    mean, error = _middle(values)
    if abs(mean - 1.0) <= max(_BRIGHTER, _OFF * error):
        return []
    message = (
        f"transmission is {mean:.4g} in bare beam, where it is 1: all of it is wrong by this factor; "
        "preprocess with flux, or give background where the method has this option"
    )
    return [finding("bare-beam-transmission", message)]


def _dark_field(result: Retrieval, known: Mask, bare: Mask, sure: Mask) -> list[Finding]:
    """Return a warning where D is not 0 in bare beam; the sample is `sure` (y, x)."""
    if result.dark_field is None:
        return []
    image, known, bare, sure = _some_rows(result.dark_field, known, bare, sure)
    finite = np.isfinite(image)
    values, _, within = _block_means(image, known & finite)
    other = ~bare & sure & finite
    if len(values) < _FEWEST or not other.any():
        return []
    mean, error = _middle(values)
    sample = image[other]
    signal = float(np.abs(np.quantile(sample, (0.05, 0.95)) - mean).max())
    noise = np.sqrt(within + values.var())
    experiment = result.experiment
    unseen = 0.5 * _BLUR**2 * experiment.effective_pixel**2 / experiment.effective_distance
    # Noise of single pixels hides an offset there, and not in means over the sample.
    seen = min(max(noise, _STRAY * signal), _MEAN * abs(float(sample.mean(dtype=np.float64))))
    if abs(mean) <= max(_OFF * error, unseen, seen):
        return []
    message = (
        f"dark-field is {mean:.2g} m in bare beam, where it is 0, with a noise of {noise:.2g} m: all of it "
        "is off by as much, because of noise in the references, or because references and samples differ in "
        "blur, averaging or dark frames"
    )
    return [finding("bare-beam-dark-field", message)]
