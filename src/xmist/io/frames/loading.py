"""Frames into memory: repeats averaged while reading, with the noise of the mean and a hash of each frame."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

from xmist.core.errors import ErrorRecord, InputError, raise_errors
from xmist.core.findings import Finding, finding, percent
from xmist.io.frames.positions import Position, format_position, group_alike, position_scale
from xmist.io.frames.series import FrameSeries
from xmist.io.frames.sources import Progress, listed
from xmist.numerics.images.patches import Place, places_of_patches
from xmist.numerics.images.raw_counts import RawCounts
from xmist.numerics.images.repeats import compare_frames

_LOOKED_AT: Final = 10_000  # pixels that show the noise
_SATURATED: Final = 0.01  # share of saturated pixels from which a result may suffer
_COMPARED: Final = 5  # repeats of a position that are compared with each other

Groups = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class LoadedFrames:
    """Frames in memory, one for each position of the diffuser.

    `invalid` are the pixels (position, y, x) whose raw counts are no measurements, None if there are none.
    """

    frames: NDArray[Any]
    variance: NDArray[Any] | None
    positions: tuple[Position, ...] | None
    digests: tuple[str, ...]
    invalid: NDArray[np.bool_] | None = None
    findings: tuple[Finding, ...] = ()

    @property
    def weights(self) -> NDArray[np.float32] | None:
        """Weights that are 0 at invalid pixels, else 1; None if all are 1."""
        return None if self.invalid is None else (~self.invalid).astype(np.float32)

    @property
    def relative_noise(self) -> float:
        """Median standard deviation of a pixel's mean over the median, as repeats show it; NaN without."""
        if self.variance is None:
            return math.nan
        skip = max(1, self.variance.size // _LOOKED_AT)
        spread = np.sqrt(self.variance.reshape(-1)[::skip])
        level = float(np.nanmedian(self.frames.reshape(-1)[::skip]))
        return float(np.nanmedian(spread)) / level if level > 0 else math.nan


def load_frames(
    series: FrameSeries,
    *,
    repeats: int | Literal["all"] = 1,
    groups: Sequence[Sequence[int]] | None = None,
    dtype: DTypeLike = np.float32,
    saturation: float | None = None,
    progress: Progress | None = None,
) -> LoadedFrames:
    """Read frames, one at a time, and average the repeats of each position of the diffuser.

    Pixels are saturated from `saturation` counts; None looks for a plateau. A pixel that is invalid in one
    repeat is invalid at its position.
    """
    kind = np.dtype(dtype)
    if kind not in (np.float32, np.float64):
        raise InputError(f"dtype is {kind}; expected float32 or float64", "value-invalid")
    chosen = group_repeats(series, repeats) if groups is None else tuple(map(tuple, groups))
    if not chosen or not all(chosen):
        text = f"{series.name}: no frames are selected; expected at least one per position"
        raise InputError(text, "frames-missing")
    repeated = any(len(group) > 1 for group in chosen)
    total = sum(map(len, chosen))
    try:
        frames = np.empty((len(chosen), *series.shape), kind)
        variance = np.empty_like(frames) if repeated else None
        digests: list[str] = []
        check = RawCounts(saturation)
        masks: dict[int, NDArray[np.bool_]] = {}
        order = [index for group in chosen for index in group]
        at = [place for place, group in enumerate(chosen) for _ in group]
        read = _checked(series, check, order, at, masks, digests)
        done = 0
        unlike: list[int] = []  # positions whose repeats are none
        places: list[Place] | None = None
        for place, group in enumerate(chosen):
            first = next(read)
            compared = set(np.linspace(0, len(group) - 1, _COMPARED).round().tolist())
            if len(group) > 1 and places is None:
                places = places_of_patches(first[None], None)
            parts = [cut_patches(first, places)] if len(group) > 1 and places else []
            # Deviations from the first repeat: equal repeats have a variance of exactly 0.
            sums = np.zeros((2, *series.shape)) if len(group) > 1 else None
            done += 1
            _report(progress, done, total)
            for number, frame in enumerate(islice(read, len(group) - 1), 1):
                assert sums is not None
                with np.errstate(invalid="ignore", over="ignore"):  # infinite pixels become NaN: no weight
                    deviation = np.subtract(frame, first, dtype=np.float64)
                    sums[0] += deviation
                    sums[1] += np.square(deviation, out=deviation)
                if parts and number in compared:
                    parts.append(cut_patches(frame, places or []))
                done += 1
                _report(progress, done, total)
            with np.errstate(over="ignore"):  # beyond float32 becomes inf, which is a bad pixel
                _finish(frames, variance, place, first, sums, len(group))
            if parts and compare_frames(parts, usable_patches(parts, masks.get(place), places or [])).unlike:
                unlike.append(place)
    except MemoryError as error:
        size = len(chosen) * math.prod(series.shape) * kind.itemsize * (2 if repeated else 1)
        raise InputError(
            f"{series.name}: {len(chosen)} frames of {series.shape[0]} × {series.shape[1]} pixels need "
            f"{size / 1e9:.1f} GB, more than this machine has; crop or bin them, or take fewer",
            code="memory-insufficient",
        ) from error
    for number in check.late():  # the limit was found in a later frame
        over = series.read(order[number]) >= check.level
        check.count("saturated", over)
        _join(masks, at[number], over)
    stuck = check.stuck()
    invalid = None
    if masks or stuck is not None:
        invalid = np.zeros(frames.shape, bool)
        for place, mask in masks.items():
            invalid[place] = mask
        if stuck is not None:
            invalid |= stuck
    positions = series.positions
    kept = None if positions is None else tuple(positions[group[0]] for group in chosen)
    findings = _raw_findings(series.name, check, total * math.prod(series.shape))
    if any(series.locate(index)[0].inverted for index in order):
        most = np.iinfo(series.dtype).max
        text = (
            f"{series.name}: frames are stored as MinIsWhite (0 is white): a value v was read as {most} − v; "
            "if the values are counts, set the tag PhotometricInterpretation to 1 (MinIsBlack)"
        )
        findings = (finding("frames-inverted", text), *findings)
    if unlike:
        findings = (*findings, _unlike_finding(series.name, unlike, len(chosen)))
    return LoadedFrames(frames, variance, kept, tuple(digests), invalid, findings)


def group_repeats(series: FrameSeries, repeats: int | Literal["all"] = 1) -> Groups:
    """Return the frames of each position of the diffuser: its repeats."""
    count = len(series)
    if repeats == "all":
        return (tuple(range(count)),)
    if isinstance(repeats, bool) or not isinstance(repeats, int) or repeats < 1:
        raise InputError(
            f"repeats is {repeats!r}; expected a whole number from 1, the number of frames per position",
            code="value-invalid",
        )
    groups = _by_position(series)
    if groups is None:
        if count % repeats:
            raise InputError(
                f"{series.name}: {count} frames are not a multiple of repeats = {repeats}; expected "
                f"{repeats} frames for each position of the diffuser",
                code="frames-unequal-numbers",
            )
        return tuple(tuple(range(start, start + repeats)) for start in range(0, count, repeats))
    if repeats > 1:
        assert series.positions is not None
        texts = [
            f"{series.name}: the headers give {len(group)} frame{'s' if len(group) > 1 else ''} at "
            f"{format_position(series.position_keys, series.positions[group[0]])} "
            f"({listed([series.label(index) for index in group], most=3)}); repeats = {repeats} "
            f"expects {repeats}"
            for group in groups
            if len(group) != repeats
        ]
        raise_errors([ErrorRecord("frames-unequal-numbers", text) for text in texts])
    return groups


def _by_position(series: FrameSeries) -> Groups | None:
    """Group frames by the headers' positions, where these tell positions apart."""
    positions = series.positions
    if positions is None:
        return None
    groups = group_alike(positions, position_scale(positions))
    if len(groups) == 1 and not series.position_asked:
        return None  # a motor that happens to be called like this, and did not move
    return tuple(map(tuple, groups))


def frame_digest(frame: NDArray[Any]) -> str:
    """Return the SHA-256 of a frame as it is stored."""
    return hashlib.sha256(np.ascontiguousarray(frame).data).hexdigest()


def _checked(
    series: FrameSeries,
    check: RawCounts,
    order: Sequence[int],
    at: Sequence[int],
    masks: dict[int, NDArray[np.bool_]],
    digests: list[str],
) -> Iterator[NDArray[Any]]:
    """Yield frames; add the hash of each as it is stored, and its invalid pixels to those of its position."""
    for index, place, frame in zip(order, at, series.frames(order), strict=True):
        digests.append(frame_digest(frame))
        mask = check.invalid(frame, f"{series.name}: {series.label(index)}")
        if mask is not None:
            _join(masks, place, mask)
        yield frame


def _join(masks: dict[int, NDArray[np.bool_]], place: int, mask: NDArray[np.bool_]) -> None:
    masks[place] = masks[place] | mask if place in masks else mask


def cut_patches(frame: NDArray[Any], places: Sequence[Place]) -> NDArray[np.float32]:
    """Return the patches (patch, y, x) of a frame."""
    return np.stack([frame[place] for place in places]).astype(np.float32)


def usable_patches(
    parts: Sequence[NDArray[Any]], mask: NDArray[np.bool_] | None, places: Sequence[Place]
) -> list[NDArray[np.bool_]]:
    """Return which pixels of patches have a value and are not masked."""
    invalid = False if mask is None else np.stack([mask[place] for place in places])
    return [np.isfinite(part) & ~np.asarray(invalid) for part in parts]


def _unlike_finding(name: str, positions: Sequence[int], count: int) -> Finding:
    text = (
        f"{name}: the frames that are averaged at {len(positions)} of {count} positions differ by more than "
        f"noise (positions {listed(positions)}), as frames of different positions or projections do: the "
        "axes or the number of repeats are wrong, or something moved meanwhile"
    )
    return finding("repeats-differ", text)


def _raw_findings(name: str, check: RawCounts, pixels: int) -> tuple[Finding, ...]:
    """Return findings about the raw counts of frames; `pixels`: their number in all frames."""
    findings = []
    for kind, number in check.counts.items():
        share = f"{percent(number / pixels)} of the pixels"
        if kind == "marked":
            findings.append(finding("pixels-marked", f"{name}: {share} hold a mark of the detector; masked"))
        elif kind == "stuck":
            text = f"{name}: {number} pixels have the same count in all frames; masked"
            findings.append(finding("pixels-stuck", text))
        else:
            code = "saturated" if number > _SATURATED * pixels else "pixels-saturated"
            text = f"{name}: {share} are saturated, at {check.level:.6g} counts or above; masked"
            findings.append(finding(code, text))
    return tuple(findings)


def _finish(
    frames: NDArray[Any],
    variance: NDArray[Any] | None,
    place: int,
    first: NDArray[Any],
    sums: NDArray[np.float64] | None,
    count: int,
) -> None:
    """Store the mean of a position's repeats, and the variance of the mean."""
    if sums is None:
        frames[place] = first
        if variance is not None:
            variance[place] = np.nan
        return
    assert variance is not None
    with np.errstate(invalid="ignore"):
        mean = sums[0] / count
        spread = np.maximum(sums[1] - sums[0] * mean, 0.0)
        frames[place] = np.add(mean, first, out=mean)
        variance[place] = np.divide(spread, count * (count - 1.0), out=spread)


def _report(progress: Progress | None, done: int, total: int) -> None:
    if progress is not None:
        progress(done, total)
