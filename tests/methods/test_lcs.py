import numpy as np
import pytest

import xmist
from tests.coded import coded
from tests.implicit import (
    DISTANCE,
    PHASE,
    SCATTER,
    SHAPE,
    K,
    P,
    cosine_gradient,
    dx,
    dxx,
    dxy,
    dy,
    dyy,
    psi,
    references,
    relative,
    scatter,
    scatter_tensor,
    transmission,
)
from tests.manufactured import EXPERIMENT, speckle
from xmist.core import flags as flag
from xmist.core.findings import warnings_of
from xmist.methods import least_positions, make_options
from xmist.numerics.images.tensors import eigenvalues

LEAST = {"none": 3, "scalar": 4, "tensor": 6}


def _retrieve(reference, sample, **options):
    return xmist.retrieve(xmist.SpeckleStack(reference, sample), EXPERIMENT, method="lcs", **options)


def _blur(kind):
    mean, tensor = scatter(), scatter_tensor()
    return {"none": 0 * tensor, "scalar": np.stack([mean, 0 * mean, mean]), "tensor": tensor}[kind]


def _frames(kind, positions=12, mistake=None):
    """Frames of I_R = I_S/T + u·∇I_R − Σ d_ij ∂_i∂_j I_R, or of a wrong reading of it."""
    u, d, t = cosine_gradient(psi()), _blur(kind), transmission()
    if mistake == "u and v swapped":
        u = u[::-1]
    elif mistake == "sign of the shift":
        u = (-u[0], -u[1])
    elif mistake == "sign of D":
        d = -d
    elif mistake == "mixed term once":
        d = d * np.array([1, 0.5, 1])[:, None, None]
    elif mistake == "T and 1/T":
        t = 1 / t
    reference = references(positions)
    sample = [
        t * (r - u[0] * dx(r) - u[1] * dy(r) + d[0] * dxx(r) + 2 * d[1] * dxy(r) + d[2] * dyy(r))
        for r in reference
    ]
    return reference, np.stack(sample)


def _errors(result, kind):
    u, d = np.stack(cosine_gradient(psi())), SCATTER * _blur(kind)
    errors = {
        "phase": relative(result.phase - result.phase.mean(), PHASE * psi()),
        "shift": relative(result.shift, u),
        "refraction angle": relative(result.refraction_angle, u * P / DISTANCE),
        "transmission": relative(result.transmission, transmission()),
    }
    if kind != "none":
        errors["dark-field"] = relative(result.dark_field, (d[0] + d[2]) / 2)
    if kind == "tensor":
        errors["tensor"] = relative(result.dark_field_tensor, d)
    return errors


@pytest.mark.parametrize("kind", LEAST)
def test_manufactured_frames_come_back(kind):
    # Frames are rounded to 6e-8; six unknowns take more of them to stay at 1e-5 of shifts of some 0.05 pixel.
    result = _retrieve(*_frames(kind, 24 if kind == "tensor" else 12), dark_field=kind)
    errors = _errors(result, kind)
    assert max(errors.values()) <= 1e-5, errors
    assert not result.flags.any()
    # The object has no bare beam: where it changes least, it scatters.
    assert {found.code for found in warnings_of(result.findings)} <= {"bare-beam-dark-field"}
    assert (result.dark_field is None) == (kind == "none")
    assert (result.dark_field_tensor is None) == (kind != "tensor")


@pytest.mark.parametrize(
    "mistake", ["u and v swapped", "sign of the shift", "sign of D", "mixed term once", "T and 1/T"]
)
def test_a_wrong_reading_is_noticed(mistake):
    assert (
        max(_errors(_retrieve(*_frames("tensor", 12, mistake), dark_field="tensor"), "tensor").values()) > 0.1
    )


def test_phase_and_refraction_angle_are_one():
    result = _retrieve(*_frames("none"), dark_field="none")
    angle = np.stack(cosine_gradient(result.phase.astype(float))) / (K * P)
    assert relative(result.refraction_angle, angle) <= 1e-5
    # Differences of neighbours are second order: κ²/12 of what varies over some ten pixels.
    other = _retrieve(*_frames("none"), dark_field="none", integrator="southwell")
    assert 1e-5 < relative(other.phase, result.phase) <= 0.02


