"""Write results as NeXus HDF5: everything that a `Retrieval` holds, bit for bit.

The layout is an entry with one NXdata per channel (and one for the flags), the collections `experiment` and
`diagnostics` (one NXdata per map), and the process `process` whose options, findings and provenance are JSON
text. The collection `derived` holds what follows from the channels (scattering angle, visibility reduction),
and is not read back. The same result gives the same bytes: no time of writing is stored.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
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
from xmist.io.results.plain import to_text

if TYPE_CHECKING:
    import h5py

__all__ = ["differences", "read_nexus", "write_nexus"]

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
    """Build the file in memory.

    HDF5 crashes the process when the disk is full (github.com/h5py/h5py/issues/914), so plain Python writes
    the file; this takes twice its size in memory for a moment.
    """
    import h5py

    texts = {name: to_text(name, getattr(result, name)) for name in TEXTS}
    # HDF5 treats two open files of one name as one, also in memory.
    with h5py.File(secrets.token_hex(8), "w", driver="core", backing_store=False) as file:
        names = [name for name, _ in result.channels()]
        file.attrs.update(NX_class="NXroot", default="entry", creator="xmist", creator_version=__version__)
        entry = add_group(file, "entry", "NXentry", default=names[0] if names else "flags")
        entry.attrs["xmist_schema"] = SCHEMA
        entry.attrs["channels"] = " ".join(names)
        entry["title"] = f"{', '.join(CHANNELS[name].title for name in names)} by {result.method}"
        entry["program_name"] = "xmist"
        entry["program_name"].attrs["version"] = __version__
        _write_images(entry, result)
        write_experiment(add_group(entry, "experiment", "NXcollection"), result.experiment)
        process = add_group(entry, "process", "NXprocess")
        process["program"] = "xmist"
        process["version"] = __version__
        process["method"] = result.method
        for name, (text, places) in texts.items():
            # Datasets, since an attribute cannot exceed 64 KiB.
            process[name] = text
            process[name].attrs["format"] = "json"
            if places:
                process[f"{name}_tuples"] = json.dumps(places)
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

    def finish(group: h5py.Group, data: h5py.Dataset, *leading: str) -> None:
        data.attrs["interpretation"] = "image"
        for axis, size in zip("yx", result.shape, strict=True):
            if axis not in axes:
                axes[axis] = group.create_dataset(axis, data=np.arange(size) * pixel)
                downwards = ", downwards" if axis == "y" else ""
                axes[axis].attrs.update(units="m", long_name=f"{axis} in the sample's plane{downwards} (m)")
                axes[axis].make_scale(axis)
            else:
                group[axis] = axes[axis]
        group.attrs["axes"] = [*leading, "y", "x"]
        for index, axis in enumerate([*leading, "y", "x"]):
            group.attrs[f"{axis}_indices"] = index
            data.dims[index].label = axis
            data.dims[index].attach_scale(group[axis])

    for name, array in result.channels():
        channel = CHANNELS[name]
        group = add_group(entry, name, "NXdata", signal="data", title=channel.title)
        data = group.create_dataset("data", data=array)
        unit = "" if channel.unit == "1" else f" ({channel.unit})"
        data.attrs.update(units=channel.unit, long_name=f"{channel.title} {channel.symbol}{unit}")
        leading = []
        if channel.components:
            leading = ["tensor" if name == "dark_field_tensor" else "direction"]
            group[leading[0]] = list(channel.components)
            group[leading[0]].make_scale(leading[0])
        finish(group, data, *leading)
    group = add_group(entry, "flags", "NXdata", signal="data", title="quality flags")
    # Images of 2048 × 2048 pixels shrink by a sixth with gzip 1 and shuffle, which takes ten times as long as
    # writing them; flags shrink by a factor of forty at no cost.
    data = group.create_dataset("data", data=result.flags, chunks=True, compression=1, shuffle=True)
    data.attrs["long_name"] = "quality flags"
    data.attrs["flag_masks"] = np.array([flag.bit for flag in FLAGS], np.uint16)
    data.attrs["flag_meanings"] = " ".join(flag.name for flag in FLAGS)
    data.attrs["flag_descriptions"] = [flag.meaning for flag in FLAGS]
    finish(group, data)
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


def write_experiment(group: h5py.Group, experiment: Experiment) -> None:
    """Write the experiment, and the quantities derived from it, with units."""
    for name, (unit, title) in {**GIVEN, **_DERIVED}.items():
        value = getattr(experiment, name)
        if value is not None:
            group[name] = value
            group[name].attrs.update(units=unit, long_name=title)
