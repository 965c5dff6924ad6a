"""The plan of `umpa` and `xsvt`: search, visibility to metres, gradient to phase."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xmist.core import flags as flag
from xmist.core.arrays import Image, as_weights
from xmist.core.data import Retrieval
from xmist.core.errors import ErrorRecord, InputError, collect_errors, raise_errors
from xmist.core.experiment import Experiment
from xmist.core.findings import Finding, finding, percent
from xmist.core.version import __version__
from xmist.methods.common.alignment import frame_shifts, moved_frames, report_refined
from xmist.methods.common.background import background_mask, determined_background
from xmist.methods.common.bare_beam import use_bare_beam
from xmist.methods.common.border import check_border
from xmist.methods.common.findings import ROUGH_SHIFT, describe_flags, share_of
from xmist.methods.common.frames import check_frames
from xmist.methods.common.motion import check_motion
from xmist.methods.common.phase import phase_of_shift
from xmist.methods.common.reference import PreparedReference, prepare_reference
from xmist.methods.matching.fine_structure import describe_fine_structure
from xmist.methods.matching.options import MatchingOptions, shift_of
from xmist.methods.matching.region import RegionPlan, prepare_region
from xmist.numerics.images.fill import fill
from xmist.numerics.images.medians import distance_from_median
from xmist.numerics.images.period import pattern_periods
from xmist.numerics.matching.contrast import blur_of_shift, contrast_decay, noise_gain
from xmist.numerics.matching.directional import blur_covariance
from xmist.numerics.matching.match import FLAT, NOTHING, ON_EDGE, ROUGH, SCALE, Match, Window, match
from xmist.numerics.parallel import count_threads, for_blocks

Real = NDArray[Any]

# A visibility below would make D of nothing but noise: (1/V − 1) grows without bound.
_LEAST_VISIBILITY: Final = 0.05
_REFINED: Final = 3  # rounds of measuring the shifts of frames and matching again
_MIXED: Final = 0.3  # part of a window that is flagged, from which the speckles of the rest are mixed with it
_CALM: Final = 0.25  # of the pixels, where changes of the shift are noise
_SEEN: Final = 0.014  # pixels², least mean dark-field that is worth a finding
_COHERENT: Final = 0.2  # of its standard deviation: noise and both signs at an edge have a smaller mean
_PART: Final = 0.8  # of the mean dark-field, that refraction may make
_FEW: Final = 4.0  # speckles in a window at all positions: with fewer, what does not fit it counts more
# Flags of shifts that were not found.
_UNSURE: Final = flag.SEARCH_EDGE | flag.ILL_DETERMINED | flag.FILLED | flag.UNDETERMINED


@dataclass(frozen=True, kw_only=True, eq=False)
class MatchingPlan:
    """A matching method prepared for a reference; call it with the sample frames of a projection."""

    method: str
    model: int  # of `xmist.numerics.matching.match`
    experiment: Experiment
    options: MatchingOptions
    reference: PreparedReference
    good: NDArray[np.uint8] | None  # (position, y, x) where a reference frame counts
    weights: Image | None  # (position, y, x) given with the reference
    background: NDArray[np.bool_] | None  # (y, x) bare beam
    noise: float  # variance of the reference's noise over its mean
    level: float  # mean of the reference
    decay: Image | None  # (y, x) κ_s² in rad² per pixel², see `dark_field_from_visibility`
    periods: Real  # (number, 2) shifts by which the reference repeats
    first: Any  # plan of the method that gives the start values, or None
    threads: int

    def __call__(self, sample: ArrayLike, *, weights: ArrayLike | None = None) -> Retrieval:
        """Retrieve one projection from (position, y, x) sample frames; weights multiply the reference's."""
        frames, given = self.reference.check(sample, weights)
        flags = self.reference.flags.copy()
        for n, frame in enumerate(frames):
            flags[self.reference.not_hidden(~np.isfinite(frame), n, given)] |= flag.BAD_SAMPLE
        combined = self.weights
        if given is not None:
            flags[(given == 0).any(axis=0)] |= flag.MASKED
            combined = given if combined is None else given * combined
        start, reference = self._start(sample, weights), self.reference.frames
        found = self._match(reference, frames, combined, start)
        shifts = np.zeros((len(frames), 2))
        for _ in range(_REFINED if self.options.refine_positions and len(frames) > 1 else 0):
            maps = np.stack([*found.shift, found.scale, np.ones_like(found.scale)])
            maps[3] = found.visibility if self.model != SCALE else 1.0
            maps[:, ~np.isfinite(maps).all(axis=0)] = np.array([[0.0], [0.0], [0.0], [1.0]])
            shifts += frame_shifts(reference, frames, combined, self.good, maps, self.options.window)
            reference = moved_frames(self.reference.frames, shifts)
            found = self._match(reference, frames, combined, start)
        self._settle(found, flags)
        covariance = None
        if self.options.dark_field == "tensor":
            covariance = self._covariance(reference, found, flags, frames, combined)
        result = self._result(found, covariance, flags, frames)
        found_finer = describe_fine_structure(
            result, reference, frames, combined, self.options.window, threads=self.threads
        )
        result = replace(result, findings=(*result.findings, *found_finer))
        result = check_border(result, reference, frames, combined)
        result = check_motion(result, reference, frames, self.reference.weights, threads=self.threads)
        result = use_bare_beam(
            result,
            reference,
            frames,
            self.reference.weights,
            background=self.background,
            threads=self.threads,
        )
        if not self.options.refine_positions:
            return result
        what = "shifts of sample frames against their reference frames"
        return report_refined(result, what, shifts, {"frame_shifts": shifts.tolist()})

    def _match(
        self, reference: Image, frames: Image, weights: Image | None, start: NDArray[np.int64] | None
    ) -> Match:
        return match(
            reference,
            frames,
            Window(self.options.window, self.options.weighting),
            reach=self.options.reach,
            model=self.model,
            good=self.good,
            weights=weights,
            start=start,
            noise=self.noise,
            level=self.level,
            threads=self.threads,
        )

    def _start(self, sample: ArrayLike, weights: ArrayLike | None) -> NDArray[np.int64] | None:
        """Return the start values rounded to whole pixels."""
        initial = self.options.initial
        if initial is None:
            return None
        if self.first is not None:
            initial = self.first(sample, weights=weights)
        shift = shift_of(initial, self.experiment, self.reference.flags.shape)
        limit = min(self.reference.flags.shape) // 2
        whole: NDArray[np.int64] = np.rint(np.clip(np.nan_to_num(shift, nan=0.0), -limit, limit)).astype(
            np.int64
        )
        return whole

    def _settle(self, found: Match, flags: NDArray[np.uint16]) -> None:
        """Flag pixels that matching could not determine, and fill them from neighbours."""
        nothing = (found.status & NOTHING) > 0
        flat = ((found.status & FLAT) > 0) & ~nothing
        lost = nothing | flat
        if lost.all():
            raise InputError(
                "no window has speckles in both reference and sample frames; expected frames with contrast "
                "whose good pixels overlap (check weights, NaN and reference values of 0 or below)",
                "pixels-unusable",
            )
        flags[(found.status & ON_EDGE) > 0] |= flag.SEARCH_EDGE
        flags[((found.status & ROUGH) > 0) | flat] |= flag.ILL_DETERMINED
        flags[nothing] |= flag.FILLED
        unsure = ~lost & ~np.isfinite(found.visibility)
        flags[unsure] |= flag.ILL_DETERMINED
        if lost.any() or unsure.any():
            for image, bad in (
                (found.shift[0], lost),
                (found.shift[1], lost),
                (found.scale, nothing),
                (found.visibility, lost | unsure),
            ):
                image[...] = fill(image, ~bad, threads=self.threads)
        unknown = ~(np.isfinite(found.shift).all(axis=0) & np.isfinite(found.scale))
        unknown |= ~np.isfinite(found.visibility)
        if unknown.any():
            flags[unknown] &= ~np.uint16(flag.FILLED | flag.ILL_DETERMINED | flag.SEARCH_EDGE)
            flags[unknown] |= flag.UNDETERMINED
            for image in (*found.shift, found.scale, found.visibility):
                image[unknown] = np.nan

    def _unsure(self, flags: NDArray[np.uint16]) -> NDArray[np.bool_]:
        """Return the pixels (y, x) whose shift was not found: flagged, or a good part of their window is."""
        from scipy.ndimage import uniform_filter

        flagged = (flags & _UNSURE) > 0
        size = max(self.options.window, 3)
        return flagged | (uniform_filter(flagged.astype(np.float32), size, mode="nearest") > _MIXED)

    def _covariance(
        self, reference: Image, found: Match, flags: NDArray[np.uint16], frames: Image, weights: Image | None
    ) -> Image:
        """Return the covariance of the blur (3, y, x) in pixels²; flag and fill what is not determined."""
        lost = (flags & flag.UNDETERMINED) > 0
        covariance: Image = blur_covariance(
            reference,
            frames,
            np.where(lost, np.float32(0.0), found.shift),
            Window(self.options.window, self.options.weighting),
            good=self.good,
            weights=weights,
            threads=self.threads,
        )
        unsure = np.isnan(covariance[0]) & ~lost
        if unsure.any():
            flags[unsure] |= flag.ILL_DETERMINED
            for image in covariance:
                filled = fill(image, ~unsure & ~lost, threads=self.threads)
                image[unsure] = np.where(np.isfinite(filled), filled, np.float32(0.0))[unsure]
        covariance[:, lost] = np.nan
        return covariance

    def _result(
        self, found: Match, covariance: Image | None, flags: NDArray[np.uint16], frames: Image
    ) -> Retrieval:
        lost = (flags & flag.UNDETERMINED) > 0
        shift, transmission, visibility = found.shift, found.scale, found.visibility
        findings = check_frames(
            self.reference.frames,
            frames,
            self.reference.weights,
            may_attenuate=True,
            sparse=self.reference.sparse,
        )
        if self.decay is not None:
            flags[visibility < _LEAST_VISIBILITY] |= flag.ILL_DETERMINED
        unsure = self._unsure(flags)
        bare = determined_background(self.background, unsure, findings)
        if bare is not None:
            for image in shift:
                image -= image.mean(where=bare, dtype=np.float64)
            transmission /= transmission.mean(where=bare, dtype=np.float64)
            if self.decay is not None:
                visibility /= visibility.mean(where=bare, dtype=np.float64)
            for image in () if covariance is None else covariance:
                image -= image.mean(where=bare, dtype=np.float64)
        p, distance = self.experiment.effective_pixel, self.experiment.effective_distance
        phase = phase_of_shift(
            shift, self.experiment, unsure=unsure, kind=self.options.integrator, threads=self.threads
        )
        phase[lost] = np.nan
        dark_field = tensor = None
        if covariance is not None:
            tensor = covariance * np.float32(p**2 / (2 * distance))
            dark_field = (tensor[0] + tensor[2]) / 2
        elif self.decay is not None:
            dark_field = dark_field_from_visibility(
                visibility, self.decay, shift, self.experiment, threads=self.threads
            )
            window = Window(self.options.window, self.options.weighting)
            blur = blur_of_shift(shift, window, threads=self.threads)
            dark_field -= blur * np.float32(p**2 / distance)
            findings += self._describe_mixed(dark_field, shift, unsure)
        return Retrieval(
            method=self.method,
            experiment=self.experiment,
            options=self.options.plain(),
            flags=flags,
            findings=tuple(
                findings
                + _describe(flags, self.options)
                + _describe_periods(self.periods, self.options)
                + _describe_shift(shift, self.options)
            ),
            provenance={
                "xmist_version": __version__,
                "positions": len(frames),
                **self.reference.record(self.experiment),
            },
            phase=phase,
            transmission=transmission,
            dark_field=dark_field,
            dark_field_tensor=tensor,
            refraction_angle=shift * np.float32(p / distance),
            shift=shift,
            visibility=None if self.decay is None else visibility,
        )

    def _describe_mixed(self, dark_field: Image, shift: Image, unsure: NDArray[np.bool_]) -> list[Finding]:
        """Return a finding where refraction that changes within windows makes a good part of D (y, x) in m.

        Where the shift changes by ε a pixel, the contrast of speckles in a window changes by about ε: windows
        are stretched, and a wave that a lens bends has other speckles. D changes by ε/κ_s² in pixels².
        """
        from scipy.ndimage import uniform_filter

        assert self.decay is not None  # D comes from it
        size = self.options.window
        smooth = [uniform_filter(np.nan_to_num(part), size, mode="nearest") for part in shift]
        (along_y, across), (across_too, along_x) = np.gradient(smooth[1]), np.gradient(smooth[0])
        change = 0.5 * (along_x**2 + along_y**2 + 0.5 * (across + across_too) ** 2)
        change = uniform_filter(change, 2 * size + 1, mode="nearest")
        known = ~unsure & np.isfinite(dark_field)
        if not known.any():
            return []
        change, d = change[known].astype(np.float64), dark_field[known].astype(np.float64)
        weights = np.maximum(change - np.quantile(change, _CALM), 0.0)
        if not weights.sum() > 0.0:
            return []
        scale = self.experiment.effective_distance / self.experiment.effective_pixel**2
        d *= scale
        mean = float(np.average(d, weights=weights))
        spread = float(np.sqrt(np.average((d - mean) ** 2, weights=weights)))
        mixed = float(np.average(np.sqrt(weights), weights=weights)) / float(np.median(self.decay))
        if mean < max(_SEEN, _COHERENT * spread):
            return []
        speckles = len(self.reference.frames) * (size / (self.reference.speckle_size() or 1.0)) ** 2
        mixed *= max(1.0, _FEW / speckles)
        if mixed < _PART * mean:
            return []
        message = (
            f"dark-field is {mean / scale:.2g} m on average where refraction changes most, and about "
            f"{min(mixed, mean) / scale:.2g} m of that may come from refraction that changes within windows: "
            "use full-field or mist-gradient-flow"
        )
        return [finding("dark-field-from-refraction", message)]


