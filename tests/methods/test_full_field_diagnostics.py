"""What a result of `full-field` says about itself."""

import numpy as np
import pytest
import scipy.ndimage as ndi

import xmist
from tests.manufactured import EXPERIMENT, speckle
from tests.methods.full_field_frames import (
    D_TRUE,
    PHASE,
    PSI_TRUE,
    SCATTER,
    SHAPE,
    TENSOR,
    codes,
    made,
    retrieve,
)
from xmist.core.errors import InputError
from xmist.methods.full_field.coarse_to_fine import double
from xmist.methods.full_field.gauss_newton import lost_share
from xmist.methods.full_field.refit_dark_field import model_error_weights
from xmist.numerics.images.blocks import block_pixels, block_sums, halve
from xmist.numerics.operators.transport import D_XX, LOG_T, PSI, D


def _poisson(reference, sample, photons, seed=0):
    rng = np.random.default_rng(seed)
    return rng.poisson(reference * photons), rng.poisson(sample * photons)


def test_maps_of_a_good_fit_are_about_one():
    frames = _poisson(*made(4, {PSI: PSI_TRUE, D: D_TRUE}), 3e4)
    result = retrieve(*frames, **SCATTER)
    assert list(result.diagnostics) == ["residual", "phase_information", "dark_field_information"]
    # ψ takes one of four positions, and errors of the filtered references add to the noise of the sample.
    assert 0.8 <= np.sqrt(np.mean(result.diagnostics["residual"] ** 2)) <= 1.3
    assert 0.8 <= result.provenance["convergence"]["reduced_chi_squared"] <= 1.5
    for name in ("phase_information", "dark_field_information"):
        share = result.diagnostics[name]
        assert share.shape == SHAPE
        assert (share >= 0).all()
        assert (share <= 1).all()
    # Speckles smoothed by 1.6 pixels: full width 4 √ln 2 σ; their exponential narrows it a little.
    found = result.provenance["reference"]
    assert abs(found["speckle_size"] - 4 * np.sqrt(np.log(2)) * 1.6) <= 0.6
    assert abs(found["visibility"] - 0.25) <= 0.05


def test_the_maps_show_what_is_wrong_and_where():
    reference, sample = made(3, {PSI: PSI_TRUE, D: D_TRUE}, noise=0.004)
    clean = retrieve(reference, sample).diagnostics["residual"]
    part = np.s_[60:80, 20:40]
    rng = np.random.default_rng(4)
    weights = np.ones(reference.shape, np.float32)
    weights[:, 20:50, 70:100] = 0.0
    weights[2:, 60:80, 70:100] = 0.0
    sample = sample.copy()
    sample[(slice(None), *part)] += 0.03 * rng.normal(size=(3, 20, 20))
    result = retrieve(reference, sample, weights, prior="h3/2")
    residual = result.diagnostics["residual"]
    # Noise of 0.03 beside 0.004; ψ and D follow part of it.
    assert residual[part].mean() > 3 * clean.mean()
    assert np.isnan(residual[25:45, 75:95]).all()
    known = result.diagnostics["dark_field_information"]
    # No position, two, three.
    assert known[35, 85] < 0.05 < known[70, 85] < known[20, 20]
    assert result.diagnostics["phase_information"][35, 85] < 0.05


def test_information_needs_speckles():
    rng = np.random.default_rng(7)
    frames = speckle(rng, 2, SHAPE)
    fade = 1 / (1 + np.exp((np.arange(SHAPE[1]) - 56) / 4))
    frames = 1 + (frames - 1) * fade
    result = retrieve(*_poisson(frames, frames, 1e4))
    known = result.diagnostics["dark_field_information"]
    assert known[:, -20:].max() < 0.2 * known[:, :20].mean()
    tensor = retrieve(*_poisson(frames, frames, 1e4), **TENSOR)
    assert "dark_field_information" in tensor.diagnostics


def test_bad_speckles_are_found():
    rng = np.random.default_rng(9)
    fine = 1 + 0.2 * ndi.gaussian_filter(rng.normal(size=(2, 64, 64)), (0, 0.4, 0.4))
    result = retrieve(fine, fine * 0.999, **PHASE, gain=0.0)
    assert "speckles-too-fine" in codes(result)
    faint = 1 + 0.05 * (speckle(rng, 2, (64, 64)) - 1)
    result = retrieve(faint, faint * 0.999, **PHASE, gain=0.0)
    assert "speckles-too-faint" in codes(result)


