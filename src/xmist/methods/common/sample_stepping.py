"""Frames of a sample that moves while the diffuser stays, brought to the sample's own grid for any method.

The sample at s_n gives I_n(r) = T(r − s_n) R(r − u(r − s_n)). With s_n = i_n + f_n, i_n whole, the frame is
laid on the grid q = r − i_n without interpolation. There it shows T and u at q − f_n. A first result shows
how they differ from those at q, and the reference is corrected by the difference:

    R'_n(p) = R(p − δ) T(q − f_n)/T(q),   δ = u(q − f_n) − u(q),   q = p + u

Frames that do not meet share a layer, so that a large field costs no more memory than its overlaps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.core import flags as flag
from xmist.core.arrays import Image
from xmist.core.data import CHANNELS, Retrieval, SampleScan, SpeckleStack
from xmist.numerics.images.registration import filled
from xmist.numerics.matching.directional import moved, spline
from xmist.numerics.operators.stencils import gradient

Real = NDArray[Any]

_GAP: Final = 48  # pixels between frames that share a layer: windows and shifts reach less
_WHOLE: Final = 0.005  # pixels; a smaller fraction changes nothing
_RIM: Final = 3  # pixels


@dataclass(frozen=True, kw_only=True, eq=False)
class SampleGrid:
    """Where each frame lies on the sample's grid."""

    corners: NDArray[np.int64]  # (position, 2) row and column of a frame's first pixel
    layers: tuple[int, ...]  # layer of each frame
    shape: tuple[int, int]  # (y, x) of the grid
    frame: tuple[int, int]  # (y, x) of a frame
    fractions: NDArray[np.float64]  # (position, 2) that the sample is beyond whole pixels
    origin: tuple[int, int]  # pixel (y, x) of a frame at the position (0, 0) that the grid begins at

    def part(self, n: int) -> tuple[slice, slice]:
        """Return the rows and columns of frame n."""
        (y, x), (height, width) = self.corners[n], self.frame
        return slice(y, y + height), slice(x, x + width)

    def pasted(self, frames: Real, empty: float) -> Image:
        """Return frames (position, y, x) in their layers (layer, y, x)."""
        out = np.full((max(self.layers) + 1, *self.shape), empty, np.float32)
        for n, layer in enumerate(self.layers):
            out[(layer, *self.part(n))] = frames[n]
        return out

    def continued(self, frames: Real) -> Image:
        """Return finite frames (position, y, x) in their layers, each continued by its mirror images."""
        out = np.empty((max(self.layers) + 1, *self.shape), np.float32)
        nearest = np.full(out.shape, np.inf, np.float32)
        for n, layer in enumerate(self.layers):
            place = [np.arange(size) - first for size, first in zip(self.shape, self.corners[n], strict=True)]
            away = [
                np.maximum(np.maximum(-index, index - side + 1), 0).astype(np.float32)
                for index, side in zip(place, self.frame, strict=True)
            ]
            rows, columns = (
                np.minimum(index % (2 * side), 2 * side - 1 - index % (2 * side))
                for index, side in zip(place, self.frame, strict=True)
            )
            distance = np.maximum(away[0][:, None], away[1])
            closer = distance < nearest[layer]
            out[layer][closer] = frames[n][np.ix_(rows, columns)][closer]
            nearest[layer][closer] = distance[closer]
        return out

    def without_rims(self, weights: Image) -> Image:
        """Return weights (position, y, x) that are 0 at the sides of frames inside the grid.

        Speckles come from beyond the frame there.
        """
        out = weights.copy()
        for n, (y, x) in enumerate(self.corners):
            out[n, : _RIM if y > 0 else 0] = 0.0
            out[n, :, : _RIM if x > 0 else 0] = 0.0
            out[n, self.frame[0] - (_RIM if y + self.frame[0] < self.shape[0] else 0) :] = 0.0
            out[n, :, self.frame[1] - (_RIM if x + self.frame[1] < self.shape[1] else 0) :] = 0.0
        return out


def sample_grid(positions: NDArray[np.float64], frame: tuple[int, int]) -> SampleGrid:
    """Lay frames of (y, x) pixels at positions (position, 2) on the grid that they span."""
    whole = np.rint(positions).astype(np.int64)
    first = (-whole).min(axis=0)
    corners = -whole - first
    height, width = corners.max(axis=0) + np.array(frame)
    layers: list[int] = []
    for n, corner in enumerate(corners):
        near = (np.abs(corners[:n] - corner) < np.array(frame) + _GAP).all(axis=1)
        taken = {layers[m] for m in np.flatnonzero(near)}
        layers.append(next(layer for layer in range(len(corners)) if layer not in taken))
    return SampleGrid(
        corners=corners,
        layers=tuple(layers),
        shape=(int(height), int(width)),
        frame=frame,
        fractions=positions - whole,
        origin=(int(first[0]), int(first[1])),
    )


