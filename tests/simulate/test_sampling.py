import numpy as np
import pytest

import xmist
from tests.coded import coded
from xmist.simulate.propagation import angular_spectrum, fresnel
from xmist.simulate.sampling import check_sampling, largest_step

GRID = {"wavelength": 1e-10, "pixel_size": 1e-6, "shape": (200, 100)}


def test_nothing_to_say_about_a_good_geometry():
    phase = np.linspace(0, 100, 200)[:, None] * np.ones(100)
    assert check_sampling(distance=0.5, phase=phase, **GRID) == ()


def test_the_transfer_function_limit_is_where_its_phase_steps_by_pi():
    """Phase −πλz f² at f = n/L: the last step is πλz (2n − 1)/L²."""
    limit = (100e-6) ** 2 / (1e-10 * 99)
    assert check_sampling(distance=0.999 * limit, **GRID) == ()
    (record,) = check_sampling(distance=-1.001 * limit, **GRID)
    assert "100 samples of 1e-06 m along x aliases beyond 1.01 m" in record.message
    assert "at least 101 samples" in record.message
    wider = GRID | {"shape": (200, 102)}
    assert check_sampling(distance=-1.001 * limit, **wider) == ()
    for propagate in (fresnel, angular_spectrum):
        with pytest.raises(xmist.InputError, check=coded("sampling-coarse")):
            propagate(np.ones((200, 100)), wavelength=1e-10, pixel_size=1e-6, distance=1.001 * limit)


def test_a_step_of_more_than_pi():
    phase = np.zeros((200, 100))
    phase[150, 3] = 4.0
    (record,) = check_sampling(distance=0.1, phase=phase, name="the sample's phase", **GRID)
    assert "the sample's phase steps by 4 rad between neighbours; expected π at most" in record.message
    assert "7.85e-07 m or finer" in record.message


def test_rays_must_stay_in_the_field():
    # Half a pixel of margin more or less than z θ = 10 samples.
    assert check_sampling(distance=0.5, refraction_angle=2e-5, margin=10.5e-6, **GRID) == ()
    (record,) = check_sampling(distance=-0.5, refraction_angle=2e-5, margin=6.5e-6, **GRID)
    assert "1e-05 m at the distance of -0.5 m" in record.message
    assert "margin of 6.5e-06 m: widen the field by 4 samples on each side" in record.message
    (record,) = check_sampling(distance=0.5, refraction_angle=2e-4, **GRID)
    assert "half field of 5e-05 m: widen the field by 50 samples" in record.message
    # The steepest step of the phase, 3 rad a sample, is an angle of 3/(k p) as well.
    phase = 3.0 * np.arange(200)[:, None] * np.ones(100)
    (record,) = check_sampling(distance=1.0, phase=phase, margin=0.0, **GRID)
    assert f"refracts by up to {3.0 * 1e-10 / (2 * np.pi * 1e-6):.3g} rad" in record.message


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1), (600, 3), (256, 7), (257, 2)])
def test_largest_step_looks_at_every_neighbour(shape):
    image = np.random.default_rng(0).normal(size=shape)
    steps = [np.abs(np.diff(image, axis=axis)).max(initial=0.0) for axis in (0, 1)]
    assert largest_step(image) == max(steps)
    for row in range(shape[0] - 1):  # a step down between any two rows
        stairs = np.broadcast_to(np.where(np.arange(shape[0]) > row, -2.0, 0.0)[:, None], shape)
        assert largest_step(stairs) == 2.0


def test_arguments_are_numbers():
    with pytest.raises(xmist.InputError) as caught:
        check_sampling(wavelength=0, pixel_size="x", shape=(2, 2), distance=np.nan, margin=-1.0)
    assert len(caught.value.codes) == 4
