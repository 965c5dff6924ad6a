"""A quick image of one projection: frames binned while speckles stay resolved, and a fast method."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.core.data import Retrieval, SpeckleStack
from xmist.core.findings import finding
from xmist.core.progress import Progress
from xmist.methods import METHODS, retrieve
from xmist.numerics.images.speckles import speckle_size
from xmist.preprocess import bin_frames
from xmist.workflow.configuration import ParsedConfiguration
from xmist.workflow.run import load_projection

_LARGEST: Final = 512  # pixels of a preview along its longer side
_RESOLVED: Final = 3.0  # pixels a speckle keeps
_REACH: Final = 32
_PATCH: Final = 512  # pixels a side of the part in which speckles are measured
_FAST: Final = "mist-gradient-flow"
_FAST_SINGLE: Final = ("lcs", {"window": 7})  # one position


def preview_projection(
    parsed: ParsedConfiguration, number: int | None = None, tell: Progress = lambda *_: None
) -> Retrieval:
    """Retrieve a small image of one projection by a fast method; of a series the middle one by default.

    Frames are binned until the image has at most 512 pixels a side, but only while a speckle keeps 3 pixels;
    the images are then averaged over blocks.
    Preprocessing is that of the configuration, method and options are not.
    """
    loaded = load_projection(parsed, number, tell)
    stack, experiment = loaded.stack, loaded.experiment
    size = preview_binning(stack)
    if size > 1:
        reference, weights = bin_frames(stack.reference, stack.weights, size=size)
        sample, _ = bin_frames(stack.sample, stack.weights, size=size)
        stack = SpeckleStack(reference, sample, weights)
        experiment = replace(experiment, pixel_size=experiment.pixel_size * size)
    method, options = (_FAST, {}) if stack.positions >= METHODS[_FAST].minimum_positions else _FAST_SINGLE
    tell(f"retrieving by {method}", 0, 1)
    result = retrieve(stack, experiment, method=method, threads=parsed.threads, **options)
    rest = -(-max(stack.shape) // _LARGEST)
    if rest > 1:
        result = _reduce(result, rest)
    joined = f" of frames binned {size} × {size}" if size > 1 else ""
    joined += f", averaged over {rest} × {rest} pixels" if rest > 1 else ""
    text = f"preview by {method}{joined}; use full-field for quantitative images"
    provenance = {
        **result.provenance,
        **loaded.provenance,
        "preview": {"binning": size, "reduction": rest},
        "configuration": parsed.to_dict(),
    }
    return replace(result, findings=(finding("preview", text), *result.findings), provenance=provenance)


def preview_binning(stack: SpeckleStack) -> int:
    """Return how many pixels a side are joined for a preview."""
    wished = -(-max(stack.shape) // _LARGEST)
    if wished == 1:
        return 1
    frame, used = stack.reference[0], np.isfinite(stack.reference[0])
    if stack.weights is not None:
        used &= stack.weights[0] > 0
    middle = tuple(
        slice((length - min(length, _PATCH)) // 2, (length + min(length, _PATCH)) // 2)
        for length in stack.shape
    )
    width = min(speckle_size(frame[middle], used[middle], _REACH))
    allowed = int(width / _RESOLVED) if np.isfinite(width) else 1
    return max(1, min(wished, allowed))


def _reduce(result: Retrieval, size: int) -> Retrieval:
    """Average all images of a result over size × size pixels; a block has all flags of its pixels."""
    experiment = replace(result.experiment, pixel_size=result.experiment.pixel_size * size)
    images: dict[str, Any] = {name: _block_means(image, size) for name, image in result.channels()}
    return replace(
        result,
        experiment=experiment,
        flags=np.bitwise_or.reduce(_blocks(result.flags, size), axis=(-3, -1)),
        diagnostics={name: _block_means(image, size) for name, image in result.diagnostics.items()},
        **images,
    )


def _blocks(image: NDArray[Any], size: int) -> NDArray[Any]:
    """Return (…, y, size, x, size) without the rows and columns that are left over."""
    y, x = image.shape[-2] // size, image.shape[-1] // size
    return image[..., : y * size, : x * size].reshape(*image.shape[:-2], y, size, x, size)


def _block_means(image: NDArray[Any], size: int) -> NDArray[np.float32]:
    """Return the means of the finite pixels of blocks; NaN where there is none."""
    blocks = _blocks(image, size)
    finite = np.isfinite(blocks)
    number = finite.sum(axis=(-3, -1))
    total = np.where(finite, blocks, 0.0).sum(axis=(-3, -1), dtype=np.float64)
    return np.where(number > 0, total / np.maximum(number, 1), np.nan).astype(np.float32)