def _describe(flags: NDArray[np.uint16], options: MatchingOptions) -> list[Finding]:
    """Return findings about flags; the remedies differ from those of the pixelwise methods."""
    found = describe_flags(flags & ~np.uint16(flag.ILL_DETERMINED))
    share = share_of(flags, flag.ILL_DETERMINED)
    if share > 0.002:
        message = (
            f"{percent(share)} of the pixels are ill-determined, because their windows contain almost no "
            "speckles; use a larger window or more positions"
        )
        found.append(finding("ill-determined", message))
    share = share_of(flags, flag.SEARCH_EDGE)
    if share > 0.002:
        message = (
            f"the best shift of {percent(share)} of the pixels lies on the edge of the search range of "
            f"{options.reach} pixels; increase max_shift"
        )
        found.append(finding("search-edge", message))
    return found


def _describe_shift(shift: Real, options: MatchingOptions) -> list[Finding]:
    """Return a finding where the shift (2, y, x) differs too much between neighbouring windows.

    Windows that share no pixel have independent errors, of which wrong minima are most; a shift that does
    change as fast is mixed in a window.
    """
    rough = distance_from_median(shift, options.window)
    if rough < ROUGH_SHIFT:
        return []
    message = (
        f"the shift differs by {rough:.2g} pixels (rms, with flagged pixels) between neighbouring windows, "
        "and is wrong by about as much: few speckles leave noise and wrong minima; use a larger window "
        "or more positions"
    )
    return [finding("shift-rough", message)]


