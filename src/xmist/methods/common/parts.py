"""Parts of an image that flagged pixels cut apart: their levels of φ, and how far these may be off."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from xmist.core.data import Retrieval
from xmist.core.findings import Finding, finding, percent
from xmist.numerics.images.block_moments import BLOCK
from xmist.numerics.images.components import part_sizes
from xmist.numerics.operators.stencils import gradient

Real = NDArray[Any]
Mask = NDArray[np.bool_]
Points = NDArray[np.intp]
Box = tuple[slice, ...]

SMALLEST: Final = 50  # pixels of bare beam that level a part
_LARGE: Final = 0.01  # of the pixels, from which a part is worth a warning
_STRAY: Final = 0.1  # of the scatter of φ: smaller offsets do not matter
_CONTRADICTED: Final = 3.0  # times what a level may be off, at the border: found bare beam is none
_DIRECTIONS: Final = 16
_FEWEST: Final = 4  # places where a gap is tried
_LEAST: Final = 0.3  # of the pairs beside a gap that must be usable elsewhere
_NEARLY: Final = 1.25  # times the narrowest place of a gap
# Times the error of the trapezoid rule over gaps of this shape elsewhere: 95 % of gaps stay below (random
# experiments of another simulator, draws 0 to 11, gaps of 1 to 16 pixels).
_CARRIED: Final = 2.2  # a prior or the shift beside the gap carries φ across
_FROM_CURVATURE: Final = 10.0  # ∇²φ is missing in the gap, which tilts both sides
_NOISY: Final = 1.7  # of the noise of the slope, over the gap and half a window on either side
_BESIDE: Final = 3  # pixels beside a gap where a slope is noisier


def level_parts(
    phase: Real, known: Mask, sure: Mask, result: Retrieval, *, level: bool, given: bool, carried: bool
) -> tuple[Real, list[Finding]]:
    """Level the parts into which flags cut the image, by their bare beam; a warning where that is not known.

    φ (y, x) is 0 on average over bare beam, `known`, which was `given` or found. What was found in a part and
    would shift it by more than φ can be off is no bare beam. `carried`: the method carries φ over a gap by a
    prior.
    """
    sizes = part_sizes(sure)
    if len(sizes) < 2 or (
        not level and np.count_nonzero(sizes >= _LARGE * sizes.sum()) < 2 and not known.any()
    ):
        return phase, []
    labels, number = ndimage.label(sure)
    sizes = np.bincount(labels.ravel(), minlength=number + 1)
    sizes[0] = 0
    bare = np.bincount(labels[known], minlength=number + 1)
    large = sizes >= _LARGE * sizes.sum()
    levelled = bare >= SMALLEST
    outer = np.bincount(labels[border_of(known)], minlength=number + 1)
    main = int(np.argmax(np.where(levelled, outer * known.size + bare, 0) if levelled.any() else sizes))
    levelled[main] = True
    sums = np.bincount(labels[known], weights=phase[known].astype(np.float64), minlength=number + 1)
    offsets = np.where(levelled, sums / np.maximum(bare, 1), 0.0)
    doubted = (large & ~levelled) | (levelled & (level and not given))
    boxes: list[Box] = ndimage.find_objects(labels)
    possible = {
        part: _possible(phase, labels, part, boxes[part - 1], large, result, carried=carried)
        for part in np.flatnonzero(doubted).tolist()
        if part != main
    }
    for part, off in possible.items():
        sure_of = _CONTRADICTED if outer[part] else 1.0
        levelled[part] &= abs(offsets[part] - offsets[main]) <= sure_of * off
    offsets[~levelled] = offsets[main]
    if level:
        nearest = ndimage.distance_transform_edt(labels == 0, return_distances=False, return_indices=True)
        phase = phase - offsets[labels[tuple(nearest)]].astype(np.float32)
    lonely = [part for part in possible if large[part] and not levelled[part]]
    worst = max((possible[part] for part in lonely), default=0.0)
    if not lonely or worst < _STRAY * float(phase.std(where=sure, dtype=np.float64)):
        return phase, []
    message = (
        f"flagged pixels cut off {percent(sizes[lonely].sum() / sizes.sum())} of the image, in {len(lonely)} "
        f"part{'s' if len(lonely) > 1 else ''} without bare beam: the phase there may be off by "
        f"{worst:.2g} rad against the rest; mask less, or give background with bare beam in each part"
    )
    return phase, [finding("parts-unlevelled", message)]


def border_of(known: Mask) -> Mask:
    """Return the pixels (y, x) of bare beam near the border of the frame: it surrounds a sample."""
    out = known.copy()
    out[BLOCK:-BLOCK, BLOCK:-BLOCK] = False
    return out


def _possible(
    phase: Real, labels: Real, part: int, box: Box, large: Mask, result: Retrieval, *, carried: bool
) -> float:
    """Return by how much φ of a part in a box may be off against the other large parts, in rad.

    Gaps of the same shape are put where φ is known: there the trapezoid rule carries φ across, with the
    slopes on either side, and its mean error along the gap is known.
    """
    if result.refraction_angle is None:
        return 0.0
    box, ends = _pairs(labels, part, box, large)
    labels, phase = labels[box], phase[box]
    scale = result.experiment.wavenumber * result.experiment.effective_pixel
    slope = scale * result.refraction_angle[:, *box].astype(np.float64)
    gap = float(np.hypot(*(ends[1] - ends[0])).min())
    errors = []
    for away in (gap + 2.0, 1.5 * gap + 7.0, 2.0 * gap + 12.0):
        for turn in np.arange(_DIRECTIONS) * (2.0 * np.pi / _DIRECTIONS):
            step = np.rint([away * np.sin(turn), away * np.cos(turn)]).astype(np.intp)
            moved = _within_parts(ends + step[:, None], labels)
            if moved.shape[2] >= max(_FEWEST, _LEAST * ends.shape[2]):
                errors.append(_trapezoid(phase, slope, moved))
    if len(errors) < _FEWEST:  # no part is as wide as the gap
        near = np.zeros(labels.shape, np.bool_)
        near[*ends.reshape(2, 2, -1).transpose(1, 0, 2).reshape(2, -1)] = True
        near = ndimage.binary_dilation(near, iterations=BLOCK) & (labels > 0)
        return gap * float(np.sqrt(np.nanvar(slope[:, near], axis=1).sum()))
    missed = float(np.sqrt(np.mean(np.square(errors))))
    if not carried and result.shift is None:
        return _FROM_CURVATURE * missed
    noise = _NOISY * (gap + _BESIDE) * _roughness(phase, slope, labels)
    return float(np.hypot(_CARRIED * missed, noise))


def _pairs(labels: Real, part: int, box: Box, large: Mask) -> tuple[Box, Points]:
    """Return a box about a part, and the pixels on either side of the gap to another large part.

    Pixels (side, 2, number) as y and x in the box; those of other gaps, which are wider, are left out.
    """
    margin = 4 * BLOCK
    while True:
        wide = tuple(
            slice(max(side.start - margin, 0), min(side.stop + margin, size))
            for side, size in zip(box, labels.shape, strict=True)
        )
        inside, others = labels[wide] == part, large[labels[wide]] & (labels[wide] != part)
        whole = wide == tuple(slice(0, size) for size in labels.shape)
        if others.any() or whole:
            distance, places = ndimage.distance_transform_edt(~others, return_indices=True)
            gap = float(distance[inside].min())
            if 2.0 * gap + 12.0 <= margin or whole:
                near = inside & (distance <= _NEARLY * gap + 1.0)
                return wide, np.array([np.nonzero(near), places[:, near]])
        margin *= 2


def _within_parts(ends: Points, labels: Real) -> Points:
    """Return the pairs of pixels (side, 2, number) that lie in one part with what is between them."""
    limits = np.array(labels.shape)[:, None]
    ends = ends[:, :, ((ends >= 0) & (ends < limits)).all(axis=(0, 1))]
    first, last, between = (labels[*at] for at in (*ends, ends.sum(axis=0) // 2))
    return ends[:, :, (first > 0) & (first == last) & (first == between)]


def _trapezoid(phase: Real, slope: Real, ends: Points) -> float:
    """Return the mean error of φ that is carried between pixels (side, 2, number) by their mean slope."""
    y, x = ends[1] - ends[0]
    along = sum(x * slope[0][*at] + y * slope[1][*at] for at in ends)
    return float(np.mean(phase[*ends[1]].astype(np.float64) - phase[*ends[0]] - 0.5 * along))


def _roughness(phase: Real, slope: Real, labels: Real) -> float:
    """Return the rms part in rad per pixel of a slope (2, y, x) that no φ (y, x) has: its noise."""
    inner = ndimage.binary_erosion(labels > 0)
    if not inner.any():
        return 0.0
    rest = (slope - gradient(phase.astype(np.float64), threads=1))[:, inner]
    return float(np.sqrt(np.nanmean(np.square(rest))))
