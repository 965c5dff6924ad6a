"""Prepare what all blocks of slices share, and reconstruct the slices of a block.

One pass over all projections finds the projections to use, their offsets and the rotation axis; then a block
of slices needs its own rows alone.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from xmist.core.arrays import Image
from xmist.core.errors import ErrorRecord, InputError, raise_errors
from xmist.core.experiment import Experiment
from xmist.core.findings import Finding, finding
from xmist.core.flags import FILLED, UNDETERMINED
from xmist.core.progress import Progress
from xmist.io.results.stacks import FAILED, MISSING, UNREADABLE, Stack, open_stack
from xmist.io.results.volumes import QUANTITIES
from xmist.tomography.centre import Centre, find_centre, inside_bands
from xmist.tomography.cone import CONE_ALGORITHMS, reconstruct_cone
from xmist.tomography.engines import has_gpu
from xmist.tomography.options import Box, VolumeOptions
from xmist.tomography.sharpen import REACH, sharpen
from xmist.tomography.sinograms import is_half, line_integrals, sides, suppress_rings
from xmist.tomography.slices import chosen_algorithm, reconstruct, reconstruct_refraction
from xmist.workflow.storage import Block

Real = NDArray[Any]

_READ: Final = 2**23  # bytes of one channel that are read at once
_SAMPLED: Final = 2**26  # bytes of the rows that the rotation axis is found from
_MOST_ROWS: Final = 64
_PADDING: Final = 0.25  # where the object leaves the frame
_CONE: Final = 0.5  # pixels that a cone may move a ray by across the sample
_ALONE: Final = 10.0  # strength of the prior on the dark-field of `full-field` for a single projection
_FLOOR: Final = 0.1  # of the median: the smallest standard deviation that is believed


@dataclass(frozen=True, kw_only=True, eq=False)
class Prepared:
    """Data that all blocks of slices share; each worker receives it once.

    `offsets` holds for each quantity the value of air at the left and the right border of every projection.
    `cone`: all slices at once, in cone-beam geometry. `blur`: wavenumber of the speckles in rad per pixel and
    σ of the detector in pixels, where the dark-field is corrected for it.
    """

    source: Path
    experiment: Experiment
    options: VolumeOptions
    kept: NDArray[np.intp]
    projections: NDArray[np.int64]
    angles: NDArray[np.float64]
    quantities: tuple[str, ...]
    refraction: bool
    weighted: Mapping[str, bool]
    offsets: Mapping[str, Real]
    centre: Centre
    shape: tuple[int, int]  # of a projection
    cone: bool
    blur: tuple[float, float] | None
    findings: tuple[Finding, ...]

    @property
    def columns(self) -> Real:
        """Column of the axis at each row (y,)."""
        rows = np.arange(self.shape[0]) - 0.5 * (self.shape[0] - 1)
        return np.asarray(self.centre.column + np.tan(np.deg2rad(self.centre.tilt)) * rows)

    @property
    def side(self) -> int:
        """Pixels of a side of a slice."""
        return slice_side(self.options, self.angles, self.shape[1], float(self.columns.mean()))

    @property
    def algorithms(self) -> dict[str, str]:
        """Algorithm of each volume."""
        return {name: self.algorithm(name) for name in self.quantities}

    def algorithm(self, name: str) -> Literal["fbp", "cgls", "sirt"]:
        """Return the algorithm of a volume."""
        if name == "delta" and self.refraction:
            return "fbp"
        return chosen_algorithm(self.options, weighted=self.weighted[name] and not self.cone)


def prepare_volumes(result: str | Path, options: VolumeOptions, progress: Progress | None = None) -> Prepared:
    """Read the results of a series; find the projections to use, their offsets, and the rotation axis."""
    stack = open_stack(result)
    quantities, refraction_there = _quantities(stack, options)
    cone = _is_cone(stack.experiment, stack.arrays["flags"].shape[1:])
    kept, findings = _kept(stack, options)
    angles = np.asarray(stack.angles, np.float64)[kept]
    if "scattering" in quantities and stack.options.get("regularisation") == "auto":
        # Each projection counts its prior once, and the volume as many times.
        text = (
            "the strength of the prior on the dark-field was chosen for each projection alone; it lowers the "
            f"scattering in the volume. Retrieve with regularisation = {_ALONE / kept.size:.2g}, 10 over the "
            "number of projections"
        )
        findings.append(finding("scattering-lowered", text))
    blur = _blur(stack, options.psf_sigma) if options.psf_sigma and "scattering" in quantities else None
    survey = _survey(stack, kept, quantities, options.air, progress)
    inside = survey.inside
    refraction = options.delta_from == "refraction" or (
        options.delta_from == "auto" and not inside and refraction_there
    )
    offsets: Mapping[str, Real] = {name: np.zeros((2, kept.size), np.float32) for name in quantities}
    if options.air != "none" and (inside or options.air != "auto"):
        offsets = survey.air
    elif options.air == "auto":
        findings.append(
            finding(
                "object-leaves-frame",
                "the object leaves the frame or its borders are not air: "
                + ("δ is reconstructed from refraction angles" if refraction else "φ has no zero")
                + ", and all volumes may have an offset; give a box of air (air) if there is one",
            )
        )
        if options.padding == "auto":
            options = dataclasses.replace(options, padding=_PADDING)
    centre = _centre(survey, angles, options, stack.arrays["flags"].shape[1], findings)
    if cone:
        width = stack.arrays["flags"].shape[2]
        if refraction or is_half(angles, centre.column, width, options.acquisition):
            what = "δ from refraction angles" if refraction else "a half acquisition"
            text = f"{what} is reconstructed in parallel geometry only, and the cone beam is too wide for it"
            raise InputError(text, code="cone-beam-wide")
        engine = CONE_ALGORITHMS[chosen_algorithm(options, weighted=False)]
        text = (
            f"the volumes are reconstructed in cone-beam geometry on the GPU ({engine} of astra-toolbox), "
            "all slices at once, without weights and without a prior. The geometry was tested, the engine's "
            "part was not: check the volume of a known object first"
        )
        findings.append(finding("cone-beam", text))
    return Prepared(
        source=Path(result),
        experiment=stack.experiment,
        options=options,
        kept=kept,
        projections=np.asarray(stack.table["projection"], np.int64)[kept],
        angles=angles,
        quantities=quantities,
        refraction=refraction and "delta" in quantities,
        weighted={name: f"{QUANTITIES[name].channel}_std" in stack.arrays for name in quantities},
        offsets=offsets,
        centre=centre,
        shape=tuple(stack.arrays["flags"].shape[1:]),  # type: ignore[arg-type]
        cone=cone,
        blur=blur,
        findings=tuple(findings),
    )


def _blur(stack: Stack, psf_sigma: float) -> tuple[float, float]:
    """Return the wavenumber of the speckles in rad per pixel, and σ of the detector in pixels."""
    table = stack.table.get("speckle_wavenumber", np.zeros(0))
    known = table[np.isfinite(table)]
    if not known.size:
        text = f"{stack.path} does not hold the wavenumber of the speckles, which psf_sigma needs"
        raise InputError(f"{text}; retrieve it again, or leave psf_sigma out", code="channel-missing")
    speckles = float(np.median(known)) * stack.experiment.effective_pixel
    # A pixel averages over its square, of variance 1/12.
    sigma = math.sqrt((psf_sigma / stack.experiment.pixel_size) ** 2 + 1.0 / 12.0)
    if speckles * sigma > 1.0:
        most = stack.experiment.pixel_size * math.sqrt(max(speckles**-2 - 1.0 / 12.0, 0.0))
        text = (
            f"psf_sigma is {psf_sigma:g} m; expected at most {most:.2g} m: the speckles in the frames are "
            "finer than such a detector shows"
        )
        raise InputError(text, code="option-invalid")
    return speckles, sigma


def _quantities(stack: Stack, options: VolumeOptions) -> tuple[tuple[str, ...], bool]:
    """Return the volumes to reconstruct, and whether there are refraction angles."""
    errors = []
    if stack.angles is None:
        text = f"{stack.path} has no angles; give them in [series] and retrieve it again"
        errors.append(ErrorRecord("angles-missing", text))
    refraction = "refraction_angle" in stack.arrays
    there = [
        name
        for name, quantity in QUANTITIES.items()
        if quantity.channel in stack.arrays or (name == "delta" and refraction)
    ]
    wanted = tuple(there) if options.volumes is None else tuple(options.volumes)
    absent = [name for name in wanted if name not in there]
    if absent or not wanted:
        text = (
            f"{stack.path} holds no {QUANTITIES[absent[0]].channel if absent else 'phase'} for "
            f"{absent[0] if absent else 'any volume'}; it holds {', '.join(stack.arrays)}"
        )
        errors.append(ErrorRecord("channel-missing", text))
    if "delta" in wanted and options.delta_from == "refraction" and not refraction:
        text = f'{stack.path} holds no refraction_angle for delta_from = "refraction"'
        errors.append(ErrorRecord("channel-missing", text))
    raise_errors(errors)
    return wanted, refraction


def _is_cone(experiment: Experiment, shape: tuple[int, ...]) -> bool:
    """Return whether a cone moves rays too far for slices in parallel geometry; an error without a GPU."""
    if experiment.source_to_sample is None:
        return False
    # A ray that is h pixels off the axis of the beam moves by h r/source over a depth r of half the width.
    depth = 0.5 * shape[1] * experiment.effective_pixel
    moved = 0.5 * max(shape) * depth / experiment.source_to_sample
    if moved > _CONE and not has_gpu():
        text = (
            f"the cone beam moves rays by up to {moved:.2g} pixels across the sample; expected at most "
            f"{_CONE:g} for slices in parallel geometry. Cone-beam algorithms need astra-toolbox and a GPU, "
            "which was not found; or export the line integrals (xmist.export_tomography) to another program"
        )
        raise InputError(text, code="cone-beam-wide")
    return moved > _CONE


def _kept(stack: Stack, options: VolumeOptions) -> tuple[NDArray[np.intp], list[Finding]]:
    """Return the places of the projections to use."""
    table, angles = stack.table, np.asarray(stack.angles, np.float64)
    pixels = math.prod(stack.arrays["flags"].shape[1:])
    absent = np.isin(table["status"], (MISSING, FAILED, UNREADABLE)) | ~np.isfinite(angles)
    empty = ~absent & (table["valueless"] > options.max_valueless * pixels)
    excluded = np.isin(table["projection"], options.exclude)
    used = ~(absent | empty | excluded)
    findings = []
    parts = [
        f"{np.count_nonzero(which)} {text}"
        for which, text in (
            (absent, "not retrieved or without an angle"),
            (empty, f"with more than {100 * options.max_valueless:g} % of pixels without a value"),
            (excluded, "excluded"),
        )
        if which.any()
    ]
    if parts:
        text = f"{np.count_nonzero(~used)} of {used.size} projections are left out: {', '.join(parts)}"
        findings.append(finding("projections-left-out", text))
    if np.count_nonzero(used) < 2:
        text = f"{stack.path}: {'; '.join(parts) or f'{used.size} projections'}; expected at least 2 to use"
        raise InputError(text, code="projections-too-few")
    return np.flatnonzero(used), findings


@dataclass(frozen=True, eq=False)
class _Survey:
    """Data from one pass over all projections.

    `rows` are those that `sampled` (projection, row, x) holds of each quantity; `air` is (2, projection).
    """

    rows: NDArray[np.intp]
    sampled: Mapping[str, Image]
    air: Mapping[str, Real]
    inside: bool


def _survey(
    stack: Stack,
    kept: NDArray[np.intp],
    quantities: tuple[str, ...],
    air: str | Box,
    progress: Progress | None,
) -> _Survey:
    """Read all projections once."""
    height, width = stack.arrays["flags"].shape[1:]
    if isinstance(air, tuple) and (air[1] > height or air[3] > width):
        text = f"air is {list(air)}; expected [y0, y1, x0, x1] inside {height} × {width} pixels"
        raise InputError(text, code="box-outside")
    names = [name for name in quantities if QUANTITIES[name].channel in stack.arrays]
    number = max(8, min(_MOST_ROWS, _SAMPLED // (4 * kept.size * width * max(len(names), 1))))
    rows = np.unique(np.linspace(0, height - 1, min(number, height)).round().astype(np.intp))
    margin = max(width // 40, 2)
    sampled = {name: np.empty((kept.size, rows.size, width), np.float32) for name in names}
    values = {name: np.zeros((2, kept.size), np.float32) for name in quantities}
    for name in names:
        array = stack.arrays[QUANTITIES[name].channel]
        step = max(1, _READ // (4 * height * width))
        for start in range(0, kept.size, step):
            places = kept[start : start + step]
            images = array[places[0] : places[-1] + 1][places - places[0]]
            integrals = line_integrals(QUANTITIES[name].channel, images, stack.experiment)
            integrals[~np.isfinite(images)] = np.nan
            for place, image in enumerate(integrals, start):
                boxes = (
                    (image[:, :margin], image[:, -margin:])
                    if not isinstance(air, tuple)
                    else 2 * (image[air[0] : air[1], air[2] : air[3]],)
                )
                values[name][:, place] = [_median(box) for box in boxes]
                sampled[name][place] = np.nan_to_num(image[rows])
            if progress is not None:
                progress("looking through the projections", min(start + step, kept.size), kept.size)
    inside = any(
        bool(inside_bands(sampled[name].mean(1)[:, None])[0]) for name in ("mu", "delta") if name in sampled
    )
    return _Survey(rows, sampled, values, inside)


def _median(values: Image) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if known.size else 0.0


def _centre(
    survey: _Survey, angles: Real, options: VolumeOptions, height: int, findings: list[Finding]
) -> Centre:
    """Find the axis from the quantity that shows it best.

    Tilts that are not visible in slices are set to 0.
    """
    if options.centre != "auto":
        width = next(iter(survey.sampled.values())).shape[2]
        if not -0.5 <= options.centre <= width - 0.5:
            text = f"centre is {options.centre:g}; expected one of the {width} columns of a frame"
            raise InputError(text, code="option-invalid")
        return Centre(float(options.centre), 0.0, float("nan"), float("nan"), 0)
    if not survey.sampled:
        text = "the rotation centre needs phase or transmission; state it (centre = column)"
        raise InputError(text, code="channel-missing")
    names = [name for name in ("mu", "delta") if name in survey.sampled] or list(survey.sampled)
    found: list[Centre] = []
    errors: list[ErrorRecord] = []
    for name in names:
        try:
            found.append(find_centre(survey.sampled[name], angles, rows=survey.rows))
        except InputError as error:
            errors += error.records
    if not found:
        raise InputError(errors[:1])
    best = min(found, key=lambda centre: centre.spread if math.isfinite(centre.spread) else math.inf)
    moved = abs(math.tan(math.radians(best.tilt))) * height
    if moved > 0.5 and abs(best.tilt) > 5.0 * best.tilt_spread:
        text = (
            f"the rotation axis is tilted by {best.tilt:.2f}° against the columns of the detector, "
            f"{moved:.1f} pixels over the frame: the centre of each slice follows it, but parts away from "
            "the axis are blurred along it; align the axis, or rotate the frames"
        )
        findings.append(finding("axis-tilted", text))
    else:
        best = dataclasses.replace(best, tilt=0.0)
    if best.spread > 0.5:
        text = (
            f"the rotation centre at column {best.column:.2f} is uncertain by {best.spread:.2g} pixels; "
            "compare slices for several values of centre"
        )
        findings.append(finding("axis-uncertain", text))
    return best


def reconstruct_block(prepared: Prepared, block: Block) -> dict[str, Image]:
    """Return the slices (slice, z, x) of each volume of a block."""
    stack = open_stack(prepared.source)
    return {name: _slices(stack, prepared, name, block) for name in prepared.quantities}


def _slices(stack: Stack, prepared: Prepared, name: str, block: Block) -> Image:
    rows = slice(block.start, block.stop)
    columns = prepared.columns[rows]
    channel = QUANTITIES[name].channel
    options = prepared.options
    if name == "delta" and prepared.refraction:
        images = stack.arrays["refraction_angle"][:, 0, rows][prepared.kept]
        return reconstruct_refraction(
            filled(images), prepared.angles, centre=columns, acquisition=options.acquisition
        )
    images = stack.arrays[channel][:, rows][prepared.kept]
    if name == "scattering" and prepared.blur is not None:
        images = _sharpened(stack, prepared, rows, ~np.isfinite(images))
    sinograms = line_integrals(channel, images, prepared.experiment)
    sinograms[~np.isfinite(images)] = np.nan
    left, right = prepared.offsets[name]
    along = np.linspace(0.0, 1.0, sinograms.shape[2], dtype=np.float32)
    sinograms -= (left[:, None] * (1 - along) + right[:, None] * along)[:, None]
    algorithm = prepared.algorithm(name)
    weights = None
    if prepared.cone or algorithm == "fbp" or options.rings != "none":
        sinograms = filled(sinograms)
    if prepared.cone:
        source = prepared.experiment.source_to_sample
        assert source is not None
        return reconstruct_cone(
            suppress_rings(sinograms, options.rings),
            prepared.angles,
            pixel=prepared.experiment.effective_pixel,
            source=source,
            centre=prepared.centre.column,
            tilt=prepared.centre.tilt,
            algorithm=algorithm,
            iterations=options.iterations,
        )
    if algorithm != "fbp":
        weights = _weights(stack, prepared, name, rows, images)
    return reconstruct(
        sinograms,
        prepared.angles,
        pixel=prepared.experiment.effective_pixel,
        centre=columns,
        weights=weights,
        options=dataclasses.replace(options, algorithm=algorithm),
    )


def _sharpened(stack: Stack, prepared: Prepared, rows: slice, lost: NDArray[np.bool_]) -> Image:
    """Return `rows` of the dark-field, corrected for the detector; NaN where it is `lost`."""
    assert prepared.blur is not None
    first = max(rows.start - REACH, 0)
    near = stack.arrays["dark_field"][:, first : rows.stop + REACH][prepared.kept]
    images = sharpen(filled(near), *prepared.blur)[:, rows.start - first :][:, : lost.shape[1]]
    images[lost] = np.nan
    return images


def _weights(stack: Stack, prepared: Prepared, name: str, rows: slice, images: Image) -> Image:
    """Return inverse variances (projection, slice, x) of line integrals; 0 where nothing was measured."""
    flags = stack.arrays["flags"][:, rows][prepared.kept]
    known = np.isfinite(images) & (flags & (FILLED | UNDETERMINED) == 0)
    if not prepared.weighted[name]:
        return np.asarray(known, np.float32)
    channel = QUANTITIES[name].channel
    deviation = stack.arrays[f"{channel}_std"][:, rows][prepared.kept]
    if channel == "transmission":  # −ln T
        deviation = deviation / np.maximum(images, np.float32(1e-6))
    known &= np.isfinite(deviation)
    weights = np.zeros(deviation.shape, np.float32)
    for number in range(deviation.shape[1]):
        row, good = deviation[:, number], known[:, number]
        if good.any():
            typical = np.median(row[good])
            floor = max(_FLOOR * typical, np.finfo(np.float32).tiny)
            weights[:, number] = np.where(good, (typical / np.maximum(row, floor)) ** 2, 0)
    return weights


def filled(sinograms: Image) -> Image:
    """Return (projection, slice, x) sinograms with values from neighbours for NaN.

    Along x first, then from neighbouring projections: a slice does not depend on others.
    """
    unknown = ~np.isfinite(sinograms)
    if not unknown.any():
        return sinograms
    out = sinograms.copy()
    x = np.arange(out.shape[2])
    for place, number in np.argwhere(unknown.any(2)):
        good = ~unknown[place, number]
        if good.any():
            out[place, number] = np.interp(x, x[good], out[place, number, good])
    for number in range(out.shape[1]):
        lost = ~np.isfinite(out[:, number, 0])
        if lost.all():
            out[:, number] = 0
        elif lost.any():
            good = np.flatnonzero(~lost)
            out[lost, number] = out[good[np.abs(np.flatnonzero(lost)[:, None] - good).argmin(1)], number]
    return out


def slice_side(options: VolumeOptions, angles: Real, width: int, column: float) -> int:
    """Return the pixels of a side of a slice."""
    half = is_half(angles, column, width, options.acquisition)
    return width + (sum(sides(width, column)) if half else 0)
