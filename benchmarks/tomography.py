"""Measure volumes: against an analytic phantom, against simulated frames, and their time and memory.

Run: python benchmarks/tomography.py truth | retrieved | tensors | time, with [method=umpa] [positions=4]
[side=128] [angles=101] [folder=DIR] [phantom=composite | second] [runs=1,sharedstd].

Retrieved projections and volumes stay in `folder`, so that an interrupted run goes on.
"""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.fft import dctn, idctn
from scipy.ndimage import binary_erosion, maximum_filter, minimum_filter

import xmist
from same_results import write_config
from xmist.core.materials import Material
from xmist.io.results.atomic import make_folder
from xmist.io.results.stacks import GOOD
from xmist.numerics.images.speckles import speckle_wavenumber
from xmist.simulate.objects import Ellipsoid
from xmist.simulate.recipes import Recipe, ct_recipe
from xmist.simulate.sample import Part
from xmist.simulate.series import ProjectionSeries, acquire_series
from xmist.tomography import TomographyOptions, export_mumott, line_integrals, reconstruct
from xmist.tomography.options import VolumeOptions
from xmist.tomography.sharpen import detail_contrast
from xmist.workflow.configuration import parse_configuration
from xmist.workflow.guard import peak_memory
from xmist.workflow.outputs import blocks_folder
from xmist.workflow.quality import Row
from xmist.workflow.series_file import Piece, SeriesMetadata, write_series_file
from xmist.workflow.storage import Block, BlockSchema, KeptResult, split, write_block
from xmist.workflow.volumes_prepared import prepare_volumes, reconstruct_block

NAMES = {"delta": "phase", "mu": "transmission", "scattering": "dark_field"}


# Seed, materials (ball, grains that scatter, other grains) and strength of the scatter. PVC, foam, acrylic: T
# ≥ 0.53, the rim refracts by 1.7 pixels, foam blurs by up to a pixel. PTFE, acrylic foam, silica: for results
# that were chosen on the first.
COMPOSITES = {
    "composite": (0, ("C2H3Cl", 1400.0), ("C8H8", 1050.0), ("C5H8O2", 1180.0), 6.0),
    "second": (7, ("C2F4", 2200.0), ("C5H8O2", 1180.0), ("SiO2", 2200.0), 4.0),
}


def composite(name: str, side: int, positions: int, angles: int) -> ProjectionSeries:
    """Simulate the ball of `ct` from what absorbs and scatters."""
    seed, *materials, scatter = COMPOSITES[name]
    recipe = ct_recipe((side, side), positions, seed)
    body, foam, solid = (Material(formula=formula, density=density) for formula, density in materials)
    ball, *grains = recipe.sample
    sample = [replace(ball, material=body)]
    for grain in grains:
        filled = grain.scatter and replace(grain.scatter, power=scatter * grain.scatter.power)
        sample.append(replace(grain, material=foam if filled else solid, within=body, scatter=filled))
    return acquire(recipe, sample, [180.0 * number / angles for number in range(angles)])


def acquire(recipe: Recipe, sample: list[Part], angles: list[float], tilt: float = 0.0) -> ProjectionSeries:
    """Simulate projections of another sample in the experiment of a recipe."""
    arguments = replace(recipe, sample=tuple(sample)).arguments()
    return acquire_series(**arguments, angles=angles, tilt=tilt, workers=1)


# Fibres of three crossed bundles and their places over the radius of the field.
BUNDLES = (
    ((1.0, 0.3, 0.2), (0.22, -0.15, -0.21)),
    ((-0.4, 0.8, 0.45), (-0.45, -0.34, 0.26)),
    ((0.3, -0.3, 1.0), (-0.06, 0.3, 0.05)),
)


