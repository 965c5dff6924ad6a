import numpy as np
import pytest

from tests.manufactured import speckle
from xmist.numerics.images.border_shift import border_potential, border_shift

SHAPE = (96, 128)


def _speckles(x, y, positions=2):
    """Frames that are a sum of waves of 6 to 12 pixels, at any point."""
    rng = np.random.default_rng(3)
    out = []
    for _ in range(positions):
        angle, length = rng.uniform(0, 2 * np.pi, 24), rng.uniform(6, 12, 24)
        waves = zip(angle, 2 * np.pi / length, rng.uniform(0, 2 * np.pi, 24), strict=True)
        out.append(1.5 + sum(np.cos(k * (np.cos(a) * x + np.sin(a) * y) + b) for a, k, b in waves) / 15)
    return np.stack(out)


def _moved(sides, noise=0.0):
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float)
    left, right, upper, lower = sides
    u_x = left + (right - left) * (x + 0.5) / SHAPE[1]
    u_y = upper + (lower - upper) * (y + 0.5) / SHAPE[0]
    frames = np.stack([_speckles(x, y), _speckles(x - u_x, y - u_y)])
    return frames + noise * np.random.default_rng(4).normal(size=frames.shape)


@pytest.mark.parametrize("sides", [(0.2, 0.2, 0, 0), (-0.3, 0.3, 0.1, -0.1), (0, 0, -0.4, -0.2)])
def test_shifts_of_the_sides(sides):
    found = border_shift(*_moved(sides), None)
    # What is left out: u² κ²/24 of u = 0.4 and waves of 6 pixels is 1 %; no mirror is used.
    assert np.abs(found - np.array(sides)).max() <= 0.02


def test_noise_is_no_shift_and_a_dead_pixel_counts_for_nothing():
    reference, sample = _moved((0, 0, 0, 0), noise=0.01)
    assert not border_shift(reference, sample, None).any()
    good = np.ones(reference.shape, bool)
    good[0, :, 3], good[1, 5] = False, False
    reference, sample = _moved((0.2, 0.1, 0.1, -0.1), noise=0.003)
    usual = border_shift(reference, sample, good)
    assert (usual != 0).all()
    for value in (np.nan, 1e9):
        assert np.array_equal(border_shift(reference, np.where(good, sample, value), good), usual)


@pytest.mark.parametrize("seed", [22, 23, 51, 78])
def test_parts_of_a_side_that_scatter_little_by_chance_are_no_shift(seed):
    # Four parts a side; their scatter alone makes a shift of every thirtieth pair of such frames.
    rng = np.random.default_rng(seed)
    clean = speckle(rng, 2, (64, 64), grain=2.5)
    reference, sample = (clean + 0.3 * rng.normal(size=clean.shape) for _ in range(2))
    assert not border_shift(reference, sample, None).any()


def test_potential_has_the_slopes_at_the_borders():
    sides = np.array([0.2, -0.1, 0.3, 0.05])
    psi = border_potential(sides, SHAPE)
    assert abs(psi.mean()) <= 1e-12
    along_y, along_x = np.gradient(psi, edge_order=2)
    # Half a pixel inside the border.
    assert np.allclose(along_x[:, [0, -1]], sides[:2] + np.array([-0.3, 0.3]) * 0.5 / SHAPE[1])
    assert np.allclose(along_y[[0, -1]].T, sides[2:] + np.array([-0.25, 0.25]) * 0.5 / SHAPE[0])


def test_a_sample_that_begins_at_the_border_is_no_shift_through_it():
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float)
    u = 0.5 * np.sin(np.pi * (x + 0.5) / SHAPE[1]) ** 2
    assert not border_shift(_speckles(x, y), _speckles(x - u, y), None).any()