def _describe_periods(periods: Real, options: MatchingOptions) -> list[Finding]:
    """Return a finding where two shifts within the search range differ by a period of the reference."""
    if not len(periods) or (widest := float(np.abs(periods).max(axis=1).min())) >= 2 * options.reach:
        return []
    period = float(np.hypot(*periods[0]))
    message = (
        f"the pattern of the reference frames repeats every {period:.2g} pixels, so that shifts of more than "
        f"{0.5 * period:.2g} pixels are ambiguous, but {options.reach} pixels are searched: shift and phase "
        f"may be wrong by whole periods; set max_shift to {int(widest // 2)} at most, about start values "
        "(initial) where shifts are larger"
    )
    return [finding("shift-ambiguous", message)]


def dark_field_from_visibility(
    visibility: Image,
    decay: Image,
    shift: Image,
    experiment: Experiment,
    *,
    threads: int | None = None,
) -> Image:
    """Return the dark-field D in m of a (y, x) visibility; one below 0.05 counts as 0.05.

    To first order V = 1 − ∆ D κ_s², κ_s² = −cov(I_R, ∇²I_R)/var(I_R) over the same window; and
    D = (1/V − 1)/(∆ κ_s²) is exact for speckles of Gaussian correlation. `decay` is κ_s² in rad² per pixel²
    in the reference's frame, `shift` the (2, y, x) shift of the window in pixels.

    Examples
    --------
    >>> experiment = Experiment(energy_kev=17.0, pixel_size=5e-6, sample_to_detector=1.0)
    >>> half = np.full((8, 8), 0.5, np.float32)
    >>> d = dark_field_from_visibility(half, half, np.zeros((2, 8, 8), np.float32), experiment)
    >>> round(float(d[4, 4]) * 1e12, 3)
    50.0
    """
    from scipy.ndimage import map_coordinates

    out = np.empty(visibility.shape, np.float32)
    columns = np.arange(visibility.shape[1])

    def task(start: int, stop: int) -> None:
        rows = np.arange(start, stop)[:, None]
        moved = np.nan_to_num(shift[:, start:stop])
        at = np.stack([rows - moved[1], columns - moved[0]])
        local = map_coordinates(decay, at, order=1, mode="nearest")
        v = np.maximum(visibility[start:stop], np.float32(_LEAST_VISIBILITY))
        out[start:stop] = (1.0 / v - 1.0) / local

    for_blocks(task, len(out), threads=threads)
    out *= np.float32(experiment.effective_pixel**2 / experiment.effective_distance)
    return out