def bundles(side: int, positions: int, angles: int, tilt: float) -> ProjectionSeries:
    """Simulate three bundles of fibres in resin, the axis tilted; 360 degrees where it is."""
    recipe = ct_recipe((side, side), positions, 0)
    radius = 0.42 * side * recipe.experiment.effective_pixel
    scatter = next(part.scatter for part in recipe.sample if part.scatter)
    power = (
        0.36
        * (recipe.experiment.effective_pixel / recipe.experiment.effective_distance) ** 2
        / (0.4 * radius)
    )
    cellulose = Material(formula="C6H10O5", density=1500.0)
    resin = Material(formula="C21H25ClO5", density=1250.0)
    sample = []
    for fibres, place in BUNDLES:
        along = np.array(fibres) / np.linalg.norm(fibres)
        across = np.cross(along, (0.0, 0.0, 1.0)) / np.hypot(*along[:2])
        frame = np.stack([along, across, np.cross(along, across)], axis=1)
        oriented = replace(
            scatter,
            power=power,
            direction=float(np.degrees(np.arctan2(along[1], along[0]))),
            inclination=float(np.degrees(np.arcsin(along[2]))),
            anisotropy=0.8,
        )
        x, y, z = (radius * value for value in place)
        body = Ellipsoid(
            semi_axes=(0.6 * radius, 0.2 * radius, 0.2 * radius),
            x=x,
            y=y,
            z=z,
            orientation=tuple(tuple(map(float, row)) for row in frame),
        )
        sample.append(Part(body=body, material=cellulose, within=resin, scatter=oriented))
    turn = 180.0 if tilt == 0 else 360.0
    return acquire(recipe, sample, [turn * number / angles for number in range(angles)], tilt)


def tensors(place: Path, side: int, positions: int, angles: int) -> None:
    """Retrieve tensor projections of three tilts and write them for mumott; `mumott_tensors.py` goes on."""
    masters = []
    for number, tilt in enumerate((0.0, 35.0, -35.0)):
        series = bundles(side, positions, angles, tilt)
        folder = place / f"tilt{number}"
        make_folder(folder)
        options = {"dark_field": "tensor", "smoothing": 1.0}
        masters.append(
            retrieve(series, folder, "tensors", "mist-gradient-flow", options, list(series.angles), tilt=tilt)
        )
    # Without opposite projections the axis cannot be found in a sample that hardly absorbs.
    path = export_mumott(
        masters, place / "tensors.h5", centres=[0.5 * (side - 1)] * len(masters), overwrite=True
    )
    print(f"{path}: {side}², N = {positions}, {angles} projections at each of three tilts", flush=True)


def retrieve(
    series: ProjectionSeries,
    place: Path,
    name: str,
    method: str,
    options: dict[str, Any],
    angles: list[float],
    tilt: float | None = None,
) -> Path:
    """Retrieve projections through files, in blocks; an interrupted run goes on."""
    master = place / f"{name}.h5"
    side = series.reference.shape[-1]
    if not (place / "ref.npy").exists():
        np.save(place / "sample.npy", series.samples.reshape(-1, side, side))
        np.save(place / "ref.npy", series.reference)
    data = {
        "input": {
            "reference": "ref.npy",
            "sample": "sample.npy",
            "sample_axes": "projection,position,y,x",
        },
        "experiment": {k: v for k, v in series.experiment.to_dict().items() if v is not None},
        "retrieve": {"method": method, "threads": 1},
        "options": options,
        "output": {"files": [master.name]},
        "series": {"angles": angles, "block": 4} | ({} if tilt is None else {"tilt": tilt}),
    }
    config = place / f"{name}.toml"
    write_config(config, data)
    return xmist.run(parse_configuration(config).source).path


def seen(reference: np.ndarray, experiment: xmist.Experiment, length: float) -> float:
    """Return the part of D that speckles see of structure of a correlation length in m.

    Wave number q compares the wave with itself at s = ∆q/k, which structure blurs by (1 − e^(−s²/2ℓ²)) 2ℓ²/s²
    of D; mean over |I_R(q)|² q⁴.
    """
    power = (np.abs(np.fft.fft2(reference - reference.mean((1, 2), keepdims=True))) ** 2).sum(0)
    pixel = experiment.effective_pixel
    y, x = (np.fft.fftfreq(size, pixel) for size in reference.shape[1:])
    q = 2 * np.pi * np.hypot(y[:, None], x[None])
    s = np.maximum(experiment.effective_distance * q / experiment.wavenumber, 1e-30)
    weight = power * q**4 * (q < 0.7 * np.pi / pixel)
    part = -np.expm1(-((s / length) ** 2) / 2) * 2 * (length / s) ** 2
    return float((weight * part).sum() / weight.sum())


