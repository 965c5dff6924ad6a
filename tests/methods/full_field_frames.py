"""Frames of the finite model itself, and what tests of `full-field` do with them."""

from functools import cache

import numpy as np
import scipy.ndimage as ndi

import xmist
from tests.manufactured import EXPERIMENT, blob, speckle
from xmist.methods.full_field.problem import FitData
from xmist.numerics.operators.transport import PSI, D
from xmist.numerics.weights import Weights

K, P, Z = EXPERIMENT.wavenumber, EXPERIMENT.effective_pixel, EXPERIMENT.effective_distance
SHAPE = (96, 112)


def made(positions, fields, seed=0, noise=0.0, shape=SHAPE, grain=1.6):
    """Frames of the finite model itself, from unknowns in pixel units."""
    rng = np.random.default_rng(seed)
    reference = speckle(rng, positions, shape, grain)
    reference /= reference.mean()
    return reference, sample_of(reference, fields) + noise * rng.normal(size=reference.shape)


def sample_of(reference, fields):
    zero = np.zeros_like(reference, np.float32)
    data = FitData(reference=reference.astype(np.float32), sample=zero, weights=Weights.of(zero), threads=2)
    kinds = tuple(fields)
    _, residual = data.linearise(kinds, np.stack([fields[kind] for kind in kinds]).astype(np.float32))
    return -np.asarray(residual)


def at_the_sample(psi):
    """Where the rays of `sample_of` cross the sample: rough ψ acts where smooth ψ has moved them to."""
    smooth = ndi.gaussian_filter(psi, 2.0, mode="reflect", truncate=6.0)
    place = np.mgrid[: psi.shape[0], : psi.shape[1]] + np.gradient(smooth)
    rough = psi - smooth
    moved = ndi.map_coordinates(rough, place, order=5, mode="reflect")
    return smooth + moved + 0.5 * np.square(np.gradient(rough)).sum(axis=0)


def retrieve(reference, sample, weights=None, **options):
    return xmist.retrieve(
        xmist.SpeckleStack(reference, sample, weights), EXPERIMENT, method="full-field", **options
    )


# Without attenuation.
PHASE = {"dark_field": "none", "transmission": False}
SCATTER = {"dark_field": "scalar", "transmission": False}
TENSOR = {"dark_field": "tensor", "transmission": False}


def codes(result):
    return {finding.code for finding in result.findings}


def relative(found, exact):
    return np.sqrt(np.mean((found - exact) ** 2) / np.mean(exact**2))


PSI_TRUE = -14 * blob(SHAPE, 0.45, 0.4, 0.2) - 6 * blob(SHAPE, 0.6, 0.65, 0.14)
PSI_TRUE -= PSI_TRUE.mean()
PSI_AT_SAMPLE = at_the_sample(PSI_TRUE)
PSI_AT_SAMPLE -= PSI_AT_SAMPLE.mean()
D_TRUE = 0.2 * blob(SHAPE, 0.5, 0.55, 0.2)
LOG_T_TRUE = -0.5 * blob(SHAPE, 0.45, 0.5, 0.3)


@cache
def noisy():
    """Reference and sample frames of four positions."""
    return made(4, {PSI: PSI_TRUE, D: D_TRUE}, noise=0.004)
