import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xmist.core.errors import InputError
from xmist.numerics.images.tensors import anisotropy, direction, eigenvalues, nearest_positive

sizes = st.floats(-10, 10)


def _tensor(angle, larger, smaller):
    """xx, xy, yy of the tensor with these eigenvalues and its major axis at an angle in degrees."""
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    return np.array(
        [larger * c * c + smaller * s * s, (larger - smaller) * c * s, larger * s * s + smaller * c * c]
    )


@given(st.floats(0, 179.99), sizes, st.floats(0.01, 10))
@settings(max_examples=50)
def test_axis_and_eigenvalues_come_back(angle, smaller, difference):
    larger = smaller + difference
    tensor = _tensor(angle, larger, smaller)
    off = (float(direction(tensor)) - angle + 90) % 180 - 90
    assert abs(off) <= 1e-9 / difference
    assert 0 <= direction(tensor) < 180
    assert np.allclose([float(value) for value in eigenvalues(tensor)], [larger, smaller], atol=1e-13)


@given(sizes, sizes, sizes)
@settings(max_examples=50)
def test_projection_is_that_of_the_eigenvectors(xx, xy, yy):
    values, vectors = np.linalg.eigh([[xx, xy], [xy, yy]])
    exact = vectors @ np.diag(np.maximum(values, 0)) @ vectors.T
    found = nearest_positive([xx, xy, yy])
    assert np.allclose(found, [exact[0, 0], exact[0, 1], exact[1, 1]], atol=1e-12)
    assert np.allclose(nearest_positive(found), found, atol=1e-12)
    low, high = np.maximum(values, 0)
    expected = (high - low) / (high + low) if high > 0 else 0.0
    assert abs(anisotropy([xx, xy, yy]) - expected) <= 1e-6 or high < 1e-6
    assert 0 <= anisotropy([xx, xy, yy]) <= 1


def test_images_of_single_precision_with_nothing_and_with_no_value():
    tensor = np.zeros((3, 4, 5), np.float32)
    tensor[:, 1, 2] = np.nan
    for image in (direction(tensor), anisotropy(tensor), *eigenvalues(tensor), *nearest_positive(tensor)):
        assert image.dtype == np.float32
        assert np.isnan(image[1, 2])
        assert np.isnan(image).sum() == 1
        assert np.nansum(np.abs(image)) == 0


def test_a_hair_below_zero_is_zero():
    assert direction(np.array([1, -1e-12, 0], np.float32)) == 0


@pytest.mark.parametrize("wrong", [np.zeros((2, 4, 4)), np.zeros((3, 4, 4), bool), 1.0])
def test_no_tensor(wrong):
    with pytest.raises(InputError) as caught:
        direction(wrong)
    assert caught.value.codes == ("array-invalid",)
