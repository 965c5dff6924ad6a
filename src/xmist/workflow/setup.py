"""Data that all projections share, read once: references, dark, flat, angles, experiment."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from xmist.core.arrays import Image
from xmist.core.errors import InputError, prefixed
from xmist.core.experiment import Experiment
from xmist.core.findings import Finding, finding
from xmist.core.progress import Progress
from xmist.io.frames.loading import LoadedFrames, cut_patches, usable_patches
from xmist.numerics.images.patches import places_of_patches
from xmist.numerics.images.raw_counts import RawCounts
from xmist.numerics.images.repeats import alike_in_groups, change_within, compare_frames
from xmist.preprocess import find_bad_pixels
from xmist.preprocess.drift import correct_drift, measure_drift
from xmist.preprocess.frames import median_level, without_hidden
from xmist.preprocess.steps import FrameSteps, prepare_frame_steps
from xmist.workflow.beam import BeamSource
from xmist.workflow.discovery import Discovery
from xmist.workflow.frames import FrameReader, FrameTable, read_still
from xmist.workflow.rotation import Angles

# Repeats of each of two projections that are compared, and projections without repeats.
_COMPARED: Final = 6
_ALIKE: Final = 12


@dataclass(frozen=True, kw_only=True, eq=False)
class References:
    """Sets of references (set, position, y, x) taken at times: one, the nearest, or two interpolated.

    The time of a set counts the projections before it. Between two sets the speckles of both are moved by
    `shifts`, (set − 1, position, 2) in pixels, to where they were, and mixed linearly. `beam` (set, position)
    is their flux, where the files state it.
    """

    sets: Image
    weights: Image | None
    times: tuple[float, ...]
    between: Literal["linear", "nearest"]
    shifts: NDArray[np.float64] | None
    beam: NDArray[np.float64] | None = None
    _kept: dict[str, Any] = field(default_factory=dict, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return {item.name: getattr(self, item.name) for item in dataclasses.fields(self)} | {"_kept": {}}

    def key(self, projection: int) -> float:
        """Return the time of a projection counted in sets; equal times share references."""
        # Numbers of projections are whole, and a projection lies between two of them.
        time = projection + 0.5
        times = self.times
        if len(times) == 1 or time <= times[0]:
            return 0.0
        if time >= times[-1]:
            return float(len(times) - 1)
        before = int(np.searchsorted(times, time, "right")) - 1
        part = (time - times[before]) / (times[before + 1] - times[before])
        if self.between == "nearest":
            part = float(part > 0.5)
        return before + part

    def at(self, projection: int) -> tuple[Image, Image | None]:
        """Return references (position, y, x) and their weights for the time of a projection."""
        key = self.key(projection)
        kept = self._kept.get("made")
        if kept is None or kept[0] != key:
            kept = (key, *self._make(key))
            self._kept["made"] = kept
        return kept[1], kept[2]

    def beam_at(self, projection: int) -> NDArray[np.float64] | None:
        """Return the flux (position,) of the references for a projection, None if it is not known."""
        if self.beam is None:
            return None
        key = self.key(projection)
        before, part = int(key), key - int(key)
        first: NDArray[np.float64] = self.beam[before]
        if part > 0.0:
            first = (1.0 - part) * first + part * self.beam[before + 1]
        return first

    def _make(self, key: float) -> tuple[Image, Image | None]:
        before, part = int(key), key - int(key)
        if part == 0.0:
            return self.sets[before], None if self.weights is None else self.weights[before]
        assert self.shifts is not None
        assert self.weights is not None
        shift = self.shifts[before]
        first, seen = correct_drift(self.sets[before], part * shift, self.weights[before])
        second, also = correct_drift(self.sets[before + 1], (part - 1.0) * shift, self.weights[before + 1])
        return first * np.float32(1.0 - part) + second * np.float32(part), np.minimum(seen, also)


@dataclass(frozen=True, kw_only=True, eq=False)
class SeriesSetup:
    """Everything that is read before the first projection; a single projection is a series of length one.

    `table` holds the frames of all projections, of which those at `chosen` are to be retrieved; the
    references have gone through the steps for single frames. `digests` hold name and SHA-256 of every frame
    that was read, by role. `saturation` is the count from which a pixel is saturated, None if it is to be
    found.
    """

    table: FrameTable
    chosen: range
    references: References
    steps: FrameSteps
    angles: Angles | None
    experiment: Experiment
    shape: tuple[int, int]
    findings: tuple[Finding, ...]
    digests: Mapping[str, list[dict[str, str]]]
    noise: Mapping[str, float]
    saturation: float | None = None
    sample_positions: NDArray[np.float64] | None = None  # (position, 2) of a sample that moves
    beam: BeamSource = field(default_factory=BeamSource)

    @property
    def complete(self) -> list[int]:
        """The projections to retrieve that have all frames, as far as is known."""
        return [index for index in self.chosen if index not in self.table.missing]


def read_setup(discovery: Discovery, tell: Progress) -> SeriesSetup:
    """Read the references, dark and flat frames of a discovery without errors."""
    config = discovery.parsed.finish()
    section = config.series_section
    table, reference = discovery.sample, discovery.reference
    assert table is not None  # there are no errors
    assert reference is not None
    assert discovery.shape is not None

    def part(what: str) -> Callable[[int, int], object]:
        return lambda done, total: tell(what, done, total)

    digests: dict[str, list[dict[str, str]]] = {}
    sets: list[Image] = []
    weights: list[Image | None] = []
    findings: list[Finding] = []
    noise: dict[str, float] = {}
    beams: list[NDArray[np.float64] | None] = []
    saturation = next(
        (given.get("saturation") for name, given in config.preprocess if name == "bad-pixels"), None
    )
    with FrameReader(reference, saturation) as reader:
        for number in range(reference.count):
            loaded = reader.read(number, part("reading reference"))
            sets.append(loaded.frames)
            weights.append(loaded.weights)
            findings += loaded.findings
            beams.append(discovery.beam.read(reader, number))
            digests.setdefault("reference", []).extend(named_digests(reader.names(number), loaded))
            if np.isfinite(loaded.relative_noise):
                noise["reference"] = loaded.relative_noise
            del loaded
    findings += _repeat_findings(table, range(discovery.first, discovery.last))
    images: dict[str, Image] = {}
    for role, series in discovery.still.items():
        still = read_still(series, part(f"reading {role}"))
        images[role] = still.frames
        digests[role] = named_digests([series.label(index) for index in range(len(series))], still)
    dark, flat = images.get("dark"), images.get("flat")
    if weights[0] is not None:
        dark, flat = (None if one is None else without_hidden(one, weights[0]) for one in (dark, flat))
    steps = prepare_frame_steps(discovery.steps, dark, flat, median_level(sets[0]))
    sets = [steps(frames) for frames in sets]
    weights = [None if each is None else steps.crop(each) for each in weights]
    return SeriesSetup(
        table=table,
        chosen=range(discovery.first, discovery.last),
        references=dataclasses.replace(
            _references(sets, weights, steps.rest, section.reference_at or (0.0,), section.between),
            beam=None if any(beam is None for beam in beams) else np.array(beams, np.float64),
        ),
        steps=steps,
        angles=discovery.angles,
        experiment=discovery.experiment,
        shape=discovery.shape,
        findings=(*discovery.findings, *dict.fromkeys(findings), *steps.findings),
        digests=digests,
        noise=noise,
        saturation=saturation,
        sample_positions=discovery.sample_positions,
        beam=discovery.beam,
    )


def _repeat_findings(table: FrameTable, chosen: range) -> list[Finding]:
    """Return whether frames of one position tell that repeats are none, or that projections are repeats."""
    repeats = table.places.shape[2]
    there = [index for index in chosen if index not in table.missing]
    pair = next((index for index in there if index + 1 in there), None)
    indices = there[:1] if pair is None else [pair, pair + 1]
    if repeats == 1:
        indices = there[:_ALIKE]
    frames: list[NDArray[Any]] = []
    numbers: list[int] = []
    with FrameReader(table) as reader, suppress(InputError):  # a projection that cannot be read is flagged
        for index in indices:
            for repeat in np.unique(np.linspace(0, repeats - 1, _COMPARED).round().astype(int)).tolist():
                frames.append(reader.raw(index, repeat))
                numbers.append(index * repeats + repeat)
    if len(frames) < 3 or not (places := places_of_patches(frames[0][None], None)):
        return []
    counts = RawCounts()
    masks = [mask for frame in frames if (mask := counts.invalid(frame, table.name)) is not None]
    parts = [cut_patches(frame, places) for frame in frames]
    found = compare_frames(parts, usable_patches(parts, np.any(masks, axis=0) if masks else None, places))
    if repeats == 1:
        size = alike_in_groups(found)
        text = (
            f"{table.name}: each {size} projections in a row show the same, and then comes another one; if "
            f"they are repeats, give repeats = {size} in [input]"
        )
        return [finding("projections-alike", text)] if size > 1 else []
    if not change_within(found, numbers, [number // repeats for number in numbers]):
        return []
    text = (
        f"{table.name}: the {repeats} frames that are averaged at a position change from one to the next as "
        f"much as from projection to projection (at projection {table.numbers[indices[0]]}): the axes or the "
        "number of repeats are wrong, or something moved meanwhile"
    )
    return [finding("repeats-differ", text)]


def named_digests(names: Sequence[str], loaded: LoadedFrames) -> list[dict[str, str]]:
    """Return name and SHA-256 of every frame that was read."""
    return [{"name": name, "sha256": digest} for name, digest in zip(names, loaded.digests, strict=True)]


def _references(
    sets: list[Image],
    given: list[Image | None],
    steps: Sequence[tuple[str, Mapping[str, Any]]],
    times: tuple[float, ...],
    between: Literal["linear", "nearest"],
) -> References:
    """Join the sets of references, and register those that will be interpolated."""
    joined = sets[0][None] if len(sets) == 1 else np.stack(sets)
    joined = joined.astype(np.float32, copy=False)
    weights = shifts = None
    if any(each is not None for each in given):
        weights = np.stack(
            [np.ones(joined.shape[1:], np.float32) if each is None else each for each in given]
        )
    if len(times) > 1 and between == "linear":
        chosen = [options for name, options in steps if name == "bad-pixels"]
        weights = np.ones_like(joined) if weights is None else weights
        if chosen:
            # Saturation was found in raw counts; these frames may have gone through steps.
            options = dict(chosen[0]) | {"saturation": None}
            weights = np.stack(
                [find_bad_pixels(*each, **options) for each in zip(joined, weights, strict=True)]
            )
        shifts = measure_shifts(joined, weights)
    return References(sets=joined, weights=weights, times=tuple(times), between=between, shifts=shifts)


def measure_shifts(sets: Image, weights: Image) -> NDArray[np.float64]:
    """Measure how far the speckles moved from each set to the next, (set − 1, position, 2) in pixels."""
    shifts = []
    for number in range(len(sets) - 1):
        joint = np.minimum(weights[number], weights[number + 1])
        try:
            shifts.append(measure_drift(sets[number], sets[number + 1], joint))
        except InputError as error:
            hint = '(series.between = "nearest" needs no registration)'
            records = [
                dataclasses.replace(record, message=f"{record.message} {hint}") for record in error.records
            ]
            raise InputError(prefixed(f"references of sets {number} and {number + 1}: ", records)) from error
    return np.stack(shifts)
