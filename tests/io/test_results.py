"""Results as NeXus HDF5 and as ImageJ TIFF: whole, exact, and readable by others."""

import errno
import itertools
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import xmist
from tests.coded import coded
from tests.io.results import CONE, make_result
from xmist import CHANNELS, FLAGS, InputError, OutputError, Retrieval, open_result
from xmist.core.findings import Finding
from xmist.io import describe, save_result
from xmist.io.results.atomic import leftovers
from xmist.io.results.nexus import differences
from xmist.io.results.plain import from_text, to_text

posix = pytest.mark.skipif(os.name == "nt", reason="Windows has no such limit or signal")


@pytest.fixture
def saved(tmp_path):
    """A saved result and the file it is in."""
    result = make_result(names=("phase", "dark_field_tensor"))
    return result, result.save(tmp_path / "result.h5")


# NeXus, there and back


@settings(max_examples=25)
@given(
    shape=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    names=st.lists(st.sampled_from(list(CHANNELS)), unique=True),
    seed=st.integers(0, 99),
    source=st.none() | st.floats(0.1, 10),
)
def test_every_result_comes_back_bit_for_bit(tmp_path_factory, shape, names, seed, source):
    experiment = xmist.Experiment(
        energy_kev=17.3, pixel_size=5.8e-6, sample_to_detector=0.83, source_to_sample=source
    )
    result = make_result(shape, names, seed=seed, experiment=experiment)
    back = open_result(result.save(tmp_path_factory.mktemp("nexus") / "result.h5"))
    assert (back.method, back.experiment, back.findings) == (result.method, experiment, result.findings)
    assert dict(back.options) == dict(result.options)
    assert dict(back.provenance) == dict(result.provenance)
    assert back.flags.dtype == np.uint16
    np.testing.assert_array_equal(back.flags, result.flags)
    assert [name for name, _ in back.channels()] == [name for name in CHANNELS if name in names]
    for name, image in back.channels():
        assert image.dtype == np.float32
        assert image.tobytes() == getattr(result, name).tobytes(), name
    assert differences(result, back) == []


def test_diagnostics_come_back_and_are_seen_where_they_are(tmp_path):
    maps = {"residual": np.full((12, 17), 1.5), "phase_information": np.arange(204.0).reshape(12, 17)}
    maps["residual"][0, 0] = np.nan
    result = make_result(diagnostics=maps)
    path = result.save(tmp_path / "result.h5")
    back = open_result(path)
    assert differences(result, back) == []
    assert list(back.diagnostics) == list(maps)
    assert back.diagnostics["residual"].dtype == np.float32
    assert not back.diagnostics["residual"].flags.writeable
    assert differences(result, make_result(diagnostics={"residual": maps["residual"]})) == ["diagnostics"]
    assert xmist.io.describe(path)["diagnostics"]["phase_information"]["maximum"] == 203.0
    with h5py.File(path) as file:
        group = file["entry/diagnostics/residual"]
        assert (group.attrs["NX_class"], group.attrs["signal"]) == ("NXdata", "data")
        assert group["y"] == file["entry/phase/y"]
    with h5py.File(path, "r+") as file:
        file["entry/diagnostics"].attrs["maps"] = "residual missing"
    with pytest.raises(InputError, check=coded("result-invalid", names=["diagnostics/missing"])):
        open_result(path)


def test_diagnostics_of_another_shape_are_refused():
    with pytest.raises(
        InputError, check=coded("shape-mismatch", "value-invalid", names=["residual"])
    ) as caught:
        make_result(diagnostics={"residual": np.ones((3, 4)), "a map": np.ones((12, 17))})
    assert len(caught.value.messages) == 2


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False)
    | st.text(st.characters()),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(plain)
def test_plain_data_comes_back_exactly(value):
    data = {"value": value}
    text, places = to_text("options", data)
    back = from_text(text.encode().decode(), places)
    assert back == data  # a tuple does not equal a list, and
    assert repr(back) == repr(data)  # 1, 1.0 and True have their own words


