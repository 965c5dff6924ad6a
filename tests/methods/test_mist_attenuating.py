import numpy as np
import pytest

import xmist
from tests.manufactured import EXPERIMENT, blob, laplacian2, laplacian6, speckle
from xmist.core import flags as flag
from xmist.core.findings import warnings_of
from xmist.methods import make_options

GAMMA = 400.0
SHAPE = (96, 128)
K, P, DISTANCE = EXPERIMENT.wavenumber, EXPERIMENT.effective_pixel, EXPERIMENT.effective_distance
LENGTH2 = GAMMA * DISTANCE / (2 * K * P**2)  # γ∆/2k in pixels²


def _object():
    transmission = 1 - 0.3 * blob(SHAPE, 0.45, 0.4, 0.2) - 0.2 * blob(SHAPE, 0.6, 0.65, 0.12)
    d = 0.25 * blob(SHAPE, 0.4, 0.55, 0.15) + 0.02
    return transmission, d


def _frames(positions, g, blur, seed=0):
    """Frames of I_S = G I_R + ∆TD ∇²I_R."""
    reference = speckle(np.random.default_rng(seed), positions, SHAPE)
    return reference, np.stack([g * r + blur * laplacian6(r) for r in reference])


def _retrieve(reference, sample, **options):
    return xmist.retrieve(
        xmist.SpeckleStack(reference, sample), EXPERIMENT, method="mist-attenuating", **options
    )


def _relative(found, exact):
    return np.sqrt(np.mean((found - exact) ** 2) / np.mean(exact**2))


def test_without_gamma_t_is_g():
    g, d = _object()
    result = _retrieve(*_frames(10, g, g * d))
    assert _relative(result.transmission, g) <= 1e-5
    assert _relative(result.dark_field, d * P**2 / DISTANCE) <= 1e-5
    assert result.phase is None
    assert result.refraction_angle is None
    # The object has no bare beam: where it changes least, it scatters.
    assert {found.code for found in warnings_of(result.findings)} <= {"bare-beam-dark-field"}


@pytest.mark.parametrize("curvature", [False, True])
def test_single_material(curvature):
    transmission, d = _object()
    blur = transmission * d
    g = transmission - LENGTH2 * laplacian2(transmission) + (laplacian2(blur) if curvature else 0)
    result = _retrieve(*_frames(10, g, blur), delta_over_beta=GAMMA, curvature=curvature)
    assert _relative(result.transmission, transmission) <= 1e-5
    assert _relative(result.dark_field, d * P**2 / DISTANCE) <= 1e-5
    phase = 0.5 * GAMMA * np.log(transmission)
    assert _relative(result.phase, phase) <= 1e-5
    # Not shifted to mean 0: γ ties its zero to T = 1.
    assert result.phase.max() <= 1e-3 * np.abs(result.phase).max()
    assert result.refraction_angle.shape == (2, *SHAPE)


def test_shares_the_solution_of_mist():
    g, d = _object()
    reference, sample = _frames(4, g, g * d)
    other = xmist.retrieve(xmist.SpeckleStack(reference, sample), EXPERIMENT, method="mist")
    result = _retrieve(reference, sample)
    assert _relative(result.transmission * result.dark_field, other.dark_field) <= 1e-5
    assert any(finding.code == "sample-attenuates" for finding in other.findings)


def test_transmission_at_or_below_zero_is_flagged():
    g = np.ones(SHAPE)
    g[40:44, 50:56] = -0.1
    result = _retrieve(*_frames(4, g, np.zeros(SHAPE)))
    low = (result.flags & flag.NOT_POSITIVE) > 0
    assert low[40:44, 50:56].all()
    assert np.array_equal(low, np.isnan(result.dark_field))
    assert any(finding.code == "transmission-not-positive" for finding in result.findings)


def test_region_without_information():
    g, d = _object()
    reference, sample = _frames(3, g, g * d)
    sample[:, :30, :30] = np.nan
    result = _retrieve(reference, sample, delta_over_beta=GAMMA)
    lost = (result.flags & flag.UNDETERMINED) > 0
    assert lost[:20, :20].all()
    for name in ("transmission", "dark_field", "phase"):
        assert np.array_equal(np.isnan(getattr(result, name)), lost), name


def test_positive_clips_and_flags():
    reference, sample = _frames(3, np.ones(SHAPE), np.full(SHAPE, -0.1))
    result = _retrieve(reference, sample, positive=True)
    assert not result.dark_field.any()
    assert (result.flags & flag.CLIPPED).all()


def test_wrong_options():
    for options, codes in (
        ({"delta_over_beta": 0, "curvature": "yes"}, ("option-invalid", "option-invalid")),
        ({"curvature": True}, ("option-conflict",)),
    ):
        with pytest.raises(xmist.InputError) as caught:
            make_options("mist-attenuating", options)
        assert caught.value.codes == codes
