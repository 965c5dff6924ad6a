"""Frames whose sample has a fine pattern, which each exposure sees from another side."""

import numpy as np
import pytest
import scipy.ndimage as ndi

import xmist
from tests.manufactured import EXPERIMENT, blob, laplacian6, speckle
from xmist.methods.full_field import correct_parallax, plan
from xmist.numerics.operators.parallax import Pattern

P, Z = EXPERIMENT.effective_pixel, EXPERIMENT.effective_distance
SHAPE = (96, 96)
NOISE = 0.004
SCATTER = 0.15 * blob(SHAPE, 0.5, 0.5, 0.25)


def _slopes(image):
    return [ndi.correlate1d(image, [-0.5, 0.0, 0.5], axis=axis, mode="reflect") for axis in (0, 1)]


def _bent(frame):
    """−∇∇⁻²(I − 1) by Fourier series of the mirrored frame, for y and x."""
    mirrored = np.pad(frame - frame.mean(), ((0, SHAPE[0]), (0, SHAPE[1])), mode="symmetric")
    ky, kx = (2 * np.pi * np.fft.fftfreq(size) for size in mirrored.shape)
    k2 = ky[:, None] ** 2 + kx**2
    k2[0, 0] = 1.0
    potential = np.fft.ifft2(np.fft.fft2(mirrored) / k2).real[: SHAPE[0], : SHAPE[1]]
    return _slopes(potential)


def _warp(psi):
    """Move intensity by the slopes of ψ: where what arrives came from, and by how much it is denser."""
    here = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float)
    back = here
    for _ in range(20):
        back = here - [ndi.map_coordinates(line, back, order=5, mode="reflect") for line in _slopes(psi)]
    (yy, yx), (xy, xx) = (np.gradient(line) for line in back)
    return lambda frame: (yy * xx - yx * xy) * ndi.map_coordinates(frame, back, order=5, mode="reflect")


def _frames(part, seed=0, positions=4, log_t=None, warp=lambda frame: frame):
    """S = T I + ∇²(D I) − ∇·(I u), T and u, the slopes of a rough ψ, where the rays crossed the sample."""
    rng = np.random.default_rng(seed)
    reference = speckle(rng, positions, SHAPE, 1.8)
    reference /= reference.mean()
    rough = ndi.gaussian_filter(rng.normal(size=SHAPE), 0.9)
    rough *= blob(SHAPE, 0.5, 0.5, 0.3)
    rough *= 0.1 / laplacian6(rough).std()
    u = _slopes(rough)
    sample = []
    for frame in reference:
        y, x = (a - part * b for a, b in zip(np.mgrid[: SHAPE[0], : SHAPE[1]], _bent(frame), strict=True))
        moved = [ndi.map_coordinates(line, [y, x], order=5, mode="reflect") for line in u]
        flow = sum(_slopes(frame * line)[axis] for axis, line in enumerate(moved))
        moved_t = 1.0
        if log_t is not None:
            moved_t = np.exp(ndi.map_coordinates(log_t, [y, x], order=5, mode="reflect"))
        sample.append(warp(moved_t * (frame + laplacian6(SCATTER * frame) - flow)))
    noise = NOISE * rng.normal(size=(2, *reference.shape)) * np.sqrt(reference)
    return xmist.SpeckleStack(reference, np.array(sample) + noise[1])


def _retrieve(stack, *, transmission=False, **options):
    return xmist.retrieve(
        stack, EXPERIMENT, method="full-field", gain=NOISE**2, transmission=transmission, **options
    )


def _error(result):
    return np.sqrt(np.mean((result.dark_field * Z / P**2 - SCATTER) ** 2))


def test_a_moving_pattern_is_followed(monkeypatch):
    stack = _frames(0.3)
    result = _retrieve(stack, regularisation=1.0)
    record = result.provenance["convergence"]
    # Read once, from a pattern that is blurred by what it has moved (18 % too large as measured).
    assert abs(record["parallax"] / 0.3 - 1.0) <= 0.3
    assert record["converged"]
    monkeypatch.setattr(plan, "correct_parallax", lambda data, problem, found: (data, found))
    still = _retrieve(stack, regularisation=1.0)
    assert still.provenance["convergence"]["parallax"] == 0.0
    assert _error(result) <= 0.5 * _error(still)
    assert record["reduced_chi_squared"] < 0.2 * still.provenance["convergence"]["reduced_chi_squared"]


def test_the_pattern_is_displaced_by_rays_that_the_sample_has_moved(monkeypatch):
    """Speckles arrive up to 1.8 pixels, half their size, from where the reference has them."""
    stack = _frames(0.3, warp=_warp(-45.0 * ndi.gaussian_filter(blob(SHAPE, 0.5, 0.5, 0.22), 2.0)))

    def level():
        return _retrieve(stack, regularisation=1.0).provenance["convergence"]["reduced_chi_squared"]

    right = level()
    monkeypatch.setattr(correct_parallax, "_carried", lambda images, back, threads: images.copy())
    # About 1.4 is left without parallax, by the second order of the pattern itself.
    assert right - 1.4 <= 0.75 * (level() - 1.4)


@pytest.mark.parametrize("part", [0.0, -0.5])
def test_a_pattern_that_stands_still_is_left_alone(part):
    """Nor is one followed that moves against the beam: no diffuser upstream of a detector does so."""
    assert _retrieve(_frames(part)).provenance["convergence"]["parallax"] == 0.0


def test_smooth_attenuation_moves_with_the_beam(monkeypatch):
    """−s·∇ ln T is taken for a displacement of speckles, of p ⟨(I − 1)²⟩/⟨|∇I|²⟩ ∇ ln T."""
    log_t = -0.2 * blob(SHAPE, 0.5, 0.5, 0.25)
    stack = _frames(0.3, log_t=log_t)
    found = _retrieve(stack, regularisation=1.0, transmission=True)
    monkeypatch.setattr(Pattern, "with_attenuation", lambda pattern, _: pattern)
    still = _retrieve(stack, regularisation=1.0, transmission=True)
    left, wrong = (
        np.polyfit(log_t.ravel(), (r.phase * Z / (EXPERIMENT.wavenumber * P**2)).ravel(), 1)[0]
        for r in (found, still)
    )
    size = np.mean([np.var(frame) / np.square(_slopes(frame)).sum(0).mean() for frame in stack.reference])
    # To first order in the speckles' contrast, a quarter here.
    assert abs(wrong / (0.3 * size) - 1.0) <= 0.25
    assert abs((wrong - left) / (found.provenance["convergence"]["parallax"] * size) - 1.0) <= 0.25
