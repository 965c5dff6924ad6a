import numpy as np
import pytest

import xmist
from tests.implicit import (
    PHASE,
    SCATTER,
    dx,
    dxx,
    dxy,
    dy,
    dyy,
    psi,
    references,
    relative,
    scatter_tensor,
    transmission,
)
from tests.manufactured import EXPERIMENT, laplacian2
from xmist.core import flags as flag
from xmist.core.findings import warnings_of
from xmist.methods import make_options
from xmist.methods.common.phase import screening_length2
from xmist.numerics.images.tensors import anisotropy, direction, eigenvalues

GAMMA = 400.0
LENGTH2 = screening_length2(EXPERIMENT, GAMMA)


def _retrieve(reference, sample, **options):
    stack = xmist.SpeckleStack(reference, sample)
    return xmist.retrieve(stack, EXPERIMENT, method="mist-directional", **options)


def _blurred(frame, tensor):
    """Σ d_ij ∂_i∂_j of a frame, the off-diagonal element twice."""
    return tensor[0] * dxx(frame) + 2 * tensor[1] * dxy(frame) + tensor[2] * dyy(frame)


def _frames(positions, mistake=None):
    """Frames of eq. (10), or of a wrong reading of it."""
    tensor, curvature = scatter_tensor(), laplacian2(psi())
    if mistake == "mixed term once":
        tensor = tensor * np.array([1, 0.5, 1])[:, None, None]
    elif mistake == "x and y swapped":
        tensor = tensor[::-1]
    elif mistake == "y upwards":
        tensor = tensor * np.array([1, -1, 1])[:, None, None]
    elif mistake == "sign of D":
        tensor = -tensor
    elif mistake == "sign of the phase":
        curvature = -curvature
    reference = references(positions)
    return reference, np.stack([r - r * curvature + _blurred(r, tensor) for r in reference])


@pytest.mark.parametrize(
    "mistake",
    [None, "mixed term once", "x and y swapped", "y upwards", "sign of D", "sign of the phase"],
)
def test_manufactured_frames_come_back(mistake):
    result = _retrieve(*_frames(12, mistake))
    tensor = SCATTER * scatter_tensor()
    errors = [
        relative(result.phase, PHASE * psi()),
        relative(result.dark_field_tensor, tensor),
        relative(result.dark_field, (tensor[0] + tensor[2]) / 2),
    ]
    if mistake is None:
        assert max(errors) <= 1e-5
        assert not result.flags.any()
        assert warnings_of(result.findings) == ()
        assert result.transmission is None
    else:
        assert max(errors) > 0.1


@pytest.mark.parametrize("curvature", [False, True])
def test_single_material(curvature):
    t, tensor = transmission(), scatter_tensor()
    blur = t * tensor
    g = t - LENGTH2 * laplacian2(t)
    if curvature:
        g = g + dxx(blur[0]) + 2 * dxy(blur[1]) + dyy(blur[2])
    reference = references(12)
    sample = np.stack([g * r + _blurred(r, blur) for r in reference])
    result = _retrieve(reference, sample, delta_over_beta=GAMMA, curvature=curvature)
    assert relative(result.transmission, t) <= 1e-5
    assert relative(result.dark_field_tensor, SCATTER * tensor) <= 1e-5
    assert relative(result.phase, 0.5 * GAMMA * np.log(t)) <= 1e-5
    assert result.phase.max() <= 1e-3 * np.abs(result.phase).max()  # its zero is that of ln T


def test_error_falls_with_the_terms_that_it_drops():
    # Of eq. (M) it drops ∇I_R·∇ψ and the derivatives of d_ij; the method is linear, so is its error.
    reference, sample = _frames(12)
    tensor = scatter_tensor()
    flow = np.stack([dx(psi()), dy(psi())])
    rest = np.stack(
        [
            -(flow[0] * dx(r) + flow[1] * dy(r))
            + (dxx(tensor[0] * r) + 2 * dxy(tensor[1] * r) + dyy(tensor[2] * r) - _blurred(r, tensor))
            for r in reference
        ]
    )
    errors = []
    for part in (0.5, 0.25, 0.125):
        result = _retrieve(reference, sample + part * rest)
        errors.append(relative(result.dark_field_tensor, SCATTER * tensor))
        assert relative(result.phase, PHASE * psi()) < part
    assert np.allclose(np.divide(errors[:2], errors[1:]), 2, rtol=1e-3)


