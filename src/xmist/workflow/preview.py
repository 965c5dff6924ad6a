"""Retrieve a quick image of one projection by a fast method, from frames binned as far as speckles allow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.core.data import DERIVED, Retrieval, SpeckleStack
from xmist.core.errors import ErrorRecord, InputError, raise_errors
from xmist.core.findings import finding
from xmist.core.progress import Progress
from xmist.io import NEXUS_ENDINGS, PREVIEW_MARK, TIFF_ENDINGS
from xmist.io.results.atomic import target_errors
from xmist.methods import METHODS, retrieve
from xmist.methods.registry import DEFAULT_METHOD, FAST_METHOD, FAST_OPTIONS
from xmist.numerics.images.speckles import speckle_size
from xmist.preprocess import bin_frames
from xmist.workflow.configuration import ParsedConfiguration
from xmist.workflow.discovery import discover
from xmist.workflow.outputs import overlap_errors
from xmist.workflow.run import LoadedProjection, load_projection

_LARGEST: Final = 512  # pixels of a preview along its longer side
_RESOLVED: Final = 3.0  # pixels a speckle keeps
_REACH: Final = 32
_MOST_DATA: Final = 2 * 2048 * 2048  # pixels of all positions: what takes about 2 s on two cores
_PATCH: Final = 512  # pixels a side of the part in which speckles are measured
# Keys of a configuration that a preview does not need.
_NEEDLESS: Final = frozenset({"retrieve.method", "output.files"})


def preview_projection(
    parsed: ParsedConfiguration, number: int | None = None, tell: Progress = lambda *_: None
) -> Retrieval:
    """Retrieve a small image of one projection by a fast method; of a series the middle one by default.

    Frames are binned until the image has at most 512 pixels a side, but only while a speckle keeps 3 pixels;
    the images are then averaged over blocks.
    Preprocessing is that of the configuration, method and options are not.
    """
    return preview_loaded(load_projection(parsed, number, tell), parsed.to_dict(), parsed.threads, tell)


def preview_loaded(
    loaded: LoadedProjection, configuration: Mapping[str, Any], threads: int | None, tell: Progress
) -> Retrieval:
    """Retrieve a small image of a projection that is loaded."""
    stack, experiment = loaded.stack, loaded.experiment
    size = preview_binning(stack)
    if size > 1:
        reference, weights = bin_frames(stack.reference, stack.weights, size=size)
        sample, _ = bin_frames(stack.sample, stack.weights, size=size)
        stack = SpeckleStack(reference, sample, weights)
        experiment = replace(experiment, pixel_size=experiment.pixel_size * size)
    used = min(stack.positions, max(2, _MOST_DATA // (stack.shape[0] * stack.shape[1])))
    total = stack.positions
    if used < total:
        few = None if stack.weights is None else stack.weights[:used]
        stack = SpeckleStack(stack.reference[:used], stack.sample[:used], few)
    tell(f"retrieving by {FAST_METHOD}", 0, 1)
    result = retrieve(stack, experiment, method=FAST_METHOD, threads=threads, **FAST_OPTIONS)
    rest = -(-max(stack.shape) // _LARGEST)
    if rest > 1:
        result = reduce_result(result, rest)
    joined = f" of frames binned {size} × {size}" if size > 1 else ""
    joined += f", averaged over {rest} × {rest} pixels" if rest > 1 else ""
    some = f", {used} of {total} positions" if used < total else ""
    text = f"preview by {FAST_METHOD}{joined}{some}; use {DEFAULT_METHOD} for quantitative images"
    provenance = {
        **result.provenance,
        **loaded.provenance,
        "preview": {"binning": size, "reduction": rest},
        "configuration": configuration,
    }
    return replace(result, findings=(finding("preview", text), *result.findings), provenance=provenance)


def write_preview(
    parsed: ParsedConfiguration,
    files: Sequence[Path],
    number: int | None = None,
    tell: Progress = lambda *_: None,
    errors: Sequence[ErrorRecord] = (),
) -> tuple[Retrieval, tuple[Path, ...]]:
    """Retrieve a preview and write it beside files as NAME.preview.EXT, which may replace only previews.

    Whether `files` exist does not matter. `errors` are raised with those that are found here.
    """
    problems = [problem for problem in parsed.problems if problem.path not in _NEEDLESS]
    bare = replace(parsed, problems=tuple(problems), method=None, options={}, files=())
    found = discover(bare)
    targets = [path.with_name(f"{path.stem}.preview{path.suffix}") for path in files]
    written = [part for path in targets for part in _parts(path)]
    wrong = [*parsed.named(found.errors), *overlap_errors(parsed, found.files, written).values()]
    for path in written:
        if path.exists() and not _is_preview(path):
            text = f"{path} exists and is not a preview; rename it"
            wrong.append(ErrorRecord("output-exists", text))
        else:
            wrong += target_errors(path, overwrite=True)
    raise_errors([*wrong, *errors])
    loaded = load_projection(bare, number, tell, found)
    result = preview_loaded(loaded, parsed.to_dict(), parsed.threads, tell)
    for path in targets:
        result.save(path, overwrite=True)
    return result, tuple(targets)


def _parts(path: Path) -> list[Path]:
    """Return the files that a preview may write under a name; a TIFF is one for each channel."""
    if path.suffix.lower() not in TIFF_ENDINGS:
        return [path]
    names = (*METHODS[FAST_METHOD].gives, *DERIVED, "flags")
    return [path.with_name(f"{path.stem}_{name}{path.suffix}") for name in names]


def _is_preview(path: Path) -> bool:
    """Return whether a file was written as a preview."""
    ending = path.suffix.lower()
    with suppress(InputError, OSError, ValueError):
        if ending in NEXUS_ENDINGS:
            from xmist.io.results.nexus_reader import read_nexus

            return "preview" in read_nexus(path).provenance
        if ending in TIFF_ENDINGS:
            import tifffile

            with tifffile.TiffFile(path) as file:
                return '"preview": {' in str((file.imagej_metadata or {}).get("Info", ""))
        return PREVIEW_MARK.encode("ascii") in path.read_bytes()
    return False


def preview_binning(stack: SpeckleStack) -> int:
    """Return the binning of a preview."""
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


def reduce_result(result: Retrieval, size: int) -> Retrieval:
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
