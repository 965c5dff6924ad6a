"""`mist-gradient-flow`: phase and dark-field from the flux of gradients, in closed form, then refined.

The idea is that of Liu, Alloo, Langer & Pavlov 2025, arXiv:2508.20209. Only its abstract was available: the
equations are derived here, and may differ in details. In pixel units, ψ = ∆φ/(k p²) and d = ∆D/p², the
Fokker–Planck equation of a phase object is

    I_R − I_S = ∇·F,   F = I_R ∇ψ − ∇(d I_R)                                                            (1)

The flux is taken to have a potential, F = ∇Λ, which drops a curl; with g = ∇ψ − ∇d,

    ∇²Λ = I_R − I_S                                                                                     (2)
    ∇Λ = I_R g − d ∇I_R                                                                                 (3)

are two equations per position for g_x, g_y and d at each pixel: least squares from N = 2. Neither ∇I_R·∇ψ nor
a derivative of d is dropped, and frames are differentiated once. Least squares with weights I_R² leaves g too
small by half the squared contrast; divided by √I_R and summed over positions, (3) is

    ∇ψ = ∇(ΣΛ + d ΣI_R)/ΣI_R                                                                            (4)

whose curl falls with N. For a tensor d, (3) has five unknowns, from N = 3. The gradient part of its flux
returns ¾ and ¼ of (d_xx, d_yy) = (1, 0) for isotropic speckles d̂, and d = 2 d̂ − ½ tr(d̂) 1 puts that right.

**Refinement.** What (2) drops is of the order of the contrast, and a shift's second order looks like scatter.
Both shrink if the references are first moved by the ψ at hand (a warp that conserves their sum), for then (2)
holds what is left: J − I_S = ∇·(J ∇δψ) − ∇²(d J). In a refinement the potential and the references are
filtered by κ/√(κ² + ε²), 2π/ε = 2 speckles, since the noise of Λ rises as 1/κ; of the flux of filtered
speckles half is a gradient. δψ then has two estimates: (4), whose noise rises as 1/κ² towards long waves, and
the g of the filtered equations, smoothed, whose noise rises as 1/κ. The noise of (4) is read from the
difference of both halves of the positions, that of the other from what (4) does not explain of their
difference, in rings of frequencies; each wave is averaged with weights accordingly.

**Border.** A solution by cosines has no flux through the border. Tilt and defocus are measured by
registration of strips along the sides, removed by a warp of the references and added to ψ.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Annotated, Any, Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xmist.core import flags as flag
from xmist.core.arrays import Image
from xmist.core.errors import InputError
from xmist.core.experiment import Experiment
from xmist.core.findings import Finding, finding, percent
from xmist.core.options import Options, Range
from xmist.methods.common.options import TIED_PHASE, CutoffLength, DeltaOverBeta, Ridge
from xmist.methods.common.phase import (
    above_zero,
    centre,
    phase_of_transmission,
    refraction_of,
    single_material,
)
from xmist.methods.implicit.direct import position_weights, prepare_ratio
from xmist.methods.implicit.gradient_flow import (
    RIDGES,
    SMOOTHINGS,
    START,
    EquationSums,
    Flow,
    add_slow,
    choose,
    displacement,
    mean_wave,
    prepare_flow,
    solve_dark,
    synthesised,
)
from xmist.methods.implicit.plan import Channels, ImplicitPlan, Solution
from xmist.methods.implicit.regularisation import cutoff_of, least_cutoff
from xmist.numerics.images.border_shift import border_correlation, border_potential, border_shift
from xmist.numerics.images.fill import fill
from xmist.numerics.images.smooth import gaussian
from xmist.numerics.operators.finite_transport import Warp
from xmist.numerics.solvers.gradient_flow import smooth_equations
from xmist.numerics.solvers.poisson import dct2, frequencies

Real = NDArray[Any]

_PROPORTIONAL: Final = (
    "the reference frames are proportional to each other at every pixel; expected different positions of "
    "the diffuser"
)
_MASKED: Final = (
    "no pixel determines the dark-field, because nearly every usable one lies beside a masked one; mask "
    'fewer pixels, bin the frames, or choose dark_field = "none"'
)
_FIRST: Final = 4  # positions of the refinements before the last, which need no more
_SAME: Final = 1e-5  # of the brightest pixel
_FAR: Final = 1.0  # speckles; no refinement moves them farther
_SETTLED: Final = 0.1  # pixels; after a refinement that moves speckles by less the next is the last
_LIKE: Final = 0.5  # least correlation of frames along a border
_ROUNDS: Final = 3  # of measuring and removing what moves through the border
_LONG: Final = 4.0  # waves along the longer side of the frames; longer ones are damped one by one
_DOUBT: Final = 2.0  # times the noise that is taken off the power of a wave
_ACCURACY: Final = 3e-4  # pixels; last step for a moved reference, whose error is |∇u| times that
_FINE: Final = 2.0  # pixels; less smoothing needs the equations of every pixel
_ENOUGH: Final = 3  # positions; with more d is too small by less than a quarter
_SEEN: Final = 0.012  # pixels² of d, and missing of it, that are worth a finding
_ABOVE: Final = 3.0  # times noise
_USUAL: Final = 6.0  # pixels; size of speckles that cannot be measured


class MistGradientFlowOptions(Options):
    """Options of `mist-gradient-flow`.

    Parameters
    ----------
    dark_field : {"auto", "none", "scalar", "tensor"}
        Dark-field to retrieve: a scalar (N ≥ 2) or a tensor (N ≥ 3); "auto" is "scalar".
    delta_over_beta : float, optional
        γ = δ/β of the sample's single material, which may then attenuate: T and φ = (γ/2) ln T come from the
        equation of `single-material`, D from the equations of this method with T.
    attenuation_smoothing : float, optional
        Gaussian σ in pixels: I_S is first divided by Σ I_R I_S/Σ I_R² smoothed by this σ, which is returned
        as the transmission. It must be wider than the speckles and the features of the phase. None: the
        sample does not attenuate. Not with `delta_over_beta`.
    refinements : int
        Largest number of refinements: the references are moved by the ψ found so far, and the equations are
        solved for the rest. The one after a refinement of less than 0.1 pixels is the last. 0 is the closed
        form.
    smoothing : float or "auto"
        Gaussian σ in pixels of the equations for D; "auto" takes the one of 1 to 16 with the least estimated
        error.
    ridge : float or "auto"
        Tikhonov term on D, relative to the mean diagonal of its normal equation; "auto" takes the one of 0
        and 10⁻³ to 10 with the least estimated error.
    cutoff_length : float or "auto", optional
        Length L in metres in the sample's plane: structures of the phase that are longer are damped by κ⁴/(κ⁴
        + (2π/L)⁴). "auto" chooses the least estimated error, from the noise that refinements leave in each
        wave, and damps each wave longer than a quarter of the frame by what noise has of its power; the
        closed form is not damped then. Not with `delta_over_beta`.
    positive : bool
        Set a negative D to 0 (and flag it), or replace a tensor with a negative eigenvalue by the nearest
        positive semi-definite one.

    Examples
    --------
    >>> MistGradientFlowOptions(refinements=0).smoothing
    'auto'
    """

    dark_field: Literal["auto", "none", "scalar", "tensor"] = "auto"
    delta_over_beta: DeltaOverBeta | None = None
    attenuation_smoothing: Annotated[float, Range(0.0, 1000.0, above=True, unit="pixels")] | None = None
    refinements: Annotated[int, Range(0, 10)] = 4
    smoothing: Annotated[float | Literal["auto"], Range(0.0, 1000.0, unit="pixels")] = "auto"
    ridge: Ridge = 0.0
    cutoff_length: CutoffLength | None = "auto"
    positive: bool = False

    def conflicts(self) -> Iterator[tuple[tuple[str, ...], str]]:
        """Yield options that contradict each other, and what is wrong."""
        if self.delta_over_beta is not None:
            for name in ("attenuation_smoothing", "cutoff_length"):
                if getattr(self, name) not in (None, "auto"):
                    yield (name, "delta_over_beta"), TIED_PHASE


OPTIONS: Final = MistGradientFlowOptions


def prepare(
    reference: ArrayLike,
    experiment: Experiment,
    options: MistGradientFlowOptions,
    *,
    weights: ArrayLike | None = None,
    threads: int | None = None,
) -> ImplicitPlan:
    """Prepare the method for (position, y, x) reference frames; see `xmist.prepare`."""
    tensor = options.dark_field == "tensor"
    equations = prepare_ratio(
        reference,
        weights,
        method=f"mist-gradient-flow{' with a tensor' if tensor else ''}",
        minimum=3 if tensor else 2,
        threads=threads,
    )
    _check_different(equations.reference.frames)
    flow = prepare_flow(
        equations.reference.frames,
        speckle=equations.reference.speckle_size() or _USUAL,
        tensor=tensor,
        refine=options.refinements > 0,
        # Squares hold no masked pixel: of a dense mask none would be left.
        fine=equations.reference.sparse or (options.smoothing != "auto" and options.smoothing < _FINE),
        threads=equations.threads,
    )
    return ImplicitPlan(
        method="mist-gradient-flow",
        experiment=experiment,
        options=options,
        equations=equations,
        channels=partial(_channels, flow=flow),
        may_attenuate=options.delta_over_beta is not None or options.attenuation_smoothing is not None,
        first_order=options.refinements == 0 and options.delta_over_beta is None,
    )


def _channels(found: Solution, *, flow: Flow) -> Channels:
    options, experiment, flags, lost = found.options, found.experiment, found.flags, found.lost
    frames, threads = found.sample, found.threads
    used = [
        position_weights(
            frame,
            None if found.reference.weights is None else found.reference.weights[n],
            None if found.weights is None else found.weights[n],
            ~lost if lost.any() else None,
        )
        for n, frame in enumerate(frames)
    ]
    transmission = None
    if options.delta_over_beta is not None:
        transmission = single_material(found.unknowns[0], lost, length2=found.length2, threads=threads)
        usable = above_zero(transmission, lost, flags)
        phase = phase_of_transmission(usable, options.delta_over_beta)
        psi = np.nan_to_num(phase, nan=0.0)
        psi *= np.float32(
            experiment.effective_distance / experiment.wavenumber / experiment.effective_pixel**2
        )
        sums = flow.equation_sums(
            flow.take(frames, used),
            _warp(psi, None, threads),
            factor=np.nan_to_num(usable, nan=1.0),
            filtered=options.refinements > 0,
        )
        dark, ill = _dark(sums, found)
    else:
        if options.attenuation_smoothing is not None:
            transmission = np.subtract(1.0, found.unknowns[0], out=found.unknowns[0])
            transmission[lost] = 1.0
            gaussian(transmission[None], options.attenuation_smoothing, threads=threads)
            usable = above_zero(transmission, lost, flags)
            lost |= ~np.isfinite(usable)
            usable[~np.isfinite(usable)] = 1.0
            frames = frames / usable
        psi, border, noise, dark, ill = _waves(found, flow, frames, used)
        if options.cutoff_length == "auto":
            psi, epsilon = (psi, None) if noise is None else _damped(psi, noise, threads)
            _record(found, "cutoff_length", cutoff_of(epsilon, experiment))
        elif found.epsilon is not None:
            psi = _cut(psi, found.epsilon, threads)
        if border is not None:
            psi += border
            found.provenance["border_shift"] = _at_borders(border)
        phase = psi
        phase *= np.float32(
            experiment.wavenumber * experiment.effective_pixel**2 / experiment.effective_distance
        )
        centre(phase, lost)
    channels: Channels = {}
    if options.dark_field != "none":
        if options.delta_over_beta is None and options.refinements > 0:
            found.findings += _lowered(dark, flow, lost, found)
        dark *= np.float32(found.scatter)
        _fill(dark, ill, found)
        dark[:, ~np.isfinite(phase)] = np.nan
        if len(dark) == 1:
            found.clip(dark[0])
            channels["dark_field"] = dark[0]
        else:
            tensor = found.clip_tensor(dark)
            channels |= {"dark_field": (tensor[0] + tensor[2]) / 2, "dark_field_tensor": tensor}
    if transmission is not None:
        transmission[lost] = np.nan
    return channels | {
        "phase": phase,
        "transmission": transmission,
        "refraction_angle": refraction_of(phase, experiment, threads=threads),
    }


def _waves(
    found: Solution, flow: Flow, frames: Image, used: Sequence[Image | None]
) -> tuple[Image, Image | None, Image | None, Image, NDArray[np.bool_]]:
    """Return ψ (y, x) in pixels² without the border's, that, noise of waves of ∇²ψ, d and its ill pixels."""
    threads, last = found.threads, found.options.refinements - 1
    border, findings = _border(flow.frames, frames, used, threads)
    found.findings += findings
    projection = flow.take(frames, used)
    nothing = np.zeros(frames.shape[1:], np.float32)
    warp = None if border is None else _warp(nothing, border, threads)
    moved = flow.frame_sums(projection, warp)
    if last < 0:
        dark, ill = _dark(flow.equation_sums(projection, warp), found)
        return synthesised(mean_wave(moved, dark, threads=threads), threads=threads), border, None, dark, ill
    psi = synthesised(mean_wave(moved, None, threads=threads), threads=threads)
    few, settled, noise = range(min(_FIRST, len(frames))), False, None
    for step in range(last + 1):
        smooth_equations(psi[None], START, threads=threads)
        warp, whole = _warp(psi, border, threads), settled or step == last
        add = partial(flow.equation_sums, projection, warp, filtered=True, explained=True)
        sums = add() if whole else add(positions=few, slow=True)
        moved = flow.frame_sums(projection, warp)
        rest = mean_wave(moved, None, threads=threads)
        noise = add_slow(rest, moved, sums, threads=threads)
        change = synthesised(rest, threads=threads)
        farthest = _farthest(change, threads)
        if farthest > _FAR * flow.speckle:
            found.findings.append(_stopped(farthest, flow.speckle))
            sums = sums if whole else add()
            break
        psi += change
        if whole:
            break
        settled = farthest < _SETTLED
    return psi, border, noise, *_dark(sums, found)


