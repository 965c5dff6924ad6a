import numpy as np
import pytest

from tests.manufactured import speckle
from xmist.numerics.preconditioner import Prior, moments
from xmist.numerics.strength import estimate_strength, power_over_rings
from xmist.numerics.transport import PSI, D, Transport
from xmist.numerics.whole_image import solve, to_cosines

SHAPE = (128, 144)


@pytest.mark.parametrize("alpha", [3.0, 30.0])
def test_strength_of_a_field_that_the_prior_describes(alpha):
    """Fields drawn from the prior itself, with white noise on the frames: its α comes back."""
    rng = np.random.default_rng(1)
    frames = speckle(rng, 6, SHAPE)
    sigma = 0.003
    prior = Prior(strength=alpha, order=1.5, floor=1e-6)
    spectrum = sigma / np.sqrt(prior.precision(SHAPE))
    spectrum[0, 0] = 0.0
    d = to_cosines((spectrum * rng.normal(size=SHAPE))[None], inverse=True)[0]
    transport = Transport(frames=frames, kinds=(PSI, D))
    data = transport.forward(np.stack([0 * d, d])) + sigma * rng.normal(size=frames.shape)
    weak = (Prior(), Prior(strength=0.1 * alpha, order=1.5, floor=1e-6))

    def cosines(images):
        fields, _ = solve(transport, images, weak, negligible=lambda objective: 0.0, relative=1e-8)
        return to_cosines(fields)[1]

    found = estimate_strength(
        cosines(data),
        (PSI, D),
        moments(frames),
        weak,
        1,
        noise=power_over_rings(cosines(rng.normal(size=frames.shape))),
    )
    # Some hundred modes stand out of the noise: α is known to some tens of per cent.
    assert 0.4 < found / alpha < 2.5


def test_nothing_stands_out():
    zero = np.zeros((64, 64))
    weak = (Prior(), Prior(strength=1.0, order=1.5))
    frames = speckle(np.random.default_rng(2), 2, (64, 64))
    noise = np.random.default_rng(3).normal(size=(64, 64))
    assert estimate_strength(
        zero, (PSI, D), moments(frames), weak, 1, noise=power_over_rings(noise)
    ) == float("inf")
