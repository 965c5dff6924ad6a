"""The engines: filtered back-projection by algotom, projectors by astra-toolbox."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import lru_cache
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmist.core.arrays import Image
from xmist.core.errors import ErrorRecord, InputError

Real = NDArray[Any]
Apply = Callable[[Real], Real]


def need(module: str) -> Any:
    """Return a module of an engine, or raise an error that names the extra to install."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of packages that the engine imports
            return import_module(module)
    except ImportError as error:
        package = "astra-toolbox" if module.startswith("astra") else "algotom"
        hint = 'pip install "xmist[tomography]"'
        if package == "astra-toolbox":
            hint += '; it has no wheels for macOS, where algorithm = "fbp" runs'
        raise InputError(
            ErrorRecord("extra-missing", f"{package} is not installed ({error}); install it with {hint}")
        ) from error


def has_astra() -> bool:
    """Return whether astra-toolbox is installed."""
    from importlib.util import find_spec

    return find_spec("astra") is not None


def has_gpu() -> bool:
    """Return whether astra-toolbox is installed and finds a GPU."""
    return has_astra() and bool(need("astra").use_cuda())


def filtered_back_projection(
    sinogram: Image,
    angles: NDArray[np.float64],
    weights: NDArray[np.float64],
    centre: float,
    *,
    window: str | None = None,
    derivative: bool = False,
) -> Image:
    """Return the (x, x) slice of a (projection, x) sinogram by algotom's FBP; angles and weights in rad.

    The axis is in the middle of the slice. With `derivative` the sinogram holds the derivative of line
    integrals along x, per pixel, and the ramp filter becomes a Hilbert filter.
    """
    import numba

    engine = need("algotom.rec.reconstruction")
    projections, width = sinogram.shape
    # The engine multiplies by π/(n − 1) and assumes equal steps.
    scaled = sinogram * np.float32((projections - 1) / np.pi) * weights[:, None].astype(np.float32)
    # The ramp filter is long: a narrow margin leaves an offset. Refraction is 0 outside the object.
    margin = width // 2
    ramp = _ramp(width + 2 * margin, window, derivative)
    # The threads of the engine add to the same pixels, so that sums of several threads lose parts.
    threads = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        slice_ = engine.fbp_reconstruction(
            np.ascontiguousarray(scaled),
            centre,
            angles=angles,
            ratio=None,
            ramp_win=np.broadcast_to(ramp, (projections, ramp.size)),
            pad=margin,
            pad_mode="constant" if derivative else "edge",
            apply_log=False,
            gpu=False,
            ncore=1,
        )
    finally:
        numba.set_num_threads(threads)
    return np.asarray(slice_, np.float32)


@lru_cache(maxsize=4)
def _ramp(width: int, window: str | None, derivative: bool) -> Real:
    """Return the transfer function (x,) of the filter, in the order of the engine."""
    if not derivative:
        engine = need("algotom.rec.reconstruction")
        return np.asarray(engine.make_2d_ramp_window(1, width, window)[0])
    # The kernel 1/(π² n), n odd; its derivative is the ramp filter.
    place = np.arange(width) - np.ceil((width - 1) / 2)
    kernel = np.where(place % 2 == 1, 1.0 / (np.pi**2 * np.where(place == 0, 1, place)), 0.0)
    return np.fft.fftshift(np.fft.fft(kernel))


class Projector:
    """Parallel-beam projector of astra-toolbox for one geometry, on a CPU, with its adjoint.

    A slice is (grid, grid) in unit per pixel, with the axis in its middle, a sinogram (projection, width).
    """

    def __init__(self, width: int, angles: NDArray[np.float64], centre: float, grid: int) -> None:
        astra = need("astra")
        self._astra = astra
        self.shape = (grid, grid)
        # Vectors (ray, detector centre, step): a rotation axis off the middle moves the detector.
        offset = 0.5 * (width - 1) - centre
        c, s = np.cos(angles), np.sin(angles)
        vectors = np.stack([s, -c, offset * c, offset * s, c, s], axis=1)
        volume = astra.create_vol_geom(grid, grid)
        geometry = astra.create_proj_geom("parallel_vec", width, vectors)
        self._projector = astra.create_projector("linear", geometry, volume)
        self._operator = astra.OpTomo(self._projector)
        self.sinogram_shape = (angles.size, width)

    def __enter__(self) -> Projector:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the projector in the engine."""
        self._astra.projector.delete(self._projector)

    def forward(self, image: Real) -> Real:
        """Return the line integrals of a slice, in pixels."""
        return np.asarray(self._operator.FP(image.astype(np.float32)))

    def adjoint(self, sinogram: Real) -> Real:
        """Return the adjoint of `forward` applied to a sinogram."""
        return np.asarray(self._operator.BP(sinogram.astype(np.float32)))
