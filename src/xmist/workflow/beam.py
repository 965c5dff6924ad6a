"""The beam during the frames, as files state it: differences, and the steps that correct them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.core.errors import InputError
from xmist.core.findings import Finding, finding
from xmist.io.frames.beam import Beam, beam_in
from xmist.io.frames.series import FrameSeries
from xmist.workflow.frames import FrameReader, FrameTable

# Number of projections of a long series that are examined.
_LOOKED_AT: Final = 32
# Parts by which the beam and exposure times may differ unnoticed.
_STEADY: Final = 0.01
_SAME: Final = 1e-3

Steps = Sequence[tuple[str, Mapping[str, Any]]]


@dataclass(frozen=True, kw_only=True)
class BeamSource:
    """Where the flux of each frame comes from: a monitor (its key), exposure times, or both multiplied."""

    monitor: bool = False
    seconds: bool = False
    key: str | None = None

    def read(self, reader: FrameReader, index: int) -> NDArray[np.float64] | None:
        """Return the flux (position,) of the frames of a projection, a mean over repeats; None: no source."""
        if not (self.monitor or self.seconds):
            return None
        places = reader.table.places[index]
        found = np.full(places.shape[:2], math.nan)
        for position, repeat in np.argwhere(places[..., 0] >= 0):
            beam = beam_in(reader.header(*places[position, repeat].tolist()), self.key)
            flux = beam.monitor if self.monitor else 1.0
            found[position, repeat] = flux * beam.seconds if self.seconds else flux
        there = places[..., 0] >= 0
        sums: NDArray[np.float64] = np.where(there, found, 0.0).sum(axis=1) / there.sum(axis=1)
        return sums


def survey_beam(
    reference: FrameTable, sample: FrameTable, still: Mapping[str, FrameSeries], steps: Steps
) -> tuple[BeamSource, Steps, list[Finding]]:
    """Return where the flux comes from, the steps that are done, and findings.

    Frames of other exposure times are scaled after dark and flat, unless a step flux does it.
    """
    ours, theirs = _beams(reference), _beams(sample)
    stills = {role: [beam_in(series.header(0))] for role, series in still.items()}
    flux = next((options for name, options in steps if name == "flux"), None)
    findings = _dark_findings(stills, {reference.name: ours, sample.name: theirs}, steps)
    timed = [_median(beam.seconds for beam in beams) for beams in (ours, theirs)]
    known = [math.isfinite(seconds) for seconds in timed]
    if flux is not None:
        kind = flux.get("source", "frames")
        rate = any(beam.rate for beam in ours)
        source = BeamSource(
            monitor=kind == "monitor",
            seconds=kind == "time" or (kind == "monitor" and rate and all(known)),
            key=flux.get("monitor"),
        )
        return source, steps, findings
    if known[0] != known[1]:
        texts = [
            f"{table.name} {'states' if stated else 'does not state'} the exposure time"
            for table, stated in zip((reference, sample), known, strict=True)
        ]
        text = f"{texts[0]}, and {texts[1]}: if they differ, the transmission is wrong by their ratio"
        findings.append(finding("exposure-time-unknown", text))
    findings += _decay_findings(ours, theirs)
    every = [beam.seconds for beam in (*ours, *theirs)]
    if all(known) and max(every) > (1 + _SAME) * min(every):
        text = (
            f"{reference.name} was exposed for {timed[0]:.6g} s and {sample.name} for {timed[1]:.6g} s: the "
            "frames are scaled by their exposure times"
        )
        findings.append(finding("exposure-times-differ", text))
        last = max(
            (number for number, (name, _) in enumerate(steps, 1) if name in ("dark", "flat")), default=0
        )
        steps = (*steps[:last], ("flux", {"source": "time"}), *steps[last:])
        return BeamSource(seconds=True), steps, findings
    return BeamSource(), steps, findings


def monitor_text(reference: FrameSeries, sample: FrameSeries) -> str:
    """Return a text on the monitor during two series of frames; empty if it is constant."""
    found = []
    for series in (reference, sample):
        count = len(series)
        numbers = np.unique(np.linspace(0, count - 1, min(count, _LOOKED_AT)).round().astype(int))
        found.append([beam_in(series.header(number)) for number in numbers.tolist()])
    values = [[beam.monitor for beam in beams] for beams in found]
    every = [value for part in values for value in part]
    known = all(math.isfinite(value) and value > 0 for value in every)
    if not known or max(every) <= (1 + _SAME) * min(every):
        return ""
    parts = [f"{min(part):.4g} to {max(part):.4g}" for part in values]
    return f"{found[1][0].key}: {parts[0]} for the reference frames, {parts[1]} for the sample frames"


def _beams(table: FrameTable) -> list[Beam]:
    """Return the stated beam of the frames of some projections; nothing for those that cannot be read."""
    numbers = np.unique(np.linspace(0, table.count - 1, min(table.count, _LOOKED_AT)).round().astype(int))
    found = []
    with FrameReader(table) as reader:
        for index in numbers.tolist():
            if index in table.missing:
                continue
            try:
                for number, frame in table.places[index].reshape(-1, 2).tolist():
                    if number >= 0:
                        found.append(beam_in(reader.header(number, frame)))
            except InputError:
                continue  # the error is reported when the frame is read
    return found


def _median(values: Iterable[float]) -> float:
    known = list(values)
    return float(np.median(known)) if known and all(map(math.isfinite, known)) else math.nan


def _decay_findings(ours: Sequence[Beam], theirs: Sequence[Beam]) -> list[Finding]:
    """Return a finding if a monitor shows that the beam changed and no step corrects it."""
    first = [beam.monitor for beam in ours]
    others = [beam.monitor for beam in theirs]
    if not first or not others or not all(math.isfinite(value) and value > 0 for value in (*first, *others)):
        return []
    level = float(np.mean(first))
    low, high = min(*first, *others), max(*first, *others)
    if high - low <= _STEADY * level:
        return []
    key = theirs[0].key
    text = (
        f"{key} is {level:.4g} for the reference frames and {min(others):.4g} to {max(others):.4g} for the "
        f"sample frames: the beam changed by {100 * (high - low) / level:.2g} %, and the transmission with "
        'it; add [[preprocess]] step = "flux" with source = "monitor", or without where bare beam is in view'
    )
    return [finding("beam-changed", text)]


def _dark_findings(
    stills: Mapping[str, Sequence[Beam]], frames: Mapping[str, Sequence[Beam]], steps: Steps
) -> list[Finding]:
    """Return a finding if dark frames have another exposure time than those that they are subtracted from."""
    dark = stills.get("dark")
    if dark is None or not math.isfinite(dark[0].seconds) or all(name != "dark" for name, _ in steps):
        return []
    seconds = dark[0].seconds
    for name, beams in {
        **frames,
        **{role: beams for role, beams in stills.items() if role == "flat"},
    }.items():
        other = _median(beam.seconds for beam in beams)
        if math.isfinite(other) and abs(other - seconds) > _STEADY * other:
            text = (
                f"input.dark was exposed for {seconds:.6g} s and {name} for {other:.6g} s: the dark signal "
                "depends on the exposure time; record dark frames of the same exposure time"
            )
            return [finding("dark-exposure-time", text)]
    return []
