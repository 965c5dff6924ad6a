"""One projection: frames in, channels and quality numbers out.

A workshop holds all that the projections share and travels once to every process. It does with a projection
what `xmist retrieve` does with it alone, bit for bit, and knows nothing of blocks and schedulers.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmist.arrays import Image
from xmist.data import Retrieval, SpeckleStack
from xmist.errors import InputError
from xmist.methods import Plan, prepare
from xmist.pipeline import count_valueless
from xmist.preprocess import Frames, apply_steps
from xmist.scanning.inputs import Inputs
from xmist.scanning.reader import Reader
from xmist.scanning.table import FAILED, GOOD, UNREADABLE, VALUELESS, Row


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
    """

    inputs: Inputs
    method: str
    options: Mapping[str, Any]
    threads: int | None
    channels: tuple[str, ...] = ()
    _kept: dict[str, Any] = field(default_factory=dict, repr=False)
    _lock: Any = field(default_factory=threading.Lock, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        # A plan is made anew where it is needed: it can be larger than the references.
        state = {item.name: getattr(self, item.name) for item in fields(self)}
        return state | {"options": dict(self.options), "_kept": {}, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            object.__setattr__(self, name, value)
        object.__setattr__(self, "_lock", threading.Lock())

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
        angle = math.nan if self.inputs.angles is None else float(self.inputs.angles[index])
        told: dict[str, Any] = {"projection": self.inputs.first + index, "angle": angle}
        try:
            raw = reader.read(index)
        except InputError as error:
            return Row(status=UNREADABLE, note=" ".join(error.faults), **told), None
        try:
            frames = self._prepared(index, raw)
            weights = None if bool((frames.weights == 1).all()) else frames.weights
            # The faults of a pair that `xmist.retrieve` tells.
            stack = SpeckleStack(frames.reference, frames.sample, weights)
            told |= measure(stack, frames)
            result = self._plan(stack.reference, stack.weights)(stack.sample)
        except MemoryError:
            raise
        except InputError as error:
            return Row(status=FAILED, note=" ".join(error.faults), **told), None
        except Exception as error:  # one projection must not end the others
            return Row(status=FAILED, note=f"unexpected {type(error).__name__}: {error}", **told), None
        lost = count_valueless(result)
        convergence = result.provenance.get("convergence", {})
        for name in ("misfit", "iterations", "converged"):
            value = convergence.get(name)
            if isinstance(value, (bool, int, float, np.number)):
                told[name] = float(value)
        return (
            Row(
                status=VALUELESS if lost else GOOD,
                note=" ".join(result.findings),
                valueless=lost,
                flagged=int(np.count_nonzero(result.flags)),
                **told,
            ),
            result,
        )

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

    def _prepared(self, index: int, raw: Image) -> Frames:
        """Lead the frames of a projection and its references through the steps."""
        inputs = self.inputs
        sample = raw
        for step in inputs.leading:
            sample = step(sample)
        with self._lock:
            reference, weights = inputs.references.at(inputs.first + index)
        frames = Frames(reference, sample, weights, dark=inputs.dark, flat=inputs.flat)
        return apply_steps(frames, inputs.steps) if inputs.steps else frames

    def _plan(self, reference: Image, weights: Image | None) -> Plan:
        """Give the plan for a reference; the last one, if it was made for the same numbers."""
        with self._lock:
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


def measure(stack: SpeckleStack, frames: Frames) -> dict[str, float]:
    """Measure what the frames of a projection tell of their quality.

    Parameters
    ----------
    stack : SpeckleStack
        Prepared frames.
    frames : Frames
        The same with what the steps measured.

    Returns
    -------
    dict
        "flux", the mean of the sample frames over that of the references, where both are usable, and
        "drift_x" and "drift_y", what the step drift measured, in pixels.
    """
    total = np.zeros(2)
    for n in range(stack.positions):
        reference, sample = stack.reference[n], stack.sample[n]
        sums = np.array([reference.sum(dtype=np.float64), sample.sum(dtype=np.float64)])
        if stack.weights is not None or not np.isfinite(sums).all():
            good = np.isfinite(reference) & np.isfinite(sample)
            if stack.weights is not None:
                good &= stack.weights[n] > 0
            sums = np.array([frame.sum(dtype=np.float64, where=good) for frame in (reference, sample)])
        total += sums
    found = {"flux": float(total[1] / total[0]) if total[0] > 0 else math.nan}
    drift = frames.measured.get("drift")
    if drift is not None:
        found["drift_x"], found["drift_y"] = (float(value) for value in np.mean(drift, axis=0))
    return found


def _same(one: Image | None, other: Image | None) -> bool:
    """Say whether two arrays hold the same numbers, at once where they share their memory."""
    if one is None or other is None:
        return one is other
    if one.shape != other.shape:
        return False
    if one.ctypes.data == other.ctypes.data and one.strides == other.strides:
        return True
    return bool(np.array_equal(one, other, equal_nan=True))
