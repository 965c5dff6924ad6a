"""Masks of most pixels, and frames that are none: an error or a warning, never a warning of Python."""

import numpy as np
import pytest

import xmist
from tests.coded import coded
from tests.manufactured import EXPERIMENT, speckle
from tests.methods.noisy_frames import SHAPE, noisy_pair
from xmist import METHODS
from xmist.core.findings import percent, warnings_of

REFERENCE, SAMPLE = noisy_pair()
Y, X = np.mgrid[: SHAPE[0], : SHAPE[1]]


def retrieved(method, reference=REFERENCE, sample=SAMPLE, weights=None):
    options = {"delta_over_beta": 1000.0} if METHODS[method].delta_over_beta == "required" else {}
    return xmist.retrieve(
        xmist.SpeckleStack(reference, sample, weights), EXPERIMENT, method=method, **options
    )


def everywhere(mask):
    return np.broadcast_to(mask, REFERENCE.shape).astype(np.float32)


DENSE = {
    "at random": everywhere(np.random.default_rng(0).random(SHAPE) > 0.7),
    "checkerboard": everywhere((Y + X) % 2 > 0),
}


@pytest.mark.parametrize("mask", DENSE)
@pytest.mark.parametrize("method", list(METHODS))
def test_dense_masks_are_warned_about(method, mask):
    result = retrieved(method, weights=DENSE[mask])
    assert "mask-dense" in {found.code for found in warnings_of(result.findings)}


@pytest.mark.parametrize("method", ["mist", "umpa", "full-field", "optical-flow"])
def test_a_position_that_lacks_half_of_the_frame_costs_little(method):
    weights = np.ones(REFERENCE.shape, np.float32)
    weights[1, :, :24] = 0.0
    plain, result = retrieved(method), retrieved(method, weights=weights)
    codes = {found.code for found in result.findings}
    assert not codes & {"mask-dense", "visibility-differs", "unequal-flux"}
    # Three positions of four: the noise of the refraction angle grows by √(4/3) where one lacks, so that what
    # is added is √(1/3) of it; slow waves of a phase from its Laplacian, and the edge, take the rest.
    one, other = (image.refraction_angle[:, 4:-4, 4:-4] for image in (plain, result))
    assert np.std(other - one) < np.std(one)


FRAMES = {
    "wrapped": (REFERENCE.astype(np.uint16), (SAMPLE.astype(np.int64) - 1300).astype(np.uint16)),
    "negative": (REFERENCE - 1500.0, SAMPLE - 1500.0),
    "negative sample": (REFERENCE, SAMPLE - 1500.0),
    "no light": (0.0 * REFERENCE, 0.0 * SAMPLE),
    "no light in the sample": (REFERENCE, 0.0 * SAMPLE),
    "no light at one position": (REFERENCE, np.arange(4)[:, None, None].clip(0, 1) * SAMPLE),
    "constant": (0.0 * REFERENCE + 5.0, 0.0 * REFERENCE + 5.0),
}


@pytest.mark.parametrize("kind", FRAMES)
@pytest.mark.parametrize("method", list(METHODS))
def test_frames_that_are_none_are_an_error_or_warned_about(method, kind):
    frames = FRAMES[kind]
    if method == "full-field":  # an iterative fit of frames that are none takes long
        frames = tuple(images[..., :32, :32] for images in frames)
    try:
        result = retrieved(method, *frames)  # Python's warnings are errors in tests
    except xmist.InputError:
        return
    found = warnings_of(result.findings)
    assert found or result.flags.all()
    for record in result.findings:
        assert "nan" not in record.message.split()
        assert "e+02 %" not in record.message


def test_shares_read_well():
    assert [percent(share) for share in (1.0, 0.996, 0.45, 0.0123, 1e-7, 0.0)] == [
        "100 %",
        "100 %",
        "45 %",
        "1.2 %",
        "less than 0.001 %",
        "0 %",
    ]


def test_a_mask_that_leaves_no_pixel_is_an_error():
    weights = np.stack([(Y + X + n) % 2 > 0 for n in range(4)]).astype(np.float32)
    stack = xmist.SpeckleStack(REFERENCE, SAMPLE, weights)
    with pytest.raises(xmist.InputError, check=coded("pixels-unusable")):
        xmist.retrieve(stack, EXPERIMENT, method="lcs", smoothing=1.0)


def test_squares_of_pixels_need_no_pixel_beside_a_masked_one():
    # Speckles that squares of 2 pixels resolve, of which a checkerboard leaves no square.
    random = np.random.default_rng(5)
    reference = speckle(random, 4, (128, 128), 4.0)
    counts = (
        random.poisson(2000 * frames).astype(np.float32) for frames in (reference, np.roll(reference, 1, 2))
    )
    y, x = np.mgrid[:128, :128]
    weights = np.broadcast_to((y + x) % 2, reference.shape).astype(np.float32)
    result = xmist.retrieve(xmist.SpeckleStack(*counts, weights), EXPERIMENT, method="mist-gradient-flow")
    assert "mask-dense" in {found.code for found in warnings_of(result.findings)}
    assert np.isfinite(result.dark_field[weights[0] > 0]).all()


@pytest.mark.parametrize("method", ["umpa", "xsvt"])
@pytest.mark.parametrize("masked", [0.1, 0.3])
def test_windows_lose_no_pixel_beside_a_masked_one(method, masked):
    weights = (np.random.default_rng(1).random(REFERENCE.shape) > masked).astype(np.float32)
    plain, result = retrieved(method), retrieved(method, weights=weights)
    one, other = (image.refraction_angle[:, 4:-4, 4:-4] for image in (plain, result))
    # The noise of windows of 0.7 as many pixels grows by √(1/0.7), so that √0.43 of it is added; half as
    # much again for what a masked pixel also takes from the reference.
    assert np.std(other - one) < 1.5 * np.sqrt(0.43) * np.std(one)
