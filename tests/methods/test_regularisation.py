"""Ridge and cut-off that the frames choose."""

from importlib import import_module

import numpy as np
import pytest

import xmist
from tests.implicit import (
    PHASE,
    SCATTER,
    cosine_gradient,
    dx,
    dxx,
    dy,
    dyy,
    psi,
    references,
    relative,
    scatter,
)
from tests.manufactured import EXPERIMENT, laplacian2
from xmist.core.options import describe
from xmist.methods.implicit.regularisation import choose_cutoff
from xmist.numerics.solvers.poisson import dct2, inverse_laplacian

NAMES = {
    name: [option.name for option in describe(import_module(method.module).OPTIONS)]
    for name, method in xmist.METHODS.items()
    if "implicit" in method.module
}
CASES = {"mist": 2, "mist-attenuating": 2, "mist-directional": 4, "mist-rapid": 4}


def _frames(positions, noise, shape=(60, 84)):
    d, curvature = scatter(shape), laplacian2(psi(shape))
    reference = references(positions, shape)
    sample = np.stack([r - r * curvature + d * (dxx(r) + dyy(r)) for r in reference])
    return reference, sample + noise * np.random.default_rng(1).normal(size=sample.shape)


def _automatic(method):
    """Return "auto" for the options that can be chosen from the frames."""
    return {name: "auto" for name in ("ridge", "cutoff_length") if name in NAMES[method]}


def _retrieve(method, frames, **options):
    return xmist.retrieve(xmist.SpeckleStack(*frames), EXPERIMENT, method=method, **options)


@pytest.mark.parametrize(("method", "least"), CASES.items(), ids=CASES.keys())
def test_noise_is_ruled_and_the_choice_can_be_repeated(method, least):
    frames = _frames(least, 0.01)
    plain, chosen = (_retrieve(method, frames, **choice) for choice in ({}, _automatic(method)))
    exact = SCATTER * scatter()
    # N equations for N unknowns: some pixels hold noise of many times D, which any ridge rules.
    assert relative(chosen.dark_field, exact) < 0.5 * relative(plain.dark_field, exact)
    if method in ("mist", "mist-directional"):  # what the others drop rules their φ on these frames
        assert relative(chosen.phase, PHASE * psi()) < relative(plain.phase, PHASE * psi())
    record = chosen.provenance["regularisation"]
    assert record["ridge"] > 0
    repeated = _retrieve(method, frames, **record)
    for name, array in chosen.channels():  # the ridge, times its unit and back, is off by a rounding
        assert np.allclose(array, getattr(repeated, name), rtol=1e-4, atol=1e-5 * np.abs(array).max()), name
    assert np.array_equal(repeated.flags, chosen.flags)


def test_shift_and_scatter_are_weighed_against_each_other():
    u = cosine_gradient(psi())
    reference = references(4)
    sample = np.stack([r - u[0] * dx(r) - u[1] * dy(r) + scatter() * (dxx(r) + dyy(r)) for r in reference])
    frames = reference, sample + 3e-3 * np.random.default_rng(1).normal(size=sample.shape)
    plain, chosen = (_retrieve("lcs", frames, **choice) for choice in ({}, {"ridge": "auto"}))
    exact = SCATTER * scatter()
    assert chosen.provenance["regularisation"]["ridge"] > 0
    assert relative(chosen.dark_field, exact) < 0.5 * relative(plain.dark_field, exact)
    assert relative(chosen.shift, np.stack(u)) < relative(plain.shift, np.stack(u))


def test_wide_structures_without_noise_are_left_nearly_alone():
    shape = (160, 224)
    result = _retrieve("mist", _frames(12, 0.0, shape), **_automatic("mist"))
    assert result.provenance["regularisation"]["cutoff_length"] is None
    # The stable D, averaged over 8 pixels, is flatter by (8/w)² of a structure of width w = 34 at its top: as
    # much damping cannot be told from it.
    assert relative(result.dark_field, SCATTER * scatter(shape)) <= (8 / 34) ** 2
    assert relative(result.phase - result.phase.mean(), PHASE * psi(shape)) <= 0.02


@pytest.mark.parametrize("method", ["mist", "optical-flow"])
def test_choices_do_not_depend_on_threads(method):
    frames = _frames(4, 0.01)
    results = [_retrieve(method, frames, **_automatic(method), threads=threads) for threads in (1, 5)]
    assert results[0].provenance["regularisation"] == results[1].provenance["regularisation"]
    for name, array in results[0].channels():
        assert np.array_equal(array, getattr(results[1], name)), name


def test_halves_of_one_position_cannot_judge_noise():
    # What differs between them is the curl that each drops, and no noise.
    for positions in (1, 3):
        result = _retrieve("optical-flow", _frames(positions, 0.01), cutoff_length="auto")
        assert result.provenance["regularisation"] == {"cutoff_length": None}
    result = _retrieve("optical-flow", _frames(4, 0.01), cutoff_length="auto")
    assert result.provenance["regularisation"]["cutoff_length"] > 0


def _waves(shape, level, seed):
    """An image whose cosine coefficients have a standard deviation each."""
    return dct2(level * np.random.default_rng(seed).normal(size=shape), inverse=True)


@pytest.mark.parametrize("corner", [0.1, 0.3])
def test_cutoff_takes_away_more_noise_than_phase(corner):
    # White ψ of power 1 has a curvature of power κ⁴; noise of power corner⁴ rules below κ = corner.
    shape = (128, 160)
    kappa = np.hypot(*np.ix_(*[np.pi * np.arange(size) / size for size in shape]))
    signal = _waves(shape, kappa**2, 1)
    one, other = (signal + _waves(shape, np.sqrt(2) * corner**2, seed) for seed in (2, 3))
    measured = (one + other) / 2
    epsilon = choose_cutoff(measured, one, other, threads=2)
    exact = inverse_laplacian(signal, symbol="spectral")
    plain, cut = (inverse_laplacian(measured, symbol="spectral", epsilon=e) for e in (0.0, epsilon))
    # How much is chance: the longest wave has corner⁴/κ⁴ of noise, (0.1/0.02)⁴ or more, and is a single draw.
    assert relative(cut, exact) < 0.9 * relative(plain, exact)
    assert choose_cutoff(signal, signal, signal, threads=2) is None


def test_ridge_and_cutoff_are_chosen_each_by_itself():
    frames = _frames(6, 0.01)
    both = _retrieve("mist", frames, ridge="auto", cutoff_length="auto").provenance["regularisation"]
    ridge = _retrieve("mist", frames, ridge="auto", cutoff_length=1e-3)
    assert ridge.provenance["regularisation"] == {"ridge": both["ridge"]}
    given = _retrieve("mist", frames, ridge=both["ridge"], cutoff_length="auto")
    assert list(given.provenance["regularisation"]) == ["cutoff_length"]
    assert np.isclose(given.provenance["regularisation"]["cutoff_length"], both["cutoff_length"])
