"""The runs of a comparison: methods × numbers of positions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmist.core.data import Retrieval
from xmist.core.errors import InputError
from xmist.core.experiment import Experiment
from xmist.core.findings import Finding
from xmist.evaluate.regions import Regions
from xmist.evaluate.scoring import CHANNELS_COMPARED, MethodRun


@dataclass(frozen=True, kw_only=True, eq=False)
class ComparedRuns:
    """Methods × numbers of positions on the same frames, without tables and figures."""

    experiment: Experiment
    shape: tuple[int, int]
    runs: tuple[MethodRun, ...]
    regions: Regions
    truth: Mapping[str, NDArray[Any]]
    agreement: Mapping[str, NDArray[np.float64]]
    agreement_median: Mapping[str, NDArray[np.float64]]
    pixels: NDArray[np.bool_]
    frames: NDArray[np.float32]
    about: Mapping[str, Any] = field(default_factory=dict)
    steps: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()

    @property
    def done(self) -> tuple[MethodRun, ...]:
        """The runs that have a result."""
        return tuple(run for run in self.runs if run.result is not None)

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of the methods."""
        return tuple(dict.fromkeys(run.method for run in self.runs))

    @property
    def positions(self) -> tuple[int, ...]:
        """Numbers N of positions."""
        return tuple(dict.fromkeys(run.positions for run in self.runs))

    @property
    def results(self) -> Mapping[tuple[str, int], Retrieval]:
        """Results by method and N."""
        return MappingProxyType({(run.method, run.positions): run.result for run in self.runs if run.result})

    @property
    def channels(self) -> tuple[str, ...]:
        """Channels that at least one result has."""
        return tuple(
            name
            for name in CHANNELS_COMPARED
            if any(getattr(run.result, name) is not None for run in self.done)
        )

    def run(self, method: str, positions: int) -> MethodRun:
        """Return the run of a method with N positions.

        Parameters
        ----------
        method : str
            Name of the method.
        positions : int
            Number N.

        Raises
        ------
        InputError
            If it was not asked for.
        """
        for run in self.runs:
            if (run.method, run.positions) == (method, positions):
                return run
        raise InputError(
            f"{method}, N = {positions} was not compared; compared were {', '.join(self.methods)} with N = "
            f"{', '.join(map(str, self.positions))}",
            code="result-missing",
        )
