"""`xmist demo`: a small speckle experiment with a known truth, retrieved, scored and drawn.

Two berries are put into a random wavefield on a grid twice as fine as the detector. Speckles move by
(∆/k)∇φ, as rays do, without loss of flux, and diffuse by ∂I/∂z = ∇²(D I); nothing of this uses the equations
or the code of the methods.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from xmist.config import toml_text
from xmist.data import Image, SpeckleStack
from xmist.errors import InputError, raise_faults
from xmist.experiment import Experiment

if TYPE_CHECKING:
    import h5py

Real = NDArray[np.float64]

EXPERIMENT: Final = Experiment(
    energy_kev=17.0, pixel_size=6.5e-6, sample_to_detector=0.7, source_to_sample=145.0
)
METHOD: Final = "mist"
SMOOTHING: Final = 2.0
EXPOSURES: Final = (2, 10)
_SHAPE: Final = (160, 288)
_FINE: Final = 2  # pixels of the simulation along one of the detector
_COUNTS: Final = 40_000.0
_DELTA: Final = 8.0e-7  # refractive index decrement of water at 17 keV
_SEED: Final = 1


@dataclass(frozen=True)
class Score:
    """How close a picture is to the truth.

    Parameters
    ----------
    exposures : int
        Number N of exposures.
    channel : str
        The picture.
    correlation : float
        Pearson's correlation with the truth.
    nrmse : float
        Root mean square of the error over that of the truth.
    """

    exposures: int
    channel: str
    correlation: float
    nrmse: float


def names(folder: str | Path) -> dict[str, Path]:
    """Give the files that a demo writes.

    Parameters
    ----------
    folder : str or Path
        Its folder.
    """
    folder = Path(folder)
    results = {f"N = {n}": folder / f"{METHOD}-{n}-exposures.h5" for n in EXPOSURES}
    return results | {
        "figure": folder / "comparison.png",
        "frames": folder / "frames.h5",
        "scan": folder / "scan.toml",
    }


def run_demo(
    folder: str | Path,
    *,
    overwrite: bool = False,
    progress: Callable[[str, int, int], object] | None = None,
) -> list[Score]:
    """Simulate, retrieve, score and draw.

    Parameters
    ----------
    folder : str or Path
        Folder for the files; made if it does not exist.
    overwrite : bool
        Replace the files of an earlier demo.
    progress : callable, optional
        Called with what is done, and how much of how much of it.

    Returns
    -------
    list of Score
        One a channel and number of exposures.

    Raises
    ------
    InputError
        If a file stands there already, or the folder cannot be made.
    OutputError
        When writing failed.
    """
    from xmist.io.atomic import target_faults, write_file
    from xmist.methods import retrieve
    from xmist.metrics import correlation, nrmse
    from xmist.plotting import comparison, save_figure

    tell = progress or (lambda *_: None)
    folder = Path(folder)
    _make_folder(folder)
    files = names(folder)
    raise_faults([fault for path in files.values() for fault in target_faults(path, overwrite=overwrite)])
    most = max(EXPOSURES)
    truth, reference, sample = simulate(most, lambda done: tell("simulating", done, most))
    scores, rows = [], {}
    for n in EXPOSURES:
        tell(f"retrieving, N = {n}", 0, 1)
        stack = SpeckleStack(reference[:n], sample[:n])
        result = retrieve(stack, EXPERIMENT, method=METHOD, smoothing=SMOOTHING)
        rows[f"{METHOD}, N = {n}"] = result
        for channel, image in truth.items():
            scores.append(
                Score(
                    exposures=n,
                    channel=channel,
                    correlation=correlation(getattr(result, channel), image),
                    nrmse=nrmse(getattr(result, channel), image, remove_mean=channel == "phase"),
                )
            )
        result.save(files[f"N = {n}"], overwrite=overwrite)
    tell("drawing", 0, 1)
    title = "Two berries, simulated: what went in, and what the speckles gave back"
    page = comparison(rows, list(truth), truth, title=title)
    save_figure(page, files["figure"], overwrite=overwrite, about="xmist demo: simulated data")
    write_file(files["frames"], lambda file: file.write(_frames_file(reference, sample)), overwrite=overwrite)
    write_file(files["scan"], lambda file: file.write(_scan_text().encode()), overwrite=overwrite)
    return scores


def simulate(
    positions: int, progress: Callable[[int], object] = lambda _: None
) -> tuple[dict[str, Image], Image, Image]:
    """Simulate the experiment.

    Parameters
    ----------
    positions : int
        Number of positions of the membrane.
    progress : callable
        Called with the number of positions that are done.

    Returns
    -------
    dict of str to (y, x) float32 array
        The truth: phase in rad with mean 0, dark-field in m.
    reference, sample : (position, y, x) float32 array
        Frames in counts, with Poisson noise.
    """
    from scipy import ndimage

    rng = np.random.default_rng(_SEED)
    phase, dark_field = _berries()
    pixel = EXPERIMENT.effective_pixel / _FINE
    distance = EXPERIMENT.effective_distance
    # In pixels of the fine grid.
    shift = np.array(np.gradient(phase * (distance / (EXPERIMENT.wavenumber * pixel**2))))
    diffusion = dark_field * (distance / pixel**2)
    here = np.mgrid[: phase.shape[0], : phase.shape[1]].astype(np.float64)
    # A ray that arrives at r comes from s with s + u(s) = r.
    source = here - shift
    for _ in range(3):
        source = here - [ndimage.map_coordinates(u, source, order=1, mode="nearest") for u in shift]
    (yy, yx), (xy, xx) = np.gradient(source[0]), np.gradient(source[1])
    density = yy * xx - yx * xy
    steps = int(np.ceil(diffusion.max() / 0.2))  # explicit steps are stable below 1/4

    def through(wave: Real) -> Real:
        wave = ndimage.map_coordinates(wave, source, order=3, mode="nearest") * density
        for _ in range(steps):
            wave = wave + ndimage.laplace(wave * diffusion / steps, mode="reflect")
        return wave

    reference = np.empty((positions, *_SHAPE), np.float32)
    sample = np.empty_like(reference)
    for n in range(positions):
        grain = ndimage.gaussian_filter(rng.standard_normal(phase.shape), 1.15 * _FINE, mode="nearest")
        wave = np.exp(0.28 * grain / grain.std() - 0.28**2 / 2)
        reference[n] = rng.poisson(_COUNTS * _binned(wave))
        sample[n] = rng.poisson(_COUNTS * np.maximum(_binned(through(wave)), 0.0))
        progress(n + 1)
    phase = _binned(phase)
    truth = {"phase": phase - phase.mean(), "dark_field": _binned(dark_field)}
    return {name: image.astype(np.float32) for name, image in truth.items()}, reference, sample


def _berries() -> tuple[Real, Real]:
    """Give phase (rad) and dark-field (m) of two berries on a stem, on the fine grid."""
    from scipy import ndimage

    rows, columns = (size * _FINE for size in _SHAPE)
    pixel = EXPERIMENT.effective_pixel / _FINE
    y, x = (np.mgrid[:rows, :columns] - np.array([rows, columns]).reshape(2, 1, 1) / 2) / rows
    metres = rows * pixel

    def body(cy: float, cx: float, ry: float, rx: float, angle: float = 0.0) -> Real:
        """Projected thickness of an ellipsoid over its greatest; lengths in image heights."""
        c, s = np.cos(angle), np.sin(angle)
        u, v = (c * (y - cy) + s * (x - cx)) / ry, (c * (x - cx) - s * (y - cy)) / rx
        thickness: Real = np.sqrt(np.maximum(1.0 - u**2 - v**2, 0.0))
        return thickness

    thickness = np.zeros_like(y)  # metres of water
    scatter = np.zeros_like(y)
    for cy, cx, radius, seeds, turn in ((0.03, -0.40, 0.36, 7, 0.3), (0.12, 0.47, 0.27, 5, 0.9)):
        flesh = body(cy, cx, radius, 1.05 * radius)
        thickness += 2 * 0.7 * radius * metres * flesh
        scatter += 4.0 * flesh
        for angle in turn + 2 * np.pi * np.arange(seeds) / seeds:
            place = cy + 0.45 * radius * np.sin(angle), cx + 0.45 * radius * np.cos(angle)
            seed = body(*place, 0.19 * radius, 0.11 * radius, angle)
            thickness += 0.25 * radius * metres * seed
            scatter += 9.0 * seed
    stem = np.maximum(body(-0.36, 0.10, 0.02, 0.42, 0.32), body(-0.30, 0.42, 0.16, 0.016, 0.25))
    thickness += 0.03 * metres * stem
    scatter += 7.0 * stem
    phase = -EXPERIMENT.wavenumber * _DELTA * ndimage.gaussian_filter(thickness, 2.5 * _FINE, mode="nearest")
    return phase, 1e-12 * ndimage.gaussian_filter(scatter, _FINE, mode="nearest")


def _binned(fine: Real) -> Real:
    binned: Real = fine.reshape(_SHAPE[0], _FINE, _SHAPE[1], _FINE).mean(axis=(1, 3))
    return binned


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"the folder {folder} cannot be made ({error.strerror or error}); expected a name that is free, "
            "where you may write"
        ) from error


def _frames_file(reference: Image, sample: Image) -> bytes:
    """Give the frames as NeXus HDF5, with the geometry where readers look for it."""
    import h5py

    content = BytesIO()
    with h5py.File(content, "w") as file:
        entry = _group(file, "entry", "NXentry")
        instrument = _group(entry, "instrument", "NXinstrument")
        parts: dict[str, dict[str, tuple[float, str]]] = {
            "NXdetector": {
                "x_pixel_size": (EXPERIMENT.pixel_size, "m"),
                "y_pixel_size": (EXPERIMENT.pixel_size, "m"),
                "distance": (EXPERIMENT.sample_to_detector, "m"),
            },
            "NXmonochromator": {"energy": (EXPERIMENT.energy_kev, "keV")},
            "NXsource": {"distance": (-(EXPERIMENT.source_to_sample or 0.0), "m")},
        }
        for kind, values in parts.items():
            group = _group(instrument, kind.removeprefix("NX"), kind)
            for name, (value, unit) in values.items():
                group.create_dataset(name, data=value).attrs["units"] = unit
        for name, frames in (("reference", reference), ("sample", sample)):
            data = _group(entry, name, "NXdata")
            data.attrs["signal"] = "data"
            counts = frames.astype(np.uint32)
            data.create_dataset("data", data=counts, chunks=(1, *_SHAPE), compression=1, shuffle=True)
    return content.getvalue()


def _group(parent: h5py.Group, name: str, kind: str) -> h5py.Group:
    group = parent.create_group(name)
    group.attrs["NX_class"] = kind
    return group


def _scan_text() -> str:
    """Give the scan file that retrieves the demo's frames once more."""
    geometry = [f"{name} = {toml_text(value)}" for name, value in EXPERIMENT.to_dict().items()]
    return "\n".join(
        [
            "# The demo's frames once more: change the method or its options, then run",
            "#   xmist retrieve scan.toml",
            "",
            "[input]",
            'reference = "frames.h5::/entry/reference/data"',
            'sample = "frames.h5::/entry/sample/data"',
            "",
            "# Lengths in metres, the energy in keV.",
            "[experiment]",
            *geometry,
            "",
            "[retrieve]",
            f"method = {toml_text(METHOD)}",
            "",
            "[options]",
            f"smoothing = {toml_text(SMOOTHING)}",
            "",
            "[output]",
            'files = ["mine.h5", "mine.png"]',
            "overwrite = true",
            "",
        ]
    )