def _lowered(dark: Image, flow: Flow, lost: NDArray[np.bool_], found: Solution) -> list[Finding]:
    """Return a finding where few positions lower d (1 or 3, y, x) in pixels².

    Rough ψ explains what blur does to the mean of the N frames before d is solved for: 1 − s/N of d is left,
    s what the smoothing of ψ leaves of the speckles' slopes.
    """
    number, known = len(flow.frames), ~lost
    scalar = dark[0] if len(dark) == 1 else 0.5 * (dark[0] + dark[2])
    if number > _ENOUGH or not known.any():
        return []
    low, high = (float(value) for value in np.quantile(scalar[known], (0.05, 0.95)))
    if high < max(_SEEN, -_ABOVE * low):
        return []
    power = sum(np.square(dct2(frame - frame.mean(), threads=found.threads)) for frame in flow.frames)
    k_y, k_x = (k**2 for k in frequencies(scalar.shape))
    square = k_y[:, None] + k_x
    slopes = power * square**2 / (square + flow.epsilon**2)
    share = float((slopes * np.exp(-0.5 * START**2 * square)).sum() / slopes.sum()) / number
    if high * share / (1.0 - share) < _SEEN:
        return []
    message = (
        f"with {number} positions the dark-field is about {percent(1.0 - share)} of what it should be, "
        "because the phase explains a part of the blur; use more positions, refinements = 0, or full-field"
    )
    return [finding("dark-field-lowered", message)]