@pytest.mark.parametrize(("along_x", "along_y"), [(0.2, 0.0), (0.0, -0.15), (0.1, 0.2)])
def test_rigid_shift_and_transmission(along_x, along_y):
    # Frames of a smooth function; I_S(r) = T I_R(r − u) to second order in u: |u|²/2 · ⟨|∂∂I|⟩/⟨|∂I|⟩ < 0.05.
    rng = np.random.default_rng(2)
    y, x = np.mgrid[:40, :56].astype(float)
    waves = rng.normal(scale=0.6, size=(8, 12, 2)), rng.uniform(0, 2 * np.pi, (8, 12))

    def frames(x, y):
        return np.stack(
            [
                1.5 + sum(np.cos(a * x + b * y + c) for (a, b), c in zip(*w, strict=True)) / 20
                for w in zip(*waves, strict=True)
            ]
        )

    result = _retrieve(frames(x, y), 0.7 * frames(x - along_x, y - along_y), dark_field="tensor")
    inner = np.s_[..., 5:-5, 5:-5]  # the mirror is no part of these frames
    shift = np.median(result.shift[inner], axis=(1, 2))
    assert np.abs(shift - (along_x, along_y)).max() <= 0.02
    assert abs(np.median(result.transmission[inner]) / 0.7 - 1) <= 1e-3


@pytest.mark.parametrize("kind", LEAST)
def test_identical_frames_give_exactly_nothing(kind):
    frames = speckle(np.random.default_rng(1), LEAST[kind], (20, 26))
    result = _retrieve(frames, frames, dark_field=kind)
    for name, array in result.channels():
        assert (array == (1 if name == "transmission" else 0)).all(), name


def test_error_falls_faster_than_the_object():
    # On frames of eq. (M) the error is of second order in the object: it puts I_S/T for I_R and drops
    # derivatives of d times those of I_R. So the relative error falls as the object does.
    reference = speckle(np.random.default_rng(0), 12, SHAPE, grain=3.0)  # products of it are resolved too
    errors = []
    for part in (2.0, 1.0, 0.5):
        ux, uy = (part * component for component in cosine_gradient(psi()))
        sample = np.stack([r - dx(ux * r) - dy(uy * r) for r in reference])
        result = _retrieve(reference, sample, dark_field="none")
        errors.append(relative(result.shift, np.stack([ux, uy])))
        # Its T is that of attenuation and lensing together.
        assert relative(result.transmission - 1, -(dx(ux) + dy(uy))) <= 0.1 * part
    assert errors[0] < 0.2
    assert np.allclose(np.divide(errors[:2], errors[1:]), 2, rtol=0.1)


def test_ridge_pulls_towards_no_object():
    result = _retrieve(*_frames("scalar"), ridge=1e4)
    assert np.abs(result.transmission - 1).max() < 1e-3
    assert np.abs(result.shift).max() < 1e-3


@pytest.mark.parametrize("kind", ["scalar", "tensor"])
def test_positive_clips_and_flags(kind):
    reference, sample = _frames(kind, 8)
    noisy = sample + 2e-3 * np.random.default_rng(1).normal(size=sample.shape)
    signed = _retrieve(reference, noisy, dark_field=kind)
    clipped = _retrieve(reference, noisy, dark_field=kind, positive=True)
    least = signed.dark_field if kind == "scalar" else eigenvalues(signed.dark_field_tensor)[1]
    assert (least < 0).any()
    assert np.array_equal((clipped.flags & flag.CLIPPED) > 0, least < 0)
    assert clipped.dark_field.min() >= 0
    good = least >= 0
    assert np.array_equal(clipped.dark_field[good], signed.dark_field[good])


def test_transmission_at_or_below_zero_is_flagged():
    reference = references(5)
    sample = reference.copy()
    sample[:, 20:30, 20:30] *= -1
    result = _retrieve(reference, sample)
    low = (result.flags & flag.NOT_POSITIVE) > 0
    assert low[20:30, 20:30].all()
    assert np.array_equal(result.transmission <= 0, low)
    for name in ("phase", "dark_field", "shift", "refraction_angle"):
        channel = getattr(result, name)
        assert np.array_equal(np.isnan(channel), np.broadcast_to(low, channel.shape)), name


@pytest.mark.parametrize("kind", LEAST)
def test_too_few_positions(kind):
    reference, sample = _frames(kind, LEAST[kind] - 1)
    with pytest.raises(xmist.InputError, check=coded("positions-too-few", names=[str(LEAST[kind])])):
        _retrieve(reference, sample, dark_field=kind)
    reference, sample = _frames(kind, LEAST[kind])
    assert np.isfinite(_retrieve(reference, sample, dark_field=kind).phase).all()


