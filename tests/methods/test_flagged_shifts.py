"""Shifts that were not found do not enter φ, and parts that they cut apart keep their level."""

import numpy as np
import pytest
import scipy.ndimage as ndi

import xmist
from tests.manufactured import EXPERIMENT, blob, speckle
from tests.methods.window_frames import moved
from xmist.core import flags as flag
from xmist.methods.common.period import check_period
from xmist.methods.common.phase import phase_of_shift
from xmist.numerics.images.period import pattern_periods
from xmist.simulate.diffusers import HoleGrid, transmission_functions

SHAPE = (64, 72)
SCALE = EXPERIMENT.wavenumber * EXPERIMENT.effective_pixel**2 / EXPERIMENT.effective_distance
SEAM = slice(30, 36)  # rows


def bump():
    """ψ in pixels² and its gradient in pixels."""
    psi = -12.0 * blob(SHAPE, 0.45, 0.5, 0.25)
    return psi, np.array(np.gradient(psi)[::-1], np.float32)


@pytest.mark.parametrize("kind", ["dct", "southwell"])
def test_wild_shifts_along_a_seam_change_no_bit(kind):
    psi, shift = bump()
    unsure = np.zeros(SHAPE, bool)
    unsure[SEAM] = True  # cuts the image into two parts
    phases = []
    for value in (0.0, 40.0, np.nan):
        wild = shift.copy()
        wild[:, SEAM] = value
        phases.append(phase_of_shift(wild, EXPERIMENT, unsure=unsure, kind=kind, threads=1))
    for phase in phases[1:]:
        assert np.array_equal(phase, phases[0])
    # What a cubic misses across a gap of 5 pixels: |∂⁴ψ| 5⁴/4!/16 = 12 · 12/σ⁴ · 1.6 < 0.02 pixels² with
    # σ = 0.25 · 64/√2; np.gradient against the integrators' gradients: h²/6 |∂²ψ| < 0.1.
    error = (phases[0] / SCALE - psi)[~unsure]
    assert np.std(error) < 0.1
    parts = [(phases[0] / SCALE - psi)[rows].mean() for rows in (slice(0, 30), slice(36, None))]
    assert abs(parts[0] - parts[1]) < 0.12


def test_an_image_without_a_sure_shift_has_values():
    _, shift = bump()
    phase = phase_of_shift(shift, EXPERIMENT, unsure=np.ones(SHAPE, bool), kind="dct", threads=1)
    assert np.isfinite(phase).all()


@pytest.mark.parametrize("method", ["umpa", "xsvt"])
def test_a_seam_whose_speckles_are_elsewhere_leaves_the_phase(method):
    _, shift = bump()
    reference = speckle(np.random.default_rng(2), 4, SHAPE, 1.7)
    sample = moved(reference, *shift)
    # In the seam speckles moved by 6 pixels, which is out of reach.
    sample[:, SEAM] = np.roll(reference, 6, axis=2)[:, SEAM]
    result = xmist.retrieve(xmist.SpeckleStack(reference, sample), EXPERIMENT, method=method, window=5)
    flagged = (result.flags & (flag.SEARCH_EDGE | flag.ILL_DETERMINED)) > 0
    assert flagged[SEAM].mean() > 0.5
    sure = np.ones(SHAPE, bool)
    sure[slice(SEAM.start - 3, SEAM.stop + 3)] = False
    clean = xmist.retrieve(
        xmist.SpeckleStack(reference, moved(reference, *shift)), EXPERIMENT, method=method, window=5
    )
    difference = (result.phase - clean.phase)[sure] / SCALE
    # A gap of 10 pixels crossed with shifts wrong by 0.1 pixels: 1 pixel² between the parts.
    assert np.std(difference) < 0.5


def holes(period, number=1):
    """Frames of a simulated grid of holes with a period in pixels, moved by parts of it."""
    pixel = EXPERIMENT.effective_pixel
    plate = HoleGrid(
        wavelength=EXPERIMENT.wavelength,
        period=period * pixel,
        diameter=0.6 * period * pixel,
        phase=-0.5,
        delta_over_beta=1.0,
    )
    shape = (SHAPE[0] + 8, SHAPE[1] + 8)
    (wave,) = transmission_functions(plate, shape, pixel, EXPERIMENT.wavelength, [(0.0, 0.0)])
    frame = ndi.gaussian_filter(1000.0 * abs(wave) ** 2, 0.8)  # the detector blurs
    frames = [frame[2 * n : 2 * n + SHAPE[0], n : n + SHAPE[1]] for n in range(number)]
    return np.random.default_rng(0).poisson(frames).astype(np.float64)


@pytest.mark.parametrize("period", [5.0, 7.5, 12.0])
def test_the_period_of_a_grid_is_found(period):
    periods = pattern_periods(holes(period, 2), None)
    assert abs(np.hypot(*periods[0]) - period) <= 0.5  # to a pixel


@pytest.mark.parametrize("grain", [1.0, 2.0, 4.0])
def test_random_speckle_has_no_period(grain):
    for seed in range(8):
        frames = speckle(np.random.default_rng(seed), 1 + seed % 3, SHAPE, grain)
        assert not len(pattern_periods(frames, None))


@pytest.mark.parametrize("method", ["umpa", "xsvt"])
def test_a_search_beyond_half_the_period_is_warned_about(method):
    frames = holes(5.0, 3)

    def codes(frames, **options):
        stack = xmist.SpeckleStack(frames, 0.999 * frames)
        return [found.code for found in xmist.retrieve(stack, EXPERIMENT, method=method, **options).findings]

    assert "shift-ambiguous" in codes(frames)
    assert "shift-ambiguous" not in codes(frames, max_shift=2)
    assert "shift-ambiguous" not in codes(frames, initial=np.zeros((2, *SHAPE)))
    assert "shift-ambiguous" not in codes(1000 * speckle(np.random.default_rng(1), 3, SHAPE))


@pytest.mark.parametrize(("shift", "warned"), [(2.0, False), (4.0, True)])
def test_shifts_that_were_found_beyond_half_a_period_are_warned_about(shift, warned):
    angle = np.zeros((2, *SHAPE), np.float32)
    angle[0] = shift * EXPERIMENT.effective_pixel / EXPERIMENT.effective_distance
    result = xmist.Retrieval(
        method="full-field", experiment=EXPERIMENT, flags=np.zeros(SHAPE, np.uint16), refraction_angle=angle
    )
    for frames, expected in ((holes(6.0, 2), warned), (speckle(np.random.default_rng(3), 2, SHAPE), False)):
        codes = [found.code for found in check_period(result, frames, None).findings]
        assert codes == (["shift-ambiguous"] if expected else [])
