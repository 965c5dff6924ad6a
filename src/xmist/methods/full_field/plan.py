"""References without noise, and the plan that retrieves projections with them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xmist.core import flags as flag
from xmist.core.arrays import Image, as_frames, as_weights, without_masked
from xmist.core.data import Retrieval
from xmist.core.errors import ErrorRecord, InputError, raise_errors
from xmist.core.experiment import Experiment
from xmist.core.version import __version__
from xmist.methods.common.background import background_mask
from xmist.methods.common.bare_beam import use_bare_beam
from xmist.methods.common.border import check_border
from xmist.methods.common.findings import describe_flags
from xmist.methods.common.frames import check_frames
from xmist.methods.common.motion import check_motion
from xmist.methods.common.period import check_period
from xmist.methods.common.phase import screening_length2
from xmist.methods.common.reference import PreparedReference, prepare_reference
from xmist.methods.full_field.border import inside, margin_for, mirrored, quadratic_start, with_margin
from xmist.methods.full_field.correct_parallax import correct_parallax
from xmist.methods.full_field.diagnostics import (
    SpeckleStatistics,
    convergence_record,
    diagnostic_maps,
    local_moments,
)
from xmist.methods.full_field.edge_preserving import fit_edge_preserving
from xmist.methods.full_field.findings import (
    background_findings,
    fit_findings,
    initial_finding,
    noise_findings,
    prior_findings,
    speckle_findings,
)
from xmist.methods.full_field.fit import fit_with_credible_priors
from xmist.methods.full_field.initial import start_from
from xmist.methods.full_field.options import PRIORS, FullFieldOptions, plain_initial
from xmist.methods.full_field.prior_strengths import PriorStrengths
from xmist.methods.full_field.problem import DARK, SMOOTH, Fit, FitData, Problem, Start
from xmist.methods.full_field.refit_dark_field import refit_dark_field
from xmist.methods.full_field.uncertainty import standard_deviations
from xmist.methods.full_field.unregularised import (
    explains_all,
    fit_with_given_priors,
    fit_without_priors,
    remove_priors,
)
from xmist.numerics.images.border_registration import BorderShifts, register_border
from xmist.numerics.images.denoise import Cosines, ImageSpectrum, noise_variance
from xmist.numerics.images.fill import fill
from xmist.numerics.operators.finite_model import at_the_sample
from xmist.numerics.operators.stencils import gradient
from xmist.numerics.operators.transport import D_XX, D_XY, D_YY, LOG_T, PSI, D
from xmist.numerics.parallel import count_threads
from xmist.numerics.weights import Weights

# Times the mean of the references: the square of a larger value would be beyond float32.
_BRIGHTEST: Final = 1e9
_TRANSPARENT: Final = 0.98  # part of the flux; a sample that leaves less attenuates
# Standard deviations of the noise by which a pixel must be bright for a sample frame to be wrong in its 0.
_DARK: Final = 5.0
_NEAR: Final = 0.1  # pixels of shift that a fit finds as well from no sample


def fit_images(
    data: FitData, options: FullFieldOptions, problem: Problem, start: Start | None
) -> tuple[FitData, Fit]:
    """Run the steps of the method; return the fit and the data to which it belongs."""
    strength, constraint = options.regularisation, PRIORS[options.prior][1]
    found = (fit_without_priors if strength == 0.0 else fit_with_given_priors)(data, problem, start)
    if strength == "auto" and explains_all(data, found):
        found = remove_priors(data, problem, found)
    elif strength != 0.0:
        chosen = found.priors
        data, found = correct_parallax(data, problem, found)
        found = fit_with_credible_priors(data, problem, found, chosen)
        found = refit_dark_field(data, problem, found)
    if constraint and set(DARK) & set(problem.kinds):
        found = fit_edge_preserving(data, problem, found, constraint)
    return data, found


@dataclass(frozen=True, kw_only=True, eq=False)
class FullFieldPlan:
    """`full-field` prepared for a reference; call it with the sample frames of a projection.

    `clean` (position, y, x): references without noise, in units of their mean `flux`; `gain`: variance of a
    pixel over its value, in units of `flux`; `spectra`: of the square root of each reference, with its noise,
    empty without noise; `background` (y, x): bare beam.
    """

    experiment: Experiment
    options: FullFieldOptions
    reference: PreparedReference
    clean: Image
    flux: float
    gain: float
    spectra: tuple[ImageSpectrum, ...]
    speckles: SpeckleStatistics
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
            with `uncertainty` their standard deviations. `diagnostics` holds maps,
            `provenance["convergence"]` iterations, misfit and the priors' strengths,
            `provenance["reference"]` size and visibility of the speckles.

        Raises
        ------
        InputError
            If the frames or the initial result do not fit the reference, or if no pixel is usable.
        """
        result, given, scaled, shifts = self._fitted(
            sample, weights, self.options.initial if initial is None else initial
        )
        # The fit is freed by now.
        frames, used = self.reference.frames, self.reference.weights
        result = check_border(result, frames, given, None, shifts=shifts)
        result = check_motion(result, frames, scaled, used, threads=self.threads)
        result = check_period(result, frames, used)
        bare = self.background
        return use_bare_beam(
            result, frames, scaled, used, background=bare, carried=True, threads=self.threads
        )

    def _fitted(
        self, sample: ArrayLike, weights: ArrayLike | None, initial: Retrieval | None
    ) -> tuple[Retrieval, Image, Image, BorderShifts]:
        """Return the result of the fit, frames as given and in the unit of the reference, border motion."""
        data, flags, given, shifts, attenuates = self._data(sample, weights)
        seen = _typical_number(data.weights)
        kinds = self.options.kinds(seen, attenuates=attenuates)
        problem = self._problem(kinds, data.margin, seen)
        start = None
        if initial is not None:
            start = start_from(
                initial, self.experiment, self.options, problem.kinds, self.clean.shape[1:], data.margin
            )
        data, found = fit_images(data, self.options, problem, start)
        for where in found.outliers:
            contradicts = np.zeros(found.weights.shape[1:], bool)
            contradicts.flat[where] = True
            flags[inside(contradicts, data.margin)] |= flag.BAD_SAMPLE
        informed: NDArray[np.bool_] = np.any(inside(found.weights.codes, data.margin), axis=0)
        flags[~informed] |= flag.FILLED
        lost = _undetermined(informed)
        flags[lost] = (flags[lost] & ~np.uint16(flag.FILLED)) | flag.UNDETERMINED
        scaled = given if self.reference.scale == 1.0 else given * np.float32(self.reference.scale)
        findings = check_frames(
            self.reference.frames,
            scaled,
            self.reference.weights,
            may_attenuate=LOG_T in kinds or not attenuates,
            sparse=self.reference.sparse,
        )
        findings += speckle_findings(self.speckles) + fit_findings(found, self.speckles)
        findings += describe_flags(flags)
        moment = local_moments(found)
        findings += prior_findings(problem, found, moment)
        findings += noise_findings(found, data.noise, given=self.options.gain is not None)
        codes = inside(found.weights.codes, data.margin)
        findings += background_findings(self.clean, given, codes, self.background)
        if start is not None and not found.warm:
            findings.append(initial_finding())
        channels, maps = self._channels(found, problem, data, lost)
        result = Retrieval(
            method="full-field",
            experiment=self.experiment,
            options=self.options.plain() | {"initial": plain_initial(initial)},
            flags=flags,
            findings=tuple(findings),
            diagnostics={
                name: np.ascontiguousarray(inside(image, data.margin))
                for name, image in diagnostic_maps(data, problem, found, moment).items()
            }
            | maps,
            provenance={
                "xmist_version": __version__,
                "positions": len(self.clean),
                "reference": self.speckles.to_dict(),
                **self.reference.record(self.experiment),
                "convergence": convergence_record(found, data.noise),
            },
            **channels,
        )
        return result, given, scaled, shifts

    def _problem(self, kinds: tuple[int, ...], margin: int, seen: int) -> Problem:
        orders, _ = PRIORS[self.options.prior]
        strength, gamma = self.options.regularisation, self.options.delta_over_beta
        length2 = None if gamma is None else screening_length2(self.experiment, gamma)
        fixed: dict[int, float | None] = {}
        if length2 is not None and seen == 1:
            fixed = dict.fromkeys((*DARK, LOG_T))
        elif LOG_T in kinds and seen == 1:
            fixed = dict.fromkeys((PSI, LOG_T))
        if not isinstance(strength, str):
            fixed |= {kind: (2.0 if kind == D_XY else 1.0) * strength for kind in DARK}
        if not isinstance(self.options.transmission_regularisation, str):
            fixed[LOG_T] = self.options.transmission_regularisation
        return Problem(
            kinds=kinds,
            strengths=PriorStrengths(orders=orders, fixed=fixed, length2=length2, margin=margin > 0),
            length2=length2,
            tolerance=self.options.tolerance,
            free=None if self.background is None else with_margin(~self.background, margin, True),
        )

    def _data(
        self, sample: ArrayLike, weights: ArrayLike | None
    ) -> tuple[FitData, NDArray[np.uint16], Image, BorderShifts, bool]:
        """Return the data of the fit, flags, frames as given, motion at the border, whether flux is lost."""
        errors: list[ErrorRecord] = []
        given = as_frames("sample", sample, errors)
        shape = self.clean.shape
        if given is not None and given.shape != shape:
            text = f"sample has shape {given.shape}; expected that of the reference, {shape}"
            errors.append(ErrorRecord("shape-mismatch", text))
        extra = as_weights("weights", weights, shape, errors) if weights is not None else None
        raise_errors(errors)
        assert given is not None  # else there is an error
        given = without_masked(given, extra)
        self.reference.require_light(given)
        flags = self.reference.flags.copy()
        read = (self.options.read_noise or 0.0) / self.flux
        gain = self.gain if self.options.gain is not None else self._sample_gain(given)
        floor = 0.05 * gain + read**2 or 1.0
        filled: Image | None = None
        brightest = min(_BRIGHTEST * self.flux, float(np.finfo(np.float32).max))

        dark_is_possible = len(self.clean) > 1 or LOG_T in self.options.kinds(1)

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
            out[~(np.abs(given[n]) < brightest)] = 0.0  # also NaN
            if not dark_is_possible:
                out[self._dark(given[n], n, gain, read)] = 0.0
            return out

        total = 0.0
        for n, frame in enumerate(given):
            bad = ~(np.abs(frame) < brightest)
            if not dark_is_possible:
                bad |= self._dark(frame, n, gain, read)
            flags[self.reference.not_hidden(bad, n, extra)] |= flag.BAD_SAMPLE
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
                "no pixel is usable in both frames of any pair; expected pixels with weight above 0 in "
                "both (check weights and NaN)",
                "pixels-unusable",
            )
        coded = Weights.made(shape, lambda n: weigh(n) / np.float32(total))
        # Errors of references without noise are not noise that a registration can estimate.
        shifts = register_border(self.reference.frames, given, coded.codes)
        margin = margin_for(shifts)
        data = FitData(
            reference=mirrored(self.clean, margin),
            sample=mirrored(given if filled is None else filled, margin),
            unit=self.flux,
            weights=replace(coded, codes=with_margin(coded.codes, margin, 0)),
            margin=margin,
            threads=self.threads,
            spectra=self.spectra,
            noise=floor / float(total) if gain > 0.0 or read > 0.0 else 0.0,
        )
        if margin:
            psi = quadratic_start(shifts, shape[1:], margin)
            far = max(float(np.abs(np.diff(psi, axis=axis)).max()) for axis in (0, 1)) > _NEAR
            if far and data.explained_better_by(psi[None], np.zeros_like(psi[None]), (PSI,)):
                data = replace(data, beginning=psi)
        return data, flags, given, shifts, self._attenuates(given, coded, shifts)

    def _dark(self, frame: Image, n: int, gain: float, read: float) -> NDArray[np.bool_]:
        """Return the pixels (y, x) of a sample frame without light that noise does not explain."""
        lit = self.clean[n] > _DARK * np.sqrt(gain * self.clean[n] + read**2)
        return np.asarray(lit & (frame <= 0.0))

    def _attenuates(self, given: Image, weights: Weights, shifts: BorderShifts) -> bool:
        """Return whether the sample frame in the middle lacks flux that no motion at the border explains."""
        n = len(given) // 2
        used = weights.codes[n] > 0
        flux = given[n].mean(dtype=np.float64, where=used) / self.flux
        reference = self.clean[n].mean(dtype=np.float64, where=used)
        spread = shifts.polynomial()[2:4].sum() if margin_for(shifts) else 0.0
        return bool(used.any() and flux * (1.0 + spread) < _TRANSPARENT * reference)

    def _sample_gain(self, frames: Image) -> float:
        """Estimate the gain of sample frames: the references may be means of many, or have no noise."""
        n = len(frames) // 2
        frame = frames[n]
        usable = np.isfinite(frame) & (frame > 0)
        if self.reference.weights is not None:
            usable &= self.reference.weights[n] > 0
        root = np.sqrt(np.where(usable, frame, 0.0) / np.float32(self.flux))
        # Filled, because the step at a hole has all frequencies.
        root = np.nan_to_num(fill(root, usable, smooth=True, threads=self.threads), nan=1.0)
        return 4.0 * _without_rounding(noise_variance(root, threads=self.threads))

    def _channels(
        self, found: Fit, problem: Problem, data: FitData, lost: NDArray[np.bool_]
    ) -> tuple[dict[str, Image], dict[str, Image]]:
        """Return the image channels in SI units, and diagnostic maps of their standard deviations.

        Both without those where they are not asked for.
        """
        k, p = self.experiment.wavenumber, self.experiment.effective_pixel
        per_psi = k * p**2 / self.experiment.effective_distance
        per_d = p**2 / self.experiment.effective_distance
        fields = dict(zip(problem.kinds, inside(found.fields, data.margin), strict=True))
        wide_phase = found.fields[problem.kinds.index(PSI)]
        if problem.length2 is None:  # else ψ is ℓ² ln T, and stays so
            wide_phase = at_the_sample(wide_phase, SMOOTH, threads=self.threads)
            if problem.free is not None:
                wide_phase[~problem.free] = 0.0
        wide_phase = wide_phase * np.float32(per_psi)
        phase = inside(wide_phase, data.margin)
        if not problem.zero_is_known:
            wide_phase -= np.float32(phase.mean(dtype=np.float64, where=~lost))
        angle = gradient(wide_phase, scale=1.0 / (k * p), threads=self.threads)
        channels = {
            "phase": np.ascontiguousarray(phase),
            "refraction_angle": np.ascontiguousarray(inside(angle, data.margin)),
        }
        if D in fields:
            channels["dark_field"] = fields[D] * np.float32(per_d)
        if D_XX in fields:
            tensor = np.stack([fields[kind] for kind in (D_XX, D_XY, D_YY)]) * np.float32(per_d)
            channels["dark_field_tensor"] = tensor
            channels["dark_field"] = np.float32(0.5) * (tensor[0] + tensor[2])
        if LOG_T in fields:
            channels["transmission"] = np.exp(fields[LOG_T])
        maps: dict[str, Image] = {}
        if self.options.uncertainty:
            channels, maps = self._with_deviations(channels, found, problem, data, lost)
        for image in (*channels.values(), *maps.values()):
            image[..., lost] = np.nan
        return channels, maps

    def _with_deviations(
        self,
        channels: dict[str, Image],
        found: Fit,
        problem: Problem,
        data: FitData,
        lost: NDArray[np.bool_],
    ) -> tuple[dict[str, Image], dict[str, Image]]:
        """Return the channels with their standard deviations, and the parts of these as diagnostic maps."""
        deviations = standard_deviations(
            found,
            problem,
            data,
            draws=self.options.draws,
            seed=self.options.seed,
            lost=with_margin(lost, data.margin, True),
        )
        k, p, distance = (
            self.experiment.wavenumber,
            self.experiment.effective_pixel,
            self.experiment.effective_distance,
        )
        units: dict[str, Any] = {
            "phase": np.float32(k * p**2 / distance),
            "dark_field": np.float32(p**2 / distance),
            "transmission": channels.get("transmission"),
        }
        out, maps = dict(channels), {}
        for name, one in deviations.items():
            total, noise = (units[name] * inside(image, data.margin) for image in (one.total, one.noise))
            if name == "dark_field" and len(self.clean) == 1:
                # One image does not separate scatter from thickness: the error may be as large as D.
                size = np.sqrt(np.square(channels[name]).mean(dtype=np.float64, where=~lost))
                np.hypot(total, np.float32(size), out=total)
            out[f"{name}_std"] = total
            maps[f"{name}_std_noise"] = noise
            maps[f"{name}_std_model"] = np.sqrt(np.maximum(total**2 - noise**2, np.float32(0.0)))
        return out, maps


