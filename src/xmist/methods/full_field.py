"""`full-field`: the whole transport equation over the whole image.

The evolving Fokker–Planck equation of an attenuating sample, for D_ij = D δ_ij and T = 1 eq. (1) of Pavlov et
al. 2020, J. Opt. 22 125604, doi:10.1088/2040-8986/abc313,

    I_S = T I_R − (∆/k) ∇·(T I_R ∇φ) + ∆ Σ_ij ∂_i∂_j (D_ij T I_R)

is fitted to all exposures at once, with no term dropped: weighted least squares over whole images, priors
whose strength is read from the data, and Gauss–Newton on the finite transport that the equation is the first
order of (module `xmist.methods.gauss_newton`). Two exposures are enough for φ, D and T; one for φ.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xmist import flags as flag
from xmist.data import Image, Retrieval, as_frames, as_weights
from xmist.errors import InputError, raise_faults, suggest
from xmist.experiment import Experiment
from xmist.methods.findings import compare_frames, describe_flags
from xmist.methods.gauss_newton import Fit, Frames, fit
from xmist.methods.options import Range, check_options
from xmist.methods.pixelwise import PreparedReference, prepare_reference
from xmist.methods.posterior import standard_deviations
from xmist.numerics.denoise import noise_variance, wiener
from xmist.numerics.fill import fill
from xmist.numerics.parallel import count_threads
from xmist.numerics.preconditioner import Prior, moments
from xmist.numerics.stencils import gradient
from xmist.numerics.transport import D_XX, D_XY, D_YY, LOG_T, PSI, D, Transport
from xmist.version import __version__

_KINDS: Final = {
    "phase": (PSI,),
    "dark_field": (D,),
    "dark_field_tensor": (D_XX, D_XY, D_YY),
    "transmission": (LOG_T,),
}
PRIORS: Final = {"h1": 1.0, "h3/2": 1.5, "h2": 2.0}
_CROSSING: Final = 0.35  # rad per pixel: frequency at which the first, weak prior outweighs the data


@dataclass(frozen=True, kw_only=True)
class FullFieldOptions:
    """Options of `full-field`.

    Parameters
    ----------
    unknowns : tuple of str, optional
        What is solved for: "phase", and any of "dark_field" or "dark_field_tensor", and "transmission". None
        takes ("phase",) for one exposure and ("phase", "dark_field", "transmission") for more.
    regularisation : "auto" or float
        Strength α of the prior on the dark-field, in pixel units, next to the data term summed over the
        exposures with weights of mean 1 and references of mean 1. "auto" reads it from the spectrum of a
        weakly regularised estimate (module `xmist.numerics.strength`). The strength of the prior on ln T is
        always read from the data.
    prior : {"h1", "h3/2", "h2"}
        α‖∇d‖², α‖∇²d‖², or between: "h3/2" weighs a frequency by κ³, as the power of images with edges falls.
    uncertainty : bool
        Give standard deviations too, from solves of perturbed data.
    draws : int
        Number of perturbed solves; with few, the variances are smoothed.
    seed : int
        Seed of the perturbations.
    gain : float, optional
        Variance of a pixel over its value, in the frames' unit; None estimates it from the references.
    read_noise : float, optional
        Standard deviation of a dark pixel, in the frames' unit; None takes it as 0.

    Raises
    ------
    InputError
        Lists every value that is out of range.

    Examples
    --------
    >>> FullFieldOptions(regularisation=3).regularisation
    3.0
    """

    unknowns: tuple[str, ...] | None = None
    regularisation: float | str = "auto"
    prior: str = "h3/2"
    uncertainty: bool = False
    draws: int = 8
    seed: int = 0
    gain: float | None = None
    read_noise: float | None = None

    def __post_init__(self) -> None:
        ranges = [Range("gain", optional=True), Range("read_noise", optional=True)]
        if not isinstance(self.regularisation, str):
            ranges.append(Range("regularisation"))
        faults: list[str] = []
        try:
            check_options(self, ranges, ["uncertainty"])
        except InputError as error:
            faults += error.faults
        if isinstance(self.regularisation, str) and self.regularisation != "auto":
            faults.append(
                f"option regularisation is {self.regularisation!r}; expected 'auto' or a number of at least 0"
            )
        if self.prior not in PRIORS:
            faults.append(f"option prior is {self.prior!r}; {suggest(str(self.prior), PRIORS)}")
        for name, least in (("draws", 2), ("seed", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                faults.append(f"option {name} is {value!r}; expected a whole number of at least {least}")
        faults += self._check_unknowns()
        raise_faults(faults)

    def _check_unknowns(self) -> list[str]:
        if self.unknowns is None:
            return []
        given: Any = self.unknowns
        if isinstance(given, str) or not all(isinstance(name, str) for name in given):
            return [f"option unknowns is {self.unknowns!r}; expected a list of names such as ['phase']"]
        names = tuple(self.unknowns)
        object.__setattr__(self, "unknowns", names)
        faults = [
            f"unknown '{name}' in option unknowns; {suggest(name, _KINDS)}"
            for name in names
            if name not in _KINDS
        ]
        if "phase" not in names:
            faults.append("option unknowns lacks 'phase', which every sample changes")
        if len(set(names)) < len(names) or {"dark_field", "dark_field_tensor"} <= set(names):
            faults.append("option unknowns names the dark-field or another unknown twice")
        return faults

    def kinds(self, exposures: int) -> tuple[int, ...]:
        """Give the fields to solve for, see `xmist.numerics.transport`."""
        default = ("phase",) if exposures == 1 else ("phase", "dark_field", "transmission")
        names = self.unknowns or default
        return tuple(kind for name in _KINDS if name in names for kind in _KINDS[name])


OPTIONS: Final = FullFieldOptions


@dataclass(frozen=True, kw_only=True, eq=False)
class FullFieldPlan:
    """`full-field` prepared for a reference; call it with the sample frames of a projection.

    Parameters
    ----------
    experiment : Experiment
        Geometry.
    options : FullFieldOptions
        Options.
    reference : PreparedReference
        Reference frames as given, filled, with flags and weights.
    clean : (position, y, x) float32 array
        References without noise, in units of `flux`.
    flux : float
        Mean of the references.
    gain : float
        Variance of a pixel over its value, in units of `flux`.
    threads : int
        Threads; no result depends on it.
    """

    experiment: Experiment
    options: FullFieldOptions
    reference: PreparedReference
    clean: Image
    flux: float
    gain: float
    threads: int

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
            Phase in rad with mean 0 and refraction angle in rad; dark-field (tensor) in m and transmission
            where they were solved for; with `uncertainty` their standard deviations.
            `provenance["convergence"]` holds iterations, misfit and the priors' strengths.

        Raises
        ------
        InputError
            If the frames do not fit the reference, or if no pixel is usable.
        """
        frames, flags, given = self._frames(sample, weights)
        kinds = self.options.kinds(len(self.clean))
        order = PRIORS[self.options.prior]
        alpha = None if isinstance(self.options.regularisation, str) else self.options.regularisation
        fixed = {} if alpha is None else dict.fromkeys((D, D_XX, D_XY, D_YY), alpha)
        found = fit(frames, kinds, lambda transport: _weak_priors(transport, order), fixed=fixed)
        flags[found.outliers.any(axis=0)] |= flag.BAD_SAMPLE
        informed: NDArray[np.bool_] = np.any(found.weights > 0, axis=0)
        flags[~informed] |= flag.FILLED
        lost = _lost(informed)
        flags[lost] = (flags[lost] & ~np.uint16(flag.FILLED)) | flag.UNDETERMINED
        findings = compare_frames(
            self.reference.frames, given, self.reference.weights, may_attenuate=LOG_T in kinds
        )
        findings += _describe_fit(found) + describe_flags(flags)
        return Retrieval(
            method="full-field",
            experiment=self.experiment,
            options=asdict(self.options),
            flags=flags,
            findings=tuple(findings),
            provenance={
                "xmist_version": __version__,
                "exposures": len(self.clean),
                "convergence": _record(found),
            },
            **self._channels(found, kinds, lost),
        )

    def _frames(
        self, sample: ArrayLike, weights: ArrayLike | None
    ) -> tuple[Frames, NDArray[np.uint16], Image]:
        """Check the sample frames; give the data of the fit, the flags and the frames as they were given."""
        faults: list[str] = []
        given = as_frames("sample", sample, faults)
        shape = self.clean.shape
        if given is not None and given.shape != shape:
            faults.append(f"sample has shape {given.shape}; expected that of the reference, {shape}")
        extra = as_weights("weights", weights, shape, faults) if weights is not None else None
        raise_faults(faults)
        assert given is not None  # as_frames gave a fault otherwise
        flags = self.reference.flags.copy()
        read = (self.options.read_noise or 0.0) / self.flux
        floor = 0.05 * self.gain + read**2 or 1.0
        out = np.empty(shape, np.float32)
        scaled = np.empty(shape, np.float32)
        for n, frame in enumerate(given):
            usable = np.isfinite(frame)
            flags[~usable] |= flag.BAD_SAMPLE
            if self.gain > 0.0 or read > 0.0:
                out[n] = floor / np.maximum(self.gain * self.clean[n] + read**2, floor)
            else:
                out[n] = 1.0
            if self.reference.weights is not None:
                out[n] *= self.reference.weights[n]
            if extra is not None:
                out[n] *= extra[n]
                flags[extra[n] == 0] |= flag.MASKED
            out[n][~usable] = 0.0
            scaled[n] = np.where(out[n] > 0, frame, self.clean[n] * self.flux) / np.float32(self.flux)
        total = out.mean(dtype=np.float64)
        if total == 0.0:
            raise InputError(
                "no pixel is usable in both frames of any pair; expected some with weight above 0"
            )
        out /= np.float32(total)
        frames = Frames(reference=self.clean, sample=scaled, weights=out, threads=self.threads)
        return frames, flags, given

    def _channels(self, found: Fit, kinds: tuple[int, ...], lost: NDArray[np.bool_]) -> dict[str, Any]:
        k, p = self.experiment.wavenumber, self.experiment.effective_pixel
        per_psi = k * p**2 / self.experiment.effective_distance
        per_d = p**2 / self.experiment.effective_distance
        fields = dict(zip(kinds, found.fields, strict=True))
        phase = fields[PSI] * np.float32(per_psi)
        phase -= np.float32(phase.mean(dtype=np.float64, where=~lost))
        channels = {
            "phase": phase,
            "refraction_angle": gradient(phase, scale=1.0 / (k * p), threads=self.threads),
        }
        if D in fields:
            channels["dark_field"] = fields[D] * np.float32(per_d)
        if D_XX in fields:
            tensor = np.stack([fields[kind] for kind in (D_XX, D_XY, D_YY)]) * np.float32(per_d)
            channels["dark_field_tensor"] = tensor
            channels["dark_field"] = np.float32(0.5) * (tensor[0] + tensor[2])
        if LOG_T in fields:
            channels["transmission"] = np.exp(fields[LOG_T])
        if self.options.uncertainty:
            deviations = standard_deviations(
                found, draws=self.options.draws, seed=self.options.seed, lost=lost
            )
            channels["phase_std"] = deviations["phase"] * np.float32(per_psi)
            if "dark_field" in channels:
                channels["dark_field_std"] = deviations["dark_field"] * np.float32(per_d)
            if LOG_T in fields:
                channels["transmission_std"] = channels["transmission"] * deviations["transmission"]
        for image in channels.values():
            image[..., lost] = np.nan
        return channels