def _warp(psi: Image, border: Image | None, threads: int) -> Warp | None:
    shift = displacement(psi, border, threads=threads)
    return None if shift is None else Warp.of(shift, accuracy=_ACCURACY, threads=threads)


def _farthest(change: Image, threads: int) -> float:
    """Return the largest shift in pixels that a change of ψ makes."""
    smooth = change.copy()
    smooth_equations(smooth[None], START, threads=threads)
    shift = displacement(smooth, None, threads=threads)
    return 0.0 if shift is None else float(np.hypot(*shift).max())


def _stopped(farthest: float, speckle: float) -> Finding:
    message = (
        f"a refinement was left out because it would move speckles of {speckle:.2g} pixels by "
        f"{farthest:.2g} more pixels: the shifts are too large for this method, and phase and dark-field "
        "are approximate; use umpa or full-field"
    )
    return finding("refinement-stopped", message)


def _dark(sums: EquationSums, found: Solution) -> tuple[Image, NDArray[np.bool_]]:
    """Return d (1 or 3, y, x) and where it is ill-determined; record what was chosen."""
    smoothing, ridge = found.options.smoothing, found.options.ridge
    if "auto" in (smoothing, ridge):
        smoothing, ridge = choose(
            sums,
            SMOOTHINGS if smoothing == "auto" else (smoothing,),
            RIDGES if ridge == "auto" else (ridge,),
            threads=found.threads,
        )
    for name, value in (("smoothing", smoothing), ("ridge", ridge)):
        if getattr(found.options, name) == "auto":
            _record(found, name, value)
    return solve_dark(sums, smoothing=smoothing, ridge=ridge, threads=found.threads)


