"""Data, linear problem and result of a fit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.core.arrays import Image
from xmist.methods.full_field.options import TOLERANCE
from xmist.methods.full_field.prior_strengths import PriorStrengths
from xmist.numerics.images.denoise import ImageSpectrum
from xmist.numerics.images.margin import Margined
from xmist.numerics.operators import finite_model
from xmist.numerics.operators.finite_model import Residual
from xmist.numerics.operators.transport import D_XX, D_XY, D_YY, LOG_T, PSI, D, Transport
from xmist.numerics.solvers.conjugate_gradients import Convergence
from xmist.numerics.solvers.constrained import ConstrainedSolver
from xmist.numerics.solvers.preconditioner import Prior
from xmist.numerics.solvers.whole_image import Right, Solver, energy
from xmist.numerics.weights import Images, Weights

Real = NDArray[Any]

DARK: Final = (D, D_XX, D_XY, D_YY)
SMOOTH: Final = 2.0  # σ in pixels of the Gaussian that splits ψ and ln T into smooth and rough parts
# Part of the objective that a solve may leave: this changes no error by a hundredth.
NEGLIGIBLE: Final = 3e-4


@dataclass(frozen=True, kw_only=True, eq=False)
class FitData:
    """Frames of a fit, in units of the mean reference.

    `reference` (position, y, x): finite, positive, without noise. `sample` (position, y, x): finite, in units
    of `unit`, since a copy in other units would need as much memory. `weights`: of mean 1; a fit sets those
    of outliers to 0. `noise`: variance of a pixel of weight 1, 0 if unknown. `spectra`: of the square root of
    each reference, with its noise; empty without noise. `margin`: pixels around the frames, of weight 0, see
    `border`. `beginning` (y, x): ψ of the motion seen at the border, where that is better than no sample.
    """

    reference: Image | Margined
    sample: Image | Margined
    weights: Weights
    threads: int
    noise: float = 0.0
    spectra: tuple[ImageSpectrum, ...] = ()
    unit: float = 1.0
    margin: int = 0
    beginning: Image | None = None

    def operator(self, kinds: tuple[int, ...], models: Image) -> Transport:
        """Return the linear operator about model images (position, y, x)."""
        return Transport(frames=models, kinds=kinds, weights=self.weights, threads=self.threads)

    def linearise(
        self, kinds: tuple[int, ...], fields: Image, *, out: Image | None = None
    ) -> tuple[Image, Residual]:
        """Return the model images M_n and the residual S_n − model at fields (unknown, y, x).

        The model is the finite one of `xmist.numerics.operators.finite_model`: rough ψ is lensing by
        structure that is not resolved, and a warp by it would blur the model.
        """
        return finite_model.linearise(
            self.reference,
            self.sample,
            kinds,
            fields,
            smoothing=SMOOTH,
            unit=self.unit,
            out=out,
            threads=self.threads,
        )

    def misfit(self, residual: Images) -> float:
        """Return the weighted sum of squares of a residual."""
        return energy(residual, self.weights, threads=self.threads)

    def begin(self, kinds: tuple[int, ...]) -> Image:
        """Return the fields (unknown, y, x) that a fit without a start begins with."""
        fields = np.zeros((len(kinds), *self.sample.shape[1:]), np.float32)
        if self.beginning is not None:
            fields[kinds.index(PSI)] = self.beginning
        return fields

    def explained_better_by(self, one: Image, other: Image, kinds: tuple[int, ...]) -> bool:
        """Return whether the fields `one` leave a smaller misfit than the fields `other`."""
        misfits = [self.misfit(self.linearise(kinds, fields)[1]) for fields in (one, other)]
        return misfits[0] < misfits[1]


@dataclass(frozen=True, kw_only=True, eq=False)
class Problem:
    """Unknowns, priors and constraints of a fit.

    `length2`: ℓ² in pixels² of a single material, for which ψ = ℓ² ln T. `free` (y, x): False where all
    unknowns are 0. `relative`: part of what the fit explains that an inner solve may leave. `tolerance`:
    relative change of the objective between outer steps that counts as none.
    """

    kinds: tuple[int, ...]
    strengths: PriorStrengths
    length2: float | None = None
    free: NDArray[np.bool_] | None = None
    relative: float = 1e-9
    tolerance: float = TOLERANCE

    @property
    def mix(self) -> Real | None:
        """Kinds as combinations of unknowns, see `xmist.numerics.solvers.constrained`."""
        if self.length2 is None:
            return None
        unknowns = [kind for kind in self.kinds if kind != PSI]
        mix = np.array([[float(kind == unknown) for unknown in unknowns] for kind in self.kinds])
        mix[self.kinds.index(PSI), unknowns.index(LOG_T)] = self.length2
        return mix

    @property
    def zero_is_known(self) -> bool:
        """Whether the data or bare beam fix the mean of ψ."""
        return self.length2 is not None or self.free is not None

    def halved(self) -> Problem:
        """Return the problem for frames binned by two."""
        return replace(self, length2=None if self.length2 is None else 0.25 * self.length2)

    def solver(self, transport: Transport, priors: tuple[Prior, ...]) -> Solver:
        """Prepare the linear problem about the present model images."""
        if self.zero_is_known:
            return ConstrainedSolver(transport, priors, mix=self.mix, free=self.free)
        return Solver(transport, priors)

    def run(
        self,
        solver: Solver,
        right: Right,
        start: Image | None,
        *,
        pull: Real | None = None,
        part: float = NEGLIGIBLE,
    ) -> tuple[Image, Convergence]:
        """Solve it, from a start; `part`: of the objective that may be left.

        The memory of the start is used, and that of the right side where there is no pull.
        """
        return solver(
            right,
            start=start if start is not None and start.any() else None,
            pull=pull,
            negligible=lambda objective: part * objective,
            relative=self.relative,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Start:
    """The start of a fit: fields (unknown, y, x), and priors if they are known from a similar fit."""

    fields: Image
    priors: tuple[Prior, ...] | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Fit:
    """Fitted unknowns, and the record of the fit.

    `fields` (unknown, y, x); `priors` used in the end; `transport`: linear operator at the end; `residual`:
    S − model; `solves`: one an inner solve; `misfit`: before each outer step and at the end; `converged`:
    whether outer steps and inner solves all met their rules; `outliers`: for each position the pixels, by
    their places in the flattened frame, that got weight 0; `binning`: of the level at which the fit began;
    `lost`: part of the image around which the speckles were not found, where that is large; `warm`: whether
    the given start was used; `parallax`: part of the beam's bending that moves the sample's own pattern;
    `margin`: as that of the data.
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
    margin: int = 0

    @property
    def weights(self) -> Weights:
        """Weights at the end."""
        weights = self.transport.weights
        assert isinstance(weights, Weights)
        return weights