def test_names_of_files_that_are_no_unicode_come_back(tmp_path):
    provenance = {"input": os.fsdecode(b"caf\xe9.edf") if os.name != "nt" else "café.edf", "nul": "a\0b"}
    result = make_result(
        provenance=provenance,
        findings=[Finding("no-light", "warning", text) for text in ("α\0β", provenance["input"])],
    )
    assert differences(result, open_result(result.save(tmp_path / "result.h5"))) == []


def test_numbers_of_numpy_become_plain(tmp_path):
    options = {"ridge": np.float32(0.5), "window": np.int64(5), "positive": np.bool_(True)}
    back = open_result(make_result(options=options).save(tmp_path / "result.h5"))
    assert repr(dict(back.options)) == "{'ridge': 0.5, 'window': 5, 'positive': True}"


def test_what_is_not_plain_is_refused_by_name(tmp_path):
    options = {"background": np.zeros(3), "nested": {"function": (1, print)}, "keys": {1: 2}}
    with pytest.raises(InputError, check=coded(*["value-invalid"] * 3, names=["background"])) as caught:
        make_result(options=options).save(tmp_path / "result.h5")
    assert len(caught.value.messages) == 3
    assert "options['nested']['function'][1]" in caught.value.messages[1]
    assert list(tmp_path.iterdir()) == []


def test_thousands_of_inputs_fit(tmp_path):
    inputs = [{"name": f"scan/projection_{number:05}.edf", "sha256": "a" * 64} for number in range(3000)]
    result = make_result(provenance={"inputs": inputs})
    assert open_result(result.save(tmp_path / "result.h5")).provenance["inputs"] == inputs


def test_equal_results_give_equal_files(tmp_path):
    one, other = (make_result().save(tmp_path / name) for name in ("one.h5", "other.nxs"))
    assert one.read_bytes() == other.read_bytes()