def retrieve_field(
    scan: SampleScan,
    solve: Callable[[SpeckleStack, Retrieval | None], Retrieval],
    *,
    continued: bool = False,
) -> Retrieval:
    """Retrieve the field of a `SampleScan` by `solve`, which treats layers like positions.

    It also takes a first result, if there is one. With `continued` references go on beyond their frames,
    where weights are 0, for methods that solve for whole images.
    """
    grid = sample_grid(scan.sample_positions, scan.shape)
    reference = np.broadcast_to(scan.reference, scan.sample.shape)
    given = np.ones(scan.sample.shape, np.float32) if scan.weights is None else scan.weights
    sample = grid.pasted(scan.sample, 1.0)
    weights = grid.pasted(grid.without_rims(given) if continued else given, 0.0)

    def layered(frames: Image) -> Image:
        if not continued:
            return grid.pasted(frames, 1.0)
        usable = np.isfinite(frames) & (frames > 0) & (given > 0)
        return grid.continued(np.stack(list(map(filled, frames, usable))))

    result = solve(SpeckleStack(layered(reference), sample, weights), None)
    if (np.abs(grid.fractions) > _WHOLE).any():
        corrected = _corrected_references(scan, reference, given, grid, result)
        result = solve(SpeckleStack(layered(corrected), sample, weights), result)
    return _on_grid(result, scan, given, grid)


def shift_of_result(result: Retrieval) -> Real:
    """Return the shift u (2, y, x) in pixels, 0 where it is not known."""
    experiment = result.experiment
    p, distance = experiment.effective_pixel, experiment.effective_distance
    if result.shift is not None:
        shift: Real = result.shift
    elif result.refraction_angle is not None:
        shift = result.refraction_angle * np.float32(distance / p)
    else:
        assert result.phase is not None  # every method with sample stepping has one
        shift = gradient(result.phase, scale=distance / (experiment.wavenumber * p**2))
    return np.nan_to_num(shift)


def _corrected_references(
    scan: SampleScan, reference: Image, weights: Image, grid: SampleGrid, result: Retrieval
) -> Image:
    """Return references (position, y, x) of frames whose sample is at whole pixels."""
    from scipy.ndimage import map_coordinates

    shift = shift_of_result(result)
    transmission = np.ones(grid.shape, np.float32)
    if result.transmission is not None:
        known = np.isfinite(result.transmission) & (result.transmission > 0.05)
        transmission[known] = result.transmission[known]
    maps = [np.ascontiguousarray(image) for image in (*shift, np.log(transmission))]
    rows, columns = np.mgrid[: scan.shape[0], : scan.shape[1]]
    still = np.zeros((4, *scan.shape), np.float32)
    out = np.array(reference)
    coefficients: dict[int, tuple[Real, NDArray[np.bool_]]] = {}
    for n, fraction in enumerate(grid.fractions):
        if not (np.abs(fraction) > _WHOLE).any():
            continue
        part = grid.part(n)
        y, x = (index + size for index, size in zip((rows, columns), grid.corners[n], strict=True))
        y, x = y + shift[1][part], x + shift[0][part]

        def sampled(image: Real, dy: float, dx: float, y: Real = y, x: Real = x) -> Real:
            found: Real = map_coordinates(image, [y - dy, x - dx], order=1, mode="nearest")
            return found

        change = [sampled(image, *fraction) - sampled(image, 0.0, 0.0) for image in maps]
        frame = reference[n]
        usable = np.isfinite(frame) & (frame > 0) & (weights[n] > 0)
        key = n if len(scan.reference) > 1 or scan.weights is not None else 0
        if key not in coefficients:
            coefficients.clear()
            coefficients[key] = spline(filled(frame, usable)[None]), usable
        delta = np.stack(change[:2]).astype(np.float32)
        found = moved(coefficients[key][0], delta, still, 0, scan.shape[0])[0] * np.exp(change[2])
        out[n] = np.where(usable, found, np.float32(np.nan))
    return out


def coverage(grid: SampleGrid, weights: Image) -> tuple[Image, NDArray[np.bool_]]:
    """Return the number of frames that contain each pixel (y, x), and where one of them has weight 0."""
    seen, masked = np.zeros(grid.shape, np.float32), np.zeros(grid.shape, np.bool_)
    for n in range(len(grid.layers)):
        seen[grid.part(n)] += weights[n] > 0
        masked[grid.part(n)] |= weights[n] == 0
    return seen, masked


def _on_grid(result: Retrieval, scan: SampleScan, weights: Image, grid: SampleGrid) -> Retrieval:
    """Return a result without values where no frame is, with its coverage and its own flags."""
    seen, masked = coverage(grid, weights)
    span = np.zeros(grid.shape, np.bool_)
    for n in range(len(grid.layers)):
        span[grid.part(n)] = True
    flags = result.flags & ~np.uint16(flag.MASKED)
    flags[masked] |= flag.MASKED
    flags[~span] = flag.UNDETERMINED
    channels: dict[str, Any] = {}
    for name in CHANNELS:
        image = getattr(result, name)
        if image is not None and not span.all():
            image = np.where(span, image, np.float32(np.nan))
            if name == "phase" and result.options.get("background") is None:
                image -= np.float32(np.nanmean(image, dtype=np.float64))
        channels[name] = image
    provenance = {
        **result.provenance,
        "positions": scan.positions,
        "sample_positions": scan.sample_positions.tolist(),
        "grid_origin": list(grid.origin),
    }
    return replace(
        result,
        **channels,
        flags=flags,
        provenance=provenance,
        diagnostics={**result.diagnostics, "coverage": seen},
    )
