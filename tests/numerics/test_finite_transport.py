import numpy as np
import pytest
import scipy.ndimage as ndi

from tests.manufactured import blob, speckle
from xmist.numerics.operators.derivatives import DX, DY, derivative
from xmist.numerics.operators.finite_transport import Warp, diffuse
from xmist.numerics.operators.transport import D_XX, D_XY, D_YY, PSI, D, Transport

SHAPE = (60, 76)
IMAGE = speckle(np.random.default_rng(1), 1, SHAPE, grain=2.0)[0]


def _flow(psi):
    return np.stack([derivative(psi, kind) for kind in (DX, DY)])


def test_warp_by_whole_pixels_shifts():
    u = np.zeros((2, *SHAPE))
    u[0], u[1] = 3.0, -2.0
    found = Warp.of(u)(IMAGE)
    assert np.allclose(found[5:-5, 5:-5], np.roll(IMAGE, (-2, 3), (0, 1))[5:-5, 5:-5], atol=1e-12)


def test_warp_samples_as_scipy_does():
    u = _flow(12 * blob(SHAPE, 0.5, 0.45, 0.3))
    warp = Warp.of(u)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    expected = ndi.map_coordinates(IMAGE, [y - warp.back[1], x - warp.back[0]], order=5, mode="reflect")
    assert np.abs(warp(IMAGE) - warp.jacobian * expected).max() <= 1e-13


def test_warp_conserves_the_sum():
    u = _flow(12 * blob(SHAPE, 0.5, 0.45, 0.2))
    warped = Warp.of(u)(IMAGE)
    assert np.abs(warped - IMAGE).max() > 0.05
    # Bilinear inversion of a flow that varies over 12 pixels errs by u''/8, some 1e-3 pixel, where the image
    # changes by a quarter a pixel.
    assert warped.sum() == pytest.approx(IMAGE.sum(), rel=5e-4)


def test_fine_bright_speckles_move_as_far_as_they_should():
    # Spots of σ = half a pixel, and the same moved by a pixel of the grid they are made on.
    random, fine, size = np.random.default_rng(0), 5, 64
    grid = (size * fine, size * fine)
    spots = np.where(random.random(grid) < 0.05 / fine**2, random.exponential(size=grid), 0.0)
    spots = ndi.gaussian_filter(spots, 0.5 * fine, mode="wrap")
    light = 0.2 * spots.mean() + spots

    def averaged(image):
        return image.reshape(size, fine, size, fine).mean((1, 3))

    reference, moved = averaged(light), averaged(np.roll(light, 1, 1))
    u = np.zeros((2, size, size))
    u[0] = 1.0 / fine
    warp, inner = Warp.of(u), np.s_[8:-8, 8:-8]

    def missing(model):
        slope, weight = derivative(model, DX)[inner], 1.0 / moved[inner]
        return -(weight * slope * (moved - model)[inner]).sum() / (weight * slope**2).sum()

    # The spots' root is √2 times as wide as they are: of a wave of 0.8 of the highest frequency that pixels
    # resolve, with exp(−(0.8π/2)²/2) of its amplitude, splines of the root see the square, 0.2 → 0.04.
    assert abs(missing(warp.intensity(reference))) < 0.05 * u[0, 0, 0]
    assert abs(missing(warp(reference))) > 0.1 * u[0, 0, 0]
    assert warp.intensity(reference).min() > 0.0


def test_intensity_without_displacement_is_the_frame_itself():
    frame = IMAGE - IMAGE.mean()  # also where it is negative
    still = Warp.of(np.zeros((2, *SHAPE)))
    assert np.abs(still.intensity(frame) - frame).max() <= 1e-12 * np.abs(frame).max()


def test_first_order_is_the_transport_operator():
    psi, d = blob(SHAPE, 0.5, 0.4, 0.3), 0.3 * blob(SHAPE, 0.4, 0.6, 0.3)
    transport = Transport(frames=IMAGE[None], kinds=(PSI, D))
    left = []
    for size in (0.1, 0.05):
        finite = diffuse(Warp.of(_flow(size * psi))(IMAGE), {D: size * d}) - IMAGE
        linear = transport.forward(size * np.stack([psi, d]))[0]
        left.append(np.abs(finite - linear)[4:-4, 4:-4].max() / size)
    # The stencils' own difference stays (second order, a few 1e-3 of the change); the rest falls with size.
    change = np.abs(transport.forward(np.stack([psi, d]))[0]).max()
    assert left[1] <= 0.03 * change
    assert left[1] < left[0]


def test_diffusion_adds_its_variance_to_a_spot():
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float)
    spot = np.exp(-((y - 30) ** 2 + (x - 38) ** 2) / (2 * 2.5**2))
    fields = {D_XX: np.full(SHAPE, 0.4), D_YY: np.full(SHAPE, 0.1), D_XY: np.full(SHAPE, 0.15)}
    blurred = diffuse(spot, fields)

    def second(image, a, b):
        return (image * a * b).sum() / image.sum()

    for a, b, expected in ((x - 38, x - 38, 0.8), (y - 30, y - 30, 0.2), (x - 38, y - 30, 0.3)):
        # σ_ij = 2 d_ij exactly, whatever the steps; the spot's tail at the border is 1e-9.
        assert second(blurred, a, b) - second(spot, a, b) == pytest.approx(expected, abs=1e-6)


def test_scalar_diffusion_is_the_isotropic_tensor():
    d = 0.3 * blob(SHAPE, 0.5, 0.5, 0.3)
    assert np.allclose(diffuse(IMAGE, {D: d}), diffuse(IMAGE, {D_XX: d, D_YY: d}), atol=1e-12)


def test_threads_do_not_matter():
    warp = Warp.of(_flow(5 * blob(SHAPE, 0.5, 0.45, 0.3)), threads=1)
    other = Warp.of(_flow(5 * blob(SHAPE, 0.5, 0.45, 0.3)), threads=8)
    assert np.array_equal(warp(IMAGE), other(IMAGE))


def test_a_blur_that_is_too_large_for_the_precision_is_no_warning():
    # A trial step of a fit may go that far; warnings of Python are errors in tests.
    image = np.full((8, 8), 1e38, np.float32)
    image[4, 4] = 0.0
    found = diffuse(image, {D: np.full((8, 8), 10.0, np.float32)}, threads=1)
    assert not np.isfinite(found).all()
