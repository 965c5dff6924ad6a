import numpy as np
import pytest
import scipy.ndimage as ndi

from tests.manufactured import laplacian2
from xmist.numerics.operators.staggered_gradient import add_flow, staggered_divergence

SHAPE = (23, 31)


def _flow(potential, frame, weights=None, threads=None):
    flow, total = np.zeros((2, *SHAPE), frame.dtype), np.zeros((2, *SHAPE), frame.dtype)
    add_flow(potential, frame, flow, total, weights=weights, threads=threads)
    return flow, total


def test_divergence_of_differences_is_the_five_point_laplacian():
    u = np.random.default_rng(0).normal(size=SHAPE)
    flow, total = _flow(u, np.ones(SHAPE))
    assert np.allclose(staggered_divergence(flow), laplacian2(u), atol=1e-13)
    # No flux leaves: the last faces are outside.
    assert not flow[0, :, -1].any()
    assert not flow[1, -1].any()
    assert np.allclose(total[0, :, :-1], 1)
    assert np.allclose(total[1, :-1], 1)


def test_the_checkerboard_is_seen():
    y, x = np.indices(SHAPE)
    board = (-1.0) ** (x + y)
    flow, _ = _flow(board, np.ones(SHAPE))
    # Gradients of width 2 would give 0 inside.
    assert np.allclose(staggered_divergence(flow)[1:-1, 1:-1], -8 * board[1:-1, 1:-1])


@pytest.mark.parametrize("axis", [0, 1])
def test_faces_are_interpolated_to_sixth_order(axis):
    errors = []
    for wavelength in (10.0, 20.0):
        place = np.indices(SHAPE)[axis].astype(float)
        wave = 2 + np.sin(2 * np.pi * place / wavelength)
        total = _flow(np.zeros(SHAPE), wave)[1][1 - axis]
        exact = 2 + np.sin(2 * np.pi * (place + 0.5) / wavelength)
        inside = (slice(4, -4), slice(4, -4))
        errors.append(np.abs(total[inside] - exact[inside]).max())
    assert 5.5 < np.log2(errors[0] / errors[1]) < 6.5


def test_next_to_a_step_a_face_stays_positive():
    frame = np.full(SHAPE, 0.01)
    frame[:, 15] = 100.0  # the interpolation would give about −10 two pixels away
    flow, total = _flow(np.tile(np.arange(31.0), (23, 1)), frame)
    assert (total[0, :, :-1] > 0).all()
    assert total[0, 5, 13] == pytest.approx(0.01)  # the mean of the two pixels
    assert np.allclose(flow[0, :, :-1], 1)


def test_weights_and_sums():
    rng = np.random.default_rng(1)
    u, frame, weights = (rng.uniform(1, 2, SHAPE) for _ in range(3))
    plain, weighted = _flow(u, frame), _flow(u, frame, weights)
    for axis, faces in ((1, np.s_[0, :, :-1]), (0, np.s_[1, :-1])):
        smaller = ndi.minimum_filter1d(weights, 2, axis=axis, origin=-1)
        smaller = smaller[:, :-1] if axis == 1 else smaller[:-1]
        for a, b in zip(plain, weighted, strict=True):
            assert np.allclose(b[faces], smaller * a[faces], rtol=1e-13)
    add_flow(u, frame, *plain, threads=2)
    assert np.allclose(plain[0], 2 * _flow(u, frame)[0])


def test_threads_do_not_matter():
    rng = np.random.default_rng(2)
    u, frame = (rng.uniform(1, 2, SHAPE).astype(np.float32) for _ in range(2))
    one, many = _flow(u, frame, threads=1), _flow(u, frame, threads=4)
    assert np.array_equal(one[0], many[0])
    assert np.array_equal(staggered_divergence(one[0], threads=1), staggered_divergence(one[0], threads=4))
