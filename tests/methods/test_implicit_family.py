"""What every implicit method has to hold to, whatever it solves for."""

import numpy as np
import pytest

import xmist
from tests.coded import coded
from tests.implicit import cosine_gradient, dx, dxx, dxy, dy, dyy, psi, scatter, scatter_tensor
from tests.manufactured import EXPERIMENT, laplacian2, speckle
from xmist.core import flags as flag
from xmist.methods.common.frames import check_frames

CASES = {
    "mist-attenuating of a single material": ("mist-attenuating", {"delta_over_beta": 400.0}, 2),
    "mist-directional": ("mist-directional", {}, 4),
    "mist-directional of a single material": ("mist-directional", {"delta_over_beta": 400.0}, 4),
    "mist-rapid": ("mist-rapid", {}, 4),
    "mist-rapid in Fourier space": ("mist-rapid", {"combine": "fourier"}, 4),
    "mist-rapid of a single material": ("mist-rapid", {"delta_over_beta": 400.0}, 4),
    "mist-gradient-flow": ("mist-gradient-flow", {}, 2),
    "mist-gradient-flow in closed form": ("mist-gradient-flow", {"refinements": 0}, 2),
    "mist-gradient-flow with a tensor": ("mist-gradient-flow", {"dark_field": "tensor"}, 3),
    "mist-gradient-flow of a single material": ("mist-gradient-flow", {"delta_over_beta": 400.0}, 2),
    "lcs without dark-field": ("lcs", {"dark_field": "none"}, 3),
    "lcs": ("lcs", {"dark_field": "scalar"}, 4),
    "lcs with a tensor": ("lcs", {"dark_field": "tensor"}, 6),
}
every = pytest.mark.parametrize(("method", "options", "least"), CASES.values(), ids=CASES.keys())
SHAPE = (150, 80)  # more rows than a block of threads has


def _frames(positions, shape=SHAPE):
    """Frames that a phase object of directional scatter gives, by eq. (M) without ∇I_R·∇ψ."""
    d, curvature = scatter_tensor(shape), laplacian2(psi(shape))
    slope = cosine_gradient(scatter(shape))
    reference = speckle(np.random.default_rng(positions), positions, shape)
    sample = [
        r - r * curvature + d[0] * dxx(r) + 2 * d[1] * dxy(r) + d[2] * dyy(r)
        + 2 * slope[0] * dx(r) + 2 * slope[1] * dy(r)
        for r in reference
    ]  # fmt: skip
    return reference, np.stack(sample)


def _retrieve(method, options, reference, sample, weights=None, threads=None):
    stack = xmist.SpeckleStack(reference, sample, weights)
    return xmist.retrieve(stack, EXPERIMENT, method=method, threads=threads, **options)


@every
def test_identical_frames_give_exactly_nothing(method, options, least):
    frames = speckle(np.random.default_rng(1), least, (20, 26))
    result = _retrieve(method, options, frames, frames)
    for name, array in result.channels():
        assert (array == (1 if name == "transmission" else 0)).all(), name
    assert any(finding.code == "identical-frames" for finding in result.findings)


@every
def test_channels_are_those_of_the_table(method, options, least):
    result = _retrieve(method, options, *_frames(least, (24, 30)))
    assert {name for name, _ in result.channels()} <= set(xmist.METHODS[method].gives)
    tensor = result.dark_field_tensor
    if tensor is not None:
        assert np.array_equal(result.dark_field, (tensor[0] + tensor[2]) / 2)


@every
@pytest.mark.parametrize("smoothing", [0.0, 1.5])
def test_bits_do_not_depend_on_threads(method, options, least, smoothing):
    reference, sample = _frames(least)
    results = [
        _retrieve(method, options | {"smoothing": smoothing}, reference, sample, threads=threads)
        for threads in (1, 2, 5)
    ]
    for other in results[1:]:
        for name, array in results[0].channels():
            assert np.array_equal(array, getattr(other, name), equal_nan=True), name


@every
def test_dead_pixels_do_not_spread(method, options, least):
    rng = np.random.default_rng(7)
    reference, sample = _frames(least + 4)
    clean = _retrieve(method, options, reference, sample)
    dead = rng.random(reference.shape) < 0.003
    weights = (~dead).astype(np.float32)
    broken = np.where(dead, rng.choice([0.0, np.nan, np.inf, 1e9], dead.shape), reference)
    result = _retrieve(method, options, broken, np.where(dead, np.nan, sample), weights)
    assert np.array_equal((result.flags & flag.MASKED) > 0, dead.any(axis=0))
    good = result.flags == 0
    for name, array in result.channels():
        assert np.isfinite(array).all(), name
        change = (array - getattr(clean, name))[..., good]
        assert change.std() <= 0.3 * getattr(clean, name)[..., good].std(), name