def true_volumes(series: ProjectionSeries) -> dict[str, np.ndarray]:
    """Return the true volumes (y, z, x)."""
    volume, k = series.volume, series.experiment.wavenumber
    truth = {"delta": volume.delta, "mu": 2 * k * volume.beta, "scattering": volume.scatter}
    return {name: array.transpose(1, 0, 2) for name, array in truth.items()}


def behind_detector(images: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return D (projection, y, x) as speckles show it behind the detector of `ct`, σ of a pixel."""
    used = np.ones(reference.shape, bool)
    wavenumber = speckle_wavenumber(reference, used, 0.0)
    along, across = (np.pi * np.arange(size) / size for size in images.shape[1:])
    contrast = detail_contrast(np.hypot(along[:, None], across), wavenumber, float(np.hypot(1.0, 12**-0.5)))
    return idctn(contrast * dctn(images, norm="ortho", axes=(1, 2)), norm="ortho", axes=(1, 2))


def true_slices(series: ProjectionSeries, length: float, rows: slice) -> dict[str, np.ndarray]:
    """Return slices (y, z, x) by FBP of the true projections; of the scattering what speckles see.

    Once without and once behind the detector.
    """
    part = seen(series.reference, series.experiment, length)
    slices = {}
    for name, channel in (*NAMES.items(), ("scattering behind the detector", "dark_field")):
        images = np.stack([getattr(one, channel) for one in series.truths]).astype(np.float32)
        if name not in NAMES:
            images = behind_detector(images, series.reference).astype(np.float32)
        integrals = line_integrals(channel, images[:, rows], series.experiment)
        slices[name] = reconstruct(
            integrals * np.float32(part if channel == "dark_field" else 1.0),
            series.angles,
            pixel=series.experiment.effective_pixel,
            centre=0.5 * (images.shape[2] - 1),
            options=TomographyOptions(algorithm="fbp"),
        )
    return slices


def score(found: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Return correlation and slope."""
    a, b = found.ravel().astype(float), truth.ravel().astype(float)
    return float(np.corrcoef(a, b)[0, 1]), float(np.polyfit(b, a, 1)[0])


def direct(series: ProjectionSeries) -> None:
    """Compare slices from true projections with the engine called directly, and with the truth."""
    from algotom.rec.reconstruction import fbp_reconstruction

    width, angles = series.reference.shape[2], np.asarray(series.angles)
    pixel = series.experiment.effective_pixel
    truth = true_volumes(series)
    for name, channel in NAMES.items():
        images = np.stack([getattr(one, channel) for one in series.truths]).astype(np.float32)
        integrals = line_integrals(channel, images, series.experiment)
        options = TomographyOptions(algorithm="fbp")
        found = reconstruct(integrals, angles, pixel=pixel, centre=0.5 * (width - 1), options=options)
        row = width // 2
        scaled = integrals[:, row] * np.float32((angles.size - 1) / angles.size)
        engine = fbp_reconstruction(
            scaled, 0.5 * (width - 1), angles=np.deg2rad(angles), ratio=None, pad=width // 2, apply_log=False,
            gpu=False, ncore=1, filter_name=None,
        ) / pixel  # fmt: skip
        different = np.abs(found[row] - engine).max() / np.abs(engine).max()
        # Regions of one value, three pixels away from any other.
        values = truth[name]
        uniform = (maximum_filter(values, 7) == minimum_filter(values, 7)) & (values > 0)
        units = [
            float(found[uniform & (values == value)].mean() / value)
            for value in np.unique(values[uniform])
            if np.count_nonzero(uniform & (values == value)) > 20
        ]
        body = truth["delta"] > 0
        held = body.mean((1, 2)) > 0.3 * body.mean((1, 2)).max()
        (c, s), (ci, si) = score(found[held], values[held]), score(found[body], values[body])
        print(
            f"{name:10} largest difference to the engine {different:.1e}; uniform regions "
            f"{', '.join(f'{unit:.4f}' for unit in units)} of the truth; correlation {c:.3f}, slope {s:.3f} "
            f"(inside {ci:.3f}, {si:.3f})",
            flush=True,
        )


def retrieved(
    place: Path, phantom: str, method: str, positions: int, side: int, angles: int, runs: list[str]
) -> None:
    """Retrieve simulated frames, reconstruct, and print a row for each way to do it."""
    if phantom in COMPOSITES:
        series = composite(phantom, side, positions, angles)
    else:
        series = xmist.simulate.ct(shape=(side, side), positions=positions, angles=angles, workers=1)
    scatters = [part.scatter for part in ct_recipe((side, side), positions, 0).sample if part.scatter]
    # Every eighth slice of those that hold the ball, and what is three voxels inside it.
    body = series.volume.delta.transpose(1, 0, 2) > 0
    held = np.flatnonzero(body.mean((1, 2)) > 0.3 * body.mean((1, 2)).max())
    rows = slice(int(held[0]) + 4, int(held[-1]) + 1, 8)
    inside = binary_erosion(body, iterations=3)[rows]
    truth = true_slices(series, scatters[0].correlation_length, rows)
    print(f"{phantom} {side}², N = {positions}, {angles} projections, {method}: correlation, slope; inside")
    if method != "full-field":
        masters = {method: retrieve(series, place, method, method, tuned(method), list(series.angles))}
    else:
        masters = {
            name: retrieve(series, place, name, method, run_options(name, angles), list(series.angles))
            for name in runs
        }
    for name, master in masters.items():
        for way, options in WAYS.items():
            prepared = prepare_volumes(master, VolumeOptions(**options))
            weighted = any(prepared.weighted.values()) and options["algorithm"] != "fbp"
            for weights in (False, True) if weighted else (False,):
                used = replace(prepared, weighted=dict.fromkeys(prepared.weighted, weights))
                blocks = [reconstruct_block(used, Block((row,))) for row in range(side)[rows]]
                line = f"| {name}, {way}{', weights' if weights else ''} "
                for key in truth:
                    found = np.concatenate([block[key.split()[0]] for block in blocks])
                    c, s = score(found, truth[key])
                    ci, si = score(found[inside], truth[key][inside])
                    line += f"| {c:.3f}, {s:.2f}; {ci:.3f}, {si:.2f} "
                print(line + "|", flush=True)


def run_options(name: str, angles: int) -> dict[str, Any]:
    """Return options of `full-field`: the strength of the prior on D ("auto", a number or "shared").

    "shared" is the strength of a single image, about 10, over the number of projections. "std" at the end
    adds standard deviations.
    """
    strength = name.removesuffix("std")
    options: dict[str, Any] = {"regularisation": 10.0 / angles}
    if strength != "shared":
        options["regularisation"] = strength if strength == "auto" else float(strength)
    return options | ({"uncertainty": True, "draws": 2} if name.endswith("std") else {})


WAYS: dict[str, dict[str, Any]] = {
    "FBP": {"algorithm": "fbp"},
    "FBP Hann": {"algorithm": "fbp", "filter": "hann"},
    "FBP Hann, psf_sigma": {"algorithm": "fbp", "filter": "hann", "psf_sigma": 5.8e-6},
    "CGLS smooth 1": {"algorithm": "cgls", "prior": "smooth", "strength": 1.0},
    "CGLS TV 1": {"algorithm": "cgls", "prior": "tv", "strength": 1.0},
    "SIRT": {"algorithm": "sirt", "iterations": 50},
}


def tuned(method: str) -> dict[str, Any]:
    """Return options with which a fast method works on speckles of five pixels."""
    return {"umpa": {"window": 5}, "mist": {"smoothing": 2.0}}.get(method, {})


def made_up(place: Path, projections: int, height: int, width: int) -> Path:
    """Write transmissions of a cylinder as the results of a series."""
    place.mkdir(parents=True, exist_ok=True)
    experiment = xmist.Experiment(energy_kev=17.0, pixel_size=1e-6, sample_to_detector=1.0)
    x = np.arange(width) - 0.5 * (width - 1)
    chord = 2e-6 * np.sqrt(np.maximum((0.4 * width) ** 2 - x**2, 0))
    noise = np.random.default_rng(0).normal(1, 1e-4, (height, width))
    image = (np.exp(-500 * chord) * noise).astype(np.float32)
    flags = np.zeros(image.shape, np.uint16)
    schema = BlockSchema(identity="made", channels=("transmission",), shape=image.shape)
    blocks = split(range(projections), 50)
    angles = np.arange(projections) * 180.0 / projections
    master = place / "series.h5"
    folder = blocks_folder(master)
    make_folder(folder)
    rows = [Row(projection=n, status=GOOD, angle=float(angle)) for n, angle in enumerate(angles)]
    for block in blocks:
        kept = (
            KeptResult(row=row, channels={"transmission": image}, flags=flags)
            for row in [rows[number] for number in block.numbers]
        )
        write_block(folder, block, schema, kept)
    numbers = np.arange(projections)
    metadata = SeriesMetadata(
        method="made",
        options={},
        experiment=experiment,
        configuration={},
        projections=numbers,
        positions=1,
        angles=angles,
    )
    pieces = [Piece(block, 0, len(block), block.start) for block in blocks]
    return write_series_file(master, folder, pieces, schema, metadata, rows=rows)


def timing(place: Path, height: int, algorithm: str) -> None:
    """Print processor time of one volume, the share of the engine, and the peak memory of this process."""
    from xmist.tomography import engines

    spent = 0.0

    def timed(function: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal spent
            begin = time.process_time()
            try:
                return function(*arguments, **options)
            finally:
                spent += time.process_time() - begin

        return call

    reconstruction = engines.need("algotom.rec.reconstruction")
    reconstruction.fbp_reconstruction = timed(reconstruction.fbp_reconstruction)
    engines.Projector.forward = timed(engines.Projector.forward)
    engines.Projector.adjoint = timed(engines.Projector.adjoint)
    warm = made_up(place / "warm", 20, 4, 64)
    xmist.write_volumes(warm, place / "warm.h5", options={"algorithm": algorithm})
    master = made_up(place, 500, height, 512)
    spent, begin = 0.0, time.process_time()
    xmist.write_volumes(master, place / "volumes.h5", options={"algorithm": algorithm})
    whole = time.process_time() - begin
    print(
        f"{algorithm}: {height} slices of 512² from 500 projections: {whole:.1f} s of one core, "
        f"{100 * spent / whole:.0f} % in the engine; peak memory {peak_memory() / 1e6:.0f} MB; 512 slices "
        f"of three volumes take {whole / height * 512 * 3 / 2 / 60:.1f} min on two cores",
        flush=True,
    )


def main() -> None:
    """Run what the command line names."""
    command, *rest = sys.argv[1:] or ["truth"]
    given = dict(part.split("=", 1) for part in rest)
    side, positions, angles = (
        int(given.get(n, d)) for n, d in (("side", 128), ("positions", 4), ("angles", 101))
    )
    if command == "truth":
        direct(xmist.simulate.ct(shape=(side, side), positions=1, angles=angles))
        return
    with tempfile.TemporaryDirectory() as made:
        place = Path(given.get("folder", made))
        place.mkdir(parents=True, exist_ok=True)
        if command == "tensors":
            tensors(place, side, positions, angles)
        elif command == "time":
            timing(place, int(given.get("slices", 16)), given.get("algorithm", "fbp"))
        else:
            phantom, method = given.get("phantom", "ct"), given.get("method", "full-field")
            runs = given.get("runs", "auto,shared").split(",")
            retrieved(place, phantom, method, positions, side, angles, runs)


if __name__ == "__main__":
    main()
