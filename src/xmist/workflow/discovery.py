"""Discover the frames of a configuration by their headers: which exist, how they are paired, every error."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from xmist.core.arrays import SMALLEST_FRAME
from xmist.core.errors import ErrorRecord, InputError, prefixed
from xmist.core.experiment import Experiment
from xmist.core.findings import Finding, finding
from xmist.io.frames.geometry import Offer, offer_geometry
from xmist.io.frames.series import FrameSeries
from xmist.io.frames.sources import listed
from xmist.preprocess import make_step_options
from xmist.preprocess.frames import box_slices
from xmist.workflow.beam import BeamSource, Steps, survey_beam
from xmist.workflow.configuration import ParsedConfiguration
from xmist.workflow.frames import FrameTable
from xmist.workflow.outputs import output_errors
from xmist.workflow.rotation import Angles
from xmist.workflow.search import FrameSearch, find_series, find_single, open_still

# A header and a configuration that differ by more do not mean the same set-up.
_AGREEMENT: Final = 0.01
# Longer ones exist, but millimetres that are taken for metres are more frequent.
_USUAL: Final = {
    "pixel_size": (2e-8, 2e-4, "5.8 µm is 5.8e-6"),
    "sample_to_detector": (1e-3, 15.0, "50 cm is 0.5"),
    "source_to_sample": (1e-3, 1000.0, "50 cm is 0.5"),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Discovery:
    """The frames of a configuration according to their headers; parts that have an error are None.

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
        """Return a text with the files of the frames, for messages."""
        tables: list[FrameTable | FrameSeries] = [*self.still.values()]
        tables[:0] = [table for table in (self.reference, self.sample) if table is not None]
        return "; ".join(f"{each.name}: {listed(each.files, 2)}" for each in tables)


def discover(parsed: ParsedConfiguration, known: Collection[int] = (), *, growing: bool = False) -> Discovery:
    """Find the frames of a configuration; errors are listed in the returned value, none is raised.

    `known` are the numbers of projections that existed before; `growing`: more frames are being recorded.
    """
    found = FrameSearch(parsed, known, growing)
    still = open_still(found)
    (find_series if parsed.is_series else find_single)(found)
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


def _check_tables(found: FrameSearch, still: Mapping[str, FrameSeries]) -> None:
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


def _axes_findings(found: FrameSearch) -> list[Finding]:
    """Return findings about stacks without stated axes that may have their frames along the last axis."""
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
                f'pixels (y × x). If this is right, give {role}_axes = "position,y,x" in [input]; if there '
                f'are {x} frames along the last axis, give "y,x,position"'
            )
            findings.append(finding("frames-last", text))
    return findings


def _prepared_shape(
    parsed: ParsedConfiguration, shape: tuple[int, int] | None, errors: list[ErrorRecord]
) -> tuple[tuple[int, int] | None, int]:
    """Return size and binning of a prepared frame, after the steps that change them."""
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
    """Return the values that headers offer for each key of the experiment."""
    hints: dict[str, list[str]] = {}
    for offer in offers:
        text = f"{offer.value:.6g} {offer.unit} ({offer.source}{f': {offer.note}' if offer.note else ''})"
        hints.setdefault(f"experiment.{offer.name}", []).append(text)
    return {path: f"the header offers {' or '.join(texts)}" for path, texts in hints.items()}


def _geometry_findings(parsed: ParsedConfiguration, offers: Sequence[Offer]) -> list[Finding]:
    """Return findings about lengths that are unusual or contradict the headers."""
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
