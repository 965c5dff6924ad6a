"""Write simulated frames like a beamline, with the truth and a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from xmist.core.arrays import Image
from xmist.core.checks import Checks
from xmist.core.errors import raise_errors, suggest
from xmist.io.results.atomic import OutputFile, all_target_errors, make_folder, write_files
from xmist.methods import METHODS
from xmist.methods.registry import DEFAULT_METHOD
from xmist.simulate.detector import detect
from xmist.simulate.series import ProjectionSeries
from xmist.simulate.truth import Simulation, Truth
from xmist.workflow.proposal import toml_text

if TYPE_CHECKING:
    import h5py

FORMATS: Final = ("tiff", "hdf5")


def write_simulation(
    simulation: Simulation | ProjectionSeries,
    folder: str | Path,
    *,
    form: str = "tiff",
    dark_frames: int = 5,
    flat_frames: int = 5,
    method: str | None = None,
    options: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> list[Path]:
    """Write frames in counts with dark and flat frames, the truth, and a configuration that retrieves them.

    Parameters
    ----------
    simulation : Simulation or ProjectionSeries
        What to write. Of a series, `config.toml` retrieves the first projection; of one in TIFF,
        `series.toml` retrieves all.
    folder : str or Path
        Folder; made if it does not exist.
    form : str
        "tiff": one file a frame. "hdf5": one NeXus file, `frames.h5`.
    dark_frames, flat_frames : int
        Number of frames without beam, and with the bare beam.
    method : str, optional
        Method of the configuration; None takes `full-field`.
    options : mapping, optional
        Options of the method.
    overwrite : bool
        Replace files that stand there already.

    Returns
    -------
    list of Path
        `config.toml` (and `series.toml`), `truth.h5` (a `Retrieval` of the method "truth"), `truth_more.h5`
        (phase_total, and the volume of a series) and the frames.

    Raises
    ------
    InputError
        For an unknown form, or files that stand there already.
    OutputError
        When writing failed.

    Examples
    --------
    >>> import tempfile
    >>> simulation = xmist.simulate.phantom("fine", shape=(32, 32), positions=2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     files = write_simulation(simulation, folder, dark_frames=1, flat_frames=1)
    ...     [file.name for file in files[:4]]
    ['config.toml', 'truth.h5', 'truth_more.h5', 'reference_0000.tif']
    """
    check = Checks()
    if form not in FORMATS:
        check.add(f"form is {form!r}; expected 'tiff' or 'hdf5'")
    if method is not None and method not in METHODS:
        check.add(f"unknown method '{method}'; {suggest(str(method), METHODS)}")
    check.count("dark_frames", dark_frames, low=0)
    check.count("flat_frames", flat_frames, low=0)
    check.done()
    folder = Path(folder)
    first = simulation.projection(0) if isinstance(simulation, ProjectionSeries) else simulation
    series = _frames(simulation, first, dark_frames, flat_frames)
    given = {role: frames for role, frames in series.items() if len(frames)}
    text = _config_text(simulation, first, given, form, method or DEFAULT_METHOD, options or {})
    jobs = [OutputFile(folder / "config.toml", text.encode())]
    if isinstance(simulation, ProjectionSeries) and form == "tiff":
        jobs.append(OutputFile(folder / "series.toml", _series_text(text).encode()))
    jobs.append(OutputFile(folder / "truth_more.h5", lambda file: file.write(_more_truth(simulation, first))))
    if form == "hdf5":
        jobs.append(OutputFile(folder / "frames.h5", lambda file: file.write(_hdf5(first, given))))
    else:
        jobs += [
            _tiff(folder / f"{role}_{number:04d}.tif", frame)
            for role, frames in given.items()
            for number, frame in enumerate(frames)
        ]
    for parent in {job.path.parent for job in jobs}:
        make_folder(parent)
    truth = folder / "truth.h5"
    raise_errors(all_target_errors((truth, *(job.path for job in jobs)), overwrite=overwrite))
    from xmist.io import save_result

    save_result(first.truth_as_result(), truth, overwrite=overwrite)
    files = write_files(jobs, overwrite=overwrite)
    return [files[0], truth, *files[1:]]


def _frames(
    simulation: Simulation | ProjectionSeries, first: Simulation, dark_frames: int, flat_frames: int
) -> dict[str, list[NDArray[Any]]]:
    detector = first.detector
    bare = np.ones(first.stack.shape) if first.illumination is None else first.illumination
    seed = int(first.settings.get("seed", 0))
    light = {"dark": (0.0 * bare, dark_frames), "flat": (bare, flat_frames)}
    plain = replace(detector, oversampling=1, psf_sigma=0.0)
    still = {
        role: [
            detect(image, plain, np.random.default_rng([seed, 5 + kind, number])) for number in range(count)
        ]
        for kind, (role, (image, count)) in enumerate(light.items())
    }
    if isinstance(simulation, ProjectionSeries):
        turned = {
            f"projection_{number:04d}/sample": list(first.counts(frames))
            for number, frames in enumerate(simulation.samples)
        }
    else:
        turned = {"sample": list(first.counts(first.stack.sample))}
    series = {"reference": list(first.counts(first.stack.reference)), **turned, **still}
    if not detector.whole_counts:
        return series
    top = max(float(frame.max()) for frames in series.values() for frame in frames)
    kind = np.uint16 if top <= np.iinfo(np.uint16).max else np.uint32
    return {
        role: [np.maximum(frame, 0.0).astype(kind) for frame in frames] for role, frames in series.items()
    }


def _tiff(path: Path, frame: NDArray[Any]) -> OutputFile:
    def write(file: BinaryIO) -> None:
        import tifffile

        content = BytesIO()
        tifffile.imwrite(content, frame)
        file.write(content.getbuffer())

    def verify(written: Path) -> None:
        import tifffile

        if not np.array_equal(tifffile.imread(written), frame):
            raise ValueError("the pixels differ")

    return OutputFile(path, write, verify)


def _hdf5(simulation: Simulation, series: Mapping[str, list[NDArray[Any]]]) -> bytes:
    """Return the frames as NeXus HDF5, with the geometry where readers look for it."""
    import h5py

    experiment = simulation.experiment
    content = BytesIO()
    with h5py.File(content, "w") as file:
        entry = _group(file, "entry", "NXentry")
        instrument = _group(entry, "instrument", "NXinstrument")
        parts: dict[str, dict[str, tuple[float, str]]] = {
            "NXdetector": {
                "x_pixel_size": (experiment.pixel_size, "m"),
                "y_pixel_size": (experiment.pixel_size, "m"),
                "distance": (experiment.sample_to_detector, "m"),
            },
            "NXmonochromator": {"energy": (experiment.energy_kev, "keV")},
        }
        if experiment.source_to_sample is not None:
            parts["NXsource"] = {"distance": (-experiment.source_to_sample, "m")}
        for kind, values in parts.items():
            group = _group(instrument, kind.removeprefix("NX"), kind)
            for name, (value, unit) in values.items():
                group.create_dataset(name, data=value).attrs["units"] = unit
        for role, frames in series.items():
            data = _group(entry, role, "NXdata")
            data.attrs["signal"] = "data"
            data.create_dataset(
                "data", data=np.stack(frames), chunks=(1, *frames[0].shape), compression=1, shuffle=True
            )
    return content.getvalue()


def _group(parent: h5py.Group, name: str, kind: str) -> h5py.Group:
    group = parent.require_group(name)
    group.attrs["NX_class"] = kind
    return group


def _more_truth(simulation: Simulation | ProjectionSeries, first: Simulation) -> bytes:
    import h5py

    single = (first.truth,)
    truths: tuple[Truth, ...] = simulation.truths if isinstance(simulation, ProjectionSeries) else single
    images: dict[str, tuple[Image, str]] = {
        "phase_total": (np.stack([truth.phase_total for truth in truths]), "rad"),
    }
    if isinstance(simulation, ProjectionSeries):
        volume = simulation.volume
        images |= {
            "phase": (np.stack([truth.phase for truth in truths]), "rad"),
            "transmission": (np.stack([truth.transmission for truth in truths]), "1"),
            "dark_field": (np.stack([truth.dark_field for truth in truths]), "m"),
            "angles": (np.array(simulation.angles, np.float32), "degrees"),
            "volume_delta": (volume.delta, "1"),
            "volume_beta": (volume.beta, "1"),
            "volume_scatter": (volume.scatter, "rad2/m"),
        }
    else:
        images["phase_total"] = (first.truth.phase_total, "rad")
    content = BytesIO()
    with h5py.File(content, "w") as file:
        entry = _group(file, "entry", "NXentry")
        entry.attrs["xmist_truth"] = 1  # so that nobody takes it for frames
        for name, (image, unit) in images.items():
            options = {"compression": 1, "shuffle": True} if image.ndim > 1 else {}
            entry.create_dataset(name, data=image, **options).attrs["units"] = unit
    return content.getvalue()


def _config_text(
    simulation: Simulation | ProjectionSeries,
    first: Simulation,
    series: Mapping[str, list[NDArray[Any]]],
    form: str,
    method: str,
    options: Mapping[str, Any],
) -> str:
    """Return the configuration."""
    sample = "projection_0000/sample" if isinstance(simulation, ProjectionSeries) else "sample"
    roles = {"reference": "reference", "sample": sample, "dark": "dark", "flat": "flat"}
    lines = [
        "# Simulated frames; truth.h5 holds what is true. Run: xmist retrieve config.toml",
        "",
        "[input]",
    ]
    for role, name in roles.items():
        if name in series:
            place = f"{name}_*.tif" if form == "tiff" else f"frames.h5::/entry/{name}/data"
            lines.append(f"{role} = {toml_text(place)}")
    lines += ["", "# Lengths in metres, the energy in keV.", "[experiment]"]
    lines += [
        f"{name} = {toml_text(value)}"
        for name, value in first.experiment.to_dict().items()
        if value is not None
    ]
    for step in ("dark", "flat"):
        if step in series:
            lines += ["", "[[preprocess]]", f"step = {toml_text(step)}"]
    lines += ["", "[retrieve]", f"method = {toml_text(method)}"]
    if options:
        lines += ["", "[options]", *(f"{name} = {toml_text(value)}" for name, value in options.items())]
    lines += ["", "[output]", 'files = ["result.h5", "result.png"]', "overwrite = false", ""]
    return "\n".join(lines)


def _series_text(config: str) -> str:
    """Return the configuration of all projections from that of the first."""
    return (
        config.replace("Run: xmist retrieve config.toml", "Run: xmist retrieve series.toml")
        .replace("projection_0000/sample_*", "projection_{projection}/sample_{position}")
        .replace('["result.h5", "result.png"]', '["series.h5", "quality.png"]')
        + '\n[series]\nangles = "truth_more.h5::/entry/angles"\n'
    )
