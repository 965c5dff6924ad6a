"""Write results as NeXus HDF5: everything that a `Retrieval` holds, bit for bit.

The layout is an entry with one NXdata per channel (and one for the flags), the collections `experiment` and
`diagnostics` (one NXdata per map), and the process `process` whose options, findings and provenance are JSON
text. The collection `derived` holds what follows from the channels (scattering angle, visibility reduction),
and is not read back. The same result gives the same bytes: no time of writing is stored.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from xmist.core.data import CHANNELS, Retrieval, channel_of
from xmist.core.errors import OutputError
from xmist.core.experiment import Experiment
from xmist.core.flags import FLAGS
from xmist.core.version import __version__
from xmist.io.results.atomic import write_file
from xmist.io.results.nexus_reader import GIVEN, SCHEMA, TEXTS, read_nexus
from xmist.io.results.plain import Places, to_text

if TYPE_CHECKING:
    import h5py

__all__ = ["differences", "read_nexus", "write_nexus"]

FLAGS_TITLE: Final = "quality flags"
_DERIVED: Final[Mapping[str, tuple[str, str]]] = {
    "wavelength": ("m", "wavelength"),
    "wavenumber": ("rad/m", "wavenumber k"),
    "magnification": ("1", "magnification M"),
    "effective_pixel": ("m", "pixel in the sample's plane"),
    "effective_distance": ("m", "effective propagation distance"),
}


def write_nexus(result: Retrieval, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write a result, whose options, findings and provenance must be plain data; return `path`."""

    def verify(written: Path) -> None:
        different = differences(result, read_nexus(written))
        if different:
            raise OutputError(f"{', '.join(different)} differ")

    return write_file(path, lambda file: file.write(_file_image(result)), verify, overwrite=overwrite)


def differences(one: Retrieval, other: Retrieval) -> list[str]:
    """Return the names of the attributes in which two results differ; NaN equals NaN."""
    different = [name for name in ("method", "experiment") if getattr(one, name) != getattr(other, name)]
    for name in TEXTS:
        if to_text(name, getattr(one, name)) != to_text(name, getattr(other, name)):
            different.append(name)
    for name in ("flags", *CHANNELS):
        a, b = getattr(one, name), getattr(other, name)
        if (a is None) != (b is None) or (
            a is not None and not np.array_equal(a, b, equal_nan=name != "flags")
        ):
            different.append(name)
    if list(one.diagnostics) != list(other.diagnostics) or not all(
        np.array_equal(image, other.diagnostics[name], equal_nan=True)
        for name, image in one.diagnostics.items()
    ):
        different.append("diagnostics")
    return different


def _file_image(result: Retrieval) -> bytes:
    texts = {name: to_text(name, getattr(result, name)) for name in TEXTS}
    names = [name for name, _ in result.channels()]

    def write(entry: h5py.Group) -> None:
        _write_images(entry, result)
        write_experiment(add_group(entry, "experiment", "NXcollection"), result.experiment)
        write_process(entry, result.method, texts)

    title = f"{', '.join(CHANNELS[name].title for name in names)} by {result.method}"
    return file_image({"xmist_schema": SCHEMA}, names, title, write)


def file_image(
    schema: Mapping[str, int], channels: Sequence[str], title: str, write: Callable[[h5py.Group], None]
) -> bytes:
    """Build a file in memory, with an entry to which `write` adds what it holds.

    HDF5 crashes the process when the disk is full (github.com/h5py/h5py/issues/914), so plain Python writes
    the file; this takes twice its size in memory for a moment.
    """
    import h5py

    # HDF5 treats two open files of one name as one, also in memory.
    with h5py.File(secrets.token_hex(8), "w", driver="core", backing_store=False) as file:
        file.attrs.update(NX_class="NXroot", default="entry", creator="xmist", creator_version=__version__)
        entry = add_group(file, "entry", "NXentry", default=channels[0] if channels else "flags")
        entry.attrs.update(schema, channels=" ".join(channels))
        entry["title"] = title
        entry["program_name"] = "xmist"
        entry["program_name"].attrs["version"] = __version__
        write(entry)
        file.flush()
        image: bytes = file.id.get_file_image()
    return image


def add_group(parent: h5py.Group, name: str, kind: str, **attributes: str) -> h5py.Group:
    """Add a group of a NeXus class, with attributes."""
    group = parent.create_group(name, track_order=True)
    group.attrs.update(NX_class=kind, **attributes)
    return group