def prepare_matching(
    reference: ArrayLike,
    experiment: Experiment,
    options: MatchingOptions,
    *,
    method: str,
    model: int,
    minimum: int,
    weights: ArrayLike | None,
    threads: int | None,
) -> MatchingPlan | RegionPlan:
    """Prepare a matching method; check options against the size of the frames."""
    if options.region is not None or options.stride > 1:
        make = partial(
            prepare_matching,
            experiment=experiment,
            method=method,
            model=model,
            minimum=minimum,
            threads=threads,
        )
        return prepare_region(reference, experiment, options, weights=weights, make=make)
    prepared = prepare_reference(
        reference, weights, method=method, minimum=minimum, threads=threads, differentiated=False
    )
    shape = prepared.flags.shape
    errors: list[ErrorRecord] = []
    if options.window > min(shape):
        text = f"option window is {options.window} pixels; expected at most the frames' {min(shape)}"
        errors.append(ErrorRecord("option-invalid", text))
    elif options.reach > min(shape) - options.window:
        text = (
            f"option max_shift is {options.reach} pixels; expected at most {min(shape) - options.window}, "
            f"so that a window of {options.window} stays inside the frames of {shape[0]} × {shape[1]} pixels"
        )
        errors.append(ErrorRecord("option-invalid", text))
    bare = None
    with collect_errors(errors):
        bare = background_mask(options.background, shape)
    first = None
    if isinstance(options.initial, str) and options.initial == method:
        text = f"option initial is '{method}' itself; expected another method"
        errors.append(ErrorRecord("option-invalid", text))
    elif isinstance(options.initial, str) and not errors:
        from xmist.methods.registry import prepare

        first = prepare(reference, experiment, method=options.initial, weights=weights, threads=threads)
    elif options.initial is not None and not isinstance(options.initial, str):
        with collect_errors(errors):
            shift_of(options.initial, experiment, shape)
    raise_errors(errors)
    good = None if prepared.weights is None else (prepared.weights > 0).astype(np.uint8)
    window = Window(options.window, options.weighting)
    number = count_threads(threads)
    decay, noise = None, 0.0
    level = float(prepared.frames.mean(dtype=np.float64))
    if options.dark_field != "none":
        noise = noise_gain(prepared.frames, good)
        decay = contrast_decay(
            prepared.frames, window, model=model, level=level, good=good, noise=noise, threads=number
        )
    return MatchingPlan(
        method=method,
        model=model,
        experiment=experiment,
        options=options,
        reference=prepared,
        good=good,
        weights=None if weights is None else as_weights("weights", weights, prepared.frames.shape, []),
        background=bare,
        noise=noise,
        level=level,
        decay=decay,
        periods=pattern_periods(prepared.frames, None if good is None else good > 0),
        first=first,
        threads=number,
    )