@every
@pytest.mark.parametrize("smoothing", [0.0, 1.0])
def test_a_region_without_information_is_nan_and_nothing_else(method, options, least, smoothing):
    reference, sample = _frames(least + 1, (60, 70))
    reference[:, :30, :20] = np.nan
    result = _retrieve(method, options | {"smoothing": smoothing}, reference, sample)
    lost = (result.flags & flag.UNDETERMINED) > 0
    assert lost[:15, :8].all()
    assert not lost[32:].any()
    wrong = (result.flags & flag.NOT_POSITIVE) > 0
    for name, array in result.channels():
        missing = lost if name == "transmission" else lost | wrong
        assert np.array_equal(np.isnan(array), np.broadcast_to(missing, array.shape)), name


@every
def test_a_region_without_information_counts_as_bare_beam(method, options, least):
    frames = speckle(np.random.default_rng(2), least, (40, 50))
    broken = frames.copy()
    broken[:, :26, :20] = np.nan
    result = _retrieve(method, options, broken, frames)
    if result.transmission is not None:
        assert np.nanmax(np.abs(result.transmission - 1)) == 0
    assert np.nanmax(np.abs(result.phase)) == 0


@every
def test_bad_input(method, options, least):
    reference, sample = _frames(least, (24, 30))
    with pytest.raises(xmist.InputError, check=coded("positions-too-few", names=[method, str(least)])):
        _retrieve(method, options, reference[1:], sample[1:])
    with pytest.raises(xmist.InputError, check=coded("references-proportional")):
        _retrieve(method, options, reference[[0] * least], sample[[0] * least])
    plan = xmist.prepare(reference, EXPERIMENT, method=method, **options)
    with pytest.raises(xmist.InputError, check=coded("shape-mismatch", names=["sample"])):
        plan(sample[:, :, :-1])
    with pytest.raises(xmist.InputError, check=coded("array-invalid", names=["weights"])):
        plan(sample, weights=np.ones((24, 30)))
    with pytest.raises(xmist.InputError, check=coded("option-unknown", names=["smothing", "smoothing"])):
        xmist.prepare(reference, EXPERIMENT, method=method, smothing=1)


@every
def test_frames_stay_unmodified(method, options, least):
    frames = [array.astype(np.float32) for array in _frames(least, (24, 30))]
    before = [array.copy() for array in frames]
    _retrieve(method, options, *frames)
    for array, same in zip(frames, before, strict=True):
        assert np.array_equal(array, same)


SCALED = CASES | {
    "mist": ("mist", {"smoothing": 1.0}, 2),
    "mist-attenuating": ("mist-attenuating", {}, 2),
    "optical-flow": ("optical-flow", {}, 1),
    "single-material": ("single-material", {"delta_over_beta": 400.0, "exact": True}, 1),
    "single-exposure": ("single-exposure", {"delta_over_beta": 400.0}, 1),
}


@pytest.mark.parametrize(("method", "options", "least"), SCALED.values(), ids=SCALED.keys())
def test_the_unit_of_the_frames_does_not_matter(method, options, least):
    reference, sample = _frames(least, (24, 30))
    usual = _retrieve(method, options, reference, sample)
    # Powers of two, about 1e±30: rounding is the same, so that not a bit changes.
    for factor in (2.0**100, 2.0**-100):
        result = _retrieve(method, options, factor * reference, factor * sample)
        assert np.array_equal(result.flags, usual.flags)
        for name, array in usual.channels():
            assert np.array_equal(getattr(result, name), array, equal_nan=True), name


def test_the_unit_is_told_from_any_row():
    reference, sample = _frames(3, (24, 30))
    reference[0, 12] = np.nan
    usual, other = (_retrieve("mist", {}, factor * reference, factor * sample) for factor in (1.0, 2.0**-100))
    assert np.array_equal(other.dark_field, usual.dark_field)
    assert np.array_equal(other.flags, usual.flags)


def test_a_constant_or_dark_reference_has_no_contrast_to_compare():
    flat, sample = np.ones((3, 24, 30), np.float32), np.full((3, 24, 30), 0.9, np.float32)
    assert check_frames(flat, sample, None, may_attenuate=True) == []
    dark = check_frames(0 * flat, sample, None, may_attenuate=True)
    assert [finding.code for finding in dark] == ["no-light"]
