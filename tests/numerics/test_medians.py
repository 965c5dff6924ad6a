import numpy as np

from xmist.numerics.images.medians import distance_from_median, median_of_nine


def test_median_of_nine():
    image = np.random.default_rng(0).normal(size=(37, 23)).astype(np.float32)
    padded = np.pad(image, 3, mode="edge")
    around = [padded[i : i + 37, j : j + 23] for i in (0, 3, 6) for j in (0, 3, 6)]
    assert np.array_equal(median_of_nine(image, 3), np.median(around, axis=0))


def test_distance_from_median():
    y, x = np.mgrid[:40, :40].astype(np.float32)
    plane = np.stack([x, y])
    wild = plane.copy()
    wild[0, 20, 20] += 8.0
    wild[1, 5, 5] = np.nan
    # The edge, which is repeated, has none of the plane's own; one of 3200 pixels is off by 8.
    inner = np.s_[:, 3:-3, 3:-3]
    assert np.abs((plane - np.stack([median_of_nine(image, 3) for image in plane]))[inner]).max() == 0.0
    assert abs(distance_from_median(wild - plane, 3) / (8.0 / np.sqrt(2 * 40**2)) - 1) <= 1e-2