@pytest.mark.parametrize("kind", LEAST)
@pytest.mark.parametrize("joined", [{"window": 9}, {"smoothing": 3.0}])
def test_one_position_of_a_uniform_object_comes_back(kind, joined):
    reference, t, u = references(1), 0.8, (0.05, -0.03)
    d = {"none": (0, 0, 0), "scalar": (0.2, 0, 0.2), "tensor": (0.3, 0.05, 0.1)}[kind]
    blurred = d[0] * dxx(reference) + 2 * d[1] * dxy(reference) + d[2] * dyy(reference)
    sample = t * (reference - u[0] * dx(reference) - u[1] * dy(reference) + blurred)
    result = _retrieve(reference, sample, dark_field=kind, **joined)
    # Frames are rounded to 6e-8; a window holds few speckles, whose derivatives are correlated.
    assert np.abs(result.transmission - t).max() <= 1e-5
    assert np.abs(result.shift - np.array(u)[:, None, None]).max() <= 1e-4
    if kind != "none":
        assert np.abs(result.dark_field / SCATTER - (d[0] + d[2]) / 2).max() <= 1e-4
    if kind == "tensor":
        assert np.abs(result.dark_field_tensor / SCATTER - np.array(d)[:, None, None]).max() <= 2e-4
    assert not result.flags.any()


def test_window_sums_the_normal_equations_of_its_pixels():
    reference, sample = _frames("scalar", 2)
    result = _retrieve(reference, sample, dark_field="scalar", window=5)
    rows = np.stack([sample, dx(reference), dy(reference), dxx(reference) + dyy(reference)])
    y, x = 30, 41
    box = np.s_[:, :, y - 2 : y + 3, x - 2 : x + 3]
    found = np.linalg.lstsq(rows[box].reshape(4, -1).T, (reference - sample)[box[1:]].ravel(), rcond=None)[0]
    assert abs(result.transmission[y, x] - 1 / (1 + found[0])) <= 1e-4
    assert np.abs(result.shift[:, y, x] - found[1:3]).max() <= 1e-4
    assert abs(result.dark_field[y, x] / SCATTER + found[3]) <= 1e-3


def test_window_of_one_pixel_changes_no_bit():
    reference, sample = _frames("scalar", 5)
    for options in ({}, {"smoothing": 1.5}):
        plain, same = (
            _retrieve(reference, sample, **options),
            _retrieve(reference, sample, window=1, **options),
        )
        for name, array in plain.channels():
            assert np.array_equal(array, getattr(same, name)), name


@pytest.mark.parametrize(
    "options", [{"window": 7}, {"window": 5, "smoothing": 1.0}, {"window": 9, "ridge": "auto"}]
)
def test_one_position_with_masked_pixels(options):
    reference, sample = _frames("scalar", 1)
    weights = np.ones(reference.shape)
    weights[0, 20, 30] = weights[0, 40:43, 50:52] = 0
    results = []
    for value in (np.nan, 1e9, None):
        frames = [
            array if value is None else np.where(weights > 0, array, value) for array in (reference, sample)
        ]
        stack = xmist.SpeckleStack(*frames, weights)
        results.append(xmist.retrieve(stack, EXPERIMENT, method="lcs", **options))
    for name, array in results[-1].channels():
        assert np.isfinite(array).all(), name
        for other in results[:-1]:
            assert np.array_equal(array, getattr(other, name)), name
    assert set(np.unique(results[-1].flags[weights[0] == 0])) == {flag.MASKED | flag.FILLED}
    assert not results[-1].flags[:10].any()


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_images_of_a_window_turn_with_the_frames(turns):
    reference, sample = _frames("scalar", 1)
    plain = _retrieve(reference, sample, window=9)
    turned = _retrieve(*(np.rot90(frames, turns, axes=(1, 2)) for frames in (reference, sample)), window=9)
    for name in ("transmission", "phase", "dark_field"):
        expected, found = np.rot90(getattr(plain, name), turns, axes=(0, 1)), getattr(turned, name)
        if name == "phase":  # blocks of bare beam, where it is 0, do not turn
            expected, found = expected - expected.mean(), found - found.mean()
        assert np.abs(found - expected).max() <= 1e-3 * np.abs(expected).max(), name


def test_identical_frames_of_one_position_give_nothing():
    frames = references(1)
    result = _retrieve(frames, frames, window=5)
    for name, array in result.channels():
        assert (array == (1 if name == "transmission" else 0)).all(), name


