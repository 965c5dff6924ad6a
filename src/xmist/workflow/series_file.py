"""The file of a series: all blocks as one NeXus stack, by virtual datasets with relative sources.

It is written before the first block of a run and again at its end. Because blocks never change, it is valid
in between, too: missing projections read as NaN, never as zeros.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.core.data import CHANNELS
from xmist.core.experiment import Experiment
from xmist.io.results.atomic import write_file
from xmist.io.results.nexus import (
    FLAGS_TITLE,
    add_group,
    attach_axes,
    describe,
    file_image,
    pixel_axis,
    write_experiment,
    write_process,
)
from xmist.io.results.plain import to_text
from xmist.io.results.stacks import MISSING, STACK_SCHEMA, STATUS
from xmist.workflow.quality import COLUMNS, Row, to_columns
from xmist.workflow.storage import NOTHING, Block, BlockSchema

if TYPE_CHECKING:
    import h5py

_FILL: Final[Mapping[str, Any]] = {"f8": np.nan, "i8": 0, "u1": MISSING}


@dataclass(frozen=True, kw_only=True)
class SeriesMetadata:
    """The data of the file besides the blocks."""

    method: str
    options: Mapping[str, Any]
    experiment: Experiment
    configuration: Mapping[str, Any]
    projections: NDArray[np.int64]
    positions: int
    angles: NDArray[np.float64] | None
    tilt: float | None = None


@dataclass(frozen=True)
class Piece:
    """Projections of a block, from `start` to `stop`, which stand at `place` in the series file."""

    block: Block
    start: int
    stop: int
    place: int


def join_pieces(numbers: Sequence[int], places: Mapping[int, tuple[Block, int]]) -> list[Piece]:
    """Return the pieces of the projections of a series, by block and place in it of those that have one."""
    pieces: list[Piece] = []
    for index, number in enumerate(numbers):
        if number not in places:
            continue
        block, place = places[number]
        last = pieces[-1] if pieces else None
        if last and (last.block, last.stop, last.place + last.stop - last.start) == (block, place, index):
            pieces[-1] = Piece(block, last.start, place + 1, last.place)
        else:
            pieces.append(Piece(block, place, place + 1, index))
    return pieces


def write_series_file(
    path: Path,
    folder: Path,
    pieces: Sequence[Piece],
    schema: BlockSchema,
    metadata: SeriesMetadata,
    *,
    rows: Sequence[Row] | None = None,
    run: Mapping[str, Any] | None = None,
) -> Path:
    """Write the file; an earlier one is replaced."""
    content = _content(folder.name, pieces, schema, metadata, rows, run)
    return write_file(path, content, overwrite=True)


def _content(
    folder: str,
    pieces: Sequence[Piece],
    schema: BlockSchema,
    metadata: SeriesMetadata,
    rows: Sequence[Row] | None,
    run: Mapping[str, Any] | None,
) -> bytes:
    def write(entry: h5py.Group) -> None:
        count = len(metadata.projections)
        axes = _axes(entry, schema, metadata)
        for name in (*schema.channels, "flags"):
            _write_stack(entry, folder, pieces, count, name, schema, axes)
        _write_table(entry, folder, pieces, count, rows)
        write_experiment(add_group(entry, "experiment", "NXcollection"), metadata.experiment)
        texts = {name: to_text(name, getattr(metadata, name)) for name in ("options", "configuration")}
        process = write_process(entry, metadata.method, texts)
        process["positions"] = metadata.positions
        if rows is not None:
            # SHA-256 of every frame that went into a projection, as it was loaded.
            process["input_digests"] = json.dumps([[frame.sha256 for frame in row.frames] for row in rows])
            process["findings"] = json.dumps([row.texts()["findings"] for row in rows])
        if run is not None:
            group = add_group(entry, "run", "NXcollection")
            group.attrs["note"] = "differs from run to run; everything else does not"
            for key, value in run.items():
                group[key] = value

    titles = ", ".join(CHANNELS[name].title for name in schema.channels)
    title = f"{titles} of {len(metadata.projections)} projections by {metadata.method}"
    return file_image({"xmist_stack": STACK_SCHEMA}, schema.channels, title, write)


def _axes(entry: h5py.Group, schema: BlockSchema, metadata: SeriesMetadata) -> dict[str, h5py.Dataset]:
    """Write the axes once; every stack links to them."""
    group = add_group(entry, "axes", "NXcollection")
    pixel = metadata.experiment.effective_pixel
    axes: dict[str, h5py.Dataset] = {
        "projection": group.create_dataset("projection", data=metadata.projections)
    }
    axes["projection"].attrs["long_name"] = "number of the projection"
    if metadata.angles is not None:
        axes["rotation_angle"] = group.create_dataset("rotation_angle", data=metadata.angles)
        axes["rotation_angle"].attrs.update(units="degrees", long_name="angle of the sample (degrees)")
        # Where programs for tomography look for it.
        sample = add_group(entry, "sample", "NXsample")
        sample["rotation_angle"] = axes["rotation_angle"]
        if metadata.tilt is not None:
            sample["tilt"] = metadata.tilt
            sample["tilt"].attrs["units"] = "degrees"
    for axis, size in zip("yx", schema.shape, strict=True):
        axes[axis] = pixel_axis(group, axis, size, pixel)
    for name, axis_data in axes.items():
        axis_data.make_scale(name)
    return axes


def _write_stack(
    entry: h5py.Group,
    folder: str,
    pieces: Sequence[Piece],
    count: int,
    name: str,
    schema: BlockSchema,
    axes: Mapping[str, h5py.Dataset],
) -> None:
    """Write a channel, or the flags, as a virtual dataset of shape (projection, …, y, x)."""
    channel = CHANNELS.get(name)
    title = FLAGS_TITLE if channel is None else channel.title
    group = add_group(entry, name, "NXdata", signal="data", title=title)
    dtype = np.uint16 if channel is None else np.float32
    fill = NOTHING if channel is None else np.nan
    data = _virtual(group, "data", folder, pieces, name, (count, *schema.image_shape(name)), dtype, fill)
    data.attrs["interpretation"] = "image"
    first = "rotation_angle" if "rotation_angle" in axes else "projection"
    order = [first, *describe(group, data, name)]
    for axis in axes:
        group[axis] = axes[axis]
    group.attrs["axes"] = order
    group.attrs["projection_indices"] = 0
    attach_axes(group, data, order)


def _virtual(
    group: h5py.Group,
    name: str,
    folder: str,
    pieces: Sequence[Piece],
    source: str,
    shape: tuple[int, ...],
    dtype: Any,
    fill: Any,
) -> h5py.Dataset:
    import h5py

    layout = h5py.VirtualLayout(shape, dtype)
    for piece in pieces:
        whole = h5py.VirtualSource(
            f"{folder}/{piece.block.name}", source, (len(piece.block), *shape[1:]), dtype
        )
        stop = piece.place + piece.stop - piece.start
        layout[piece.place : stop] = whole[piece.start : piece.stop]
    return group.create_virtual_dataset(name, layout, fillvalue=fill)


def _write_table(
    entry: h5py.Group, folder: str, pieces: Sequence[Piece], count: int, rows: Sequence[Row] | None
) -> None:
    group = add_group(entry, "table", "NXcollection")
    columns = None if rows is None else to_columns(rows)
    for name, column in COLUMNS.items():
        if columns is not None:
            data = group.create_dataset(name, data=columns[name])
        else:
            fill = _FILL[column.dtype]
            kind = np.dtype(column.dtype)
            data = _virtual(group, name, folder, pieces, f"table/{name}", (count,), kind, fill)
        data.attrs["long_name"] = column.title
        if column.unit:
            data.attrs["units"] = column.unit
        if name == "status":
            data.attrs["status_values"] = np.array(list(STATUS), np.uint8)
            data.attrs["status_meanings"] = list(STATUS.values())
    if rows is not None:
        group["notes"] = [row.note for row in rows] if any(row.note for row in rows) else [""] * count