def _record(found: Solution, name: str, value: float | None) -> None:
    found.provenance["regularisation"] = found.provenance.get("regularisation", {}) | {name: value}


def _fill(dark: Image, ill: NDArray[np.bool_], found: Solution) -> None:
    """Take D of ill-determined pixels from their neighbours; NaN where nothing is determined."""
    lost, flags = found.lost, found.flags
    ridge = found.provenance.get("regularisation", {}).get("ridge", found.options.ridge)
    ill = ill & ~lost
    if ridge == 0.0 and ill.any():
        if (ill | lost).all():
            if found.reference.sparse:
                raise InputError(_MASKED, "pixels-unusable")
            raise InputError(_PROPORTIONAL, "references-proportional")
        flags[ill & ((flags & flag.FILLED) == 0)] |= flag.ILL_DETERMINED
        for image in dark:
            image[...] = fill(image, ~(ill | lost), threads=found.threads)
        dark[:, ~np.isfinite(dark).all(axis=0)] = 0.0
    dark[:, lost] = np.nan


def _border(
    reference: Image, sample: Image, used: Sequence[Image | None], threads: int
) -> tuple[Image | None, list[Finding]]:
    """Return the quadratic ψ of the motion through the border, None if there is none; and the rest."""
    number, shape = min(_FIRST, len(reference)), sample.shape[1:]
    good = None
    if any(weight is not None for weight in used[:number]):
        good = np.stack([_positive(weight, shape) for weight in used[:number]])
    moved = reference[:number]
    shifts, border = np.zeros(4), None
    for _ in range(_ROUNDS):
        rest = border_shift(moved, sample[:number], good)
        if not rest.any():
            break
        shifts += rest
        border = border_potential(shifts, shape).astype(np.float32)
        warp = Warp.of(_slopes(border), threads=threads)
        moved = np.stack([warp(frame) for frame in reference[:number]])
    likeness = border_correlation(moved, sample[:number], good)
    if likeness > _LIKE:
        return border, []
    return border, [
        finding(
            "shift-through-border",
            f"sample and reference frames correlate by {likeness:.2g} along a border: the motion of the "
            "speckles there is too large to be measured, and tilt and defocus are missing in the phase; "
            "use umpa, or the preprocessing step drift",
        )
    ]


