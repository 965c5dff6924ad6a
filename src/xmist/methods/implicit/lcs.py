"""`lcs`: low-coherence system; transmission, refraction and dark-field, one pixel at a time.

Quénot et al. 2021, "Implicit tracking approach for X-ray phase-contrast imaging with a random mask and a
conventional system", Optica 8 1412, doi:10.1364/OPTICA.434954; with dark-field Magnin et al. 2023, Opt. Lett.
48 5839. In pixel units, with the shift u = ∇ψ, ψ = ∆φ/(k p²), and d = ∆D/p²,

    I_R = I_S/T + u·∇I_R [− d ∇²I_R, or − (d_xx ∂_xx + d_yy ∂_yy + 2 d_xy ∂_xy) I_R]

at every pixel for every exposure. It is solved for 1/T − 1, so that no object gives exactly 0 and the ridge
pulls towards no object. ∇φ = k u/∆ is integrated by least squares.

What multiplies the whole frame is found as one: the T of this method is T (1 − ∇·u + ∆∇²D), attenuation and
lensing together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xmist.core import flags as flag
from xmist.core.arrays import Image
from xmist.core.data import Retrieval
from xmist.core.experiment import Experiment
from xmist.core.version import __version__
from xmist.methods.common.background import background_mask, determined_background, plain_background
from xmist.methods.common.findings import compare_frames, describe_flags
from xmist.methods.common.options import Range, check_options
from xmist.methods.common.phase import centre
from xmist.methods.common.reference import prepare_reference
from xmist.methods.full_field.options import background_faults
from xmist.methods.implicit.pixelwise import PixelwiseSystem, prepare_pixelwise
from xmist.methods.implicit.regularisation import AUTOMATIC, Comparison, choose, chosen, contradictions
from xmist.numerics.images.fill import fill
from xmist.numerics.images.tensors import eigenvalues, nearest_positive
from xmist.numerics.operators.derivatives import DX, DXX, DXY, DY, DYY, LAPLACIAN, SAMPLE
from xmist.numerics.solvers.integrate import INTEGRATORS, Integrator, integrate

# Columns for the unknowns 1/T − 1, u_x, u_y and −d or −d_xx, −2 d_xy, −d_yy.
COLUMNS: Final = {
    "none": (SAMPLE, DX, DY),
    "scalar": (SAMPLE, DX, DY, LAPLACIAN),
    "tensor": (SAMPLE, DX, DY, DXX, DXY, DYY),
}
_FACTORS: Final = {"none": (), "scalar": (-1.0,), "tensor": (-1.0, -0.5, -1.0)}


@dataclass(frozen=True, kw_only=True)
class LcsOptions:
    """Options of `lcs`.

    Parameters
    ----------
    dark_field : {"none", "scalar", "tensor"}
        Whether and how the model blurs: not at all (N ≥ 3), as in the paper of 2021; with a scalar D (N ≥ 4);
        with a tensor (N ≥ 6).
    integrator : {"dct", "southwell"}
        How the shift is integrated to the phase: with the gradient of a sum of cosines (Frankot–Chellappa
        with the even mirror), or with differences of neighbours.
    background : (y, x) bool array or (int, int, int, int), optional
        Bare beam beside the sample: a mask, or a box y0, y1, x0, x1 in pixels, ends excluded. On average the
        shift, D and φ are 0 there and T is 1, so that a drift of the mask or of the flux between the frames
        is taken away. None: as measured, and the mean of φ is 0.
    smoothing : float
        Gaussian σ in pixels that the normal equations are smoothed with; 0 solves every pixel alone.
    ridge : float
        Tikhonov term on (1/T − 1, u, d), relative to the mean diagonal of the normal matrix in pixel units.
    regularisation : {None, "auto"}
        "auto" chooses `ridge` from the frames, by agreement with a stable estimate (see
        `xmist.methods.implicit.regularisation`), and records the choice in `provenance["regularisation"]`.
    positive : bool
        Set a negative dark-field to 0 (and flag it), or replace a tensor with a negative eigenvalue by the
        nearest positive semi-definite one.

    Raises
    ------
    InputError
        Lists every value that is out of range, and options that exclude each other.

    Examples
    --------
    >>> LcsOptions(dark_field="tensor").dark_field
    'tensor'
    """

    dark_field: Literal["none", "scalar", "tensor"] = "scalar"
    integrator: Integrator = "dct"
    background: Any = None
    smoothing: float = 0.0
    ridge: float = 0.0
    regularisation: str | None = None
    positive: bool = False

    def __post_init__(self) -> None:
        check_options(
            self,
            [Range("smoothing", "pixels", high=1000.0), Range("ridge")],
            ["positive"],
            {"dark_field": tuple(COLUMNS), "integrator": INTEGRATORS, "regularisation": AUTOMATIC},
            [
                *contradictions(self, "ridge"),
                *((True, fault) for fault in background_faults(self.background)),
            ],
        )


OPTIONS: Final = LcsOptions


@dataclass(frozen=True, kw_only=True, eq=False)
class LcsPlan:
    """`lcs` prepared for a reference; call it with the sample frames of a projection.

    Parameters
    ----------
    experiment : Experiment
        Geometry.
    options : LcsOptions
        Options.
    equations : PixelwiseSystem
        Least squares for the reference.
    bare : (y, x) bool array, optional
        The background.
    """

    experiment: Experiment
    options: LcsOptions
    equations: PixelwiseSystem
    bare: NDArray[np.bool_] | None = None

    def __call__(self, sample: ArrayLike, *, weights: ArrayLike | None = None) -> Retrieval:
        """Retrieve one projection.

        Parameters
        ----------
        sample : (position, y, x) array_like
            Frames with the sample.
        weights : (position, y, x) array_like, optional
            Weights that multiply those of the reference; 0 means that a pixel is ignored.

        Returns
        -------
        Retrieval
            Transmission (with lensing in it), shift in pixels, refraction angle in rad as the shift gives it,
            phase in rad with mean 0, or on the background; dark-field in m and its tensor as asked for.

        Raises
        ------
        InputError
            If the frames do not fit the reference, or if no pixel is determined.
        """
        options, experiment, threads = self.options, self.experiment, self.equations.threads
        equations = self.equations
        provenance: dict[str, object] = {"xmist_version": __version__}
        if options.regularisation is not None:
            comparison = Comparison(
                curvature=False,
                shift=slice(1, 3),
                groups=() if options.dark_field == "none" else (slice(3, None),),
            )
            equations, _ = choose(equations, sample, weights, comparison)
            provenance["regularisation"] = {"ridge": chosen(equations, None, experiment)["ridge"]}
        frames, unknowns, flags = equations.solve(sample, weights)
        findings = compare_frames(
            self.equations.reference.frames, frames, self.equations.reference.weights, may_attenuate=True
        )
        lost = (flags & flag.UNDETERMINED) > 0
        inverse, shift, blur = unknowns[0], unknowns[1:3], unknowns[3:]
        inverse += np.float32(1.0)
        transmission = np.divide(1.0, inverse, out=np.full_like(inverse, np.nan), where=inverse != 0.0)
        wrong = ~(inverse > 0.0)  # what was fitted with it means nothing either
        flags[wrong & ~lost] |= flag.NOT_POSITIVE
        k, p, distance = experiment.wavenumber, experiment.effective_pixel, experiment.effective_distance
        bare = determined_background(self.bare, wrong, findings)
        if bare is not None:
            transmission /= transmission[bare].mean(dtype=np.float64).astype(np.float32)
            unknowns[1:] -= (
                unknowns[1:, bare].mean(axis=1, dtype=np.float64).astype(np.float32)[:, None, None]
            )
        phase = integrate(self._everywhere(shift, wrong), kind=options.integrator, threads=threads)
        phase *= np.float32(k * p**2 / distance)
        centre(phase, wrong)
        if bare is not None:
            phase -= phase[bare].mean(dtype=np.float64).astype(np.float32)
        unknowns[1:, wrong] = np.nan
        for component, factor in zip(blur, _FACTORS[options.dark_field], strict=True):
            component *= np.float32(factor * p**2 / distance)
        dark_field, tensor = self._scatter(blur, flags)
        return Retrieval(
            method="lcs",
            experiment=experiment,
            options=vars(options) | {"background": plain_background(options.background)},
            flags=flags,
            findings=tuple(findings + describe_flags(flags)),
            provenance=provenance | {"exposures": len(frames)},
            phase=phase,
            transmission=transmission,
            dark_field=dark_field,
            dark_field_tensor=tensor,
            refraction_angle=shift * np.float32(p / distance),
            shift=shift,
        )

    def _everywhere(self, shift: Image, wrong: NDArray[np.bool_]) -> Image:
        """Give a shift to integrate where there is none: that of neighbours, or 0 out of their reach."""
        if not wrong.any():
            return shift
        filled = [fill(component, ~wrong, smooth=True, threads=self.equations.threads) for component in shift]
        stacked: Image = np.stack(filled)
        stacked[np.isnan(stacked)] = 0.0
        return stacked

    def _scatter(self, blur: Image, flags: NDArray[np.uint16]) -> tuple[Image | None, Image | None]:
        """Give dark-field and tensor, clipped if that was asked for."""
        if self.options.dark_field == "none":
            return None, None
        tensor = blur if self.options.dark_field == "tensor" else None
        if self.options.positive:
            negative = (blur[0] if tensor is None else eigenvalues(blur)[1]) < 0.0
            flags[negative] |= flag.CLIPPED
            if tensor is not None:
                tensor = nearest_positive(tensor)
            else:
                blur[0][negative] = 0.0
        return (blur[0] if tensor is None else (tensor[0] + tensor[2]) / 2), tensor


def prepare(
    reference: ArrayLike,
    experiment: Experiment,
    options: LcsOptions,
    *,
    weights: ArrayLike | None = None,
    threads: int | None = None,
) -> LcsPlan:
    """Do once what depends on the reference alone; see `xmist.prepare`."""
    columns = COLUMNS[options.dark_field]
    name = "lcs" if options.dark_field == "none" else f"lcs with dark_field='{options.dark_field}'"
    prepared = prepare_reference(
        reference, weights, method=name, minimum=len(columns), threads=threads, scaled=True
    )
    equations = prepare_pixelwise(
        prepared, columns, smoothing=options.smoothing, ridge=options.ridge, threads=threads
    )
    bare = background_mask(options.background, prepared.flags.shape)
    return LcsPlan(experiment=experiment, options=options, equations=equations, bare=bare)
