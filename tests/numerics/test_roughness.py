import numpy as np
import pytest

from xmist.numerics.operators.roughness import add_roughness, random_force

INSIDE, EMPTY = 0.3, 5.0


def _made(shape):
    rng = np.random.default_rng(1)
    return rng.normal(size=shape), rng.normal(size=shape), rng.uniform(size=shape) < 0.2


def _applied(field, mask, threads=None):
    out = np.zeros(field.shape)
    total = add_roughness(field, mask, out, inside=INSIDE, empty=EMPTY, threads=threads)
    return out, total


def _by_hand(field, mask):
    differences = (
        np.diff(field, 3, axis=1),
        np.diff(field, 3, axis=0),
        np.diff(np.diff(field, 2, axis=1), axis=0),
        np.diff(np.diff(field, 2, axis=0), axis=1),
    )
    pairs = (
        mask[:, 1:-2] | mask[:, 2:-1],
        mask[1:-2] | mask[2:-1],
        mask[:-1, 1:-1] | mask[1:, 1:-1],
        mask[1:-1, :-1] | mask[1:-1, 1:],
    )
    parts = zip((1, 1, 3, 3), pairs, differences, strict=True)
    return sum(times * (np.where(pair, EMPTY, INSIDE) * part**2).sum() for times, pair, part in parts)


@pytest.mark.parametrize("shape", [(11, 13), (70, 150), (3, 3), (2, 5)])
def test_matrix_and_energy(shape):
    one, other, mask = _made(shape)
    applied, total = _applied(one, mask)
    assert total == pytest.approx(_by_hand(one, mask), rel=1e-12)
    assert (applied * one).sum() == pytest.approx(total, rel=1e-12, abs=1e-12)
    back, _ = _applied(other, mask)
    assert (applied * other).sum() == pytest.approx((back * one).sum(), rel=1e-9, abs=1e-9)
    assert np.array_equal(_applied(one, mask, threads=3)[0], applied)


def test_polynomials_of_the_second_degree_cost_nothing():
    y, x = np.mgrid[:40, :50].astype(float)
    applied, total = _applied(0.3 * x**2 - 0.2 * x * y + y**2 + 3 * x, np.ones(x.shape, bool))
    # Rounding of numbers of a thousand, eight times in a difference.
    assert total < 1e-15
    assert np.abs(applied).max() < 1e-9


def test_away_from_the_border_the_symbol_is_the_cube_of_the_laplacians():
    y, x = np.mgrid[:40, :48].astype(float)
    wave = np.cos(0.7 * x + 0.4 * y)
    out = np.zeros(wave.shape)
    add_roughness(wave, np.zeros(wave.shape, bool), out, inside=1.0, empty=1.0)
    symbol = 4 * np.sin(0.35) ** 2 + 4 * np.sin(0.2) ** 2
    assert np.allclose(out[4:-4, 4:-4], symbol**3 * wave[4:-4, 4:-4], atol=1e-12)


def test_random_forces_have_the_matrix_as_covariance():
    field, _, mask = _made((8, 9))
    rng = np.random.default_rng(2)
    drawn = [(field * random_force(rng, mask, inside=INSIDE, empty=EMPTY)).sum() for _ in range(4000)]
    # The variance of 4000 draws is known to 2.2 %; four times that.
    assert np.var(drawn) == pytest.approx(_applied(field, mask)[1], rel=0.09)