def _write_images(entry: h5py.Group, result: Retrieval) -> None:
    """Write an NXdata for each channel, the flags and each diagnostic map; all share one pair of axes."""
    pixel = result.experiment.effective_pixel
    axes: dict[str, h5py.Dataset] = {}

    def finish(group: h5py.Group, data: h5py.Dataset, order: Sequence[str] = ("y", "x")) -> None:
        data.attrs["interpretation"] = "image"
        for axis, size in zip("yx", result.shape, strict=True):
            if axis not in axes:
                axes[axis] = pixel_axis(group, axis, size, pixel)
                axes[axis].make_scale(axis)
            else:
                group[axis] = axes[axis]
        group.attrs["axes"] = list(order)
        attach_axes(group, data, order)

    for name, array in result.channels():
        group = add_group(entry, name, "NXdata", signal="data", title=CHANNELS[name].title)
        data = group.create_dataset("data", data=array)
        finish(group, data, describe(group, data, name))
    group = add_group(entry, "flags", "NXdata", signal="data", title=FLAGS_TITLE)
    # Images of 2048 × 2048 pixels shrink by a sixth with gzip 1 and shuffle, which takes ten times as long as
    # writing them; flags shrink by a factor of forty at no cost.
    data = group.create_dataset("data", data=result.flags, chunks=True, compression=1, shuffle=True)
    finish(group, data, describe(group, data, "flags"))
    derived = dict(result.derived())
    if derived:
        maps = add_group(entry, "derived", "NXcollection")
        for name, array in derived.items():
            channel = channel_of(name)
            group = add_group(maps, name, "NXdata", signal="data", title=channel.title)
            data = group.create_dataset("data", data=array)
            data.attrs.update(units=channel.unit, long_name=f"{channel.title} {channel.symbol}")
            finish(group, data)
    if result.diagnostics:
        maps = add_group(entry, "diagnostics", "NXcollection", maps=" ".join(result.diagnostics))
        for name, array in result.diagnostics.items():
            title = name.replace("_", " ")
            group = add_group(maps, name, "NXdata", signal="data", title=title)
            data = group.create_dataset("data", data=array)
            data.attrs.update(units="1", long_name=title)
            finish(group, data)


def pixel_axis(group: h5py.Group, axis: str, size: int, pixel: float) -> h5py.Dataset:
    """Write the places of pixels along y or x."""
    data = group.create_dataset(axis, data=np.arange(size) * pixel)
    downwards = ", downwards" if axis == "y" else ""
    data.attrs.update(units="m", long_name=f"{axis} in the sample's plane{downwards} (m)")
    return data


def describe(group: h5py.Group, data: h5py.Dataset, name: str) -> list[str]:
    """Write what a channel, or the flags, are; return the axes of an image of it."""
    channel = CHANNELS.get(name)
    if channel is None:
        data.attrs["long_name"] = FLAGS_TITLE
        data.attrs["flag_masks"] = np.array([flag.bit for flag in FLAGS], np.uint16)
        data.attrs["flag_meanings"] = " ".join(flag.name for flag in FLAGS)
        data.attrs["flag_descriptions"] = [flag.meaning for flag in FLAGS]
        return ["y", "x"]
    unit = "" if channel.unit == "1" else f" ({channel.unit})"
    data.attrs.update(units=channel.unit, long_name=f"{channel.title} {channel.symbol}{unit}")
    if not channel.components:
        return ["y", "x"]
    leading = "tensor" if name == "dark_field_tensor" else "direction"
    group[leading] = list(channel.components)
    group[leading].make_scale(leading)
    return [leading, "y", "x"]


def attach_axes(group: h5py.Group, data: h5py.Dataset, order: Sequence[str]) -> None:
    """State the axes of data, which lie in its group."""
    for index, axis in enumerate(order):
        group.attrs[f"{axis}_indices"] = index
        data.dims[index].label = axis
        data.dims[index].attach_scale(group[axis])


def write_process(entry: h5py.Group, method: str, texts: Mapping[str, tuple[str, Places]]) -> h5py.Group:
    """Write how results were made: texts of JSON with the places of tuples in them, as of `to_text`."""
    process = add_group(entry, "process", "NXprocess")
    process["program"] = "xmist"
    process["version"] = __version__
    process["method"] = method
    for name, (text, places) in texts.items():
        # Datasets, since an attribute cannot exceed 64 KiB.
        process[name] = text
        process[name].attrs["format"] = "json"
        if places:
            process[f"{name}_tuples"] = json.dumps(places)
    return process


def write_experiment(group: h5py.Group, experiment: Experiment) -> None:
    """Write the experiment, and the quantities derived from it, with units."""
    for name, (unit, title) in {**GIVEN, **_DERIVED}.items():
        value = getattr(experiment, name)
        if value is not None:
            group[name] = value
            group[name].attrs.update(units=unit, long_name=title)
