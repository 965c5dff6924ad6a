"""`full-field`: the whole transport equation over the whole image.

The evolving Fokker–Planck equation of an attenuating sample, for D_ij = D δ_ij and T = 1 eq. (1) of Pavlov et
al. 2020, J. Opt. 22 125604, doi:10.1088/2040-8986/abc313,

    I_S = T I_R − (∆/k) ∇·(T I_R ∇φ) + ∆ Σ_ij ∂_i∂_j (D_ij T I_R)

is fitted to all exposures at once, with no term dropped: weighted least squares over whole images, priors
whose strength is read from the data, and Gauss–Newton on the finite transport that the equation is the first
order of (module `xmist.methods.full_field.gauss_newton`). Two exposures are enough for φ, D and T; one for φ.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xmist.core import flags as flag
from xmist.core.arrays import Image, as_frames, as_weights
from xmist.core.data import Retrieval
from xmist.core.errors import InputError, raise_errors
from xmist.core.experiment import Experiment
from xmist.core.version import __version__
from xmist.methods.common.findings import compare_frames, describe_flags
from xmist.methods.common.phase import screening_length2
from xmist.methods.common.reference import PreparedReference, prepare_reference
from xmist.methods.full_field import diagnostics
from xmist.methods.full_field.diagnostics import Speckles
from xmist.methods.full_field.options import PRIORS, FullFieldOptions, background_mask
from xmist.methods.full_field.parallax import follow
from xmist.methods.full_field.polish import explains_all, fit_with_given_priors, fit_without_priors, polish
from xmist.methods.full_field.priors import constrain
from xmist.methods.full_field.problem import Fit, Frames, Problem, Start
from xmist.methods.full_field.refit_dark_field import DARK, reconsider
from xmist.methods.full_field.start import start_of
from xmist.methods.full_field.uncertainty import standard_deviations
from xmist.numerics.images.denoise import Spectrum, noise_variance, spectrum_of, wiener
from xmist.numerics.images.fill import fill
from xmist.numerics.operators.stencils import gradient
from xmist.numerics.operators.transport import D_XX, D_XY, D_YY, LOG_T, PSI, D, Transport
from xmist.numerics.parallel import count_threads
from xmist.numerics.solvers.preconditioner import Prior, moments
from xmist.numerics.weights import Weights

_CROSSING: Final = 0.35  # rad per pixel: frequency at which the first, weak prior outweighs the data
# Times the mean of the references, beyond which a value is none: its square would be beyond float32.
_BRIGHTEST: Final = 1e9

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
        Mean of the references, in the frames' unit.
    gain : float
        Variance of a pixel over its value, in units of `flux`.
    spectra : tuple of Spectrum
        Spectrum of the square root of each reference, with its noise; empty without noise.
    speckles : Speckles
        What the references' speckles are like.
    background : (y, x) bool array or None
        Where there is known to be nothing.
    threads : int
        Threads; no result depends on it.
    """

    experiment: Experiment
    options: FullFieldOptions
    reference: PreparedReference
    clean: Image
    flux: float
    gain: float
    spectra: tuple[Spectrum, ...]
    speckles: Speckles
    background: NDArray[np.bool_] | None
    threads: int

    def __call__(
        self, sample: ArrayLike, *, weights: ArrayLike | None = None, initial: Retrieval | None = None
    ) -> Retrieval:
        """Retrieve one projection.

        Parameters
        ----------
        sample : (position, y, x) array_like
            Frames with the sample.
        weights : (position, y, x) array_like, optional
            Weights that multiply those of the reference; 0 means that a pixel is ignored.
        initial : Retrieval, optional
            Result to begin with, such as that of the projection before; the option's if left out.

        Returns
        -------
        Retrieval
            Phase in rad with mean 0 (0 on the background where one is known, (γ/2) ln T with δ/β) and
            refraction angle in rad; dark-field (tensor) in m and transmission where they were solved for;
            with `uncertainty` their standard deviations. `diagnostics` holds the maps of
            `maps`, `provenance["convergence"]` iterations, misfit and the priors'
            strengths, `provenance["reference"]` size and visibility of the speckles.

        Raises
        ------
        InputError
            If the frames or the start do not fit the reference, or if no pixel is usable.
        """
        initial = self.options.initial if initial is None else initial
        frames, flags, given = self._frames(sample, weights)
        kinds = self.options.kinds(len(self.clean))
        start = None
        if initial is not None:
            start = start_of(initial, self.experiment, self.options, kinds, self.clean.shape[1:])
        found, problem, frames = self._fit(frames, kinds, start)
        for where in found.outliers:
            flags.flat[where] |= flag.BAD_SAMPLE
        informed: NDArray[np.bool_] = np.any(found.weights.codes, axis=0)
        flags[~informed] |= flag.FILLED
        lost = _lost(informed)
        flags[lost] = (flags[lost] & ~np.uint16(flag.FILLED)) | flag.UNDETERMINED
        findings = compare_frames(
            self.reference.frames,
            given if self.reference.scale == 1.0 else given * np.float32(self.reference.scale),
            self.reference.weights,
            may_attenuate=LOG_T in kinds,
        )
        findings += diagnostics.describe(found, self.speckles) + describe_flags(flags)
        findings += diagnostics.describe_level(found, frames.noise, given=self.options.gain is not None)
        findings += diagnostics.describe_background(found, self.background)
        if start is not None and not found.warm:
            findings.append(
                "the result given to begin with explains the frames no better than no sample, or not well "
                "enough; it was not used"
            )
        return Retrieval(
            method="full-field",
            experiment=self.experiment,
            options=self.options.plain(initial),
            flags=flags,
            findings=tuple(findings),
            diagnostics=diagnostics.maps(frames, problem, found),
            provenance={
                "xmist_version": __version__,
                "exposures": len(self.clean),
                "reference": self.speckles.to_dict(),
                "convergence": diagnostics.record(found, frames.noise),
            },
            **self._channels(found, problem, frames, lost),
        )

    def _fit(
        self, frames: Frames, kinds: tuple[int, ...], start: Start | None
    ) -> tuple[Fit, Problem, Frames]:
        orders, constraint = PRIORS[self.options.prior]
        alpha = self.options.regularisation
        gamma = self.options.delta_over_beta
        length2 = None if gamma is None else screening_length2(self.experiment, gamma)
        fixed: dict[int, float | None] = {}
        if length2 is not None and len(self.clean) == 1:
            fixed = dict.fromkeys((*DARK, LOG_T))
        if not isinstance(alpha, str):
            fixed |= {kind: (2.0 if kind == D_XY else 1.0) * alpha for kind in DARK}
        problem = Problem(
            kinds=kinds,
            weak=lambda transport: _weak_priors(transport, orders[0], length2),
            orders=orders,
            crossing=_CROSSING,
            fixed=fixed,
            length2=length2,
            free=None if self.background is None else ~self.background,
        )
        found = (fit_without_priors if alpha == 0.0 else fit_with_given_priors)(frames, problem, start)
        if alpha == "auto" and explains_all(frames, found):
            found = polish(frames, problem, found)
        elif alpha != 0.0:
            frames, found = follow(frames, problem, found)
            found = reconsider(frames, problem, found)
        if constraint and set(DARK) & set(kinds):
            found = constrain(frames, problem, found, constraint)
        return found, problem, frames

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
        raise_errors(faults)
        assert given is not None  # as_frames gave a fault otherwise
        flags = self.reference.flags.copy()
        read = (self.options.read_noise or 0.0) / self.flux
        gain = self.gain if self.options.gain is not None else self._sample_gain(given[len(given) // 2])
        floor = 0.05 * gain + read**2 or 1.0
        filled: Image | None = None
        brightest = min(_BRIGHTEST * self.flux, float(np.finfo(np.float32).max))

        def weigh(n: int) -> Image:
            if gain > 0.0 or read > 0.0:
                out: Image = gain * self.clean[n]
                out += read**2
                np.divide(floor, np.maximum(out, floor, out=out), out=out)
            else:
                out = np.ones(shape[1:], np.float32)
            if self.reference.weights is not None:
                out *= self.reference.weights[n]
            if extra is not None:
                out *= extra[n]
            out[~(np.abs(given[n]) < brightest)] = 0.0  # NaN neither
            return out

        total = 0.0
        for n, frame in enumerate(given):
            flags[~(np.abs(frame) < brightest)] |= flag.BAD_SAMPLE
            if extra is not None:
                flags[extra[n] == 0] |= flag.MASKED
            out = weigh(n)
            total += float(out.mean(dtype=np.float64)) / len(given)
            unused = out == 0.0
            if unused.any():
                if filled is None:
                    filled = given.copy()
                np.multiply(self.clean[n], np.float32(self.flux), out=filled[n], where=unused)
        if total == 0.0:
            raise InputError(
                "no pixel is usable in both frames of any pair; expected some with weight above 0"
            )
        frames = Frames(
            reference=self.clean,
            sample=given if filled is None else filled,
            unit=self.flux,
            weights=Weights.made(shape, lambda n: weigh(n) / np.float32(total)),
            threads=self.threads,
            spectra=self.spectra,
            noise=floor / float(total) if gain > 0.0 or read > 0.0 else 0.0,
        )
        return frames, flags, given

    def _sample_gain(self, frame: Image) -> float:
        """Estimate the gain of sample frames: the references may be means of many, or have no noise."""
        usable = np.isfinite(frame) & (frame > 0)
        root = np.sqrt(np.where(usable, frame, 0.0) / np.float32(self.flux))
        # A hole is a step, which has all frequencies.
        root = np.nan_to_num(fill(root, usable, smooth=True, threads=self.threads), nan=1.0)
        return 4.0 * _without_rounding(noise_variance(root, threads=self.threads))

    def _channels(
        self, found: Fit, problem: Problem, frames: Frames, lost: NDArray[np.bool_]
    ) -> dict[str, Any]:
        k, p = self.experiment.wavenumber, self.experiment.effective_pixel
        per_psi = k * p**2 / self.experiment.effective_distance
        per_d = p**2 / self.experiment.effective_distance
        fields = dict(zip(problem.kinds, found.fields, strict=True))
        phase = fields[PSI] * np.float32(per_psi)
        if problem.length2 is None and problem.free is None:
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
                found, problem, frames, draws=self.options.draws, seed=self.options.seed, lost=lost
            )
            channels["phase_std"] = deviations["phase"] * np.float32(per_psi)
            if "dark_field" in channels:
                channels["dark_field_std"] = deviations["dark_field"] * np.float32(per_d)
                if len(self.clean) == 1:
                    # What one image cannot tell from thickness is as large as what it shows.
                    size = float(
                        np.sqrt(np.square(channels["dark_field"]).mean(dtype=np.float64, where=~lost))
                    )
                    np.hypot(channels["dark_field_std"], np.float32(size), out=channels["dark_field_std"])
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
    prepared = prepare_reference(
        reference,
        weights,
        method="full-field",
        minimum=options.least_exposures,
        threads=threads,
        keep_neighbours=True,
    )
    background = background_mask(options.background, prepared.frames.shape[1:])
    number = count_threads(threads)
    used = None if prepared.weights is None else prepared.weights > 0
    if used is not None and not used.any():
        raise InputError(
            "no pixel of the reference frames can be used; expected good pixels that lie side by side (look "
            "at weights, NaN and reference values at or below 0)"
        )
    mean = float(
        np.mean(prepared.frames, dtype=np.float64)
        if used is None
        else prepared.frames[used].mean(dtype=np.float64)
    )
    flux = mean / prepared.scale
    clean = np.empty_like(prepared.frames)
    noise, spectra = [], []
    for image, frame in zip(clean, prepared.frames, strict=True):
        root = np.sqrt(frame.astype(np.float64) / mean)
        variance = _without_rounding(
            options.gain / flux / 4.0 if options.gain is not None else noise_variance(root, threads=number)
        )
        noise.append(variance)
        image[...] = np.maximum(wiener(root, variance, threads=number), 0.0) ** 2 if variance else root**2
        if variance:
            spectra.append(spectrum_of(root, variance, threads=number))
    if len(spectra) == len(noise) and not any(spectrum.power.any() for spectrum in spectra):
        raise InputError(
            "nothing in the reference frames stands out of white noise; expected speckles, from which phase "
            "and dark-field are read (look at exposure time, diffuser and dark frames)"
        )
    return FullFieldPlan(
        experiment=experiment,
        options=options,
        reference=prepared,
        clean=clean,
        flux=flux,
        gain=4.0 * float(np.mean(noise)),
        spectra=tuple(spectra) if all(noise) else (),
        speckles=Speckles.of(prepared.frames, clean, prepared.weights),
        background=background,
        threads=number,
    )


def _without_rounding(variance: float) -> float:
    """Give 0 for a variance that the rounding of float32 makes."""
    return variance if variance > 1e-12 else 0.0


def _weak_priors(transport: Transport, order: float, length2: float | None) -> tuple[Prior, ...]:
    """Give priors that let through all that the data can say, and more noise than is good."""
    moment = moments(transport.frames, transport.weights, threads=transport.threads)
    scale = _CROSSING ** (-2.0 * order)
    floor = 1e-6 * moment.value
    information = {D: moment.curvature, D_XX: 0.375 * moment.curvature, D_YY: 0.375 * moment.curvature,
                   D_XY: 0.75 * moment.curvature, LOG_T: 0.1 * moment.value}  # fmt: skip
    if length2 is not None:
        information[LOG_T] = 0.0
        if len(transport.frames) == 1:
            # One image tells D from the thickness of a material only as far as that is smooth, and the ratio
            # of the two priors decides; a spectrum cannot tell it.
            information[LOG_T] = 0.01 * moment.value * (1.0 + length2 * _CROSSING**2) ** 2
            information |= {kind: 0.5 * information[kind] for kind in DARK}
    return tuple(
        Prior()
        if kind == PSI or information[kind] == 0.0
        else Prior(strength=information[kind] * scale, order=order, floor=floor)
        for kind in transport.kinds
    )


def _lost(informed: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Find pixels too far from every usable one for it to say anything about them."""
    reached = fill(np.zeros(informed.shape, np.float32), informed)
    return ~np.isfinite(np.where(informed, np.float32(0.0), reached))
