"""Results as float32 ImageJ TIFF, one file per channel."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from xmist.core.data import CHANNELS, DERIVED, Retrieval, channel_of
from xmist.core.errors import OutputError
from xmist.core.flags import FLAGS
from xmist.core.version import __version__
from xmist.io.results.atomic import OutputFile, write_files
from xmist.io.results.plain import to_text


def tiff_names(path: str | Path, result: Retrieval) -> dict[str, Path]:
    """Return the file of each channel, in order, and of the flags: "berry.tif" gives "berry_phase.tif"."""
    path = Path(path)
    names = [*(name for name, _ in (*result.channels(), *result.derived())), "flags"]
    return {name: path.with_name(f"{path.stem}_{name}{path.suffix}") for name in names}


def write_tiff(result: Retrieval, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write a result as ImageJ TIFF: float32, one file per channel, and the flags as uint16.

    All files appear, each complete, or none does. Each holds the pixel in micrometres, the method, the
    options, the findings and the provenance (Image > Show Info…). Returns the first file.
    """
    arrays: dict[str, NDArray[Any]] = {**dict(result.channels()), **dict(result.derived())}
    arrays["flags"] = result.flags
    files = tiff_names(path, result)
    write_files([_job(result, name, arrays[name], file) for name, file in files.items()], overwrite=overwrite)
    return next(iter(files.values()))


def _job(result: Retrieval, name: str, array: NDArray[Any], path: Path) -> OutputFile:
    import tifffile

    micrometres = result.experiment.effective_pixel * 1e6
    metadata: dict[str, Any] = {
        "axes": "YX" if array.ndim == 2 else "ZYX",
        "unit": "um",
        "Info": _info(result, name),
        **_display_range(array, result.flags),
    }
    if name in CHANNELS and CHANNELS[name].components:
        metadata["Labels"] = list(CHANNELS[name].components)

    def write(file: BinaryIO) -> None:
        # In memory first: NumPy, which writes to files for tifffile, hides the error of a full disk.
        content = BytesIO()
        # ImageJ reads the resolution as pixels per `unit` of the metadata, with no unit in the tag.
        tifffile.imwrite(
            content,
            array,
            imagej=True,
            resolution=(1.0 / micrometres, 1.0 / micrometres),
            resolutionunit="NONE",
            metadata=metadata,
        )
        file.write(content.getbuffer())

    def verify(written: Path) -> None:
        if not np.array_equal(tifffile.imread(written), array, equal_nan=array.dtype.kind == "f"):
            raise OutputError("the pixels differ")

    return OutputFile(path, write, verify)


def _display_range(array: NDArray[Any], flags: NDArray[np.uint16]) -> dict[str, float]:
    if array.dtype.kind != "f":
        return {"min": 0.0, "max": float(max(array.max(), 1))}
    usable = np.isfinite(array)
    good = usable & (flags == 0)
    values = array[good if good.any() else usable]
    if not values.size:
        return {}
    low, high = (float(limit) for limit in np.percentile(values, (0.5, 99.5)))
    return {"min": low, "max": high} if low < high else {}


def _info(result: Retrieval, name: str) -> str:
    """Return the text that ImageJ shows as the info of the image."""
    if name in CHANNELS or name in DERIVED:
        channel = channel_of(name)
        lines = [f"{channel.title} {channel.symbol}", f"unit: {channel.unit}"]
        if channel.components:
            lines.append(f"slices: {', '.join(channel.components)}")
    else:
        lines = ["quality flags", *(f"{flag.bit}: {flag.name}, {flag.meaning}" for flag in FLAGS)]
    lines.append(f"method: {result.method}")
    for part in ("options", "findings", "provenance"):
        lines.append(f"{part}: {to_text(part, getattr(result, part))[0]}")
    lines.append(f"experiment: {to_text('experiment', result.experiment.to_dict())[0]}")
    lines.append(f"pixel in the sample's plane: {result.experiment.effective_pixel:.9g} m")
    lines.append(f"written by xmist {__version__}")
    return "\n".join(lines)
