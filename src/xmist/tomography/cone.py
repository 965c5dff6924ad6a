"""Reconstruction of a whole volume in a cone beam, by the algorithms of astra-toolbox for a GPU."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from xmist.core.arrays import Image
from xmist.tomography.engines import need

Real = NDArray[Any]

CONE_ALGORITHMS: Final[Mapping[str, str]] = MappingProxyType(
    {"fbp": "FDK_CUDA", "cgls": "CGLS3D_CUDA", "sirt": "SIRT3D_CUDA"}
)
_CIRCLE: Final = 60.0  # degrees; a scan of a full circle has no larger gap


def cone_vectors(
    angles: Real, *, source: float, centre: float, tilt: float, shape: tuple[int, int]
) -> NDArray[np.float64]:
    """Return the geometry "cone_vec" (projection, 12) of projections (y, x) of `shape`, in effective pixels.

    A row holds the source, the middle of the detector, and the steps to the next column and row, in the axes
    (x, z, y) of the volume, whose middle is the origin; `angles` in degrees. The detector is scaled into the
    plane of the rotation axis, which is `source` pixels from the source and crosses the middle row at column
    `centre`, at an angle of `tilt` degrees to the columns. The source is opposite the middle of the detector.
    """
    theta = np.deg2rad(np.asarray(angles, np.float64))
    slope = np.deg2rad(tilt)
    offset = (0.5 * (shape[1] - 1) - centre) * np.cos(slope)
    # In the laboratory (x, y, z), the beam along z and the axis of rotation along y.
    laboratory = np.array(
        [
            (offset, 0.0, -source),
            (offset, 0.0, 0.0),
            (np.cos(slope), np.sin(slope), 0.0),
            (-np.sin(slope), np.cos(slope), 0.0),
        ]
    )
    x, y, z = laboratory.T[:, None]
    c, s = np.cos(theta)[:, None], np.sin(theta)[:, None]
    # The sample turns from +x towards +z; seen from it, source and detector turn back.
    turned = np.stack([c * x + s * z, c * z - s * x, np.broadcast_to(y, (theta.size, 4))], axis=2)
    return turned.reshape(-1, 12)


def reconstruct_cone(
    sinograms: Image,
    angles: Real,
    *,
    pixel: float,
    source: float,
    centre: float,
    tilt: float,
    algorithm: Literal["fbp", "cgls", "sirt"],
    iterations: int,
) -> Image:
    """Return the volume (y, z, x) per metre from line integrals (projection, y, x); pixel and source in m.

    FDK takes even steps over 360°, or at least 180° and the opening of the beam, with weights for the rays
    that are there twice.
    """
    astra = need("astra")
    rows, columns = sinograms.shape[1:]
    vectors = cone_vectors(angles, source=source / pixel, centre=centre, tilt=tilt, shape=(rows, columns))
    geometry = astra.create_proj_geom("cone_vec", rows, columns, vectors)
    volume = astra.create_vol_geom(columns, columns, rows)
    config = astra.astra_dict(CONE_ALGORITHMS[algorithm])
    if algorithm == "fbp":
        turned = np.sort(np.mod(np.asarray(angles, np.float64), 360.0))
        gaps = np.diff(turned, append=turned[0] + 360.0)
        config["option"] = {"ShortScan": bool(gaps.max() > _CIRCLE)}
    data = np.ascontiguousarray(sinograms.transpose(1, 0, 2), np.float32)
    config["ProjectionDataId"] = astra.data3d.create("-sino", geometry, data)
    config["ReconstructionDataId"] = astra.data3d.create("-vol", volume)
    identifier = None
    try:
        identifier = astra.algorithm.create(config)
        astra.algorithm.run(identifier, iterations)
        found = astra.data3d.get(config["ReconstructionDataId"])
    finally:
        if identifier is not None:
            astra.algorithm.delete(identifier)
        astra.data3d.delete([config["ProjectionDataId"], config["ReconstructionDataId"]])
    return np.asarray(found / np.float32(pixel), np.float32)
