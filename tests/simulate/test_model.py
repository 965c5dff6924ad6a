"""Model (M) on waves and ramps whose derivatives are known."""

import numpy as np
import pytest

import xmist
from xmist import simulate

BEAM = {"wavenumber": 1e11, "distance": 0.5, "pixel": 2e-6}
SHAPE = (60, 72)
Y, X = np.mgrid[: SHAPE[0], : SHAPE[1]] * BEAM["pixel"]
INSIDE = (slice(4, -4), slice(4, -4))  # the mirror at the border is none of a wave's
# Waves of 12 pixels and more: the sixth-order stencils err by (κp)⁶/140 of a derivative at most, 2e-4.
KY, KX = 2 * np.pi / 40e-6, 2 * np.pi / 24e-6
WAVE, SLOPE = np.cos(KY * Y + KX * X), -np.sin(KY * Y + KX * X)


def test_tensor_of_a_wave():
    xx, xy, yy = 3e-12, -1e-12, 2e-12
    tensor = np.stack([np.full(SHAPE, value) for value in (xx, xy, yy)])
    found = simulate.transported(1 + 0.2 * WAVE, dark_field=tensor, **BEAM) - (1 + 0.2 * WAVE)
    expected = -0.5 * 0.2 * WAVE * (xx * KX**2 + 2 * xy * KX * KY + yy * KY**2)
    assert np.abs(found - expected)[INSIDE].max() <= 2e-3 * np.abs(expected).max()


def test_scalar_is_the_tensor_of_its_diagonal():
    reference = 1 + 0.2 * WAVE
    d = 1e-12 * (1 + X / X.max())
    tensor = np.stack([d, np.zeros(SHAPE), d])
    scalar = simulate.transported(reference, dark_field=d, **BEAM)
    assert np.allclose(scalar, simulate.transported(reference, dark_field=tensor, **BEAM), rtol=1e-12)


@pytest.mark.parametrize("axis", ["x", "y"])
def test_ramp_of_phase_shifts_and_lens_brightens(axis):
    """I_S = I_R − (∆/k)(∇φ·∇I_R + I_R ∇²φ), for a ramp and for a paraboloid."""
    reference = 1 + 0.2 * WAVE
    at, k = (X, KX) if axis == "x" else (Y, KY)
    scale = BEAM["distance"] / BEAM["wavenumber"]
    ramp = simulate.transported(reference, phase=1e5 * at, **BEAM) - reference
    expected = -scale * 1e5 * k * 0.2 * SLOPE
    assert np.abs(ramp - expected)[INSIDE].max() <= 2e-3 * np.abs(expected).max()
    lens = simulate.transported(np.full(SHAPE, 1.5), phase=-1e9 * at**2, **BEAM)
    assert np.allclose(lens[INSIDE], 1.5 * (1 + scale * 2e9), rtol=1e-9)


def test_transmission_multiplies_what_moves():
    reference, t = 1 + 0.2 * WAVE, 1 - 0.3 * X / X.max()
    given = {"phase": 20.0 * np.cos(KY * Y), "dark_field": np.full(SHAPE, 1e-12)} | BEAM
    both = simulate.transported(reference, transmission=t, **given)
    assert np.allclose(both, simulate.transported(t * reference, **given), rtol=1e-12)
    nothing = simulate.transported(reference, **BEAM)
    assert np.array_equal(nothing, reference)


def test_bad_images():
    with pytest.raises(xmist.InputError) as error:
        simulate.transported(WAVE, phase=WAVE[1:], dark_field=np.zeros((2, *SHAPE)), **BEAM)
    assert len(error.value.codes) == 2
    with pytest.raises(xmist.InputError) as error:
        simulate.transported(WAVE[0], wavenumber=0.0, distance="1 m", pixel=2e-6)
    assert len(error.value.codes) == 3
