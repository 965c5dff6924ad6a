"""Frames of a scan brought into the order of the mask's positions, as their headers give them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from xmist.core.errors import InputError, raise_errors
from xmist.io.frames.positions import Position, format_position, position_in, position_scale, same_position
from xmist.io.frames.sources import listed
from xmist.workflow.series.layout import Layout
from xmist.workflow.series.reader import Reader


def pair_positions(reference: Layout, sample: Layout, keys: Sequence[str]) -> tuple[Layout, Layout]:
    """Order references and projections by the positions of the mask in the headers of their frames.

    The order of positions is that of the first set of references. Exposures of a position may stand anywhere
    in a set or a projection.

    Parameters
    ----------
    reference, sample : Layout
        The sets of references, and the projections.
    keys : sequence of str
        Names of the coordinates in the headers (EDF keys or motors, TIFF descriptions, HDF5 paths or their
        ends).

    Returns
    -------
    tuple of Layout
        Both, ordered alike. A projection that was not exposed at the positions of the references, or whose
        headers cannot be read, counts as missing.

    Raises
    ------
    InputError
        If the references lack the keys or differ among their sets, or no projection has their positions.

    Examples
    --------
    >>> from pathlib import Path
    >>> import tifffile
    >>> from xmist.workflow.series.layout import lay_out
    >>> for name, place in (("r_0", 0), ("r_1", 1), ("p_0", 1), ("p_1", 0)):
    ...     tifffile.imwrite(f"{name}.tif", np.zeros((8, 9)), description=f"mask_x = {place}")
    >>> known = {"folder": Path("."), "order": "projection", "exposures": 1, "positions": 2}
    >>> reference = lay_out(["r_*.tif"], name="input.reference", outer="set", **known)
    >>> sample = lay_out(["p_*.tif"], name="input.sample", outer="projection", **known)
    >>> pair_positions(reference, sample, ["mask_x"])[1].places[0, :, 0, 0].tolist()
    [1, 0]
    """
    ours, faults = _read(reference, keys)
    raise_errors([f"{reference.name}: {fault}" for fault in faults.values()])
    theirs, missing = _read(sample, keys)
    scale = position_scale([position for frames in (*ours, *theirs) for position in frames])
    order: list[Position] = []
    for position in ours[0]:
        if not any(same_position(position, other, scale) for other in order):
            order.append(position)
    if len(order) != reference.positions:
        raise InputError(
            f"{reference.name}: the headers of a set of {len(ours[0])} frames give {len(order)} positions of "
            f"the mask ({listed([format_position(keys, position) for position in order], 3)}); expected "
            f"{reference.positions} (scan.reference_exposures, scan.reference_at)"
        )
    ordered, faults = _ordered(reference, ours, order, scale, keys)
    raise_errors([f"{reference.name}: {fault}" for fault in faults.values()])
    projections, unlike = _ordered(sample, theirs, order, scale, keys)
    missing |= unlike
    if len(missing | dict(sample.missing)) == sample.count:
        first = min(missing, default=0)
        raise InputError(
            f"{sample.name}: no projection can be paired with the references by position_key "
            f"({missing.get(first, 'frames are missing')})"
        )
    return ordered, replace(projections, missing=dict(sorted((missing | dict(sample.missing)).items())))


def _read(layout: Layout, keys: Sequence[str]) -> tuple[list[list[Position]], dict[int, str]]:
    """Read the position of every frame; none where frames are missing, and where a fault says why."""
    positions: list[list[Position]] = []
    faults: dict[int, str] = {}
    with Reader(layout) as reader:
        for index in range(layout.count):
            found: list[Position] = []
            positions.append(found)
            if index in layout.missing:
                continue
            try:
                for number, frame in layout.places[index].reshape(-1, 2).tolist():
                    if number < 0:
                        continue
                    label = str(layout.addresses[number])
                    found.append(position_in(reader.header_of(number, frame), keys, label))
            except InputError as error:
                found.clear()
                faults[index] = error.faults[0]
    return positions, faults


def _ordered(
    layout: Layout,
    positions: Sequence[Sequence[Position]],
    order: Sequence[Position],
    scale: Sequence[float],
    keys: Sequence[str],
) -> tuple[Layout, dict[int, str]]:
    """Put frames where their positions belong; say where there are too few or too many at one."""
    places = layout.places.copy()
    exposures = places.shape[2]
    faults: dict[int, str] = {}
    for index, found in enumerate(positions):
        if not found:
            continue
        frames = layout.places[index].reshape(-1, 2)
        frames = frames[frames[:, 0] >= 0]
        for place, position in enumerate(order):
            alike = [number for number, other in enumerate(found) if same_position(position, other, scale)]
            if len(alike) != exposures:
                faults[index] = (
                    f"{layout.addresses[int(frames[0, 0])]} and what belongs to it: {len(alike)} frames at "
                    f"{format_position(keys, position)}, as the references have it; expected {exposures}"
                )
                break
            places[index, place] = frames[alike]
    return replace(layout, places=places), faults