def prepare(
    reference: ArrayLike,
    experiment: Experiment,
    options: FullFieldOptions,
    *,
    weights: ArrayLike | None = None,
    threads: int | None = None,
) -> FullFieldPlan:
    """Do once what depends on the reference alone; see `xmist.prepare`."""
    names = options.unknowns or ()
    least = 2 if {"dark_field", "dark_field_tensor"} & set(names) else 1
    prepared = prepare_reference(reference, weights, method="full-field", minimum=least, threads=threads)
    number = count_threads(threads)
    used = None if prepared.weights is None else prepared.weights > 0
    flux = float(
        np.mean(prepared.frames, dtype=np.float64)
        if used is None
        else prepared.frames[used].mean(dtype=np.float64)
    )
    roots = [np.sqrt(frame.astype(np.float64) / flux) for frame in prepared.frames]
    if options.gain is None:
        noise = [noise_variance(root, threads=number) for root in roots]
    else:
        noise = [options.gain / flux / 4.0] * len(roots)
    # Below the rounding of float32 there is no noise to speak of.
    noise = [variance if variance > 1e-12 else 0.0 for variance in noise]
    clean = np.empty_like(prepared.frames)
    for frame, root, variance in zip(clean, roots, noise, strict=True):
        frame[...] = np.maximum(wiener(root, variance, threads=number), 0.0) ** 2 if variance else root**2
    return FullFieldPlan(
        experiment=experiment,
        options=options,
        reference=prepared,
        clean=clean,
        flux=flux,
        gain=4.0 * float(np.mean(noise)),
        threads=number,
    )


