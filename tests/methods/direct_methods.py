"""What the tests of the methods that transform whole images share: operators of their own, and faults."""

from __future__ import annotations

import numpy as np
import scipy.ndimage as ndi
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.linalg import spsolve

from tests.manufactured import EXPERIMENT
from xmist.numerics.solvers import poisson

Real = NDArray[np.float64]

K, P, DISTANCE = EXPERIMENT.wavenumber, EXPERIMENT.effective_pixel, EXPERIMENT.effective_distance
PHASE = K * P**2 / DISTANCE  # φ = PHASE ψ
SCATTER = P**2 / DISTANCE  # D = SCATTER d
SHAPE = (44, 62)
GAMMA = 400.0
LENGTH2 = GAMMA / (2 * PHASE)  # γ∆/2k in pixels²


def relative(found: Real, exact: Real) -> float:
    """Root mean square error over the rms of what is right."""
    return float(np.sqrt(np.mean((found - exact) ** 2) / np.mean(exact**2)))


def flow_divergence(frame: Real, image: Real) -> Real:
    """∇I·∇u + I ∇²u: the frame to sixth order, the image by three points, even mirror."""
    sixth, second = np.array([-1, 9, -45, 0, 45, -9, 1]) / 60, np.array([-1, 0, 1]) / 2

    def slope(u: Real, stencil: Real, axis: int) -> Real:
        return ndi.correlate1d(u, stencil, axis=axis, mode="reflect")

    slopes = sum(slope(frame, sixth, axis) * slope(image, second, axis) for axis in (0, 1))
    return slopes + frame * ndi.laplace(image, mode="reflect")


def difference(size: int) -> sp.csr_matrix:
    """Differences across the size − 1 faces of a line."""
    return sp.diags([-1.0, 1.0], [0, 1], shape=(size - 1, size)).tocsr()


def face_value(size: int) -> sp.csr_matrix:
    """Sixth-order interpolation to the faces of a line, even mirror."""
    out = sp.lil_matrix((size - 1, size))
    for face in range(size - 1):
        for offset, weight in zip(range(-2, 4), np.array([3, -25, 150, 150, -25, 3]) / 256, strict=True):
            pixel = face + offset
            pixel = -1 - pixel if pixel < 0 else min(pixel, 2 * size - 1 - pixel)
            out[face, pixel] += weight
    return out.tocsr()


def on_faces(shape: tuple[int, int], line) -> tuple[sp.csr_matrix, sp.csr_matrix]:
    """A line's matrix along x and along y, for raveled images."""
    height, width = shape
    return sp.kron(sp.eye(height), line(width)).tocsr(), sp.kron(line(height), sp.eye(width)).tocsr()


def solve_poisson(source: Real) -> Real:
    """The u of mean 0 with ∇²u = source − its mean, five points, even mirror, by a direct solver."""
    along = on_faces(source.shape, difference)
    laplacian = (-sum(d.T @ d for d in along)).tolil()
    right = (source - source.mean()).ravel()
    laplacian[0] = 0
    laplacian[0, 0], right[0] = 1.0, 0.0
    u = spsolve(laplacian.tocsc(), right).reshape(source.shape)
    return u - u.mean()


def _cosine(size: int) -> Real:
    """Cosines of an even mirror in columns, orthonormal."""
    waves = np.cos(np.pi * np.outer(np.arange(size) + 0.5, np.arange(size)) / size)
    return waves / np.sqrt((waves**2).sum(axis=0))


def spectral_laplacian(image: Real, power: int = 1) -> Real:
    """∇² of the sum of cosines that an image is, or for power −1 its inverse of mean 0, by dense matrices."""
    rows, columns = (_cosine(size) for size in image.shape)
    kappa2 = sum(np.ix_(*[(np.pi * np.arange(size) / size) ** 2 for size in image.shape]))
    kappa2[0, 0] = np.inf if power < 0 else 0.0
    return rows @ ((rows.T @ image @ columns) * -(kappa2**power)) @ columns.T


# Faulty inverse Laplacians, as public code has them. Each takes the arguments of the right one.


def _by_fft(image: Real, symbol: str) -> Real:
    kappa = [2 * np.pi * np.fft.fftfreq(size) for size in image.shape]
    squares = [k**2 if symbol == "spectral" else 2 - 2 * np.cos(k) for k in kappa]
    total = -sum(np.ix_(*squares))
    total[0, 0] = np.inf
    return np.fft.ifft2(np.fft.fft2(image) / total).real.astype(image.dtype)


def four_pi(source, *, symbol="stencil", epsilon=0.0, overwrite=False, threads=None):
    """4π where 4π² belongs."""
    return np.float32(np.pi) * poisson.inverse_laplacian(source, symbol=symbol)


def double_size(source, *, symbol="stencil", epsilon=0.0, overwrite=False, threads=None):
    """A mirror in an array of twice the size that does not repeat the edge."""
    height, width = source.shape
    padded = np.pad(source, ((0, height - 2), (0, width - 2)), mode="reflect")
    return _by_fft(padded, symbol)[:height, :width].copy()


def periodic(source, *, symbol="stencil", epsilon=0.0, overwrite=False, threads=None):
    """No mirror at all."""
    return _by_fft(source, symbol)


INVERSES = {"right": None, "4π for 4π²": four_pi, "double size": double_size, "periodic": periodic}
