"""What is wrong with frames is found before a method uses them, and good frames are not suspected."""

import functools

import numpy as np
import pytest
import scipy.ndimage as ndi

import xmist
from tests.manufactured import EXPERIMENT, speckle
from tests.methods.window_frames import moved
from xmist.methods.common.frames import check_frames

SHAPE = (128, 128)
METHODS = ("mist-attenuating", "lcs", "umpa")
NUMBER = 4


def experiment(seed, number=NUMBER, shape=SHAPE, photons=5000.0, grain=1.7):
    """Counts of a random sample that attenuates, refracts and blurs, in part of the frame."""
    random = np.random.default_rng(seed)
    reference = speckle(random, number, shape, grain)
    y, x = np.mgrid[: shape[0], : shape[1]]
    place = 0.3 + 0.4 * random.random(2)
    r2 = ((y / shape[0] - place[0]) ** 2 + (x / shape[1] - place[1]) ** 2) / (
        0.1 + 0.2 * random.random()
    ) ** 2
    part = np.maximum(0.0, 1.0 - r2) ** 2
    psi = -20.0 * random.random() * part
    blurred = np.stack([ndi.gaussian_filter(frame, 0.8) for frame in reference])
    sample = (1.0 - part) * moved(reference, *np.gradient(psi)[::-1]) + part * blurred
    sample *= 1.0 - 0.4 * random.random() * part
    return tuple(random.poisson(photons * frames).astype(np.float32) for frames in (reference, sample))


@functools.cache
def frames():
    return experiment(4)


def codes(reference, sample, method):
    result = xmist.retrieve(xmist.SpeckleStack(reference, sample), EXPERIMENT, method=method)
    return {found.code for found in result.findings}


PAIRING = {"pairs-swapped", "pairs-turned", "pairs-unmatched", "positions-repeated"}
FRAMES = PAIRING | {
    "visibility-differs",
    "flux-falls",
    "counts-cut",
    "unequal-flux",
    "flux-differs",
    "sample-brighter",
    "sample-sharper",
    "frames-exchanged",
}


def swapped(reference, sample):
    return reference, sample[[1, 0, 2, 3]]


def mirrored(reference, sample):
    return reference, np.ascontiguousarray(sample[:, :, ::-1])


def rotated(reference, sample):
    return reference, np.ascontiguousarray(sample[:, ::-1, ::-1])


def unmatched(reference, sample):
    return reference, np.concatenate([sample[:3], experiment(7)[1][3:]])


def shifted_by_one(reference, sample):
    """A frame is missing, so that all that follow are paired with the next."""
    return reference[:3], sample[1:]


def repeated(reference, sample):
    return reference[[0, 1, 2, 1]], sample[[0, 1, 2, 1]]


def blurred(reference, sample):
    one, other = (ndi.gaussian_filter(images[2], 2.4) for images in (reference, sample))
    return (np.stack([*images[:2], soft, images[3]]) for images, soft in ((reference, one), (sample, other)))


def moved_meanwhile(reference, sample):
    return reference, np.stack([*sample[:3], ndi.uniform_filter(sample[3], (1, 5))])


def saturated(reference, sample):
    return reference, np.stack([*sample[:3], np.minimum(sample[3], np.quantile(sample[3], 0.95))])


def decaying(reference, sample):
    beam = np.exp(-0.05 * np.arange(NUMBER))[:, None, None]
    return beam * reference, beam * sample


def exposed_longer(reference, sample):
    return 0.5 * reference, sample


def exchanged(reference, sample):
    return sample, reference


@pytest.mark.parametrize(
    ("situation", "expected"),
    [
        (swapped, {"pairs-swapped"}),
        (mirrored, {"pairs-turned"}),
        (rotated, {"pairs-turned"}),
        (unmatched, {"pairs-unmatched"}),
        (shifted_by_one, {"pairs-swapped", "pairs-unmatched"}),
        (repeated, {"positions-repeated"}),
        (blurred, {"visibility-differs"}),
        (moved_meanwhile, {"visibility-differs"}),
        (saturated, {"counts-cut"}),
        (decaying, {"flux-falls"}),
        (exchanged, {"frames-exchanged"}),
    ],
)
def test_a_situation_is_found(situation, expected):
    # check_frames is what all methods call.
    found = {record.code for record in check_frames(*situation(*frames()), None, may_attenuate=True)}
    assert expected <= found


@pytest.mark.parametrize("number", [1, 3])
def test_a_frame_without_speckles_is_found(number):
    reference, sample = (images[:number].copy() for images in frames())
    sample[0] = sample[0].mean()
    assert "pairs-unmatched" in {
        one.code for one in check_frames(reference, sample, None, may_attenuate=True)
    }
    check_frames(np.ones_like(reference), sample, None, may_attenuate=True)  # a Python warning is an error


@pytest.mark.parametrize("method", METHODS)
def test_another_position_is_found(method):
    assert {"flux-differs", "sample-brighter"} <= codes(*exposed_longer(*frames()), method)


def test_a_beam_that_converges_is_not_brighter():
    # Speckles move to the middle, and 3 % more flux comes in; without the motion it is another beam.
    y, x = (part - (size - 1) / 2 for part, size in zip(np.mgrid[: SHAPE[0], : SHAPE[1]], SHAPE, strict=True))
    reference = speckle(np.random.default_rng(3), 2, SHAPE, 1.7)
    converged = 1.03 * moved(reference, -0.015 * x, -0.015 * y)
    for sample, expected in ((converged, set()), (1.03 * reference, {"sample-brighter"})):
        assert {one.code for one in check_frames(reference, sample, None, may_attenuate=True)} == expected


@pytest.mark.parametrize("seed", range(20))
def test_good_frames_are_not_suspected(seed):
    random = np.random.default_rng(100 + seed)
    number, grain = int(random.integers(1, 7)), float(random.uniform(1.0, 3.5))
    photons = float(10.0 ** random.uniform(2.0, 4.5))
    reference, sample = experiment(seed, number, (96, 112), photons, grain)
    if seed % 2:
        weights = (random.random(sample.shape) > 0.05).astype(np.float32)
        sample = np.where(weights > 0, sample, np.float32(np.nan))
    found = {record.code for record in check_frames(reference, sample, None, may_attenuate=True)}
    assert not found & FRAMES