def prepare(
    reference: ArrayLike,
    experiment: Experiment,
    options: FullFieldOptions,
    *,
    weights: ArrayLike | None = None,
    threads: int | None = None,
) -> FullFieldPlan:
    """Prepare the method for (position, y, x) reference frames; see `xmist.prepare`."""
    prepared = prepare_reference(
        reference,
        weights,
        method="full-field",
        minimum=options.minimum_positions,
        threads=threads,
        keep_neighbours=True,
    )
    background = background_mask(options.background, prepared.frames.shape[1:])
    number = count_threads(threads)
    used = None if prepared.weights is None else prepared.weights > 0
    if used is not None and not used.any():
        raise InputError(
            "no pixel of the reference frames can be used; expected good pixels beside each other (check "
            "weights, NaN and reference values of 0 or below)",
            "pixels-unusable",
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
        cosines = Cosines.of(root, threads=number)
        variance = _without_rounding(
            options.gain / flux / 4.0 if options.gain is not None else cosines.noise_variance()
        )
        noise.append(variance)
        if variance:
            spectra.append(cosines.spectrum(variance))
            root = np.maximum(cosines.filtered(spectra[-1]), 0.0)
        np.multiply(root, root, out=image)
    if len(spectra) == len(noise) and not any(spectrum.power.any() for spectrum in spectra):
        raise InputError(
            "the reference frames contain only white noise; expected speckles (check exposure time, "
            "diffuser and dark frames)",
            "speckles-missing",
        )
    return FullFieldPlan(
        experiment=experiment,
        options=options,
        reference=prepared,
        clean=clean,
        flux=flux,
        gain=4.0 * float(np.mean(noise)),
        spectra=tuple(spectra) if all(noise) else (),
        speckles=SpeckleStatistics.of(prepared.frames, clean, prepared.weights),
        background=background,
        threads=number,
    )


def _typical_number(weights: Weights) -> int:
    """Return how many frames see a pixel, in the median of those that are seen (sample stepping: few)."""
    counts = np.count_nonzero(weights.codes, axis=0)
    return int(np.median(counts[counts > 0])) if counts.any() else len(weights.codes)


def _without_rounding(variance: float) -> float:
    """Return 0 for a variance that the rounding of float32 makes."""
    return variance if variance > 1e-12 else 0.0


def _undetermined(informed: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the pixels (y, x) that are too far from all usable ones to be determined."""
    reached = fill(np.zeros(informed.shape, np.float32), informed)
    return ~np.isfinite(np.where(informed, np.float32(0.0), reached))
