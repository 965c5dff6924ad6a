import numpy as np
import pytest

from tests.manufactured import speckle
from xmist.numerics.operators.transport import LOG_T, PSI, D, Transport
from xmist.numerics.solvers.preconditioner import Moments, Prior, moments
from xmist.numerics.solvers.prior_strength import (
    estimate_strength,
    least_error_strength,
    power_over_rings,
)
from xmist.numerics.solvers.whole_image import Right, Solver, to_cosines

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
        fields, _ = Solver(transport, weak)(images, negligible=lambda objective: 0.0, relative=1e-8)
        return to_cosines(fields)[1]

    found = estimate_strength(
        cosines(data),
        (PSI, D),
        moments(frames),
        weak,
        1,
        noise=power_over_rings(cosines(rng.normal(size=frames.shape))),
        orders=[1.5],
    )[0].strength
    # Some hundred modes stand out of the noise: α is known to some tens of per cent.
    assert 0.4 < found / alpha < 2.5


def test_nothing_stands_out():
    zero = np.zeros((64, 64))
    weak = (Prior(), Prior(strength=1.0, order=1.5))
    frames = speckle(np.random.default_rng(2), 2, (64, 64))
    noise = np.random.default_rng(3).normal(size=(64, 64))
    found = estimate_strength(
        zero, (PSI, D), moments(frames), weak, 1, noise=power_over_rings(noise), orders=[1.5, 2.0]
    )
    assert [one.strength for one in found] == [float("inf")] * 2


@pytest.mark.parametrize("order", [1.5, 2.0, 2.5])
def test_order_of_a_field_that_the_prior_describes(order):
    """The likeliest order is the one that the field was drawn with: 1000 modes stand out of the noise."""
    rng = np.random.default_rng(4)
    prior = Prior(strength=1.0, order=order)
    precision = prior.precision(SHAPE)
    precision[0, 0] = np.inf
    signal, noise, other = rng.normal(size=(3, *SHAPE))
    estimate = signal / np.sqrt(0.02 * precision) + noise
    weak = (Prior(strength=1e-9),)
    found = estimate_strength(
        estimate,
        (LOG_T,),
        Moments(1.0, 0.0, 0.0),
        weak,
        0,
        noise=power_over_rings(other),
        orders=[1.5, 2.0, 2.5],
    )
    best = min(found, key=lambda one: one.deviance)
    assert best.order == order
    # α in units of the noise; its relative error is some √(2/1000), and that of the rings' centres.
    assert best.strength == pytest.approx(0.02, rel=0.3)


def test_weak_priors_of_another_order_are_alike_where_they_cross():
    prior = Prior(strength=2.0, order=1.5, floor=0.1)
    other = prior.of_order(2.5, 0.35)
    assert (other.order, other.floor) == (2.5, 0.1)
    assert other.strength * 0.35**5.0 == pytest.approx(2.0 * 0.35**3.0)


def read_strength(transport, data, white, *, first=10.0):
    """Return the strength for d from an estimate with α = `first`, and the solver that made it."""
    priors = (Prior(), Prior(strength=first, order=1.5, floor=1e-6))

    def solve(images, priors=priors):
        return Solver(transport, priors)(images, negligible=lambda objective: 0.0, relative=1e-8)[0][1]

    estimate = solve(data)
    cosines = to_cosines(np.stack([estimate, solve(white)]))
    strength = least_error_strength(
        cosines[0],
        priors[1],
        noise=power_over_rings(cosines[1]),
        determined=power_over_rings(cosines[1], Right.of(transport, white).coefficients[1]),
        left=1.0,
        square=float(np.mean(estimate**2)),
    )
    return strength, lambda alpha: solve(data, (Prior(), Prior(strength=alpha, order=1.5, floor=1e-6)))


@pytest.mark.parametrize("alpha", [3.0, 10.0, 30.0])
def test_strength_of_least_error_of_a_field_that_the_prior_describes(alpha):
    """Read from an estimate with α = 10, and knowing the noise only from the estimate itself."""
    rng = np.random.default_rng(1)
    frames = speckle(rng, 6, SHAPE)
    sigma = 0.003
    drawn = sigma / np.sqrt(Prior(strength=alpha, order=1.5, floor=1e-6).precision(SHAPE))
    drawn[0, 0] = 0.0
    d = to_cosines((drawn * rng.normal(size=SHAPE))[None], inverse=True)[0]
    transport = Transport(frames=frames, kinds=(PSI, D))
    data = transport.forward(np.stack([0 * d, d])) + sigma * rng.normal(size=frames.shape)
    found, _ = read_strength(transport, data, rng.normal(size=frames.shape))
    # What is known before the data counts as much as the coefficients that decide: a factor of 3 at most.
    assert 1 / 3 < found / alpha < 3


@pytest.mark.parametrize("first", [3.0, 10.0])
def test_strength_of_least_error_of_compact_objects(first):
    """The spectrum of seeds is flat, then falls steeply: no power of κ describes it."""
    rng = np.random.default_rng(3)
    shape = (96, 96)
    frames = speckle(rng, 2, shape)
    y, x = np.indices(shape)
    d = sum(np.exp(-((y - a) ** 2 + (x - b) ** 2) / 50.0) for a, b in rng.uniform(20.0, 76.0, (5, 2)))
    transport = Transport(frames=frames, kinds=(PSI, D))
    data = transport.forward(np.stack([0 * d, 0.1 * d])) + 0.01 * rng.normal(size=frames.shape)
    found, solve = read_strength(transport, data, rng.normal(size=frames.shape), first=first)

    def error(alpha):
        return np.sqrt(np.mean((solve(alpha) - 0.1 * d) ** 2))

    least = min(error(alpha) for alpha in (0.1, 0.3, 1.0))
    assert error(found) < 1.1 * least < error(first)


def test_strength_of_least_error_does_not_depend_on_the_unit():
    rng = np.random.default_rng(2)
    cosines, noise = rng.normal(size=(2, *SHAPE))
    about = {"noise": power_over_rings(noise), "determined": power_over_rings(noise, 30.0 * noise)}
    prior = Prior(strength=10.0, order=1.5)
    one = least_error_strength(cosines, prior, **about, left=0.5, square=1.0)
    # Data c times as large: estimate c times, its mean square c² times.
    other = least_error_strength(7 * cosines, prior, **about, left=0.5, square=49.0)
    assert other == pytest.approx(one, rel=1e-9)


def test_nothing_to_read_a_strength_from():
    zero = np.zeros(SHAPE)
    rings = power_over_rings(zero)
    prior = Prior(strength=10.0, order=1.5)
    found = least_error_strength(zero, prior, noise=rings, determined=rings, left=1.0, square=0.0)
    assert found == float("inf")
