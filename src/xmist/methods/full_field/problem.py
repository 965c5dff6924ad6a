"""What a whole-image fit is made to, what it solves for, and what comes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.core.arrays import Image
from xmist.numerics.images.denoise import Spectrum
from xmist.numerics.operators.finite_model import Residual
from xmist.numerics.operators.transport import LOG_T, PSI, Transport
from xmist.numerics.solvers.conjugate_gradients import Convergence
from xmist.numerics.solvers.constrained import ConstrainedSolver
from xmist.numerics.solvers.preconditioner import Prior
from xmist.numerics.solvers.whole_image import Right, Solver
from xmist.numerics.weights import Images, Weights

Real = NDArray[Any]

# Part of the noise's contribution to the objective, a pixel, that a solve may leave.
_NEGLIGIBLE: Final = 3e-4
_ROUGH: Final = 1e-2  # the same where a solve is but a step on the way


@dataclass(frozen=True, kw_only=True, eq=False)
class Frames:
    """What a fit is made to, in units of the mean reference.

    Parameters
    ----------
    reference : (position, y, x) float32 array
        References without noise, finite and positive.
    sample : (position, y, x) float32 array
        Sample frames, finite, in units of `unit`.
    weights : Weights
        Weights of mean 1. A fit takes the weight from outliers.
    threads : int
        Threads; no result depends on it.
    noise : float
        Variance of a pixel of weight 1; 0 where it is not known.
    spectra : tuple of Spectrum
        Spectrum of the square root of each reference, with its noise; empty without noise.
    unit : float
        Mean reference in the unit of the sample frames: a copy in other units would take as much memory.
    """

    reference: Image
    sample: Image
    weights: Weights
    threads: int
    noise: float = 0.0
    spectra: tuple[Spectrum, ...] = ()
    unit: float = 1.0

    def operator(self, kinds: tuple[int, ...], models: Image) -> Transport:
        """Give the linear operator about model images.

        Parameters
        ----------
        kinds : tuple of int
            Unknowns, see `xmist.numerics.operators.transport`.
        models : (position, y, x) float32 array
            Model images.
        """
        return Transport(frames=models, kinds=kinds, weights=self.weights, threads=self.threads)


@dataclass(frozen=True, kw_only=True, eq=False)
class Problem:
    """What is fitted.

    Parameters
    ----------
    kinds : tuple of int
        Unknowns, see `xmist.numerics.operators.transport`.
    weak : callable
        Gives the priors to begin with, weaker than what the data will ask for.
    orders : tuple of float
        Orders that the priors may have; the first to begin with.
    crossing : float
        Frequency in rad per pixel at which weak priors of all orders are alike.
    fixed : mapping of int to float or None
        Strengths of the priors that are not to be read from the data, by kind; None keeps that to begin with.
    length2 : float, optional
        ℓ² of a single material, for which ψ = ℓ² ln T, in pixels².
    free : (y, x) bool array, optional
        Pixels where there may be something; elsewhere all unknowns are 0.
    relative : float
        Part of what the fit explains that an inner solve may leave, where the noise lets it go so far.
    """

    kinds: tuple[int, ...]
    weak: Callable[[Transport], tuple[Prior, ...]]
    orders: tuple[float, ...]
    crossing: float
    fixed: Mapping[int, float | None]
    length2: float | None = None
    free: NDArray[np.bool_] | None = None
    relative: float = 1e-9

    @property
    def mix(self) -> Real | None:
        """Kinds as combinations of unknowns, see `xmist.numerics.solvers.constrained`."""
        if self.length2 is None:
            return None
        unknowns = [kind for kind in self.kinds if kind != PSI]
        mix = np.array([[float(kind == unknown) for unknown in unknowns] for kind in self.kinds])
        mix[self.kinds.index(PSI), unknowns.index(LOG_T)] = self.length2
        return mix

    def priors(self, transport: Transport) -> tuple[Prior, ...]:
        """Give the priors to begin with."""
        out = []
        for kind, prior in zip(self.kinds, self.weak(transport), strict=True):
            strength = self.fixed.get(kind)
            out.append(prior if strength is None else replace(prior, strength=strength))
        return tuple(out)

    def halved(self) -> Problem:
        """Give the problem for frames binned by two."""
        return replace(self, length2=None if self.length2 is None else 0.25 * self.length2)

    def solver(self, transport: Transport, priors: tuple[Prior, ...]) -> Solver:
        """Prepare the linear problem about the present model images."""
        if self.length2 is not None or self.free is not None:
            return ConstrainedSolver(transport, priors, mix=self.mix, free=self.free)
        return Solver(transport, priors)

    def run(
        self,
        solver: Solver,
        right: Right,
        start: Image | None,
        *,
        pull: Real | None = None,
        rough: bool = False,
    ) -> tuple[Image, Convergence]:
        """Solve it, from a start; roughly where nothing but the way to the end depends on it.

        The memory of the start is used, and that of the right side where there is no pull.
        """
        part = (_ROUGH if rough else _NEGLIGIBLE) / solver.exposures
        return solver(
            right,
            start=start if start is not None and start.any() else None,
            pull=pull,
            negligible=lambda objective: part * objective,
            relative=self.relative,
        )

    def solve(
        self, transport: Transport, images: Images, priors: tuple[Prior, ...]
    ) -> tuple[Image, Convergence]:
        """Prepare and solve it."""
        return self.run(self.solver(transport, priors), Right.of(transport, images), None)


@dataclass(frozen=True, kw_only=True, eq=False)
class Start:
    """What a fit begins with.

    Parameters
    ----------
    fields : (unknown, y, x) float32 array
        Unknowns in pixel units.
    priors : tuple of Prior, optional
        Their strengths and orders, where they are known from a fit like this.
    """

    fields: Image
    priors: tuple[Prior, ...] | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Fit:
    """Unknowns that were fitted, and how it went.

    Parameters
    ----------
    fields : (unknown, y, x) float32 array
        The unknowns in pixel units.
    priors : tuple of Prior
        Priors that were used in the end.
    transport : Transport
        Linearised operator at the end.
    residual : Residual
        S − model, a sequence of images.
    solves : tuple of Convergence
        One an inner solve.
    misfit : tuple of float
        Weighted sum of squared residuals before each outer step.
    converged : bool
        Whether the outer steps settled and every inner solve met its rule.
    outliers : tuple of (number,) int arrays
        Pixels of each exposure, by their places in the flattened image, that were found to contradict the
        model, and got weight 0.
    binning : int
        Pixels that were binned along either axis where the fit began.
    lost : float
        Part of the image around which the model did not find the speckles, where that is large.
    warm : bool
        Whether the fit began with what it was given.
    parallax : float
        Part of the beam's bending by the diffuser that moves the sample's own pattern; 0 where none is seen.
    """

    fields: Image
    priors: tuple[Prior, ...]
    transport: Transport
    residual: Residual
    solves: tuple[Convergence, ...]
    misfit: tuple[float, ...]
    converged: bool
    outliers: tuple[NDArray[np.intp], ...]
    binning: int = 1
    lost: float = 0.0
    warm: bool = False
    parallax: float = 0.0

    @property
    def weights(self) -> Weights:
        """Weights at the end."""
        weights = self.transport.weights
        assert isinstance(weights, Weights)
        return weights
