"""The picture of a directional dark-field: colours that mean what the wheel says."""

import colorsys

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from tests.view.drawings import EXPERIMENT, image_axes, make_result, pixels
from xmist import Retrieval
from xmist.view.figures import comparison, direction_colours, figure, page, wheel_colours


def _tensor(angle, larger, smaller, shape=(4, 5)):
    """A tensor image with its major axis at an angle in degrees from +x towards +y."""
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    parts = larger * c * c + smaller * s * s, (larger - smaller) * c * s, larger * s * s + smaller * c * c
    return np.ones((3, *shape)) * np.reshape(parts, (3, 1, 1))


@pytest.mark.parametrize("angle", range(0, 180, 30))
def test_hue_is_direction_saturation_anisotropy_and_value_strength(angle):
    colours = direction_colours(_tensor(angle, 3.0, 1.0), brightest=8.0)
    assert colours.shape == (4, 5, 3)
    hue, saturation, value = colorsys.rgb_to_hsv(*colours[0, 0])
    assert abs((hue * 180 - angle + 90) % 180 - 90) <= 1e-9
    assert abs(saturation - 0.5) <= 1e-12  # (3 − 1)/(3 + 1)
    assert abs(value - 0.5) <= 1e-12  # √(2/8)


@pytest.mark.parametrize("mistake", [None, "y upwards", "minor axis", "mixed term twice"])
def test_wheel_agrees_with_the_image(mistake):
    wheel = wheel_colours(101)
    for angle in (20, 75, 110, 160):
        tensor = _tensor(angle, 1.0, 0.4)
        if mistake == "y upwards":
            tensor[1] *= -1
        elif mistake == "minor axis":
            tensor = _tensor(angle + 90, 1.0, 0.4)
        elif mistake == "mixed term twice":
            tensor[1] *= 2
        colour = direction_colours(tensor, brightest=0.7)[0, 0]
        # From the middle, x to the right and y downwards, as far out as the anisotropy, and opposite.
        step = 50 * (0.6 / 1.4) * np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])
        away = []
        for sign in (1, -1):
            x, y = np.rint(50 + sign * step).astype(int)
            away.append(np.abs(wheel[y, x, :3] - colour).max())
        # Half a pixel of 21 is a fortieth of a radian; a hue runs through six ramps in π.
        assert max(away) <= 0.1 if mistake is None else max(away) > 0.15
    assert (wheel[..., 3] == (np.hypot(*(np.mgrid[:101, :101] - 50)) <= 50)).all()


def test_a_negative_eigenvalue_is_shown_as_none():
    colours = direction_colours(_tensor(60, 2.0, -1.0), brightest=1.0)
    assert np.allclose(colours, direction_colours(_tensor(60, 2.0, 0.0), brightest=1.0))
    assert not direction_colours(_tensor(60, -1.0, -2.0), brightest=1.0).any()
    assert not direction_colours(np.zeros((3, 4, 5)), brightest=0.0).any()


def test_a_pixel_without_a_value_has_no_colour():
    tensor = _tensor(30, 1.0, 0.5)
    tensor[:, 2, 3] = np.nan
    colours = direction_colours(tensor, brightest=1.0)
    assert np.isnan(colours[2, 3]).all()
    assert np.isnan(colours).sum() == 3


def test_figure_shows_the_directions_of_a_tensor():
    tensor = np.concatenate([_tensor(0, 2e-11, 0.0, (30, 40)), _tensor(60, 1e-11, 0.0, (30, 40))], axis=2)
    tensor[:, :4, :4] = np.nan
    flags = np.zeros((30, 80), np.uint16)
    flags[:4, :4] = 32
    flags[-1, -1] = 16
    tensor[:, -1, -1] *= 1e6  # flagged: no part of the limit
    result = Retrieval(method="mist", experiment=EXPERIMENT, flags=flags, dark_field_tensor=tensor)
    drawn = figure(result)
    pixels(drawn)
    first = image_axes(drawn)[0]
    assert first.get_title(loc="left") == "direction of scatter"
    shown = np.asarray(first.images[0].get_array())
    assert np.allclose(shown[:4, :4], to_rgb(page.NO_VALUE))
    assert np.allclose(shown[10, 10], (1, 0, 0), atol=1e-6)  # red: along x, full
    hue, saturation, value = colorsys.rgb_to_hsv(*shown[10, 60])
    assert np.allclose((hue * 180, saturation, value), (60, 1, 0.5**0.5), atol=1e-3)
    wheel = next(axes for axes in drawn.axes if axes.get_label() == "legend")
    assert "D = 10 pm" in wheel.texts[0].get_text()


def test_no_tensor_no_wheel():
    drawn = figure(make_result())
    assert all(axes.get_label() != "legend" for axes in drawn.axes)
    both = make_result(names=("phase", "dark_field_tensor"))
    assert all(axes.get_label() != "legend" for axes in figure(both, channels=["phase"]).axes)


def test_a_tensor_that_is_nothing_everywhere_is_drawn():
    flags = np.zeros((12, 15), np.uint16)
    for value in (0.0, np.nan):
        tensor = np.full((3, 12, 15), value)
        pixels(figure(Retrieval(method="mist", experiment=EXPERIMENT, flags=flags, dark_field_tensor=tensor)))


SHAPE = (60, 80)


def _result(**channels):
    return make_result(SHAPE, names=(), holes=False, **channels)


def _coloured(drawn):
    images = [image.get_array() for axes in image_axes(drawn) for image in axes.images]
    return [image for image in images if image.ndim == 3]


def test_a_comparison_shows_directions_in_one_brightness():
    along, across = _tensor(20, 2.0, 0.5, SHAPE), _tensor(110, 1.0, 0.25, SHAPE)
    rows = {
        "first": _result(dark_field=(along[0] + along[2]) / 2, dark_field_tensor=along),
        "second": _result(dark_field=(across[0] + across[2]) / 2, dark_field_tensor=across),
        "scalar": _result(dark_field=(across[0] + across[2]) / 2),
    }
    drawn = comparison(rows, ["dark_field", "dark_field_tensor"])
    pictures = _coloured(drawn)
    assert len(pictures) == 2
    for picture, tensor in zip(pictures, (along, across), strict=True):
        assert np.allclose(picture, direction_colours(tensor, brightest=1.25), atol=1e-6)
    words = " ".join(text.get_text() for axes in drawn.axes for text in axes.texts)
    assert "full brightness" in words
    assert [text.get_text() for text in drawn.texts].count("not given") >= 1
    scalar = comparison(rows, ["dark_field"])
    assert not any(axes.get_label() == "legend" for axes in scalar.axes)


def test_a_truth_sets_the_brightness():
    truth = {"dark_field_tensor": _tensor(20, 4.0, 1.0, SHAPE)}
    tensor = _tensor(110, 1.0, 0.25, SHAPE)
    drawn = comparison({"row": _result(dark_field_tensor=tensor)}, ["dark_field_tensor"], truth)
    pictures = _coloured(drawn)
    assert np.allclose(pictures[1], direction_colours(tensor, brightest=2.5), atol=1e-6)
