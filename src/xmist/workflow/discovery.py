"""Discover the frames of a configuration by their headers: what is there, how it is paired, every error."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from xmist.core.arrays import SMALLEST_FRAME
from xmist.core.errors import ErrorRecord, InputError, prefixed, raise_errors
from xmist.core.experiment import Experiment
from xmist.core.findings import Finding, finding
from xmist.io.frames.addresses import Address, find_addresses, split_address
from xmist.io.frames.axes import Axes
from xmist.io.frames.geometry import Offer, offer_geometry
from xmist.io.frames.pairing import pair_frames
from xmist.io.frames.positions import (
    Position,
    find_alike,
    find_value,
    format_position,
    group_alike,
    position_in,
    position_scale,
)
from xmist.io.frames.series import FrameSeries, open_frames
from xmist.io.frames.sources import Source, listed
from xmist.methods import least_positions
from xmist.preprocess import make_step_options
from xmist.preprocess.frames import box_slices
from xmist.workflow.beam import BeamSource, Steps, survey_beam
from xmist.workflow.configuration import ParsedConfiguration
from xmist.workflow.frames import FrameReader, FrameTable, open_tolerant
from xmist.workflow.outputs import ROLES, output_errors
from xmist.workflow.placement import place_frames
from xmist.workflow.rotation import (
    RADIANS,
    Angles,
    angle_datasets,
    header_angles,
    neighbour_angles,
    order_by_angle,
    stack_angles,
)
from xmist.workflow.schema import InputSection
from xmist.workflow.stepping import place_stepped

T = TypeVar("T")
# A header and a configuration that differ by more do not mean the same set-up.
_AGREEMENT: Final = 0.01
# Longer ones exist, but millimetres that are taken for metres are more frequent.
_USUAL: Final = {
    "pixel_size": (2e-8, 2e-4, "5.8 µm is 5.8e-6"),
    "sample_to_detector": (1e-3, 15.0, "50 cm is 0.5"),
    "source_to_sample": (1e-3, 1000.0, "50 cm is 0.5"),
}
_MOST_ANGLES: Final = 10_000_000
_DEGREES: Final = {"deg", "degree", "degrees", "°"}
# A range of so many degrees, within this part, may be half a turn or a turn in radians.
_TURNS: Final = (math.pi, 2.0 * math.pi)
_NEAR: Final = 0.03


@dataclass(frozen=True, kw_only=True, eq=False)
class Discovery:
    """What the headers tell of a configuration; parts that have an error are None.

    `reference` is a table of sets of references, `sample` of all projections, of which `first` to `last` are
    retrieved. `shape` and `binning` are those of the prepared frames; `steps` may have one more than the
    configuration, for which `beam` says where the flux comes from.
    """

    parsed: ParsedConfiguration
    reference: FrameTable | None
    sample: FrameTable | None
    still: Mapping[str, FrameSeries]
    angles: Angles | None
    first: int
    last: int
    shape: tuple[int, int] | None
    binning: int
    sample_positions: NDArray[np.float64] | None  # (position, 2) of a sample that moves, in prepared pixels
    beam: BeamSource
    steps: Steps
    errors: tuple[ErrorRecord, ...]
    findings: tuple[Finding, ...]

    @property
    def experiment(self) -> Experiment:
        """The experiment with the pixel of the prepared frames."""
        experiment = self.parsed.experiment
        assert experiment is not None  # there is no error
        return dataclasses.replace(experiment, pixel_size=experiment.pixel_size * self.binning)

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that are read, as far as they are known."""
        tables = [table.files for table in (self.reference, self.sample) if table is not None]
        return (*(path for files in tables for path in files), *self.still_files)

    @property
    def still_files(self) -> tuple[Path, ...]:
        """Files of dark and flat frames."""
        return tuple(path for series in self.still.values() for path in series.files)

    def read_from(self) -> str:
        """Return from which files the frames are read, for a message about them."""
        tables: list[FrameTable | FrameSeries] = [*self.still.values()]
        tables[:0] = [table for table in (self.reference, self.sample) if table is not None]
        return "; ".join(f"{each.name}: {listed(each.files, 2)}" for each in tables)


@dataclass
class _Found:
    """What is found while errors are collected."""

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
        try:
            return task()
        except InputError as error:
            self.errors += error.records
            return None


