"""The offset of a sample between two frames that overlap."""

import numpy as np
import scipy.ndimage as ndi

from tests.manufactured import speckle
from xmist.numerics.images.overlap import OverlapFrame, offset_between

SIDE = 72
OFFSET = np.array([0.4, -30.3])


def frames(noise=0.0, seed=0, hidden=None):
    """Two frames of one sample, V = 0.8, with the maps that windows would show, displaced and smooth."""
    rng = np.random.default_rng(seed)
    reference = speckle(rng, 1, (SIDE + 24, SIDE + 24), 1.7)[0]
    spline = ndi.spline_filter(reference, order=5)
    inner = reference[12:-12, 12:-12].astype(np.float32)
    mean = np.pad(ndi.uniform_filter(inner, 9, mode="nearest"), 12, mode="edge")
    out = []
    for s in (np.zeros(2), OFFSET):
        y, x = np.mgrid[:SIDE, :SIDE] - s[:, None, None]
        u = np.stack([np.cos(x / 7) * np.sin(y / 9) / 7, np.sin(x / 7) * np.cos(y / 9) / 9]) * 4
        transmission = np.exp(-0.1 * (1 + np.sin(x / 4) * np.sin(y / 5)))
        at = np.mgrid[:SIDE, :SIDE] + 12 - u[::-1]
        moved, slow = (
            ndi.map_coordinates(image, at, order=5, prefilter=prefilter)
            for image, prefilter in ((spline, False), (mean, True))
        )
        sample = transmission * (slow + 0.8 * (moved - slow)) + noise * rng.normal(size=(SIDE, SIDE))
        maps = np.stack([*u, ndi.uniform_filter(transmission, 9), np.full_like(u[0], 0.8)])
        weights = np.ones(inner.shape, np.float32)
        if hidden is not None:
            weights[30:36, 40:46], sample[30:36, 40:46] = 0, hidden
        out.append(OverlapFrame.of(inner, sample, weights, maps, 9))
    return out


def test_offset_and_its_information():
    one, other = frames(noise=0.005)
    change, normal = offset_between(one, other, np.rint(OFFSET))
    error = change - (OFFSET - np.rint(OFFSET))
    # 900 pixels of a T with slopes of 0.02 tell it to 0.02; what the fields leave is in the matrix.
    assert np.abs(error).max() <= 0.08
    assert error @ normal @ error <= 12  # χ² of two numbers: 0.25 %


def test_frames_that_do_not_overlap():
    one, other = frames()
    assert offset_between(one, other, np.array([0.0, -60.0])) is None


def test_what_has_no_weight_has_no_influence():
    found = [offset_between(*frames(0.005, hidden=value), np.rint(OFFSET)) for value in (1.0, 1e9, np.nan)]
    assert all(np.array_equal(change, found[0][0]) for change, _ in found)
