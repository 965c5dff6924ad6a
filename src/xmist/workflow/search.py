"""Find the frames of a configuration by their headers: a table of the references and one of the sample."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from xmist.core.errors import ErrorRecord, InputError, raise_errors
from xmist.core.findings import Finding, finding
from xmist.io.frames.axes import Axes
from xmist.io.frames.pairing import pair_frames
from xmist.io.frames.positions import (
    Position,
    find_alike,
    format_position,
    group_alike,
    position_in,
    position_scale,
)
from xmist.io.frames.series import FrameSeries, open_frames
from xmist.io.frames.sources import Source, listed
from xmist.methods import is_quick_look, least_positions
from xmist.workflow.configuration import ParsedConfiguration
from xmist.workflow.frames import FrameReader, FrameTable, open_tolerant
from xmist.workflow.outputs import ROLES
from xmist.workflow.placement import FrameRequest, place_frames
from xmist.workflow.rotation import (
    Angles,
    angle_files,
    angle_findings,
    fit_angles,
    known_angles,
    padded_angles,
)
from xmist.workflow.schema import InputSection
from xmist.workflow.stepping import place_stepped

T = TypeVar("T")


@dataclass
class FrameSearch:
    """Frames and errors that were found so far."""

    parsed: ParsedConfiguration
    before: Collection[int] = ()
    growing: bool = False
    errors: list[ErrorRecord] = field(default_factory=list)
    reference: FrameTable | None = None
    sample: FrameTable | None = None
    header: Source | None = None
    known: Angles | None = None
    angles: Angles | None = None
    findings: list[Finding] = field(default_factory=list)
    sample_positions: NDArray[np.float64] | None = None

    def attempt(self, task: Callable[[], T]) -> T | None:
        """Run a part of the search; None if it has errors, which are collected."""
        try:
            return task()
        except InputError as error:
            self.errors += error.records
            return None


def open_still(found: FrameSearch) -> dict[str, FrameSeries]:
    """Open the dark and the flat frames."""
    still: dict[str, FrameSeries] = {}
    for role in ("dark", "flat"):
        spec = getattr(found.parsed.input, role)
        name = found.parsed.name_of(f"input.{role}")
        if spec is not None:
            axes = found.parsed.input.sample_axes
            # Arrays whose axes have another order come from one program.
            axes = None if axes is None or axes[-2:] == ("y", "x") else _still_axes(axes)
            place: dict[str, Any] = {"folder": found.parsed.folder, "links": found.parsed.input.links}
            task = partial(open_frames, spec, name=name, axes=axes, **place)
            series = found.attempt(task)
            if series is not None:
                still[role] = series
                found.findings += _mixed_findings(series)
    return still


def _mixed_findings(series: FrameSeries) -> list[Finding]:
    """Return findings about files whose frames are of several kinds but are used together."""
    texts = filter(None, (getattr(source, "finding_text", "") for source in series.sources))
    return [finding("image-keys-mixed", f"{series.name}: {text}") for text in texts][:1]


def find_single(found: FrameSearch) -> None:
    """Find the frames of one projection: every file is opened, and pairs must be complete."""
    parsed = found.parsed
    if parsed.input.sample_positions is not None:
        stepped = found.attempt(lambda: place_stepped(parsed))
        if stepped is not None:
            found.reference, found.sample, found.sample_positions = stepped
            found.header = found.attempt(partial(open_tolerant, stepped[0].addresses[0]))
        return
    if parsed.input.sample_axes or parsed.input.reference_axes or _has_places(parsed.input):
        _find_placed(found)
        return
    both: dict[str, FrameSeries] = {}
    for role in ROLES[:2]:
        spec = getattr(parsed.input, role)
        name = parsed.name_of(f"input.{role}")
        if spec is not None:
            place: dict[str, Any] = {
                "folder": parsed.folder,
                "position_key": parsed.input.position_key,
                "links": parsed.input.links,
            }
            series = found.attempt(partial(open_frames, spec, name=name, **place))
            if series is not None:
                both[role] = series
                found.findings += _mixed_findings(series)
                found.header = found.header or (series.sources[0] if role == "reference" else None)
    if len(both) < 2:
        for role, series in both.items():  # so that what follows from its shape is checked
            setattr(found, role, FrameTable.of_groups(series, [range(len(series))]))
        return
    reference, sample = both["reference"], both["sample"]
    if any(source.sizes != (source.count,) for each in both.values() for source in each.sources):
        _find_placed(found)  # the files state their axes
        return
    same = {source.label for source in reference.sources} & {source.label for source in sample.sources}
    pairing = None
    if same:
        text = (
            f"{listed(sorted(same))} is in {reference.name} and in {sample.name}; expected different frames"
        )
        found.errors.append(ErrorRecord("frames-shared", text))
    else:
        pairing = found.attempt(lambda: pair_frames(reference, sample, repeats=parsed.input.repeats))
    groups = (
        (pairing.reference, pairing.sample)
        if pairing
        else ([range(len(each))] for each in (reference, sample))
    )
    tables = [
        FrameTable.of_groups(each, group) for each, group in zip((reference, sample), groups, strict=True)
    ]
    found.reference, found.sample = tables
    if pairing is not None:
        _check_positions(found, len(pairing), f"{reference.name} has")


def _still_axes(axes: Axes) -> Axes:
    """Return the axes of a sample with one that counts frames, in the place of the last that does."""
    counted = [place for place, axis in enumerate(axes) if axis not in ("y", "x")]
    if not counted:
        return ("repeat", *axes)
    return tuple(
        "repeat" if place == counted[-1] else axis
        for place, axis in enumerate(axes)
        if place not in counted[:-1]
    )


def _has_places(frames: InputSection) -> bool:
    names = (*(frames.reference or ()), *(frames.sample or ()))
    return any("{position}" in name or "{repeat}" in name for name in names)


def _find_placed(found: FrameSearch) -> None:
    """Find the frames of one projection by stated axes or by the numbers in the names of files."""
    parsed = found.parsed
    reference = _place_reference(found, 1)
    if reference is None:
        return
    positions = reference.positions
    _check_positions(found, positions, f"{reference.name} has")
    request = FrameRequest.of(parsed, "sample", count=1, positions=positions)
    sample = found.attempt(partial(place_frames, request))
    for table in (reference, sample):
        found.errors += [] if table is None else table.missing_errors
    if sample is not None and parsed.input.position_key and not reference.missing:
        pair = found.attempt(partial(pair_positions, reference, sample, parsed.input.position_key))
        reference, sample = pair or (reference, sample)
    found.reference, found.sample = reference, sample
    found.header = found.attempt(partial(open_tolerant, reference.addresses[0]))


def _place_reference(found: FrameSearch, sets: int) -> FrameTable | None:
    """Place the references of so many sets."""
    parsed, frames, section = found.parsed, found.parsed.input, found.parsed.series_section
    request = FrameRequest.of(
        parsed,
        "reference",
        repeats=section.reference_repeats or frames.repeats,
        any_repeats=section.reference_repeats is None and frames.repeats == 1,
        count=sets,
    )
    return found.attempt(partial(place_frames, request))


def _check_positions(found: FrameSearch, positions: int, what: str) -> None:
    method = found.parsed.method
    least = least_positions(method, found.parsed.options or {}) if method else 1
    if positions < least:
        number = f"{positions} position{'s' * (positions > 1)} of the diffuser"
        text = f"{what} {number}; {method} needs at least {least}: add positions, or choose another method"
        found.errors.append(ErrorRecord("positions-too-few", text))


def find_series(found: FrameSearch) -> None:
    """Find the frames of many projections; missing frames are noted for their projection."""
    parsed, section, frames = found.parsed, found.parsed.series_section, found.parsed.input
    if not (frames.reference and frames.sample):
        return
    if frames.sample_positions is not None:
        text = "sample_positions are given for a series; expected a single projection"
        found.errors.append(ErrorRecord("option-conflict", text))
    if is_quick_look(parsed.options or {}):
        text = "region and stride are for a single projection; for a series use the steps crop and bin"
        found.errors.append(ErrorRecord("option-conflict", text))
    times = section.reference_at or (0.0,)
    found.known = found.attempt(lambda: known_angles(section.angles, parsed.folder, parsed.input.links))
    reference = _place_reference(found, len(times))
    if reference is None:
        return
    found.errors += reference.missing_errors
    _check_positions(found, reference.positions, f"{reference.name} has in {len(times)} sets")
    sample = found.attempt(partial(_place_sample, found, reference))
    # A single position cannot be confused with another.
    if sample is not None and not reference.missing and frames.position_key and reference.positions > 1:
        pair = found.attempt(partial(pair_positions, reference, sample, frames.position_key))
        reference, sample = pair or (reference, sample)
    found.reference, found.sample = reference, sample
    numbers = (reference.places[..., 0] >= 0).sum(axis=2)
    if numbers.min() < numbers.max() and not reference.missing:
        text = f"{reference.name}: {numbers.min()} to {numbers.max()} frames at a position; each averaged"
        found.findings.append(finding("repeats-unequal", text))
    found.header = found.attempt(partial(open_tolerant, reference.addresses[0]))
    if sample is not None:
        known = found.known
        if found.growing and known is not None:
            known = padded_angles(known, sample)
        fitted = found.attempt(partial(fit_angles, section.angles, known, sample, parsed.folder))
        if fitted is not None:
            found.angles, sample = fitted
            found.sample = sample
            if found.angles is not None:
                found.findings += angle_findings(section.angles, parsed.folder, sample, found.angles, known)
        by_number = isinstance(section.angles, Mapping) or (
            found.known is not None and found.known.size == sample.count
        )
        if sample.numbering.doubt and (by_number or len(times) > 1 or section.warm_start):
            text = f"{sample.name}: {sample.numbering.doubt}; the angles are those of numbers from "
            text += f"{sample.numbering.first} on"
            found.findings.append(finding("projection-numbers", text))
    found.findings += [
        finding("image-keys-mixed", f"{table.name}: {table.finding_text}")
        for table in (reference, sample)
        if table and table.finding_text
    ]


def _place_sample(found: FrameSearch, reference: FrameTable) -> FrameTable:
    """Place the projections; if there are more angles than projections, the last ones are missing."""
    parsed, section, known = found.parsed, found.parsed.series_section, found.known
    request = FrameRequest.of(
        parsed,
        "sample",
        positions=reference.positions,
        first=section.first,
        position_numbers=reference.position_numbers,
        before=found.before,
        growing=found.growing,
    )
    if section.expected is not None:
        return place_frames(dataclasses.replace(request, count=section.expected))
    if isinstance(section.angles, tuple) and not angle_files(section.angles) and known is not None:
        return place_frames(dataclasses.replace(request, count=known.size))
    table = place_frames(request)
    frames = table.places[..., 0].size
    if known is not None and known.size > table.count and known.size != frames:
        keyed = next((address.key for address in table.addresses if address.key), None)
        if keyed and not str(section.angles).endswith("]"):
            raise InputError(
                f"series.angles: {section.angles} gives {known.size} angles, and {keyed} chooses "
                f"{table.count} projections of input.sample; expected the angles of the same frames: "
                f"{section.angles}{keyed}",
                code="angles-unequal-number",
            )
        return place_frames(dataclasses.replace(request, count=known.size))
    return table


def pair_positions(
    reference: FrameTable, sample: FrameTable, keys: Sequence[str]
) -> tuple[FrameTable, FrameTable]:
    """Order references and projections by the positions of the diffuser in the headers of their frames.

    The order is that of the first set of references. A projection that lacks a position of the references, or
    whose headers cannot be read, counts as missing.
    """
    ours, wrong = _read_positions(reference, keys)
    raise_errors([ErrorRecord("positions-mismatch", f"{reference.name}: {text}") for text in wrong.values()])
    theirs, missing = _read_positions(sample, keys)
    scale = position_scale([position for frames in (*ours, *theirs) for position in frames])
    order = [ours[0][group[0]] for group in group_alike(ours[0], scale)]
    if len(order) != reference.positions:
        raise InputError(
            f"{reference.name}: the headers of a set of {len(ours[0])} frames give {len(order)} positions of "
            f"the diffuser ({listed([format_position(keys, position) for position in order], 3)}); expected "
            f"{reference.positions} (series.reference_repeats, series.reference_at)",
            code="positions-mismatch",
        )
    ordered, wrong = _in_order(reference, ours, order, scale, keys)
    raise_errors([ErrorRecord("positions-mismatch", f"{reference.name}: {text}") for text in wrong.values()])
    projections, unlike = _in_order(sample, theirs, order, scale, keys)
    missing = {**sample.missing, **missing, **unlike}
    if len(missing) == sample.count:
        raise InputError(
            f"{sample.name}: no projection can be paired with the references by position_key "
            f"({missing[min(missing)]})",
            code="positions-mismatch",
        )
    return ordered, dataclasses.replace(projections, missing=dict(sorted(missing.items())))


def _read_positions(table: FrameTable, keys: Sequence[str]) -> tuple[list[list[Position]], dict[int, str]]:
    """Read the position of every frame; none where frames are missing, and where an error says why."""
    positions: list[list[Position]] = []
    errors: dict[int, str] = {}
    with FrameReader(table) as reader:
        for index in range(table.count):
            found: list[Position] = []
            positions.append(found)
            if index in table.missing:
                continue
            try:
                for number, frame in table.places[index].reshape(-1, 2).tolist():
                    if number >= 0:
                        label = str(table.addresses[number])
                        found.append(position_in(reader.header(number, frame), keys, label))
            except InputError as error:
                found.clear()
                errors[index] = error.records[0].message
    return positions, errors


def _in_order(
    table: FrameTable,
    positions: Sequence[Sequence[Position]],
    order: Sequence[Position],
    scale: Sequence[float],
    keys: Sequence[str],
) -> tuple[FrameTable, dict[int, str]]:
    """Order frames by their positions; errors say where there are too few or too many at one."""
    places = table.places.copy()
    repeats = places.shape[2]
    errors: dict[int, str] = {}
    for index, found in enumerate(positions):
        frames = table.places[index].reshape(-1, 2)
        frames = frames[frames[:, 0] >= 0]
        for place, position in enumerate(order if found else ()):
            alike = find_alike(position, found, scale)
            if len(alike) != repeats:
                errors[index] = (
                    f"{table.addresses[int(frames[0, 0])]} and what belongs to it: {len(alike)} frames at "
                    f"{format_position(keys, position)}, as the references have it; expected {repeats}"
                )
                break
            places[index, place] = frames[alike]
    return dataclasses.replace(table, places=places), errors