def discover(parsed: ParsedConfiguration, known: Collection[int] = (), *, growing: bool = False) -> Discovery:
    """Find the frames of a configuration; all errors are listed in what is returned, none is raised.

    `known` are the numbers of projections that were there before; `growing`: more frames are being recorded.
    """
    found = _Found(parsed, known, growing)
    still = _open_still(found)
    (_find_series if parsed.is_series else _find_single)(found)
    reference, sample = found.reference, found.sample
    offers = () if found.header is None else offer_geometry(found.header)
    first = reference or sample
    _check_tables(found, still)
    found.findings += _axes_findings(found)
    steps: Steps = parsed.preprocess or ()
    beam = BeamSource()
    if reference is not None and sample is not None and not found.errors and parsed.preprocess is not None:
        surveyed = found.attempt(partial(survey_beam, reference, sample, still, steps))
        if surveyed is not None:
            beam, steps, noticed = surveyed
            found.findings += noticed
    shape, binning = _prepared_shape(parsed, None if first is None else first.shape, found.errors)
    start, stop = 0, 0
    if sample is not None:
        start, stop = 0, sample.count
        part = parsed.series_section.projections if parsed.is_series else None
        if part is not None:
            start, stop = np.searchsorted(sample.numbers, part).tolist()
            if part[1] > sample.numbers[-1] + 1 or start == stop:
                text = (
                    f"series.projections is {list(part)}; expected numbers from {sample.numbers[0]} to "
                    f"{sample.numbers[-1] + 1}"
                )
                found.errors.append(ErrorRecord("value-invalid", text))
    files = [path for table in (reference, sample) if table is not None for path in table.files]
    files += [path for series in still.values() for path in series.files]
    return Discovery(
        parsed=parsed,
        reference=reference,
        sample=sample,
        still=still,
        angles=found.angles,
        first=start,
        last=stop,
        shape=shape,
        binning=binning,
        sample_positions=None if found.sample_positions is None else found.sample_positions / binning,
        beam=beam,
        steps=steps,
        errors=(*parsed.errors(_hints(offers)), *found.errors, *output_errors(parsed, files, shape)),
        findings=(
            *parsed.findings,
            *found.findings,
            *_absent_findings(sample, start, stop, known),
            *_geometry_findings(parsed, offers),
        ),
    )


def _open_still(found: _Found) -> dict[str, FrameSeries]:
    still: dict[str, FrameSeries] = {}
    for role in ("dark", "flat"):
        spec = getattr(found.parsed.input, role)
        name = found.parsed.name_of(f"input.{role}")
        if spec is not None:
            axes = found.parsed.input.sample_axes
            # Arrays with the frames last come from one program.
            axes = None if axes is None or axes[-2:] == ("y", "x") else (*_image_axes(axes), "repeat")
            task = partial(open_frames, spec, name=name, folder=found.parsed.folder, axes=axes)
            series = found.attempt(task)
            if series is not None:
                still[role] = series
                found.findings += _mixed_findings(series)
    return still


def _mixed_findings(series: FrameSeries) -> list[Finding]:
    """Return where frames of a file are used together that it tells apart."""
    texts = filter(None, (getattr(source, "finding_text", "") for source in series.sources))
    return [finding("image-keys-mixed", f"{series.name}: {text}") for text in texts][:1]


def _find_single(found: _Found) -> None:
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
            place: dict[str, Any] = {"folder": parsed.folder, "position_key": parsed.input.position_key}
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


def _image_axes(axes: Axes) -> Axes:
    return tuple(axis for axis in axes if axis in ("y", "x"))


def _has_places(frames: InputSection) -> bool:
    names = (*(frames.reference or ()), *(frames.sample or ()))
    return any("{position}" in name or "{repeat}" in name for name in names)


def _find_placed(found: _Found) -> None:
    """Find the frames of one projection by stated axes or by the numbers in the names of files."""
    parsed = found.parsed
    reference = _place_reference(found, 1)
    if reference is None:
        return
    positions = reference.positions
    _check_positions(found, positions, f"{reference.name} has")
    sample = found.attempt(
        partial(
            place_frames,
            parsed.input.sample,
            name=parsed.name_of("input.sample"),
            outer="projection",
            folder=parsed.folder,
            axes=parsed.input.sample_axes,
            repeats=parsed.input.repeats,
            count=1,
            positions=positions,
        )
    )
    tables = [table for table in (reference, sample) if table is not None]
    found.errors += [
        ErrorRecord("frames-missing", f"{table.name}: {text}")
        for table in tables
        for text in table.missing.values()
    ]
    if sample is not None and parsed.input.position_key and not reference.missing:
        pair = found.attempt(partial(pair_positions, reference, sample, parsed.input.position_key))
        reference, sample = pair or (reference, sample)
    found.reference, found.sample = reference, sample
    found.header = found.attempt(partial(open_tolerant, reference.addresses[0]))