def _weak_priors(transport: Transport, order: float) -> tuple[Prior, ...]:
    """Give priors that let through all that the data can say, and more noise than is good."""
    moment = moments(transport.frames, transport.weights, threads=transport.threads)
    scale = _CROSSING ** (-2.0 * order)
    floor = 1e-6 * moment.value
    information = {D: moment.curvature, D_XX: 0.375 * moment.curvature, D_YY: 0.375 * moment.curvature,
                   D_XY: 0.5 * moment.curvature, LOG_T: 0.1 * moment.value}  # fmt: skip
    return tuple(
        Prior() if kind == PSI else Prior(strength=information[kind] * scale, order=order, floor=floor)
        for kind in transport.kinds
    )


def _lost(informed: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Find pixels too far from every usable one for it to say anything about them."""
    reached = fill(np.zeros(informed.shape, np.float32), informed)
    return ~np.isfinite(np.where(informed, np.float32(0.0), reached))


def _record(found: Fit) -> dict[str, Any]:
    number = int(np.count_nonzero(found.weights))
    return {
        "converged": found.converged,
        "iterations": [how.iterations for how in found.solves],
        "misfit": [value / number for value in found.misfit],
        "prior_strengths": [prior.strength for prior in found.priors],
        "residual_by_frame": [
            float(np.sqrt(np.mean(image**2, dtype=np.float64))) for image in found.residual
        ],
    }


def _describe_fit(found: Fit) -> list[str]:
    found_words = []
    if not found.converged:
        found_words.append(
            f"the solution had not settled after {len(found.misfit) - 1} outer steps: do not trust it "
            "before the cause is found (shifts of more than a speckle, an attenuating sample without "
            "transmission among the unknowns, frames that do not belong together)"
        )
    rejected = int(np.count_nonzero(found.outliers))
    if rejected:
        found_words.append(
            f"{rejected} pixels of sample frames contradict their surroundings by more than 8 standard "
            "deviations and were ignored"
        )
    return found_words
