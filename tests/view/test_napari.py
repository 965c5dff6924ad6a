"""The reader for napari; napari itself is not needed."""

import json
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import xmist.view.napari
from tests.io.results import CONE, make_result
from xmist import CHANNELS, FLAGS, Retrieval
from xmist.io import NEXUS_ENDINGS
from xmist.view.napari import get_reader, layers, lines, make_widget

MANIFEST = Path(xmist.view.napari.__file__).with_name("napari.json")
ROOT = Path(__file__).parents[2]
PIXEL = CONE.effective_pixel * 1e6
# With the scattering angle and the visibility reduction.
COMPONENTS = sum(max(len(channel.components), 1) for channel in CHANNELS.values()) + 2


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("napari") / "berry.h5"
    make_result(names=tuple(CHANNELS)).save(path)
    return path


def test_the_manifest_leads_to_the_reader_and_the_widget():
    manifest = json.loads(MANIFEST.read_text(encoding="utf-8"))
    commands = {command["id"]: command["python_name"] for command in manifest["contributions"]["commands"]}
    (reader,) = manifest["contributions"]["readers"]
    (widget,) = manifest["contributions"]["widgets"]
    for entry, function in ((reader, get_reader), (widget, make_widget)):
        assert entry["command"].startswith(f"{manifest['name']}.")  # napari's rule
        module, _, name = commands.pop(entry["command"]).partition(":")
        assert getattr(import_module(module), name) is function
    assert not commands
    assert {pattern.removeprefix("*") for pattern in reader["filename_patterns"]} == set(NEXUS_ENDINGS)


def test_the_manifest_is_named_where_napari_looks():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    module, _, name = project["entry-points"]["napari.manifest"]["xmist"].partition(":")
    assert Path(import_module(module).__file__).with_name(name) == MANIFEST


def test_napari_s_own_engine_reads_a_result(saved):
    """In a process of its own, for importing npe2 warns."""
    code = (
        "import sys, npe2\n"
        "engine = npe2.PluginManager.instance()\n"
        "manifest = npe2.PluginManifest.from_file(sys.argv[1])\n"
        "manifest.validate_imports()\n"
        "engine.register(manifest)\n"
        "print([kind for _, _, kind in npe2.io_utils._read([sys.argv[2]], stack=False, _pm=engine)])\n"
    )
    command = [sys.executable, "-c", code, str(MANIFEST), str(saved)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(["image"] * COMPONENTS + ["labels", "vectors"])


def test_layers_have_units_scale_and_contrast(saved):
    result = xmist.open_result(saved)
    found = {
        keywords["name"]: (data, keywords, kind)
        for data, keywords, kind in get_reader(str(saved))([str(saved)])
    }
    for _, keywords, _ in found.values():
        assert keywords["scale"] == (PIXEL, PIXEL)
        assert keywords["units"] == ("um", "um")
    phase, keywords, kind = found["berry: phase φ (rad)"]
    assert kind == "image"
    np.testing.assert_array_equal(phase, result.phase)
    good = result.phase[np.isfinite(result.phase) & (result.flags == 0)]
    assert keywords["contrast_limits"] == pytest.approx(tuple(np.percentile(good, (0.5, 99.5))))
    assert keywords["metadata"]["xmist"]["method"] == "mist"
    assert [name for name, (_, keywords, _) in found.items() if keywords.get("visible", True)] == [
        "berry: phase φ (rad)",
        "berry: directions of the scatter",
    ]
    # The numbers are in the unit of the name: those in SI times the factor, within rounding.
    ((data, keywords, _),) = [
        layer for name, layer in found.items() if name.startswith("berry: dark-field tensor D_xy")
    ]
    prefix = {1e9: "nm", 1e12: "pm"}[round(keywords["metadata"]["xmist"]["factor"])]
    assert keywords["name"].endswith(f" ({prefix})")
    factor = keywords["metadata"]["xmist"]["factor"]
    np.testing.assert_allclose(data, result.dark_field_tensor[1] * factor, rtol=1e-6)
    low, high = keywords["contrast_limits"]
    assert low == -high


def test_flags_become_labels(saved):
    ((data, keywords, _),) = [layer for layer in layers(xmist.open_result(saved)) if layer[2] == "labels"]
    assert data.dtype.kind == "i"
    np.testing.assert_array_equal(data, xmist.open_result(saved).flags)
    assert set(keywords["metadata"]["xmist"]) == {flag.name for flag in FLAGS}


def test_diagnostics_become_hidden_layers():
    image = np.linspace(0.0, 1.0, 12 * 17, dtype=np.float32).reshape(12, 17)
    result = make_result(diagnostics={"residual": image, "flat": 0 * image})
    found = {keywords["name"]: keywords for _, keywords, _ in layers(result)}
    low, high = found["residual"]["contrast_limits"]
    assert 0.0 < low < high < 1.0
    assert found["flat"]["contrast_limits"] == (0.0, 1.0)


@pytest.mark.parametrize("degrees", [0.0, 30.0, 90.0, 150.0])
def test_lines_lie_along_the_scatter(degrees):
    """A tensor of known axes everywhere: every line has its direction, length and place."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    tensor = [3 * c * c + s * s, 2 * c * s, 3 * s * s + c * c]  # eigenvalues 3 and 1
    image = np.ones((3, 10, 130)) * np.reshape(tensor, (3, 1, 1))
    image[:, :3, :3] = np.nan  # a block without a value has no line
    vectors, features = lines(image)
    step = 3  # 130 pixels in 64 lines at most
    assert len(vectors) == 4 * 44 - 1
    np.testing.assert_allclose(features["direction"], degrees, atol=1e-9)
    np.testing.assert_allclose(features["anisotropy"], 0.5, rtol=1e-12)
    np.testing.assert_allclose(vectors[:, 1], np.tile([s, c], (len(vectors), 1)) * 0.5 * step, atol=1e-6)
    middles = vectors[:, 0] + vectors[:, 1] / 2
    np.testing.assert_allclose(middles[0], [1.0, 4.0], atol=1e-6)
    np.testing.assert_allclose(middles[-1], [9.0, 129.0], atol=1e-5)  # the last block is one pixel


def test_no_scatter_has_no_lines():
    vectors, features = lines(np.zeros((3, 8, 8)))
    assert vectors.shape == (0, 2, 2)
    assert features["direction"].size == 0


def test_what_is_no_result_is_left_to_other_readers(tmp_path, saved):
    import h5py

    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["data"] = np.zeros((4, 4))
    (tmp_path / "text.h5").write_text("no HDF5")
    for path in ("other.h5", "text.h5", "missing.h5"):
        assert get_reader(str(tmp_path / path)) is None
    assert get_reader([]) is None
    assert get_reader([str(saved), str(tmp_path / "other.h5")]) is None


def test_two_files_give_the_layers_of_both(saved):
    read = get_reader([str(saved), str(saved)])
    assert len(read([str(saved), str(saved)])) == 2 * (COMPONENTS + 2)


def test_a_result_without_images_gives_its_flags():
    result = Retrieval(method="mist", experiment=CONE, flags=np.zeros((4, 5), np.uint16))
    assert [kind for _, _, kind in layers(result)] == ["labels"]


def test_napari_is_not_imported():
    code = "import sys, xmist.view.napari; print('napari' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