def test_halves_and_doubles():
    rng = np.random.default_rng(1)
    image = ndi.gaussian_filter(rng.normal(size=(1, 41, 56)), (0, 6, 6))
    half = halve(image)
    assert half.shape == (1, 21, 28)
    assert np.isclose(half[:, :20].mean(), image[:, :40].mean())
    # ψ and d are areas in pixels, ln T is a number. Waves of σ = 6 lose (1/6)²/4 in a mean over two pixels.
    for kind, factor in ((PSI, 4.0), (D_XX, 4.0), (LOG_T, 1.0)):
        back = double(half, (kind,), (41, 56))
        assert np.abs(back - factor * image).max() <= 0.05 * factor * np.abs(image).max()


def test_sums_over_blocks_leave_out_what_has_no_weight():
    rng = np.random.default_rng(3)
    image, weights = rng.normal(size=(41, 55)), np.maximum(rng.normal(size=(41, 55)), 0.0)
    expected = [
        np.add.reduceat(np.add.reduceat(part, np.arange(0, 41, 4), axis=0), np.arange(0, 55, 4), axis=1)
        for part in ((weights > 0).astype(float), weights, weights * image, weights * image**2)
    ]
    image[weights == 0] = np.nan
    # Sums of 16 numbers of about 1.
    assert np.abs(block_sums(image, weights, 4) - expected).max() <= 1e-12
    assert block_pixels((41, 55), 4).sum() == 41 * 55


def test_what_counts_as_lost():
    rng = np.random.default_rng(2)
    models, other = speckle(rng, 2, (96, 96)), speckle(rng, 2, (96, 96))
    weights = np.ones_like(models)
    assert lost_share(models, 0.3 * (models - 1), weights, 0.0) == 0.0
    assert lost_share(models, models - other, weights, 0.0) > 0.95
    half = np.where(np.arange(96) < 48, models - other, 0.0)
    assert 0.45 < lost_share(models, half, weights, 0.0) < 0.7
    # Noise that is known is no sign of it, nor is a change of brightness.
    noise = 0.3 * rng.normal(size=models.shape)
    assert lost_share(models, noise, weights, 0.09) < 0.05
    assert lost_share(models, np.full_like(models, 0.3), weights, 0.0) == 0.0


def test_records_travel_with_the_file(tmp_path):
    frames = made(2, {PSI: PSI_TRUE, D: D_TRUE}, noise=0.004)
    result = retrieve(*frames)
    back = xmist.open_result(result.save(tmp_path / "result.h5"))
    assert dict(back.provenance) == dict(result.provenance)
    assert np.array_equal(back.diagnostics["residual"], result.diagnostics["residual"])
    again = xmist.prepare(frames[0], EXPERIMENT, method="full-field")(frames[1], initial=back)
    assert again.provenance["convergence"]["converged"]


def test_a_strongly_refracting_rim_is_no_dark_field(monkeypatch):
    """Water ends at the rim, which scatters nothing; one ring of it is seen without the doubt."""
    stack, experiment, truth = xmist.simulate.currant(shape=(112, 112), positions=4, seed=1)
    y, x = np.mgrid[:112, :112] - 55.5
    ring = np.abs(np.hypot(y, x) - 0.4 * 112) < 4  # the berry fills four fifths
    results = [xmist.retrieve(stack, experiment, method="full-field")]
    monkeypatch.setattr("xmist.methods.full_field.plan.refit_dark_field", lambda data, problem, found: found)
    results.append(xmist.retrieve(stack, experiment, method="full-field"))
    found = [result.dark_field for result in results]
    with_doubt, without = (np.corrcoef(d.ravel(), truth.dark_field.ravel())[0, 1] for d in found)
    assert with_doubt > without + 0.1
    assert found[0][ring].mean() < 0.7 * found[1][ring].mean()
    # φ and T need the data at the rim.
    assert np.array_equal(results[0].phase, results[1].phase)
    assert np.array_equal(results[0].transmission, results[1].transmission)


def test_references_of_white_noise_are_refused():
    """Without its noise such a reference is constant, and D free to grow until the blur takes minutes."""
    frames = np.random.default_rng(1).normal(1000.0, 300.0, (2, 64, 64)).clip(1.0)
    with pytest.raises(InputError) as caught:
        xmist.prepare(frames, EXPERIMENT, method="full-field")
    assert caught.value.codes == ("speckles-missing",)


def test_the_model_is_in_error_where_psi_is_rough():
    y, x = np.mgrid[:64, :64].astype(np.float32)
    smooth, bump = 0.01 * x**2, 4.0 * np.exp(-((x - 32) ** 2 + (y - 32) ** 2) / 4)
    factors = model_error_weights(smooth + bump, smoothing=2.0, curvature=0.05, noise=1e-5)
    assert factors[8:24, 8:24].min() > 0.99
    assert factors[32, 32] < 0.01