def _place_reference(found: _Found, sets: int) -> FrameTable | None:
    """Place the references of so many sets."""
    parsed, frames, section = found.parsed, found.parsed.input, found.parsed.series_section
    return found.attempt(
        lambda: place_frames(
            frames.reference,
            name=parsed.name_of("input.reference"),
            outer="set",
            folder=parsed.folder,
            axes=parsed.reference_axes,
            repeats=section.reference_repeats or frames.repeats,
            any_repeats=section.reference_repeats is None and frames.repeats == 1,
            count=sets,
        )
    )


def _check_positions(found: _Found, positions: int, what: str) -> None:
    method = found.parsed.method
    least = least_positions(method, found.parsed.options or {}) if method else 1
    if positions < least:
        number = f"{positions} position{'s' * (positions > 1)} of the diffuser"
        text = f"{what} {number}; {method} needs at least {least}"
        found.errors.append(ErrorRecord("positions-too-few", text))


def _find_series(found: _Found) -> None:
    """Find the frames of many projections; what is missing is noted for its projection."""
    parsed, section, frames = found.parsed, found.parsed.series_section, found.parsed.input
    if not (frames.reference and frames.sample):
        return
    if frames.sample_positions is not None:
        text = "sample_positions are given for a series; expected a single projection"
        found.errors.append(ErrorRecord("option-conflict", text))
    times = section.reference_at or (0.0,)
    found.known = found.attempt(lambda: known_angles(section.angles, parsed.folder))
    reference = _place_reference(found, len(times))
    if reference is None:
        return
    found.errors += [
        ErrorRecord("frames-missing", f"{reference.name}: {text}") for text in reference.missing.values()
    ]
    _check_positions(found, reference.positions, f"{reference.name} has in {len(times)} sets")
    sample = found.attempt(partial(_place_sample, found, reference))
    # A single position has nothing that it could be mistaken for.
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
            known = _padded(known, sample)
        fitted = found.attempt(
            partial(fit_angles, section.angles, known, sample, frames.repeats, parsed.folder)
        )
        if fitted is not None:
            found.angles, sample = fitted
            found.sample = sample
            if found.angles is not None:
                found.findings += _angle_findings(section.angles, parsed.folder, sample, found.angles)
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


def _place_sample(found: _Found, reference: FrameTable) -> FrameTable:
    """Place the projections; more angles than projections tell that the last ones are missing."""
    parsed, section, known = found.parsed, found.parsed.series_section, found.known
    told: dict[str, Any] = {
        "name": parsed.name_of("input.sample"),
        "outer": "projection",
        "folder": parsed.folder,
        "axes": parsed.input.sample_axes,
        "repeats": parsed.input.repeats,
        "positions": reference.positions,
        "first": section.first,
        "position_numbers": reference.position_numbers,
        "before": found.before,
        "growing": found.growing,
    }
    spec, positions = parsed.input.sample, reference.positions
    if section.expected is not None:
        return place_frames(spec, **told, count=section.expected)
    if isinstance(section.angles, tuple) and not angle_datasets(section.angles) and known is not None:
        return place_frames(spec, **told, count=known.size)
    table = place_frames(spec, **told)
    frames = table.count * positions * parsed.input.repeats
    if known is not None and known.size > table.count and known.size != frames:
        keyed = next((address.key for address in table.addresses if address.key), None)
        if keyed and not str(section.angles).endswith("]"):
            raise InputError(
                f"series.angles: {section.angles} gives {known.size} angles, and {keyed} chooses "
                f"{table.count} projections of input.sample; expected the angles of the same frames: "
                f"{section.angles}{keyed}",
                code="angles-unequal-number",
            )
        return place_frames(spec, **told, count=known.size)
    return table


def _check_tables(found: _Found, still: Mapping[str, FrameSeries]) -> None:
    """Compare the shapes of all frames with those of the reference."""
    reference, sample = found.reference, found.sample
    if reference is None or sample is None:
        return
    shapes = {series.name: series.shape for series in still.values()}
    if found.parsed.is_series:  # pairing compares those of a single projection
        shapes = {sample.name: sample.shape, **shapes}
    found.errors += [
        ErrorRecord(
            "shape-mismatch",
            f"{name} has frames of {_size(shape)} pixels; expected {_size(reference.shape)}, as the "
            "reference has",
        )
        for name, shape in shapes.items()
        if shape != reference.shape
    ]