def _slopes(border: Image) -> Image:
    along_y, along_x = np.gradient(border.astype(np.float64), edge_order=2)
    return np.stack([along_x, along_y]).astype(np.float32)


def _positive(weight: Image | None, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    return np.ones(shape, np.bool_) if weight is None else weight > 0


def _at_borders(border: Image) -> list[float]:
    """Return the slope of the quadratic at the left, right, upper and lower border in pixels."""
    x, y = _slopes(border)
    return [float(line.mean()) for line in (x[:, 0], x[:, -1], y[0], y[-1])]


def _cut(psi: Image, epsilon: float, threads: int) -> Image:
    """Damp the long waves of ψ by κ⁴/(κ⁴ + ε⁴)."""
    coefficients = dct2(psi, threads=threads)
    k_y, k_x = (k**2 for k in frequencies(psi.shape))
    fourth = (k_y[:, None] + k_x) ** 2
    coefficients *= (fourth / (fourth + epsilon**4)).astype(np.float32)
    return dct2(coefficients, inverse=True, threads=threads)


def _damped(psi: Image, noise: Image, threads: int) -> tuple[Image, float | None]:
    """Return ψ without the long waves that are noise, whose variance in ∇²ψ is (y, x), and the chosen ε."""
    k_y, k_x = ((k**2).astype(np.float32) for k in frequencies(psi.shape))
    coefficients = dct2(psi.copy(), threads=threads)
    square = k_y[:, None] + k_x
    power = np.square(coefficients * square)
    epsilon = least_cutoff(power, noise, cautious=True)
    # A cut-off treats all waves of a length alike. Few of them are long: each is compared with its noise.
    limit = (2.0 * np.pi * _LONG / max(psi.shape)) ** 2
    low = np.s_[: np.count_nonzero(k_y < limit), : np.count_nonzero(k_x < limit)]
    kept = np.ones_like(power[low])
    np.divide(noise[low], power[low], out=kept, where=power[low] > 0.0)
    kept = np.where((power[low] > 0.0) & (square[low] < limit), np.maximum(1.0 - _DOUBT * kept, 0.0), 1.0)
    if epsilon is None and (kept == 1.0).all():
        return psi, None
    coefficients[low] *= kept
    if epsilon is not None:
        coefficients *= square**2 / (square**2 + np.float32(epsilon**4))
    return dct2(coefficients, inverse=True, threads=threads), epsilon


def _check_different(frames: Image) -> None:
    """Raise an error if all references are the same except for their brightness."""
    for step in (16, 1):  # some rows show it as a rule
        few = frames[:, ::step]
        first = few[0] / np.float32(few[0].mean(dtype=np.float64))
        for frame in few[1:]:
            other = frame / np.float32(frame.mean(dtype=np.float64))
            if float(np.abs(other - first).max()) > _SAME * float(first.max()):
                return
    raise InputError(_PROPORTIONAL, "references-proportional")
