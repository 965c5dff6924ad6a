"""The files of volumes: blocks of slices, and one file that refers to all of them.

As for a series, HDF5 makes each file in memory and plain Python writes it: HDF5 crashes the process when the
disk fills up under it (github.com/h5py/h5py/issues/914).
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from xmist.core.arrays import Image
from xmist.core.errors import InputError, OutputError
from xmist.core.experiment import Experiment
from xmist.core.findings import Finding
from xmist.core.version import __version__
from xmist.io.frames.hdf5_heap import read_fixed
from xmist.io.results.atomic import write_file
from xmist.io.results.nexus import add_group, write_experiment
from xmist.io.results.plain import to_text
from xmist.io.results.volumes import QUANTITIES, VOLUMES_SCHEMA
from xmist.workflow.storage import Block

if TYPE_CHECKING:
    import h5py

_CHUNK: Final = (8, 128, 128)


@dataclass(frozen=True, kw_only=True)
class VolumeSchema:
    """The content of every block of volumes: the quantities, and the pixels (z, x) of a slice."""

    identity: str
    quantities: tuple[str, ...]
    shape: tuple[int, int]


def write_slices(folder: Path, block: Block, schema: VolumeSchema, slices: Mapping[str, Image]) -> int:
    """Write the slices (slice, z, x) of a block; an earlier file is replaced. Return the bytes."""
    import h5py

    with h5py.File(secrets.token_hex(8), "w", driver="core", backing_store=False) as file:
        file.attrs.update(
            xmist_slices=1, identity=np.bytes_(schema.identity), start=block.start, stop=block.stop
        )
        for name in schema.quantities:
            chunks = tuple(map(min, _CHUNK, slices[name].shape))
            file.create_dataset(name, data=slices[name], chunks=chunks)
        file.flush()
        content: bytes = file.id.get_file_image()
    try:
        write_file(folder / block.name, lambda opened: opened.write(content), overwrite=True, cached=False)
    except InputError as error:  # the folder has gone, or the right to write
        raise OutputError(str(error)) from error
    return len(content)


def find_slices(folder: Path, blocks: Sequence[Block], schema: VolumeSchema) -> list[Block]:
    """Return the blocks whose files are complete and belong to the volumes."""
    return [block for block in blocks if _is_done(folder / block.name, block, schema)]


def _is_done(path: Path, block: Block, schema: VolumeSchema) -> bool:
    import h5py

    if not path.is_file():
        return False
    try:
        with h5py.File(path, "r", locking=False) as file:
            shape = (len(block), *schema.shape)
            return read_fixed(file, "identity") == schema.identity and all(
                file[name].shape == shape and file[name].dtype == np.float32 for name in schema.quantities
            )
    except (OSError, RuntimeError, LookupError, ValueError, AttributeError):
        return False


def write_volumes_file(
    path: Path,
    folder: str,
    blocks: Sequence[Block],
    schema: VolumeSchema,
    *,
    experiment: Experiment,
    stated: Mapping[str, Any],
    findings: Sequence[Finding],
    complete: bool,
) -> Path:
    """Write the file that refers to all blocks.

    `stated` holds centre, tilt, projections, angles, options and source. Slices whose block is not there read
    as NaN.
    """
    import h5py

    with h5py.File(secrets.token_hex(8), "w", driver="core", backing_store=False) as file:
        file.attrs.update(NX_class="NXroot", default="entry", creator="xmist", creator_version=__version__)
        entry = add_group(file, "entry", "NXentry", default=schema.quantities[0])
        entry.attrs.update(
            xmist_volumes=VOLUMES_SCHEMA, quantities=" ".join(schema.quantities), complete=complete
        )
        entry["title"] = f"{', '.join(QUANTITIES[name].title for name in schema.quantities)}"
        entry["program_name"] = "xmist"
        entry["program_name"].attrs["version"] = __version__
        axes = _axes(entry, (blocks[-1].stop, *schema.shape), experiment.effective_pixel)
        for name in schema.quantities:
            _write_volume(entry, folder, blocks, name, schema, axes)
        write_experiment(add_group(entry, "experiment", "NXcollection"), experiment)
        process = add_group(entry, "process", "NXprocess")
        process["program"] = "xmist"
        process["version"] = __version__
        process["source"] = stated["source"]
        for name, unit in (("centre", "pixel"), ("tilt", "degrees")):
            process[name] = stated[name]
            process[name].attrs["units"] = unit
        process["projections"] = stated["projections"]
        process["rotation_angle"] = stated["angles"]
        process["rotation_angle"].attrs["units"] = "degrees"
        text, places = to_text("options", stated["options"])
        process["options"] = text
        process["options"].attrs["format"] = "json"
        process["options_tuples"] = json.dumps(places)
        process["findings"] = json.dumps([record.to_dict() for record in findings])
        file.flush()
        content: bytes = file.id.get_file_image()
    return write_file(path, lambda opened: opened.write(content), overwrite=True)


def _axes(entry: h5py.Group, shape: tuple[int, int, int], pixel: float) -> dict[str, h5py.Dataset]:
    """Write the axes once; every volume links to them. The rotation axis is at x = z = 0."""
    group = add_group(entry, "axes", "NXcollection")
    names = {"y": "y along the rotation axis, downwards", "z": "z along the beam at angle 0", "x": "x"}
    axes = {}
    for (axis, title), size in zip(names.items(), shape, strict=True):
        start = 0.0 if axis == "y" else 0.5 * (size - 1)
        axes[axis] = group.create_dataset(axis, data=(np.arange(size) - start) * pixel)
        axes[axis].attrs.update(units="m", long_name=f"{title} (m)")
        axes[axis].make_scale(axis)
    return axes


def _write_volume(
    entry: h5py.Group,
    folder: str,
    blocks: Sequence[Block],
    name: str,
    schema: VolumeSchema,
    axes: Mapping[str, h5py.Dataset],
) -> None:
    import h5py

    quantity = QUANTITIES[name]
    group = add_group(entry, name, "NXdata", signal="data", title=quantity.title)
    layout = h5py.VirtualLayout((blocks[-1].stop, *schema.shape), np.float32)
    for block in blocks:
        shape = (len(block), *schema.shape)
        layout[block.start : block.stop] = h5py.VirtualSource(
            f"{folder}/{block.name}", name, shape, np.float32
        )
    data = group.create_virtual_dataset("data", layout, fillvalue=np.nan)
    unit = "" if quantity.unit == "1" else f" ({quantity.unit})"
    data.attrs.update(
        units=quantity.unit, long_name=f"{quantity.title} {quantity.symbol}{unit}", interpretation="image"
    )
    group.attrs["axes"] = list(axes)
    for index, axis in enumerate(axes):
        group[axis] = axes[axis]
        group.attrs[f"{axis}_indices"] = index
        data.dims[index].label = axis
        data.dims[index].attach_scale(group[axis])
