import numpy as np
import pytest

from xmist.numerics.operators.finite_model import linearise
from xmist.numerics.operators.transport import LOG_T, PSI, D, Transport
from xmist.numerics.weights import Weights

SHAPE = (3, 21, 34)
KINDS = (PSI, D, LOG_T)


def _some(largest):
    rng = np.random.default_rng(1)
    weights = np.exp(rng.uniform(0.0, np.log(largest), SHAPE)).astype(np.float32)
    weights[rng.random(SHAPE) < 0.1] = 0.0
    return weights


@pytest.mark.parametrize("largest", [1.0, 20.0, 1e30])
@pytest.mark.parametrize("unit", [1.0, 1e-20])
def test_codes_stand_for_weights_to_half_a_step(largest, unit):
    weights = _some(largest) * np.float32(unit)
    coded = Weights.of(weights)
    found = np.array(list(coded))
    assert found.dtype == np.float32
    assert np.array_equal(found == 0.0, weights == 0.0)
    assert coded.count() == np.count_nonzero(weights)
    # 254 steps span the octaves, a float's bits grow by 2²³ in each, and by a part 1 at most relative to it.
    used = weights > 0
    bound = 0.5 * (np.log2(largest) + 2.0**-10) / 254 * 1.01
    assert (np.abs(found / np.where(used, weights, 1.0) - 1.0)[used]).max() <= bound
    assert found[used].min() == weights[used].min()


def test_one_weight_and_none():
    assert np.array_equal(list(Weights.of(np.full(SHAPE, 0.7))), np.full(SHAPE, np.float32(0.7)))
    assert not Weights.of(np.zeros(SHAPE)).count()


def test_the_operator_reads_codes_as_weights():
    rng = np.random.default_rng(2)
    frames, images = rng.uniform(1, 2, SHAPE), rng.normal(size=SHAPE)
    fields = rng.normal(size=(3, *SHAPE[1:]))
    coded = Weights.of(_some(20.0))
    one = Transport(frames=frames, kinds=KINDS, weights=coded)
    other = Transport(frames=frames, kinds=KINDS, weights=np.array(list(coded), np.float64))
    assert np.array_equal(one.normal(fields), other.normal(fields))
    assert np.array_equal(one.adjoint(images), other.adjoint(images))


def test_a_copy_lets_weights_be_taken():
    weights = Weights.of(_some(20.0))
    number, copy = weights.count(), weights.copy()
    copy.codes[:] = 0
    assert (weights.count(), copy.count(), weights.part(1).shape) == (number, 0, (1, *SHAPE[1:]))


@pytest.mark.parametrize("threads", [1, 3])
def test_positions_add_up_to_the_adjoint(threads):
    rng = np.random.default_rng(3)
    transport = Transport(
        frames=rng.uniform(1, 2, SHAPE), kinds=KINDS, weights=Weights.of(_some(20.0)), threads=threads
    )
    images, out = rng.normal(size=SHAPE), np.ones((3, *SHAPE[1:]))
    for n, image in enumerate(images):
        transport.gather(n, image, out)
    # Some hundred terms of about 10.
    assert np.abs(out - 1.0 - transport.adjoint(images)).max() <= 1e-11


@pytest.mark.parametrize("size", [0.0, 2.0])
def test_what_is_forgotten_is_made_anew(size):
    rng = np.random.default_rng(4)
    frames = rng.uniform(1, 2, SHAPE)
    fields = size * rng.normal(size=(3, *SHAPE[1:])) * 0.01
    _, residual = linearise(frames, 2.0 * frames, KINDS, fields, smoothing=2.0, unit=2.0)
    first = np.asarray(residual)
    residual.forget()
    assert np.array_equal(residual[1], first[1])
    assert (len(residual), residual.shape) == (3, SHAPE)
    assert np.any(first) == (size > 0.0)
