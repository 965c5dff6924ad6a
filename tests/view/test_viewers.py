"""Results in the programs that people look with: silx, h5web's rules, ImageJ's and Pillow's tags, xarray."""

import h5py
import numpy as np
import pytest
import silx.io
import tifffile
from PIL import Image as Picture
from silx.io import nxdata

from tests.io.results import CONE, make_result
from xmist import CHANNELS

PIXEL = CONE.effective_pixel
SHAPE = (12, 17)


@pytest.fixture(scope="module")
def result():
    return make_result(SHAPE, names=tuple(CHANNELS))


@pytest.fixture(scope="module")
def saved(result, tmp_path_factory):
    return result.save(tmp_path_factory.mktemp("viewers") / "result.h5")


def test_silx_shows_the_phase_with_its_axes_in_metres(result, saved):
    with silx.io.open(str(saved)) as file:
        shown = nxdata.get_default(file)
        assert shown.is_image
        np.testing.assert_array_equal(shown.signal[()], result.phase)
        assert shown.signal_name == "phase φ (rad)"
        assert shown.title == "phase"
        assert shown.axes_dataset_names == ["y", "x"]
        for axis, size in zip(shown.axes, SHAPE, strict=True):
            np.testing.assert_allclose(axis[()], np.arange(size) * PIXEL, rtol=1e-12)
            assert axis.attrs["units"] == "m"
        assert [name.endswith("(m)") for name in shown.axes_names] == [True, True]


def test_silx_takes_every_channel_as_valid(result, saved):
    with silx.io.open(str(saved)) as file:
        for name, image in result.channels():
            group = file["entry"][name]
            assert nxdata.is_valid_nxdata(group), nxdata.get_attr_as_unicode(group, "signal")
            shown = nxdata.NXdata(group)
            assert shown.signal.shape == image.shape
            assert shown.interpretation == "image"
            if CHANNELS[name].components:
                assert [part.decode() for part in shown.axes[0][()]] == list(CHANNELS[name].components)


def _text(value):
    return value.decode() if isinstance(value, bytes) else value


def test_the_rules_of_nxdata_that_h5web_follows(saved):
    """By h5py alone: `default` leads to an NXdata; each has a signal, and an axis for each dimension."""
    with h5py.File(saved) as file:
        group = file
        while "default" in group.attrs:
            group = group[group.attrs["default"]]
        assert group.attrs["NX_class"] == "NXdata"
        groups = []
        file.visititems(
            lambda _, item: groups.append(item) if item.attrs.get("NX_class") == "NXdata" else None
        )
        assert group in groups
        assert len(groups) == len(CHANNELS) + 2 + 1  # derived ones, and the flags
        for group in groups:
            signal = group[group.attrs["signal"]]
            axes = [_text(axis) for axis in group.attrs["axes"]]
            assert len(axes) == signal.ndim
            for number, axis in enumerate(axes):
                assert group[axis].shape == (signal.shape[number],)
                assert group.attrs[f"{axis}_indices"] == number
                assert signal.dims[number].label == axis
            assert axes[-2:] == ["y", "x"]
            assert group["y"].attrs["units"] == group["x"].attrs["units"] == "m"
            assert signal.attrs["interpretation"] == "image"
            assert isinstance(_text(signal.attrs["long_name"]), str)
            name = group.name.rpartition("/")[2]
            if name in CHANNELS:
                assert signal.attrs["units"] == CHANNELS[name].unit
                assert signal.dtype == np.float32
                assert signal.chunks is None  # plain: read by anything, mapped by viewers


def test_imagej_and_pillow_find_size_scale_and_components(result, tmp_path):
    result.save(tmp_path / "berry.tif")
    with tifffile.TiffFile(tmp_path / "berry_dark_field_tensor.tif") as file:
        assert file.is_imagej
        assert file.series[0].axes == "ZYX"
        assert file.imagej_metadata["Labels"] == ["xx", "xy", "yy"]
        assert file.imagej_metadata["unit"] == "um"
        tags = file.pages[0].tags
        numerator, denominator = tags["XResolution"].value
        assert numerator / denominator == pytest.approx(1e-6 / PIXEL, rel=1e-6)  # pixels a micrometre
        assert tags["YResolution"].value == tags["XResolution"].value
    with Picture.open(tmp_path / "berry_phase.tif") as picture:
        assert (picture.size, picture.mode) == (SHAPE[::-1], "F")
        np.testing.assert_array_equal(np.asarray(picture), result.phase)
        x, y = (float(picture.tag_v2[tag]) for tag in (282, 283))
        assert x == y == pytest.approx(1e-6 / PIXEL, rel=1e-6)


def test_xarray_selects_by_metres_and_by_component(result):
    dataset = result.to_xarray()
    assert dict(dataset.sizes) == {"y": 12, "x": 17, "tensor": 3, "direction": 2}
    at = dataset["phase"].sel(y=3.2 * PIXEL, x=5 * PIXEL, method="nearest")
    assert at.item() == result.phase[3, 5]
    np.testing.assert_array_equal(dataset["dark_field_tensor"].sel(tensor="xy"), result.dark_field_tensor[1])
    np.testing.assert_array_equal(dataset["refraction_angle"].sel(direction="y"), result.refraction_angle[1])
    for name, channel in CHANNELS.items():
        assert dataset[name].attrs["units"] == channel.unit
    assert dataset["x"].attrs["units"] == "m"
    part = dataset.isel(y=slice(2, 6)).mean("x")  # arithmetic keeps the axes
    assert part["phase"].dims == ("y",)