def test_a_window_below_a_speckle_is_a_finding():
    # The speckles are 1.6 · √2 · 2.355 = 5.3 pixels wide.
    reference, sample = _frames("scalar", 4)
    codes = {
        (n, window): [found.code for found in _retrieve(reference[:n], sample[:n], window=window).findings]
        for n in (1, 4)
        for window in (3, 9)
    }
    assert "window-below-speckle" in codes[1, 3]
    assert all("window-below-speckle" not in codes[key] for key in ((1, 9), (4, 3), (4, 9)))


def test_least_positions_depend_on_the_window():
    assert [least_positions("lcs", options) for options in ({}, {"window": 3}, {"smoothing": 2})] == [3, 1, 1]
    reference, sample = _frames("scalar", 2)
    with pytest.raises(xmist.InputError, check=coded("positions-too-few")):
        _retrieve(reference, sample)
    for window in (0, 2, -3, 2.5):
        with pytest.raises(xmist.InputError, check=coded("option-invalid", names=[f"window is {window}"])):
            make_options("lcs", {"window": window})


def test_wrong_options():
    for options, codes in (
        ({"dark_field": "vector", "smoothing": -1}, ("option-invalid", "option-invalid")),
    ):
        with pytest.raises(xmist.InputError) as caught:
            make_options("lcs", options)
        assert caught.value.codes == codes


def test_background_takes_away_drift_and_flux():
    reference, sample = _frames("tensor", 24)
    box = np.s_[2:10, 60:82]
    # The model in 1/T, u and d is linear: a shift, a scatter and a flux more add up to what the sample does.
    drift = np.stack([r - 0.05 * dx(r) + 0.03 * dy(r) for r in reference]) - reference
    plain = _retrieve(reference, sample, dark_field="tensor")
    moved = _retrieve(
        reference, 0.9 * (sample + transmission() * drift), dark_field="tensor", background=(2, 10, 60, 82)
    )
    for name in ("phase", "shift", "dark_field_tensor"):
        found, expected = getattr(moved, name), getattr(plain, name)
        assert np.abs(found[..., 2:10, 60:82].mean(axis=(-2, -1))).max() <= 1e-5 * np.abs(expected).max(), (
            name
        )
        offset = expected[..., 2:10, 60:82].mean(axis=(-2, -1), keepdims=True)
        assert relative(found, expected - offset) <= 1e-3 if name != "phase" else True
    assert abs(moved.transmission[box].mean() - 1) <= 1e-6
    assert relative(moved.transmission, plain.transmission / plain.transmission[box].mean()) <= 1e-3
    assert moved.options["background"] == (2, 10, 60, 82)
    mask = np.zeros(SHAPE, bool)
    mask[box] = True
    by_mask = _retrieve(
        reference, 0.9 * (sample + transmission() * drift), dark_field="tensor", background=mask
    )
    assert np.array_equal(by_mask.phase, moved.phase)
    assert by_mask.options["background"] == "a mask of 176 pixels"


def test_background_without_a_value():
    reference, sample = _frames("scalar", 12)
    clean = _retrieve(reference, sample, background=(0, 12, 60, 82))
    part, whole = sample.copy(), sample.copy()
    part[:, :6, 60:82] *= -1  # T comes out negative: its half of the box has no shift
    half = _retrieve(reference, part, background=(0, 12, 60, 82))
    assert np.isnan(half.phase[:6, 60:82]).all()
    assert "transmission-not-positive" in [record.code for record in half.findings]
    assert abs(half.transmission[6:12, 60:82].mean() - 1) <= 1e-6
    assert np.abs(half.shift[:, 30:, :50] - clean.shift[:, 30:, :50]).max() <= 0.02  # a sixth of the largest
    whole[:, :12, 60:82] *= -1
    none = _retrieve(reference, whole, background=(0, 12, 60, 82))
    assert any(finding.code == "background-undetermined" for finding in none.findings)
    plain = _retrieve(reference, whole)
    assert np.array_equal(none.phase, plain.phase, equal_nan=True)


@pytest.mark.parametrize("box", [(0, 5, 3), (5, 5, 0, 9), (0, 5, -1, 9), "all", (0, 5.0, 0, 9)])
def test_wrong_background(box):
    with pytest.raises(xmist.InputError, check=coded("option-invalid", names=["background"])):
        make_options("lcs", {"background": box})
    with pytest.raises(xmist.InputError, check=coded("option-invalid", names=["background"])):
        _retrieve(*_frames("scalar", 4), background=(0, 5, 0, 900))