def test_direction_of_simulated_fibres():
    # Of single pixels noise hides the direction; over a fibre of more than a thousand it averages out.
    stack, experiment, truth = xmist.simulate.fibres(shape=(128, 192), positions=10, physics="model")
    result = xmist.retrieve(stack, experiment, method="mist-directional")
    found = []
    for angle in range(0, 180, 30):
        away = (direction(truth.dark_field_tensor) - angle + 90) % 180 - 90
        fibre = (anisotropy(truth.dark_field_tensor) > 0.3) & (np.abs(away) < 1)
        mean = result.dark_field_tensor[:, fibre].mean(axis=1)
        found.append((direction(mean) - angle + 90) % 180 - 90)
        assert fibre.sum() > 1000
        assert anisotropy(mean) > 0.3
    assert np.abs(found).max() <= 5
    # Averaged over 12 pixels, that is Gaussian weights of 4π 12² = 1800 pixels, it is so at a pixel.
    smooth = xmist.retrieve(stack, experiment, method="mist-directional", tensor_smoothing=12)
    away = (direction(smooth.dark_field_tensor) - direction(truth.dark_field_tensor) + 90) % 180 - 90
    assert np.sqrt(np.mean(away[anisotropy(truth.dark_field_tensor) > 0.3] ** 2)) <= 5


def test_averaged_tensors_know_nothing_of_lost_pixels_and_outliers():
    reference, sample = _frames(6)
    sample = sample + 1e-3 * np.random.default_rng(3).normal(size=sample.shape)
    reference[:, :40, :30] = np.nan
    reference[:, 50, 50:52] = reference[0, 50, 50]  # next to proportional: a tensor of noise
    plain, smooth = (_retrieve(reference, sample, tensor_smoothing=sigma) for sigma in (0.0, 4.0))
    assert np.array_equal(np.isnan(smooth.dark_field_tensor), np.isnan(plain.dark_field_tensor))
    known = np.isfinite(smooth.dark_field)
    exact = SCATTER * scatter_tensor()[:, known]
    assert relative(smooth.dark_field_tensor[:, known], exact) < relative(
        plain.dark_field_tensor[:, known], exact
    )
    assert np.abs(smooth.dark_field_tensor[:, known]).max() < 12 * np.median(np.abs(exact)) * 1.5
    assert np.array_equal(smooth.phase, plain.phase, equal_nan=True)


def test_tensors_turn_with_the_frames():
    reference, sample = _frames(6)
    plain = _retrieve(reference, sample)
    turned = _retrieve(np.rot90(reference, axes=(1, 2)), np.rot90(sample, axes=(1, 2)))
    xx, xy, yy = (np.rot90(component) for component in plain.dark_field_tensor)
    size = np.abs(plain.dark_field_tensor).max()
    assert np.abs(turned.dark_field_tensor - np.stack([yy, -xy, xx])).max() <= 2e-4 * size


def test_positive_projects_and_flags():
    reference, sample = _frames(5)
    noisy = sample + 1e-3 * np.random.default_rng(1).normal(size=sample.shape)
    signed, projected = _retrieve(reference, noisy), _retrieve(reference, noisy, positive=True)
    negative = eigenvalues(signed.dark_field_tensor)[1] < 0
    assert negative.any()
    assert np.array_equal((projected.flags & flag.CLIPPED) > 0, negative)
    largest, smallest = eigenvalues(projected.dark_field_tensor)
    assert smallest.min() >= -1e-6 * largest.max()
    assert np.array_equal(projected.dark_field_tensor[:, ~negative], signed.dark_field_tensor[:, ~negative])


def test_transmission_at_or_below_zero_is_flagged():
    reference = references(6)
    sample = reference.copy()
    sample[:, 20:40, 30:60] *= -1
    result = _retrieve(reference, sample, delta_over_beta=0.1)
    low = (result.flags & flag.NOT_POSITIVE) > 0
    assert low[24:36, 34:56].all()
    for _, array in result.channels():
        assert np.isfinite(array[..., :10, :]).all()
    assert np.array_equal(np.isnan(result.dark_field), low)


def test_wrong_options():
    for options, codes in (
        ({"delta_over_beta": 100, "cutoff_length": 1e-3, "ridge": -1}, ("option-invalid", "option-conflict")),
        ({"curvature": True}, ("option-conflict",)),
    ):
        with pytest.raises(xmist.InputError) as caught:
            make_options("mist-directional", options)
        assert caught.value.codes == codes


def test_attenuation_is_noticed_without_delta_over_beta():
    reference, sample = _frames(5)
    assert any(finding.code == "sample-attenuates" for finding in _retrieve(reference, 0.8 * sample).findings)
    findings = _retrieve(reference, 0.8 * sample, delta_over_beta=GAMMA).findings
    assert not any(finding.code == "sample-attenuates" for finding in findings)
