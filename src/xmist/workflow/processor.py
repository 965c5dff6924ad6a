"""Retrieve one projection: from frames to image channels and quality numbers.

Results do not depend on worker, time or order: a plan is made for the same references,
and a warm start comes from a projection that is fixed by its number.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from xmist.core import flags as flag
from xmist.core.arrays import Image
from xmist.core.data import Retrieval, SampleScan, SpeckleStack
from xmist.core.errors import InputError
from xmist.core.findings import Finding, finding, warnings_of
from xmist.core.progress import Progress, expected_time
from xmist.io.results.stacks import FAILED, GOOD, UNREADABLE, VALUELESS
from xmist.methods import Plan, prepare, retrieve
from xmist.preprocess import Frames, apply_steps
from xmist.workflow.frames import FrameReader, State
from xmist.workflow.quality import FrameRecord, Row
from xmist.workflow.setup import SeriesSetup, named_digests
from xmist.workflow.trial import expected_seconds

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, eq=False)
class PreparedProjection:
    """A projection whose frames are ready for the method, with its quality numbers."""

    index: int
    known: Mapping[str, Any]
    stack: SpeckleStack | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class ProjectionProcessor:
    """Loads, prepares and retrieves projections by their number; one serves all threads of a process.

    With `alone` an error is raised; otherwise it becomes the status of its projection, and the others
    continue. With `following` more frames are being recorded. With `timed` it reports the expected time of a
    retrieval.
    """

    setup: SeriesSetup
    method: str
    options: Mapping[str, Any]
    threads: int | None
    channels: tuple[str, ...] = ()
    warm_start: int | None = None
    following: bool = False
    alone: bool = False
    timed: bool = False
    tell: Progress | None = None
    _kept: dict[str, Any] = field(default_factory=dict, repr=False)
    # One for the references, one for the plan: those of the next projection are made while it is prepared.
    _locks: Any = field(default_factory=lambda: (threading.Lock(), threading.Lock()), repr=False)

    def __getstate__(self) -> dict[str, Any]:
        # A plan is made anew where it is needed: it can be larger than the references.
        state = {item.name: getattr(self, item.name) for item in fields(self)}
        return state | {"options": dict(self.options), "tell": None, "_kept": {}, "_locks": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in (state | {"_locks": (threading.Lock(), threading.Lock())}).items():
            object.__setattr__(self, name, value)

    def open(self) -> FrameReader:
        """Return a reader of the frames, a context manager."""
        return FrameReader(self.setup.table, self.setup.saturation)

    def index(self, number: int) -> int:
        """Return the place of a projection in the table, by its number."""
        return self.setup.table.numbering.index(number)

    def solve(self, index: int, reader: FrameReader) -> tuple[Row, Retrieval | None]:
        """Retrieve one projection."""
        return self.finish(self.prepare(index, reader))

    def prepare(self, index: int, reader: FrameReader) -> PreparedProjection:
        """Read and preprocess the frames of a projection; the first part of `solve`."""
        setup = self.setup
        angle = math.nan if setup.angles is None else float(setup.angles[index])
        known: dict[str, Any] = {"projection": int(setup.table.numbers[index]), "angle": angle}
        progress = self._part("reading sample")
        try:
            states = reader.states(index)
            loaded = reader.read(index, progress)
        except InputError as error:
            if self.alone:
                raise
            known |= _failed(UNREADABLE, " ".join(map(str, error.records)))
            return PreparedProjection(index=index, known=known)
        digests = named_digests(reader.names(index), loaded)
        known["frames"] = tuple(map(FrameRecord._make, _joined(states, loaded.digests)))
        known["provisional"] = self.following or states != reader.states(index)
        noise = loaded.relative_noise
        findings = loaded.findings
        beam = self._attempt(known, partial(self._beam, index, reader))
        frames = self._attempt(known, partial(self._frames, index, loaded.frames, loaded.weights, beam))
        del loaded
        if frames is None:
            return PreparedProjection(index=index, known=known)
        stack = self._attempt(known, lambda: self._stack(frames, known))
        provenance = {
            "input": {"sample": digests, **setup.digests},
            "preprocessing": list(frames.history),
            "noise": {**setup.noise, **({"sample": noise} if math.isfinite(noise) else {})},
        }
        findings = (*findings, *frames.findings)
        return PreparedProjection(
            index=index, known=known, stack=stack, provenance=provenance, findings=findings
        )

    def finish(self, prepared: PreparedProjection) -> tuple[Row, Retrieval | None]:
        """Retrieve a projection from its prepared frames; the second part of `solve`."""
        known = dict(prepared.known)
        start, known["start"] = self._start(prepared.index)
        result = self._retrieve(prepared, known, start)
        if self.warm_start and prepared.index == self.start_of(prepared.index):
            self._kept["start"] = (prepared.index, result, _digest(known))
        if result is None:
            return Row(**known), None
        if prepared.findings:
            result = replace(result, findings=(*prepared.findings, *result.findings))
        lost = count_valueless(result)
        convergence = result.provenance.get("convergence", {})
        for name, key in (
            ("misfit", "reduced_chi_squared"),
            ("iterations", "iterations"),
            ("converged", "converged"),
        ):
            value = convergence.get(key)
            if value is not None:
                known[name] = float(np.sum(value))  # one number for each solve
        if result.speckle_wavenumber is not None:
            known["speckle_wavenumber"] = result.speckle_wavenumber
        row = Row(
            status=VALUELESS if lost else GOOD,
            note=" ".join(map(str, result.findings)),
            valueless=lost,
            flagged=int(np.count_nonzero(result.flags)),
            warnings=len(warnings_of(result.findings)),
            findings=result.findings,
            **known,
        )
        if self.alone:  # a series keeps no more than its channels
            result = replace(result, provenance={**result.provenance, **prepared.provenance})
        return row, result

    def chosen(self, result: Retrieval) -> dict[str, NDArray[Any]]:
        """Return the channels to keep of a result."""
        return {
            name: array for name, array in result.channels() if not self.channels or name in self.channels
        }

    def _part(self, what: str) -> Callable[[int, int], object] | None:
        tell = self.tell
        return None if tell is None else lambda done, total: tell(what, done, total)

    def start_of(self, index: int) -> int:
        """Return the projection whose result this one begins from; itself if there is none."""
        return index - index % (self.warm_start or 1)

    def _start(self, index: int) -> tuple[Retrieval | None, str]:
        """Return the result to begin with and the digest of its frames.

        There is none for the first of a group, and if that failed.
        """
        first = self.start_of(index)
        if first == index:
            return None, ""
        number, result, digest = self._kept.get("start", (None, None, ""))
        if number != first:
            with self.open() as reader:
                prepared = self.prepare(first, reader)
            result, digest = self._retrieve(prepared, {}, None), _digest(prepared.known)
            self._kept["start"] = (first, result, digest)
        return result, "" if result is None else digest

    def _retrieve(
        self, prepared: PreparedProjection, known: dict[str, Any], start: Retrieval | None
    ) -> Retrieval | None:
        """Call the method; None if there are no frames, or it fails."""
        stack = prepared.stack
        if stack is None:
            return None
        if self.tell is None:
            return self._attempt(known, lambda: self._call(stack, start))
        what = f"retrieving by {self.method}"
        self.tell(what, 0, 1)
        seconds = None
        if self.timed and self.setup.sample_positions is None:
            seconds = expected_seconds(stack, self.setup.experiment, self.method, self.options, self.threads)
        with expected_time(self.tell, what, seconds):
            return self._attempt(known, lambda: self._call(stack, start))

    def _call(self, stack: SpeckleStack, start: Retrieval | None) -> Retrieval:
        """Call the method with frames, and the result to begin with."""
        if self.setup.sample_positions is not None:
            return self._retrieve_field(stack)
        options: dict[str, Any] = {} if start is None else {"initial": start}
        return self._plan(stack.reference, stack.weights)(stack.sample, **options)

    def _beam(self, index: int, reader: FrameReader) -> NDArray[np.float64] | None:
        """Return the flux (2, position) of the references and of a projection, None if it is not used."""
        ours = self.setup.references.beam_at(index)
        theirs = self.setup.beam.read(reader, index)
        return None if ours is None or theirs is None else np.stack([ours, theirs])

    def _frames(
        self, index: int, raw: Image, valid: Image | None, beam: NDArray[np.float64] | None
    ) -> Frames:
        """Preprocess the frames of a projection and its references."""
        setup = self.setup
        steps = setup.steps
        sample = steps(raw)
        with self._locks[0]:
            reference, weights = setup.references.at(index)
        if valid is not None:
            valid = steps.crop(valid)
            weights = valid if weights is None else np.minimum(weights, valid)
        if self.tell is not None and steps.rest:
            self.tell("preprocessing", 0, 1)
        frames = Frames(
            reference,
            sample,
            weights,
            dark=steps.dark,
            flat=steps.flat,
            history=steps.history,
            beam=beam,
        )
        return apply_steps(frames, steps.rest) if steps.rest else frames

    def _stack(self, frames: Frames, known: dict[str, Any]) -> SpeckleStack:
        """Return the frames of a projection for the method; add their quality numbers."""
        # Weights that are all 1 say nothing and would cost memory.
        weights = None if _is_one(frames.weights) else frames.weights
        stack = SpeckleStack(frames.reference, frames.sample, weights)
        sums = self._kept.get("sums")
        if sums is None or not _shares(sums[0], stack.reference):
            sums = stack.reference, _sums(stack.reference)
            self._kept["sums"] = sums
        known |= _measure(stack, frames, sums[1])
        return stack

    def _retrieve_field(self, stack: SpeckleStack) -> Retrieval:
        """Retrieve the field of a sample that moves."""
        assert self.setup.sample_positions is not None
        scan = SampleScan(stack.reference, stack.sample, self.setup.sample_positions, stack.weights)
        return retrieve(scan, self.setup.experiment, method=self.method, threads=self.threads, **self.options)

    def _plan(self, reference: Image, weights: Image | None) -> Plan:
        """Return the plan for a reference; the last one, if it was made for the same numbers."""
        with self._locks[1]:
            kept = self._kept.get("plan")
            if kept is not None and _same(kept[0], reference) and _same(kept[1], weights):
                plan: Plan = kept[2]
                return plan
            plan = prepare(
                reference,
                self.setup.experiment,
                method=self.method,
                weights=weights,
                threads=self.threads,
                **self.options,
            )
            self._kept["plan"] = (reference, weights, plan)
            return plan

    def _attempt(self, known: dict[str, Any], task: Callable[[], T]) -> T | None:
        """Run a part of a projection; None if it fails: the error is noted, and the others continue."""
        try:
            return task()
        except Exception as error:
            if self.alone or isinstance(error, MemoryError):
                raise
            text = " ".join(map(str, error.records)) if isinstance(error, InputError) else ""
            known |= _failed(FAILED, text or f"unexpected {type(error).__name__}: {error}")
            return None


def _joined(states: Sequence[State], digests: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    return ((*state, digest) for state, digest in zip(states, digests, strict=True))


def _digest(known: Mapping[str, Any]) -> str:
    return " ".join(frame.sha256 for frame in known.get("frames", ()))


def _failed(status: int, text: str) -> dict[str, Any]:
    """Return the values of a row for a projection without a result."""
    return {
        "status": status,
        "note": text,
        "warnings": 1,
        "findings": (finding("projection-failed", text),),
    }


def count_valueless(result: Retrieval) -> int:
    """Count the pixels that are NaN in some channel, though no frame had weight 0 there.

    Examples
    --------
    >>> experiment = xmist.Experiment(energy_kev=17.0, pixel_size=5.8e-6, sample_to_detector=1.0)
    >>> flags = np.full((8, 9), 32, np.uint16)
    >>> flags[0] |= 4
    >>> count_valueless(Retrieval(method="mist", experiment=experiment, flags=flags))
    63
    """
    valueless = (result.flags & (flag.UNDETERMINED | flag.NOT_POSITIVE)) > 0
    return int(np.count_nonzero(valueless & ((result.flags & flag.MASKED) == 0)))


def _measure(stack: SpeckleStack, frames: Frames, sums: NDArray[np.float64]) -> dict[str, float]:
    """Return the flux, the mean of usable sample over reference pixels, and the drift in pixels.

    `sums` are those of the reference frames, (position,).
    """
    pairs = np.stack([sums, _sums(stack.sample)], axis=1)
    for n in range(stack.positions):
        if stack.weights is None and np.isfinite(pairs[n]).all():
            continue
        reference, sample = stack.reference[n], stack.sample[n]
        good = np.isfinite(reference) & np.isfinite(sample)
        if stack.weights is not None:
            good &= stack.weights[n] > 0
        pairs[n] = [frame.sum(dtype=np.float64, where=good) for frame in (reference, sample)]
    total = np.zeros(2)
    for pair in pairs:
        total += pair
    found = {"flux": float(total[1] / total[0]) if total[0] > 0 else math.nan}
    drift = frames.measured.get("drift")
    if drift is not None:
        found["drift_x"], found["drift_y"] = (float(value) for value in np.mean(drift, axis=0))
    return found


def _sums(frames: Image) -> NDArray[np.float64]:
    return np.array([frame.sum(dtype=np.float64) for frame in frames])


def _is_one(weights: Image) -> bool:
    """Return whether all weights are 1; along a broadcast axis one number is enough."""
    once = tuple(slice(0, 1) if step == 0 else slice(None) for step in weights.strides)
    return bool((weights[once] == 1).all())


def _shares(one: Image, other: Image) -> bool:
    """Return whether two arrays of one shape share their memory."""
    return (one.shape, one.ctypes.data, one.strides) == (other.shape, other.ctypes.data, other.strides)


def _same(one: Image | None, other: Image | None) -> bool:
    """Return whether two arrays hold the same numbers, at once where they share their memory."""
    if one is None or other is None:
        return one is other
    return _shares(one, other) or bool(np.array_equal(one, other, equal_nan=True))