def test_results_are_saved_from_many_threads_at_once(tmp_path):
    results = [make_result((40, 50), seed=seed) for seed in range(8)]
    threads = [
        threading.Thread(target=result.save, args=(tmp_path / f"{number}.h5",))
        for number, result in enumerate(results)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, result in enumerate(results):
        assert differences(result, open_result(tmp_path / f"{number}.h5")) == []


def test_differences_are_named():
    result = make_result()
    changed = result.phase.copy()
    changed[3, 3] += 1
    for name, value in {
        "method": "umpa",
        "experiment": xmist.Experiment(energy_kev=20, pixel_size=1e-6, sample_to_detector=1),
        "options": {"unknowns": ["phase"]},
        "findings": (),
        "provenance": {},
        "flags": result.flags + np.uint16(1),
        "phase": changed,
        "dark_field": None,
        "transmission": changed,
    }.items():
        parts = result.__getstate__() | {name: value}
        assert differences(result, Retrieval(**parts)) == [name]


# NeXus: for other programs


def test_the_default_leads_to_an_image(saved):
    result, path = saved
    with h5py.File(path) as file:
        node = file
        while "default" in node.attrs:
            node = node[node.attrs["default"]]
        assert node.name == "/entry/phase"
        assert node.attrs["NX_class"] == "NXdata"
        signal = node[node.attrs["signal"]]
        assert signal.attrs["interpretation"] == "image"
        np.testing.assert_array_equal(signal[()], result.phase)


def test_the_groups_have_their_nexus_classes(saved):
    _, path = saved
    with h5py.File(path) as file:
        assert file.attrs["NX_class"] == "NXroot"
        entry = file["entry"]
        classes = {name: entry[name].attrs.get("NX_class") for name in entry}
        assert entry.attrs["NX_class"] == "NXentry"
        assert entry["title"].asstr()[()] == "phase, dark-field tensor by mist"
        assert entry["program_name"].asstr()[()] == "xmist"
        assert entry["program_name"].attrs["version"] == xmist.__version__
        assert entry.attrs["xmist_schema"] == 1
    assert {name for name, kind in classes.items() if kind == "NXdata"} == {
        "phase",
        "dark_field_tensor",
        "flags",
    }
    assert classes["experiment"] == "NXcollection"
    assert classes["process"] == "NXprocess"


def test_axes_are_in_metres_in_the_plane_of_the_sample(saved):
    result, path = saved
    magnification = (2.7 + 0.83) / 2.7
    with h5py.File(path) as file:
        for name in ("phase", "dark_field_tensor", "flags"):
            group = file["entry"][name]
            data = group["data"]
            axes = list(group.attrs["axes"])
            assert axes[-2:] == ["y", "x"]
            assert len(axes) == data.ndim
            for index, axis in enumerate(axes):
                assert group.attrs[f"{axis}_indices"] == index
                scale = data.dims[index][0]
                assert scale.is_scale
                assert data.dims[index].label == axis
                assert scale.shape == (data.shape[index],)
                np.testing.assert_array_equal(scale[()], group[axis][()])
            for axis, size in zip("yx", result.shape, strict=True):
                assert group[axis].attrs["units"] == "m"
                np.testing.assert_allclose(
                    group[axis][()], np.arange(size) * 5.8e-6 / magnification, rtol=1e-14
                )
        assert list(file["entry/dark_field_tensor/tensor"].asstr()) == ["xx", "xy", "yy"]


def test_units_and_flags_explain_themselves(saved):
    result, path = saved
    with h5py.File(path) as file:
        assert file["entry/phase/data"].attrs["units"] == "rad"
        assert file["entry/dark_field_tensor/data"].attrs["units"] == "m"
        assert file["entry/phase/data"].attrs["long_name"] == "phase φ (rad)"
        flags = file["entry/flags/data"]
        np.testing.assert_array_equal(flags[()], result.flags)
        assert list(flags.attrs["flag_masks"]) == [flag.bit for flag in FLAGS]
        assert flags.attrs["flag_meanings"].split() == [flag.name for flag in FLAGS]
        assert list(flags.attrs["flag_descriptions"]) == [flag.meaning for flag in FLAGS]


def test_the_experiment_stands_with_units(saved):
    _, path = saved
    with h5py.File(path) as file:
        found = {name: (data[()], data.attrs["units"]) for name, data in file["entry/experiment"].items()}
    assert found == {
        "energy_kev": (17.3, "keV"),
        "pixel_size": (5.8e-6, "m"),
        "sample_to_detector": (0.83, "m"),
        "source_to_sample": (2.7, "m"),
        "wavelength": (CONE.wavelength, "m"),
        "wavenumber": (CONE.wavenumber, "rad/m"),
        "magnification": (CONE.magnification, "1"),
        "effective_pixel": (CONE.effective_pixel, "m"),
        "effective_distance": (CONE.effective_distance, "m"),
    }


def test_a_result_without_channels_shows_its_flags(tmp_path):
    path = make_result(names=()).save(tmp_path / "result.h5")
    with h5py.File(path) as file:
        assert file["entry"].attrs["default"] == "flags"


def test_no_filter_needs_a_plugin(saved):
    _, path = saved
    with h5py.File(path) as file:
        assert file["entry/phase/data"].compression is None
        assert file["entry/flags/data"].compression == "gzip"


# NeXus: files that are not right


def _delete(*names):
    def damage(file):
        for name in names:
            del file["entry"][name]

    return damage


def _replace(name, **dataset):
    def damage(file):
        del file["entry"][name]
        file["entry"].create_dataset(name, **dataset)

    return damage


def _attribute(name, value):
    def damage(file):
        file["entry"].attrs[name] = value

    return damage


def _link(file):
    del file["entry/phase/data"]
    file["entry/phase/data"] = h5py.ExternalLink("other.h5", "/data")


def _virtual(file):
    del file["entry/phase/data"]
    layout = h5py.VirtualLayout((12, 17), np.float32)
    layout[:] = h5py.VirtualSource("other.h5", "data", (12, 17))
    file.create_virtual_dataset("entry/phase/data", layout)


_TEXT = h5py.string_dtype()


@pytest.mark.parametrize(
    ("damage", "part"),
    [
        (_attribute("xmist_schema", 2), "newer xmist"),
        (_attribute("xmist_schema", "one"), "xmist_schema"),
        (_attribute("xmist_schema", 0), "xmist_schema"),
        (lambda file: file["entry"].attrs.pop("xmist_schema"), "xmist_schema"),
        (lambda file: file.pop("entry"), "xmist_schema"),
        (_attribute("channels", "phase colour"), "colour"),
        (_attribute("channels", "phase transmission"), "transmission/data"),
        (_delete("phase"), "phase/data"),
        (_delete("phase/data"), "phase/data"),
        (_delete("flags"), "flags/data"),
        (_delete("experiment/energy_kev"), "experiment/energy_kev"),
        (_delete("process/method"), "process/method"),
        (_delete("process/options"), "process/options"),
        (
            _replace("phase/data", data=np.zeros((17, 12), np.float32)),
            "phase/data",
        ),
        (_replace("phase/data", data=np.zeros((12, 17))), "phase/data"),
        (_replace("phase/data", shape=(12, 17), dtype=np.float32), "phase/data"),
        (
            _replace("phase/data", shape=(12, 17), dtype=np.float32, chunks=(6, 17)),
            "phase/data",
        ),
        (_replace("phase/data", data="pixels"), "phase/data"),
        (_replace("phase", data=1.0), "phase/data"),
        (_replace("flags/data", data=np.zeros(12, np.uint16)), "flags/data"),
        (
            _replace("flags/data", shape=(10**6, 10**6), dtype=np.uint16, chunks=(100, 100)),
            "flags/data",
        ),
        (
            _replace(
                "flags/data", shape=(30000, 30000), dtype=np.uint16, chunks=(30000, 30000), compression=9
            ),
            "flags/data",
        ),
        (_link, "phase/data"),
        (_virtual, "phase/data"),
        (_replace("process/options", data="{"), "process/options"),
        (_replace("process/provenance", data="[]"), "process/provenance"),
        (_replace("process/options", data="[" * 100000), "process/options"),
        (_replace("process/options_tuples", data='[["absent"]]'), "process/options"),
        (_replace("process/options_tuples", data="1"), "process/options"),
        (_replace("process/findings", data='{"a": 1}'), "process/findings"),
        (_replace("process/findings", data="[1]"), "process/findings"),
        (_replace("process/options", data=1.0), "process/options"),
        (_replace("process/options", data=["{}"], dtype=_TEXT), "process/options"),
        (_replace("experiment/energy_kev", data="high"), "experiment/energy_kev"),
        (_replace("experiment/energy_kev", data=17000.0), "energy_kev"),
    ],
)
def test_a_damaged_result_is_refused_by_name(saved, damage, part):
    _, path = saved
    with h5py.File(path, "r+") as file:
        damage(file)
    with pytest.raises(InputError) as caught:
        open_result(path)
    for record in caught.value.records:
        assert record.code in ("result-invalid", "experiment-invalid")  # the latter of Experiment
        assert record.message.startswith(str(path))
    assert part in str(caught.value)


def test_all_errors_of_a_file_at_once(saved):
    _, path = saved
    with h5py.File(path, "r+") as file:
        _delete("phase", "process/method", "experiment/energy_kev")(file)
    with pytest.raises(InputError) as caught:
        open_result(path)
    assert caught.value.codes == ("result-invalid",) * 3


def test_what_is_no_result_is_refused_by_name(tmp_path):
    (tmp_path / "text.h5").write_text("not HDF5")
    (tmp_path / "empty.h5").write_bytes(b"")
    h5py.File(tmp_path / "other.h5", "w").close()
    for name, code in {
        "absent.h5": "file-missing",
        ".": "file-unreadable",
        "text.h5": "result-invalid",
        "empty.h5": "file-damaged",
        "other.h5": "result-invalid",
    }.items():
        with pytest.raises(InputError) as caught:
            open_result(tmp_path / name)
        assert caught.value.codes == (code,)
        assert str(tmp_path / name) in str(caught.value)


@posix
def test_a_file_that_may_not_be_read_is_told(saved, monkeypatch):
    _, path = saved

    def refuse(*_args, **_kwargs):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # root may read everything
    with pytest.raises(InputError, check=coded("file-unreadable")):
        open_result(path)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.9999])
