import numpy as np
import pytest
import scipy.fft

from xmist.numerics.operators.stencils import laplacian
from xmist.numerics.solvers.poisson import dct2, inverse_laplacian, screened


@pytest.mark.parametrize("shape", [(20, 30), (129, 65)])
def test_stencil_inverse_is_exact(shape):
    u = np.random.default_rng(1).normal(size=shape)
    u -= u.mean()
    assert np.abs(inverse_laplacian(laplacian(u)) - u).max() <= 1e-10


def test_spectral_inverse_of_cosines():
    ny, nx = 48, 80
    y, x = np.arange(ny)[:, None] + 0.5, np.arange(nx)[None, :] + 0.5
    ky, kx = np.pi * 5 / ny, np.pi * 7 / nx
    u = np.cos(ky * y) * np.cos(kx * x)
    found = inverse_laplacian(-(ky**2 + kx**2) * u, symbol="spectral")
    assert np.abs(found - u).max() <= 1e-10


def test_paraboloid_of_known_curvature():
    # ∇²(c r²/2) = 2c: the border's flux is what the mirror asks for, so the source is the stencil's own
    # image of a paraboloid; inside it is the constant 2c. A stray 2π or π would show as a factor.
    y, x = np.mgrid[:41, :61].astype(float)
    c = 0.37
    paraboloid = 0.5 * c * ((y - 20) ** 2 + (x - 30) ** 2)
    source = laplacian(paraboloid)
    assert np.allclose(source[1:-1, 1:-1], 2 * c)
    found = inverse_laplacian(source)
    assert np.abs(found - (paraboloid - paraboloid.mean())).max() <= 1e-10 * paraboloid.max()


def test_cutoff_damps_by_the_stated_factor():
    n = 64
    x = np.arange(n) + 0.5
    for mode in (1, 4, 16):
        kappa = np.pi * mode / n
        epsilon = 2 * np.pi / 30.0
        source = np.tile(np.cos(kappa * x), (16, 1))
        found = inverse_laplacian(source, symbol="spectral", epsilon=epsilon)
        assert np.allclose(found, -source * kappa**2 / (kappa**4 + epsilon**4), atol=1e-10)


@pytest.mark.parametrize("length2", [0.0, 0.3, 40.0])
def test_screened_inverts_its_stencil(length2):
    u = np.random.default_rng(2).normal(size=(33, 47))
    assert np.abs(screened(u - length2 * laplacian(u), length2) - u).max() <= 1e-10


def test_screened_spectral():
    n = 32
    kappa = np.pi * 3 / n
    u = np.tile(np.cos(kappa * (np.arange(n) + 0.5)), (9, 1))
    assert np.abs(screened(u * (1 + 7.0 * kappa**2), 7.0, symbol="spectral") - u).max() <= 1e-10


def test_inputs_stay_as_they_were():
    source = np.random.default_rng(3).normal(size=(12, 15))
    source.flags.writeable = False
    before = source.copy()
    inverse_laplacian(source)
    screened(source, 2.0)
    assert np.array_equal(source, before)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bits_do_not_depend_on_threads(dtype):
    source = np.random.default_rng(4).normal(size=(150, 203)).astype(dtype)
    one = inverse_laplacian(source, threads=1)
    assert one.dtype == dtype
    for threads in (2, 8):
        assert np.array_equal(one, inverse_laplacian(source, threads=threads))


def test_transform_is_that_of_scipy():
    image = np.random.default_rng(5).normal(size=(70, 90))
    assert np.allclose(dct2(image.copy()), scipy.fft.dctn(image, norm="ortho"), atol=1e-12)
