"""What is known about a sample besides its frames: a start, bare beam, a material, what D can be."""

import numpy as np
import pytest
import scipy.ndimage as ndi

import xmist
from tests.coded import coded
from tests.manufactured import EXPERIMENT, blob
from tests.methods.full_field_frames import (
    D_TRUE,
    PSI_AT_SAMPLE,
    PSI_TRUE,
    SCATTER,
    SHAPE,
    TENSOR,
    K,
    P,
    Z,
    codes,
    made,
    noisy,
    relative,
    retrieve,
)
from xmist.methods.full_field import FullFieldOptions
from xmist.numerics.operators.transport import LOG_T, PSI, D

PER_PSI, PER_D = K * P**2 / Z, P**2 / Z


def _bump(y, x, radius):
    """Exactly 0 beyond its radius in pixels."""
    yy, xx = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return np.clip(1 - ((yy - y) ** 2 + (xx - x) ** 2) / radius**2, 0, None) ** 3


# It leaves the field of view on the right.
PSI_EDGE = -14 * _bump(50, 78, 36) - 6 * _bump(30, 104, 30)
D_EDGE = 0.2 * _bump(60, 96, 30)


def _iterations(result):
    return sum(result.provenance["convergence"]["iterations"])


def test_a_start_saves_steps_and_changes_nothing():
    plan = xmist.prepare(noisy()[0], EXPERIMENT, method="full-field", **SCATTER)
    cold = plan(noisy()[1])
    warm = plan(noisy()[1], initial=cold)
    # The outer steps stop where the objective changes by a hundredth, far below the noise's own part.
    assert relative(warm.phase, cold.phase) <= 1e-3
    assert relative(warm.dark_field, cold.dark_field) <= 1e-2
    assert _iterations(warm) <= 0.6 * _iterations(cold)
    assert warm.options["initial"] == "a result of full-field"
    assert cold.options["initial"] is None


def test_a_start_by_another_method_will_do_and_a_wrong_one_is_not_used():
    cold = retrieve(*noisy())
    stack = xmist.SpeckleStack(*noisy())
    result = retrieve(*noisy(), initial=xmist.retrieve(stack, EXPERIMENT, method="mist", smoothing=2.0))
    assert relative(result.phase, cold.phase) <= 1e-2
    wrong = xmist.Retrieval(
        method="mist", experiment=EXPERIMENT, flags=np.zeros(SHAPE, np.uint16), phase=-cold.phase
    )
    result = retrieve(*noisy(), initial=wrong)
    assert np.array_equal(result.phase, cold.phase)
    assert "initial-unused" in codes(result)


def test_a_start_that_does_not_fit_is_refused():
    plan = xmist.prepare(noisy()[0], EXPERIMENT, method="full-field")
    flags = np.zeros((8, 9), np.uint16)
    small = xmist.Retrieval(method="mist", experiment=EXPERIMENT, flags=flags, phase=np.zeros((8, 9)))
    with pytest.raises(xmist.InputError, check=coded("shape-mismatch", names=["initial"])):
        plan(noisy()[1], initial=small)


@pytest.fixture(scope="module")
def leaving():
    """Frames of a sample that leaves the field of view."""
    return made(3, {PSI: PSI_EDGE, D: D_EDGE}, noise=0.004)


def test_bare_beam_is_bare_and_nothing_rings(leaving):
    box = (0, SHAPE[0], 0, 30)
    result = retrieve(*leaving, background=box, **SCATTER)
    part = np.s_[:, :30]
    assert not result.phase[part].any()
    assert not result.dark_field[part].any()
    # φ needs no shift of its zero; the wide waves of its noise are some hundredths of its size.
    assert relative(result.phase / PER_PSI, PSI_EDGE) <= 0.02
    free = retrieve(*leaving, **SCATTER)
    error = [np.abs(r.dark_field / PER_D - D_EDGE)[:, 30:].mean() for r in (result, free)]
    assert error[0] <= 1.1 * error[1]
    # Neither the border that the sample leaves by, where half of the neighbours are missing, nor that of the
    # box stands out.
    psi_error = result.phase / PER_PSI - PSI_EDGE
    rough = np.abs(ndi.laplace(psi_error))
    for edge in (np.s_[4:-4, -6:], np.s_[4:-4, 31:37]):
        assert rough[edge].mean() <= 3.5 * rough[4:-4, 45:-10].mean()
    mask = np.zeros(SHAPE, bool)
    mask[part] = True
    same = retrieve(*leaving, background=mask, **SCATTER)
    assert np.array_equal(same.phase, result.phase)
    assert same.options["background"] == f"a mask of {mask.sum()} pixels"


@pytest.mark.parametrize(
    "background",
    [
        (0, 4, 5),
        (4, 4, 0, 5),
        np.zeros(SHAPE, bool),
        np.ones((4, 5), bool),
        (0, 4, 0, 4000),
        (0, SHAPE[0], 0, SHAPE[1]),
    ],
    ids=["three numbers", "empty", "no pixel", "other shape", "outside", "every pixel"],
)
def test_wrong_background(background):
    with pytest.raises(xmist.InputError, check=coded("option-invalid", names=["background"])):
        xmist.prepare(noisy()[0], EXPERIMENT, method="full-field", background=background)