def _axes_findings(found: _Found) -> list[Finding]:
    """Return which stacks may have their frames along the last axis, and nothing states it."""
    parsed = found.parsed
    findings = []
    for table, axes in ((found.reference, parsed.reference_axes), (found.sample, parsed.input.sample_axes)):
        if table is None or axes is not None or not table.frames:
            continue
        count, (y, x) = int(table.places[..., 1].max()) + 1, table.shape
        if y / 2 <= count <= 2 * y and 2 * x <= y:
            role = "sample" if table is found.sample else "reference"
            text = (
                f"{table.name} has the shape {(count, y, x)}, which is read as {count} frames of {y} × {x} "
                f"pixels (y × x); if they are {x} frames along the last axis, give {role}_axes = "
                '"y,x,position" in [input], if not, "position,y,x"'
            )
            findings.append(finding("frames-last", text))
    return findings


def _prepared_shape(
    parsed: ParsedConfiguration, shape: tuple[int, int] | None, errors: list[ErrorRecord]
) -> tuple[tuple[int, int] | None, int]:
    """Follow the size of a frame through the steps that change it: size and binning of a prepared frame."""
    if shape is None or parsed.preprocess is None:
        return None, 1
    binning = 1
    for number, (name, given) in enumerate(parsed.preprocess, 1):
        options = make_step_options(name, given)
        try:
            ys, xs = box_slices(getattr(options, "rows", None), getattr(options, "columns", None), shape)
        except InputError as error:
            errors += prefixed(f"preprocess[{number}].", error.records)
            return None, 1
        if name == "crop":
            shape = (ys.stop - ys.start, xs.stop - xs.start)
        elif name == "bin":
            binning *= options.size
            shape = (shape[0] // options.size, shape[1] // options.size)
        if min(shape) < SMALLEST_FRAME:
            text = (
                f"preprocess[{number}] ({name}) leaves {_size(shape)} pixels; expected at least "
                f"{SMALLEST_FRAME} × {SMALLEST_FRAME}"
            )
            errors.append(ErrorRecord("frames-too-small", text))
            return None, 1
    return shape, binning


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
    """Put frames where their positions belong; say where there are too few or too many at one."""
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


def known_angles(given: Any, folder: Path) -> Angles | None:
    """Return the angles in degrees that are known without the frames."""
    names = angle_datasets(given)
    if not names:
        return np.array(given) if isinstance(given, tuple) else None
    from xmist.io.frames.hdf5_columns import read_column

    found = []
    errors: list[ErrorRecord] = []
    for address in find_addresses(names, folder, errors):
        try:
            values, unit = read_column(address, _MOST_ANGLES)
        except InputError as error:
            errors += error.records
            continue
        found.append(np.rad2deg(values) if unit.strip().lower() in RADIANS else values)
    raise_errors(prefixed("series.angles: ", errors))
    return np.concatenate(found)


def _padded(known: Angles, table: FrameTable) -> Angles:
    """Return angles with NaN for the projections, or frames, whose angle has not been written yet."""
    total = table.places[..., 0].size
    whole = table.count if known.size <= table.count else total
    return np.pad(known, (0, max(0, whole - known.size)), constant_values=math.nan)


def fit_angles(
    given: Any, known: Angles | None, table: FrameTable, repeats: int, folder: Path
) -> tuple[Angles | None, FrameTable]:
    """Return an angle in degrees for each projection, and the table with the frames of each angle together.

    There are no angles for a series without them.
    """
    count = table.count
    if given is None:
        return None, table
    if isinstance(given, Mapping):
        return np.asarray(given["start"] + given["step"] * np.arange(count)), table
    if known is None:
        angles = header_angles(given, table)
    elif known.size == count * table.positions * repeats != count and not (table.places < 0).any():
        # A stack that holds every frame has an angle for every frame.
        angles = stack_angles(known, table)
    elif known.size == count * table.positions * repeats != count:  # where frames stood cannot be known
        return known[np.arange(count) * table.places[0, ..., 0].size], table
    elif known.size != count:
        text = f"series.angles gives {known.size} angles for {count} projections; expected one each"
        raise InputError(text, code="angles-unequal-number")
    else:
        own = neighbour_angles(given, table, folder) if isinstance(given, str) else None
        return known, table if own is None else order_by_angle(table, own)
    return angles[:, 0], order_by_angle(table, angles)


def _angle_findings(given: Any, folder: Path, table: FrameTable, angles: Angles) -> list[Finding]:
    """Return whether angles that no file states to be degrees may be radians, or have an unknown unit."""
    unit = _stated_unit(given, folder, table)
    if unit in RADIANS | _DEGREES:
        return []
    called = f"series.angles: the unit '{unit}' is not known" if unit else "series.angles has no unit"
    values = angles[np.isfinite(angles)]
    span = float(np.ptp(values)) if values.size > 2 else 0.0
    # A range that ends one step before the turn, or at the turn.
    spans = (span, span * values.size / (values.size - 1)) if span else ()
    turns = any(abs(each / turn - 1.0) < _NEAR for each in spans for turn in _TURNS)
    if not turns and not unit:
        return []
    may = ", as half a turn or a turn in radians would be" if turns else ""
    text = (
        f"{called}, and the angles are taken as degrees: {values.min():.6g} to {values.max():.6g}{may}; "
        "expected degrees"
    )
    return [finding("angles-unit", text)]


def _stated_unit(given: Any, folder: Path, table: FrameTable) -> str:
    """Return the unit of angles that a dataset or a header states, in lower case; empty if there is none."""
    given = next(iter(angle_datasets(given)), given)
    if not isinstance(given, str):
        return ""
    try:
        if "::" in given:
            from xmist.io.frames.hdf5_columns import read_column

            name, dataset, key = split_address(given)
            _, unit = read_column(Address(Path(folder) / Path(name).expanduser(), dataset, key), _MOST_ANGLES)
        else:
            number, frame = next(place for place in table.places.reshape(-1, 2).tolist() if place[0] >= 0)
            with FrameReader(table) as reader:
                unit = find_value(reader.header(number, frame), f"{given}@units") or ""
    except (InputError, StopIteration):
        return ""
    return unit.strip().lower()


def _absent_findings(
    table: FrameTable | None, first: int, last: int, known: Collection[int]
) -> list[Finding]:
    if table is None:
        return []
    numbers = table.numbers.tolist()
    absent = [index for index in table.missing if first <= index < last and numbers[index] not in known]
    if not absent:
        return []
    text = (
        f"{len(absent)} of {last - first} projections lack frames and will be flagged: "
        f"{listed([numbers[index] for index in absent])} ({table.missing[absent[0]]})"
    )
    return [finding("projections-incomplete", text)]


def _hints(offers: Sequence[Offer]) -> dict[str, str]:
    """Return for each key of the experiment what the headers offer."""
    hints: dict[str, list[str]] = {}
    for offer in offers:
        text = f"{offer.value:.6g} {offer.unit} ({offer.source}{f': {offer.note}' if offer.note else ''})"
        hints.setdefault(f"experiment.{offer.name}", []).append(text)
    return {path: f"the header offers {' or '.join(texts)}" for path, texts in hints.items()}


def _geometry_findings(parsed: ParsedConfiguration, offers: Sequence[Offer]) -> list[Finding]:
    """Return where lengths are unusual or contradict the headers."""
    findings: list[Finding] = []
    if parsed.experiment is None:
        return findings
    for name, (least, most, advice) in _USUAL.items():
        given = getattr(parsed.experiment, name)
        if given is None or least <= given <= most:
            continue
        if any(math.isclose(given, item.value, rel_tol=_AGREEMENT) for item in offers if item.name == name):
            continue  # the header, which states its unit, agrees
        called = parsed.name_of(f"experiment.{name}")
        than = "more" if given > most else "less"
        text = f"{called} is {given:.6g} m, {than} than is usual; metres are expected: {advice}"
        findings.append(finding("length-unusual", text))
    for name in dict.fromkeys(offer.name for offer in offers):
        given = getattr(parsed.experiment, name)
        same = [offer for offer in offers if offer.name == name]
        if given is None or not any(math.isclose(given, offer.value, rel_tol=_AGREEMENT) for offer in same):
            stated = "not given (parallel beam)" if given is None else f"{given:.6g} {same[0].unit}"
            called = parsed.name_of(f"experiment.{name}")
            text = f"{called} is {stated}; {_hints(same)[f'experiment.{name}']}"
            findings.append(finding("geometry-differs", text))
    return findings


def _size(shape: tuple[int, int]) -> str:
    return f"{shape[0]} × {shape[1]}"