def test_a_truncated_result_is_refused(saved, share):
    _, path = saved
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(InputError, check=coded("file-damaged")):
        open_result(path)


@settings(max_examples=60)
@given(st.data())
def test_flipped_bytes_never_raise_anything_but_an_input_error(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("flipped")
    content = bytearray(make_result((5, 7)).save(folder / "result.h5").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (folder / "flipped.h5").write_bytes(content)
    with suppress(InputError):
        assert open_result(folder / "flipped.h5").shape == (5, 7)


# Endings


@pytest.mark.parametrize("name", ["result.jpg", "result", "result.h5.gz", ".h5", "result.H5X"])
def test_an_unknown_ending_is_refused_with_the_known_ones(tmp_path, name):
    with pytest.raises(InputError) as caught:
        make_result().save(tmp_path / name)
    assert caught.value.codes == ("output-invalid",)
    assert list(tmp_path.iterdir()) == []


def test_the_ending_decides_the_format(tmp_path):
    result = make_result()
    for name in ("a.h5", "b.HDF5", "c.nxs"):
        assert result.save(tmp_path / name) == tmp_path / name
        assert differences(result, open_result(tmp_path / name)) == []
    assert result.save(tmp_path / "d.tif") == tmp_path / "d_phase.tif"
    assert result.save(tmp_path / "e.TIFF") == tmp_path / "e_phase.TIFF"
    assert result.save(tmp_path / "f.png") == tmp_path / "f.png"
    with pytest.raises(InputError) as caught:
        save_result(result, tmp_path / "g.png")
    assert caught.value.codes == ("output-invalid",)


@pytest.mark.parametrize("name", ["a.h5", "a.tif", "a.png"])
def test_nothing_is_overwritten_unasked(tmp_path, name):
    old, new = make_result(seed=1), make_result(seed=2)
    old.save(tmp_path / name)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(InputError) as caught:
        new.save(tmp_path / name)
    assert set(caught.value.codes) == {"output-exists"}
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    new.save(tmp_path / name, overwrite=True)
    assert set(tmp_path.iterdir()) == set(before)
    assert all(path.read_bytes() != content for path, content in before.items())


def test_a_result_without_pixels_is_refused(tmp_path):
    empty = Retrieval(method="mist", experiment=CONE, flags=np.zeros((0, 5), np.uint16))
    with pytest.raises(InputError) as caught:
        empty.save(tmp_path / "a.h5")
    assert caught.value.codes == ("result-invalid",)


# TIFF


def test_tiff_holds_every_channel_exactly(tmp_path):
    result = make_result(names=("phase", "dark_field", "dark_field_tensor", "refraction_angle"))
    first = result.save(tmp_path / "berry.v2.tif")
    assert first.name == "berry.v2_phase.tif"
    expected = {"flags": result.flags} | dict(result.channels()) | dict(result.derived())
    assert {path.name for path in tmp_path.iterdir()} == {f"berry.v2_{name}.tif" for name in expected}
    for name, array in expected.items():
        image = tifffile.imread(tmp_path / f"berry.v2_{name}.tif")
        assert image.dtype == array.dtype
        assert image.tobytes() == array.tobytes(), name


def test_tiff_opens_scaled_in_imagej(tmp_path):
    result = make_result(names=("phase", "dark_field_tensor"))
    result.save(tmp_path / "berry.tif")
    with tifffile.TiffFile(tmp_path / "berry_phase.tif") as file:
        assert file.is_imagej
        tags = file.pages[0].tags
        # ImageJ takes the size of a pixel as 1/resolution in the unit of the description.
        width = tags["XResolution"].value[1] / tags["XResolution"].value[0]
        assert width == pytest.approx(CONE.effective_pixel * 1e6, rel=1e-9)
        assert tags["YResolution"].value == tags["XResolution"].value
        assert tags["ResolutionUnit"].value == 1
        metadata = file.imagej_metadata
        assert metadata["unit"] == "um"
        good = result.phase[(result.flags == 0) & np.isfinite(result.phase)]
        assert good.min() <= metadata["min"] < metadata["max"] <= good.max()
        assert "unit: rad" in metadata["Info"]
        assert "method: mist" in metadata["Info"]
        assert '"smoothing": 2.0' in metadata["Info"]
    with tifffile.TiffFile(tmp_path / "berry_dark_field_tensor.tif") as file:
        assert file.imagej_metadata["slices"] == 3
        assert file.imagej_metadata["Labels"] == ["xx", "xy", "yy"]
        assert "unit: m" in file.imagej_metadata["Info"]


def test_tiff_opens_in_pillow(tmp_path):
    result = make_result()
    with Image.open(result.save(tmp_path / "berry.tif")) as image:
        assert image.mode == "F"
        np.testing.assert_array_equal(np.asarray(image), result.phase)


@pytest.mark.parametrize("value", [np.nan, 0.0, 5.0])
def test_tiff_of_one_value_everywhere_is_written(tmp_path, value):
    flags = np.zeros((8, 9), np.uint16)
    phase = np.full((8, 9), value, np.float32)
    result = Retrieval(method="mist", experiment=CONE, flags=flags, phase=phase)
    np.testing.assert_array_equal(tifffile.imread(result.save(tmp_path / "a.tif")), phase)


@pytest.mark.parametrize("number", range(3))
def test_when_one_tiff_fails_none_is_written(tmp_path, monkeypatch, number):
    write = tifffile.imwrite
    calls = itertools.count()

    def failing(file, *args, **kwargs):
        if next(calls) == number:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(file, *args, **kwargs)

    monkeypatch.setattr(tifffile, "imwrite", failing)
    with pytest.raises(OutputError, match="no space left"):
        make_result().save(tmp_path / "berry.tif")
    assert list(tmp_path.iterdir()) == []


def test_one_tiff_in_the_way_stops_all(tmp_path):
    (tmp_path / "berry_flags.tif").write_bytes(b"old")
    with pytest.raises(InputError, check=coded("output-exists", names=["berry_flags.tif"])):
        make_result().save(tmp_path / "berry.tif")
    assert [path.name for path in tmp_path.iterdir()] == ["berry_flags.tif"]


# Failure and violence


@pytest.mark.parametrize("name", ["a.h5", "a.tif", "a.png"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG])
def test_a_full_disk_leaves_the_old_result(tmp_path, monkeypatch, name, number):
    make_result(seed=1).save(tmp_path / name)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}

    def full(_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r"no space left .* nothing was written.* unchanged"):
        make_result(seed=2).save(tmp_path / name, overwrite=True)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("name", ["a.h5", "a.tif", "a.png"])
def test_a_result_open_in_a_viewer_is_kept_with_the_new_one_beside_it(tmp_path, monkeypatch, name):
    make_result(seed=1).save(tmp_path / name)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}

    def refuse(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    new = make_result(seed=2)
    with pytest.raises(OutputError, match="is it open in another program") as caught:
        new.save(tmp_path / name, overwrite=True)
    assert {path: path.read_bytes() for path in before} == before
    kept = leftovers(tmp_path)
    assert len(kept) == len(before)
    assert all(str(path) in str(caught.value) for path in kept)
    if name == "a.h5":
        assert differences(new, open_result(kept[0])) == []


_LIMITED = """
import resource, sys
sys.path.insert(0, sys.argv[1])
from tests.io.results import make_result
from xmist import OutputError
result = make_result((60, 70))
for limit in map(int, sys.argv[3:]):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    for name in (f"{limit}.h5", f"{limit}.tif"):
        try:
            result.save(f"{sys.argv[2]}/{name}")
        except OutputError as error:
            assert "no space left" in str(error), error
            print(name)
"""


@posix
def test_a_limit_on_the_size_of_files_never_crashes_the_process(tmp_path):
    limits = [0, 100, 3000, 9000, 20000, 40000]  # a TIFF takes 18 kB, the whole result 50 kB
    arguments = [str(Path(__file__).parents[2]), str(tmp_path), *map(str, limits)]
    done = subprocess.run(
        [sys.executable, "-c", _LIMITED, *arguments], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    told = [f"{limit}.{kind}" for limit in limits for kind in ("h5", "tif") if kind == "h5" or limit < 18000]
    assert done.stdout.split() == told
    channels = ("phase", "dark_field", "scattering_angle", "flags")
    written = {f"{limit}_{name}.tif" for limit in limits[-2:] for name in channels}
    assert {path.name for path in tmp_path.iterdir()} == written


# The process is killed in the middle of Python, at the n-th event that its profiler sees while saving.
_KILLED = """
import os, random, signal, sys
sys.path.insert(0, sys.argv[1])
from tests.io.results import make_result
from xmist import open_result
from xmist.io.results.nexus import differences

folder, seed, kills = sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
versions = [make_result((40, 50), seed=number) for number in range(2)]
path = f"{folder}/result.h5"
versions[0].save(path)

def save(profile):
    sys.setprofile(profile)
    versions[1].save(path, overwrite=True)
    sys.setprofile(None)

events = 0
def count(*_):
    global events
    events += 1
save(lambda *_: None)  # the first one fills caches
save(count)
total = events

def kill(*_):
    global events
    events -= 1
    if events == 0:
        os.kill(os.getpid(), signal.SIGKILL)

moments = random.Random(seed).sample(range(1, total), kills - 1) + [total - 5]
seen = set()
for moment in moments:
    versions[0].save(path, overwrite=True)
    child = os.fork()
    if child == 0:
        events = moment
        save(kill)
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    found = [n for n in range(2) if not differences(versions[n], open_result(path))]
    assert len(found) == 1, moment
    seen.add(found[0])
    print(moment, total, found[0], sum(name.endswith(".partial") for name in os.listdir(folder)))
assert seen == {0, 1}
"""


@posix
def test_a_killed_process_leaves_the_old_result_or_the_new_one(tmp_path):
    kills = 24
    arguments = [str(Path(__file__).parents[2]), str(tmp_path), "7", str(kills)]
    done = subprocess.run(
        [sys.executable, "-c", _KILLED, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == kills
    # At least a quarter of the moments lie inside the writing: they left a temporary file.
    left = [int(line.split()[3]) for line in lines]
    assert sum(after > before for before, after in itertools.pairwise([0, *left])) >= kills / 4
    assert len(leftovers(tmp_path)) == left[-1]
    make_result(seed=3).save(tmp_path / "result.h5", overwrite=True)  # they are not in the way


_LOOP = """
import sys
sys.path.insert(0, sys.argv[1])
from tests.io.results import make_result
versions = [make_result((200, 250), seed=number) for number in range(2)]
versions[0].save(sys.argv[2])
print("ready", flush=True)
while True:
    for version in versions:
        version.save(sys.argv[2], overwrite=True)
"""


@posix
@pytest.mark.parametrize("seed", range(3))
def test_a_process_killed_at_any_time_leaves_a_whole_result(tmp_path, seed):
    path = tmp_path / "result.h5"
    arguments = [str(Path(__file__).parents[2]), str(path)]
    with subprocess.Popen([sys.executable, "-c", _LOOP, *arguments], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        time.sleep(np.random.default_rng(seed).uniform(0.0, 0.2))
        process.kill()
    back = open_result(path)
    assert any(not differences(make_result((200, 250), seed=number), back) for number in range(2))


# What is in a file


def test_describe_says_what_a_result_holds(saved):
    result, path = saved
    told = describe(path)
    assert told["kind"] == "result"
    assert told["method"] == "mist"
    assert told["shape"] == [12, 17]
    assert list(told["channels"]) == ["phase", "dark_field_tensor"]
    phase = told["channels"]["phase"]
    finite = result.phase[np.isfinite(result.phase)]
    assert phase == {
        "unit": "rad",
        "minimum": float(finite.min()),
        "median": float(np.median(finite)),
        "maximum": float(finite.max()),
        "nan": 1,
    }
    assert told["flagged"] == np.count_nonzero(result.flags)
    assert set(told["flags"]) == {"filled", "undetermined"}
    assert told["experiment"]["energy_kev"] == 17.3
    assert told["experiment"]["effective_pixel"] == CONE.effective_pixel
    assert told["written_by"] == f"xmist {xmist.__version__}"
    assert told["schema"] == 1
    assert told["bytes"] == path.stat().st_size
    to_text("description", told)  # plain data


def test_describe_of_a_channel_without_values(tmp_path):
    nothing = np.full((8, 9), np.nan, np.float32)
    result = Retrieval(method="mist", experiment=CONE, flags=np.ones((8, 9), np.uint16), phase=nothing)
    phase = describe(result.save(tmp_path / "a.h5"))["channels"]["phase"]
    assert phase == {"unit": "rad", "minimum": None, "median": None, "maximum": None, "nan": 72}