@pytest.mark.parametrize("positions", [1, 2])
def test_a_material_ties_phase_to_transmission(positions):
    gamma = 400.0
    length2 = gamma * Z / (2 * K * P**2)
    psi = PSI_TRUE - PSI_TRUE.max()
    fields = {PSI: psi, D: D_TRUE, LOG_T: psi / length2}
    reference, sample = made(positions, fields, noise=0.004)
    result = retrieve(reference, sample, delta_over_beta=gamma)
    # The zero of φ is that of ln T: nothing is shifted.
    assert np.allclose(result.phase, gamma / 2 * np.log(result.transmission), atol=1e-4 * np.abs(psi).max())
    # D takes part of what one image says about the thickness.
    assert relative(result.phase / PER_PSI, psi) <= (2e-2 if positions == 1 else 5e-3)
    assert np.abs(result.transmission - np.exp(psi / length2)).max() <= 5e-3
    agreement = np.corrcoef(result.dark_field.ravel(), D_TRUE.ravel())[0, 1]
    assert agreement >= (0.2 if positions == 1 else 0.98)
    assert ("dark-field-one-position" in codes(result)) == (positions == 1)


@pytest.fixture(scope="module")
def plateau():
    """Frames of a dark-field with edges, 0 elsewhere, and it."""
    yy, xx = np.mgrid[: SHAPE[0], : SHAPE[1]]
    d = 0.15 * ndi.gaussian_filter(((yy > 30) & (yy < 70) & (xx > 40) & (xx < 80)).astype(float), 0.7)
    return made(3, {PSI: PSI_TRUE, D: d}, noise=0.006), d


def _dark(frames, **options):
    return retrieve(*frames, **SCATTER, **options).dark_field / PER_D


def test_a_dark_field_that_may_not_be_negative(plateau):
    frames, d = plateau
    plain, bounded = _dark(frames), _dark(frames, prior="non-negative")
    assert plain.min() < -1e-3
    assert bounded.min() >= 0.0
    # A bound that the truth keeps brings an estimate nearer to it (on average; here it does).
    assert relative(bounded, d) <= 1.001 * relative(plain, d)


@pytest.mark.parametrize("prior", ["huber", "tv"])
def test_edges_of_the_dark_field_stay_sharp(plateau, prior):
    frames, d = plateau
    plain, sharp = _dark(frames, prior="h1"), _dark(frames, prior=prior)
    # A quadratic prior of any strength trades noise for edges; counting large slopes once does not.
    assert relative(sharp, d) <= 0.7 * relative(plain, d)


def test_a_tensor_that_may_not_be_negative():
    reference, sample = made(5, {PSI: PSI_TRUE, D: D_TRUE}, noise=0.004)
    result = retrieve(reference, sample, **TENSOR, prior="non-negative", regularisation=1.0)
    xx, xy, yy = result.dark_field_tensor.astype(float)
    least = (xx + yy) / 2 - np.hypot((xx - yy) / 2, xy)
    assert least.min() >= -1e-6 * np.abs(xx).max()


def test_large_shifts_are_solved_coarse_to_fine():
    shape = (96, 112)
    psi = -blob(shape, 0.5, 0.5, 0.2) + 0.6 * blob(shape, 0.3, 0.7, 0.12)
    # Speckles of 5 pixels (4 √ln 2 σ), shifts of 5.
    psi *= 5.0 / np.hypot(*np.gradient(psi)).max()
    psi -= psi.mean()
    reference, sample = made(2, {PSI: psi}, noise=0.004, shape=shape, grain=1.5)
    result = retrieve(reference, sample)
    assert result.provenance["convergence"]["binning"] == 2
    assert "large-shifts" in codes(result)
    assert result.provenance["convergence"]["converged"]
    assert relative(result.phase / PER_PSI, psi) <= 0.02


def test_without_noise_the_priors_give_way():
    reference, sample = made(3, {PSI: PSI_TRUE, D: D_TRUE})
    for options, phase, dark in (({}, 1e-4, 1e-3), ({"regularisation": 0.0}, 1e-5, 3e-4)):
        result = retrieve(reference, sample, **SCATTER, gain=0.0, **options)
        # Frames of single precision are rounded by 6e-8, which D feels ten times as much as φ.
        assert relative(result.phase / PER_PSI, PSI_AT_SAMPLE) <= phase
        assert relative(result.dark_field / PER_D, D_TRUE) <= dark
        assert result.provenance["convergence"]["converged"]
    assert result.provenance["convergence"]["prior_strengths"] == [0.0, 0.0]


def test_a_box_may_be_a_list_as_in_a_configuration_file():
    assert FullFieldOptions(background=[0, 4, 0, 9]).background == (0, 4, 0, 9)


def test_options_are_kept_as_plain_data(leaving, tmp_path):
    box = np.array([0, 20, 0, 30])
    result = retrieve(*leaving, background=box, prior="tv", **SCATTER, regularisation=2.0)
    back = xmist.open_result(result.save(tmp_path / "result.h5"))
    assert back.options["background"] == (0, 20, 0, 30)
    assert back.options["prior"] == "tv"
