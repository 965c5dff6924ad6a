"""Find bare beam in frames: by the ratio of sample to reference, or by the change of the frames."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from xmist.numerics.images.block_moments import BlockMoments

Image = NDArray[Any]
Mask = NDArray[np.bool_]
Real = NDArray[np.float64]

_CLUSTER: Final = 0.05  # of the blocks that bare beam must hold
SMALLEST: Final = 50  # pixels of a region
_SMOOTH: Final = 2.5  # pixels (σ) over which the change of the frames is averaged
_BORDER: Final = 4  # pixels at the border of the frames, where methods differ most
_MARGIN: Final = 0.03  # of the shorter side, between bare beam and sample
_RIM: Final = 0.3  # of the depth of a part of the sample: walls and rims refract most
_THINNEST: Final = 3.0  # pixels of depth that an inside needs
_KEPT: Final = 0.1  # of the pixels, those whose speckles changed least
_BLOCKS: Final = 8  # of bare beam, at least
_PART: Final = 0.02  # of the blocks that bare beam must hold
_APART: Final = 4.0  # standard deviations of the bare beam that the sample must differ by


def block_sums(
    reference: Image, sample: Image, weights: Image | None, block: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return sums of a reference, a sample frame (y, x) and the good pixels over blocks; over all for 0."""
    good = np.isfinite(reference) & np.isfinite(sample) & (reference > 0)
    if weights is not None:
        good &= weights > 0
    parts = (np.where(good, reference, np.float32(0.0)), np.where(good, sample, np.float32(0.0)), good)
    if block == 0:
        first, second, third = (np.array([part.sum(dtype=np.float64)]) for part in parts)
        return first, second, third
    side = min(block, *reference.shape)
    height, width = (size // side for size in reference.shape)
    summed = [
        part[: height * side, : width * side]
        .reshape(height, side, width * side)
        .sum(axis=1, dtype=np.float64)
        .reshape(height, width, side)
        .sum(axis=2)
        .ravel()
        for part in parts
    ]
    return summed[0], summed[1], summed[2]


def brightest_blocks(sums: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return the blocks of bare beam: the brightest cluster of ratios of sample to reference.

    `sums` (position, 3, block) as of `block_sums`. A cluster has at least 5 % of the blocks, and is as wide
    as four times the scatter between neighbouring blocks.
    """
    total = sums.sum(axis=0)
    used = total[2] >= 0.5 * total[2].max()
    ratio = np.where(used, total[1] / np.maximum(total[0], 1e-300), np.nan)
    order = np.sort(ratio[used])
    steps = np.abs(np.diff(ratio))
    steps = steps[np.isfinite(steps)]
    # The median step between neighbours is 0.95 σ of a block for Gaussian noise.
    sigma = max(float(np.median(steps)) / 0.95 if steps.size else 0.0, 1e-4 * float(np.median(order)))
    counts = np.searchsorted(order, order + 2.0 * sigma, "right") - np.searchsorted(
        order, order - 2.0 * sigma, "left"
    )
    crowded = np.flatnonzero(counts >= max(1.0, _CLUSTER * order.size))
    if crowded.size == 0:
        return np.asarray(used)
    brightest = order[crowded[-1]]
    near = crowded[order[crowded] >= brightest - 4.0 * sigma]
    centre = order[near[np.argmax(counts[near])]]
    bare: NDArray[np.bool_] = used & (np.abs(ratio - centre) <= 2.0 * sigma)
    return bare


def changed_regions(
    reference: Image, sample: Image, weights: Image | None
) -> tuple[Mask | None, Mask | None, str]:
    """Return masks (y, x) of bare beam and of the sample's inside, and a reason.

    A mask is None, and the reason says why, where there are too few pixels. The criterion is the change c = G
    Σ_n (I_S − a I_R)² / G Σ_n I_R², with a Gaussian G of 2.5 pixels and the relative flux a of the sample
    frames in bare beam. Otsu's threshold on log c (doi:10.1109/TSMC.1979.4310076) is used only if it is four
    standard deviations above the bare beam. No result of any method is used.
    """
    change, used = _change(reference, sample, weights)
    if np.count_nonzero(used) < 4 * SMALLEST:
        return None, None, "too few usable pixels"
    threshold = _threshold(change[used])
    if threshold is None:
        return None, None, "no sample differs from the noise of the frames"
    changed = (change > threshold) & used
    changed = ndimage.binary_opening(changed, iterations=2)
    changed = ndimage.binary_closing(np.pad(changed, 4, mode="edge"), iterations=3)[4:-4, 4:-4]
    margin = max(_BORDER, round(_MARGIN * min(reference.shape[1:])))
    frame = np.zeros(reference.shape[1:], bool)
    frame[_BORDER:-_BORDER, _BORDER:-_BORDER] = True
    outside = frame & used & ~ndimage.binary_dilation(changed, iterations=margin)
    inside = _inside(changed) & frame & used
    lacking = [
        text
        for mask, text in ((outside, "bare beam"), (inside, "sample away from its rim"))
        if np.count_nonzero(mask) < SMALLEST
    ]
    return (
        None if "bare beam" in lacking else outside,
        None if "sample away from its rim" in lacking else inside,
        f"the frames show too little {lacking[0]}" if lacking else "",
    )


def bare_blocks(moments: BlockMoments) -> Mask | None:
    """Return the blocks (y, x) of bare beam; None where no sample differs from it.

    The criterion is that of `changed_regions`, with sums over blocks instead of a Gaussian.
    """
    used: Mask = moments.count >= 0.5 * max(float(moments.count.max()), 1.0)
    if np.count_nonzero(used) < 4 * _BLOCKS:
        return None
    log = _log_change(moments.rr, moments.rs, moments.ss, used)
    threshold = _threshold(log[used])
    if threshold is None:
        return None
    changed = used & (log > threshold)
    bare: Mask = used & ~ndimage.binary_dilation(changed, np.ones((3, 3), bool))
    enough = np.count_nonzero(bare) >= max(_BLOCKS, _PART * np.count_nonzero(used))
    return bare if enough else None


def _change(reference: Image, sample: Image, weights: Image | None) -> tuple[Real, Mask]:
    """Return the logarithm of the change (y, x), and the pixels where it is known."""
    shape = reference.shape[1:]
    used: Mask = np.ones(shape, bool)
    for r, s in zip(reference, sample, strict=True):
        used &= np.isfinite(r) & (r > 0) & np.isfinite(s)
    for given in () if weights is None else weights:
        used &= given > 0
    if not used.any():
        return np.zeros(shape), used

    def smooth(image: NDArray[Any]) -> Real:
        blurred: Real = ndimage.gaussian_filter(
            np.where(used, image, 0.0).astype(np.float64), _SMOOTH, mode="nearest"
        )
        return blurred

    # Sums over positions, one at a time: no second copy of the frames.
    products = np.zeros((3, *shape))
    for r, s in zip(reference, sample, strict=True):
        r, s = (np.where(used, frame, 0.0).astype(np.float64) for frame in (r, s))
        products += np.stack([r * r, r * s, s * s])
    rr, rs, ss = (smooth(image) for image in products)
    return _log_change(rr, rs, ss, used), used


def _log_change(rr: Real, rs: Real, ss: Real, used: Mask) -> Real:
    """Return the logarithm of the change (y, x) where used, from sums of r², r s and s²."""
    log = np.zeros(rr.shape)
    flux = _first_flux(rr, rs, ss, used)
    for _ in range(2):
        with np.errstate(divide="ignore", invalid="ignore"):
            log = np.log((ss - 2.0 * flux * rs + flux**2 * rr) / rr)
        finite = used & np.isfinite(log)
        low = float(np.log(1e-12))
        log = np.where(finite, np.maximum(log, low), low)
        threshold = _threshold(log[used])
        bare = used if threshold is None else used & (log < threshold)
        weight = float(rr[bare].sum())
        flux = float(rs[bare].sum()) / weight if weight > 0 else flux
    return log


def _first_flux(rr: Real, rs: Real, ss: Real, used: Mask) -> float:
    """Return the relative flux of the sample frames where the speckles changed least."""
    with np.errstate(divide="ignore", invalid="ignore"):
        changed = np.where(used, 1.0 - rs**2 / (rr * ss), np.inf)
        ratio = rs / rr
    finite = np.isfinite(changed) & np.isfinite(ratio)
    if not finite.any():
        return 1.0
    kept = finite & (changed <= np.percentile(changed[finite], 100 * _KEPT))
    return float(np.median(ratio[kept]))


def _threshold(values: Real) -> float | None:
    """Return Otsu's threshold, or None if there is only one kind of pixels."""
    low, high = np.percentile(values, (0.1, 99.9))
    if not high > low:
        return None
    counts, edges = np.histogram(np.clip(values, low, high), 256)
    centres = 0.5 * (edges[1:] + edges[:-1])
    below = np.cumsum(counts)
    above = below[-1] - below
    moment = np.cumsum(counts * centres)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (moment / below - (moment[-1] - moment) / above) ** 2
    threshold = float(edges[1 + int(np.nanargmax(between[:-1]))])
    bare = values[values < threshold]
    middle = float(np.median(bare))
    spread = 1.4826 * float(np.median(np.abs(bare - middle)))
    return threshold if threshold > middle + _APART * spread else None


def _inside(sample: Mask) -> Mask:
    """Return the sample without the rims of its parts; it continues beyond the border."""
    wide = max(sample.shape)
    depth = ndimage.distance_transform_edt(np.pad(sample, wide, mode="edge"))[wide:-wide, wide:-wide]
    labels, number = ndimage.label(sample)
    if not number:
        return np.zeros(sample.shape, bool)
    deepest = np.append(0.0, ndimage.maximum(depth, labels, np.arange(1, number + 1)))
    kept: Mask = sample & (depth >= np.maximum(_THINNEST, _RIM * deepest[labels]))
    return kept
