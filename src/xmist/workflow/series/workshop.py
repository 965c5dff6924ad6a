"""One projection: frames in, channels and quality numbers out.

A workshop holds all that the projections share and travels once to every process. It does with a projection
what `xmist retrieve` does with it alone, bit for bit, and knows nothing of blocks and schedulers.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from xmist.core.arrays import Image
from xmist.core.data import Retrieval, SpeckleStack
from xmist.core.errors import InputError
from xmist.io.results.stacks import FAILED, GOOD, UNREADABLE, VALUELESS
from xmist.methods import Plan, prepare
from xmist.preprocess import Frames, apply_steps
from xmist.workflow.projection import count_valueless
from xmist.workflow.series.inputs import Inputs
from xmist.workflow.series.reader import Reader
from xmist.workflow.series.table import Row

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, eq=False)
class Prepared:
    """A projection whose frames are ready for the method.

    Parameters
    ----------
    told : mapping
        Quality numbers so far, by the names of `Row`.
    stack : SpeckleStack or None
        None if there is none; the numbers say why.
    index : int
        Its number among those of the layout.
    """

    told: Mapping[str, Any]
    stack: SpeckleStack | None
    index: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Workshop:
    """What every projection needs; call `solve` with the number of one.

    Parameters
    ----------
    inputs : Inputs
        Frames and references.
    method : str
        Name of the method.
    options : mapping
        Its options.
    threads : int or None
        Threads to compute with.
    channels : tuple of str
        Channels to keep; empty for all that the method gives.
    warm_start : int, optional
        How many neighbouring projections begin from the result of the first of them.

    Notes
    -----
    Where a projection begins is fixed by its number, and the result that it begins from is made anew where it
    is not at hand: neither blocks nor processes change a bit.
    """

    inputs: Inputs
    method: str
    options: Mapping[str, Any]
    threads: int | None
    channels: tuple[str, ...] = ()
    warm_start: int | None = None
    _kept: dict[str, Any] = field(default_factory=dict, repr=False)
    # One for the references, one for the plan: those of the next projection are made while it is prepared.
    _locks: Any = field(default_factory=lambda: _locks(), repr=False)

    def __getstate__(self) -> dict[str, Any]:
        # A plan is made anew where it is needed: it can be larger than the references.
        state = {item.name: getattr(self, item.name) for item in fields(self)}
        return state | {"options": dict(self.options), "_kept": {}, "_locks": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            object.__setattr__(self, name, value)
        object.__setattr__(self, "_locks", _locks())

    def solve(self, index: int, reader: Reader) -> tuple[Row, Retrieval | None]:
        """Retrieve one projection.

        Parameters
        ----------
        index : int
            Its number among those of the layout.
        reader : Reader
            Gives its frames.

        Returns
        -------
        Row
            Its quality numbers.
        Retrieval or None
            None if there is none; the row says why.
        """
        return self.finish(self.prepare(index, reader))

    def prepare(self, index: int, reader: Reader) -> Prepared:
        """Read the frames of a projection and lead them through the steps; the first part of `solve`.

        Parameters
        ----------
        index : int
            Its number among those of the layout.
        reader : Reader
            Gives its frames.
        """
        angle = math.nan if self.inputs.angles is None else float(self.inputs.angles[index])
        told: dict[str, Any] = {"projection": self.inputs.first + index, "angle": angle}
        try:
            raw = reader.read(index)
        except InputError as error:
            told |= {"status": UNREADABLE, "note": " ".join(error.faults)}
            return Prepared(told=told, stack=None, index=index)
        stack = _attempt(told, lambda: self._stack(index, raw, told))
        return Prepared(told=told, stack=stack, index=index)

    def finish(self, prepared: Prepared) -> tuple[Row, Retrieval | None]:
        """Retrieve a projection from its prepared frames; the second part of `solve`.

        Parameters
        ----------
        prepared : Prepared
            As `prepare` gives it.
        """
        told = dict(prepared.told)
        result = self._retrieve(prepared, told, self._start(prepared.index))
        if prepared.index == self._first(prepared.index):
            self._kept["start"] = (prepared.index, result)
        if result is None:
            return Row(**told), None
        lost = count_valueless(result)
        convergence = result.provenance.get("convergence", {})
        for name, key in (
            ("misfit", "reduced_chi_squared"),
            ("iterations", "iterations"),
            ("converged", "converged"),
        ):
            value = convergence.get(key)
            if value is not None:
                told[name] = float(np.sum(value))  # iterations are told for each solve
        return (
            Row(
                status=VALUELESS if lost else GOOD,
                note=" ".join(map(str, result.findings)),
                valueless=lost,
                flagged=int(np.count_nonzero(result.flags)),
                **told,
            ),
            result,
        )

    def _first(self, index: int) -> int | None:
        """Give the projection whose result this one begins from; None if it begins from nothing."""
        return None if self.warm_start is None else index - index % self.warm_start

    def _start(self, index: int) -> Retrieval | None:
        """Give the result to begin with; None for the first of those that share it, and where that failed."""
        first = self._first(index)
        if first is None or first == index:
            return None
        number, result = self._kept.get("start", (None, None))
        if number != first:
            with Reader(self.inputs.layout) as reader:
                result = self._retrieve(self.prepare(first, reader), {}, None)
            self._kept["start"] = (first, result)
        start: Retrieval | None = result
        return start

    def _retrieve(
        self, prepared: Prepared, told: dict[str, Any], start: Retrieval | None
    ) -> Retrieval | None:
        """Call the method; None if there are no frames, or it fails, with why in what is told."""
        stack = prepared.stack
        if stack is None:
            return None
        options: dict[str, Any] = {} if start is None else {"initial": start}
        return _attempt(told, lambda: self._plan(stack.reference, stack.weights)(stack.sample, **options))

    def chosen(self, result: Retrieval) -> dict[str, NDArray[Any]]:
        """Give the channels to keep of a result.

        Parameters
        ----------
        result : Retrieval
            The result.
        """
        return {
            name: array for name, array in result.channels() if not self.channels or name in self.channels
        }

    def _stack(self, index: int, raw: Image, told: dict[str, Any]) -> SpeckleStack:
        """Give the frames of a projection as the method takes them; add what they tell of their quality."""
        frames = self._prepared(index, raw)
        weights = None if _is_one(frames.weights) else frames.weights
        # The faults of a pair that `xmist.retrieve` tells.
        stack = SpeckleStack(frames.reference, frames.sample, weights)
        told |= self._measured(stack, frames)
        return stack

    def _prepared(self, index: int, raw: Image) -> Frames:
        """Lead the frames of a projection and its references through the steps."""
        inputs = self.inputs
        sample = inputs.steps(raw)
        with self._locks[0]:
            reference, weights = inputs.references.at(inputs.first + index)
        frames = Frames(reference, sample, weights, dark=inputs.steps.dark, flat=inputs.steps.flat)
        return apply_steps(frames, inputs.steps.rest) if inputs.steps.rest else frames

    def _plan(self, reference: Image, weights: Image | None) -> Plan:
        """Give the plan for a reference; the last one, if it was made for the same numbers."""
        with self._locks[1]:
            kept = self._kept.get("plan")
            if kept is not None and _same(kept[0], reference) and _same(kept[1], weights):
                plan: Plan = kept[2]
                return plan
            plan = prepare(
                reference,
                self.inputs.experiment,
                method=self.method,
                weights=weights,
                threads=self.threads,
                **self.options,
            )
            self._kept["plan"] = (reference, weights, plan)
            return plan

    def _measured(self, stack: SpeckleStack, frames: Frames) -> dict[str, float]:
        """Measure what the frames tell of their quality; what the references add is summed once."""
        sums = self._kept.get("sums")
        if sums is None or not _shares(sums[0], stack.reference):
            sums = stack.reference, _sums(stack.reference)
            self._kept["sums"] = sums
        return measure(stack, frames, sums[1])


def measure(stack: SpeckleStack, frames: Frames, sums: NDArray[np.float64] | None = None) -> dict[str, float]:
    """Measure what the frames of a projection tell of their quality.

    Parameters
    ----------
    stack : SpeckleStack
        Prepared frames.
    frames : Frames
        The same with what the steps measured.
    sums : (position,) float64 array, optional
        Sums of the reference frames, if they are known.

    Returns
    -------
    dict
        "flux", the mean of the sample frames over that of the references, where both are usable, and
        "drift_x" and "drift_y", what the step drift measured, in pixels.
    """
    pairs = np.stack([_sums(stack.reference) if sums is None else sums, _sums(stack.sample)], axis=1)
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
    """Say whether all weights are 1; along an axis that repeats its numbers one of them is enough."""
    once = tuple(slice(0, 1) if step == 0 else slice(None) for step in weights.strides)
    return bool((weights[once] == 1).all())


def _shares(one: Image, other: Image) -> bool:
    """Say whether two arrays of one shape share their memory."""
    return (one.shape, one.ctypes.data, one.strides) == (other.shape, other.ctypes.data, other.strides)


def _attempt(told: dict[str, Any], task: Callable[[], T]) -> T | None:
    """Do a part of a projection; None if it fails, with why in what is told: it must not end the others."""
    try:
        return task()
    except MemoryError:
        raise
    except InputError as error:
        told |= {"status": FAILED, "note": " ".join(error.faults)}
    except Exception as error:
        told |= {"status": FAILED, "note": f"unexpected {type(error).__name__}: {error}"}
    return None


def _locks() -> tuple[threading.Lock, threading.Lock]:
    return threading.Lock(), threading.Lock()


def _same(one: Image | None, other: Image | None) -> bool:
    """Say whether two arrays hold the same numbers, at once where they share their memory."""
    if one is None or other is None:
        return one is other
    return _shares(one, other) or bool(np.array_equal(one, other, equal_nan=True))
