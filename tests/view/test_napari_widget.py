"""The widget in the real napari, on a virtual display; its results equal those of the command line."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

import xmist
from xmist import simulate
from xmist.cli import main

# Warnings of napari and Qt are not ours.
pytestmark = [pytest.mark.gui, pytest.mark.filterwarnings("ignore")]

LONGEST = 120  # seconds for one action


@pytest.fixture(scope="module")
def display():
    """A virtual display, 1280 × 800, with OpenGL in software."""
    if shutil.which("Xvfb") is None:
        pytest.fail("Xvfb is not installed; the tests of the GUI need it (apt-get install xvfb)")
    reading, writing = os.pipe()
    screen = ["-displayfd", str(writing), "-screen", "0", "1280x800x24", "-nolisten", "tcp"]
    server = subprocess.Popen(["Xvfb", *screen], pass_fds=[writing], stderr=subprocess.DEVNULL)
    os.close(writing)
    with os.fdopen(reading) as file:
        number = file.readline().strip()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISPLAY", f":{number}")
        patch.setenv("QT_QPA_PLATFORM", "xcb")
        patch.setenv("LIBGL_ALWAYS_SOFTWARE", "1")
        yield
    server.terminate()
    server.wait()


@pytest.fixture(scope="module")
def measurement(tmp_path_factory):
    """A folder of frames without geometry in their headers."""
    folder = tmp_path_factory.mktemp("measurement")
    stack, experiment, _ = simulate.phantom("fine", shape=(96, 128), positions=2)
    for role in ("reference", "sample"):
        for n, frame in enumerate(getattr(stack, role)):
            np.save(folder / f"{role}_{n}.npy", frame)
    return folder, experiment


@pytest.fixture
def widget(display):
    from xmist.view.napari.widget import open_viewer

    viewer = open_viewer()
    dock = viewer.window.dock_widgets["xmist"]
    yield dock
    viewer.close()


def settle(widget):
    """Let Qt work until the widget has nothing in hand."""
    from qtpy.QtWidgets import QApplication

    end = time.monotonic() + LONGEST
    QApplication.processEvents()
    while widget.busy:
        assert time.monotonic() < end, widget.message.text()
        QApplication.processEvents()
        time.sleep(0.01)
    QApplication.processEvents()


def click(widget, button):
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest

    QTest.mouseClick(button, Qt.MouseButton.LeftButton)
    settle(widget)


def choose(widget, folder, experiment):
    widget.frames.source.setText(str(folder))
    click(widget, widget.frames.open_button)
    for name, value in experiment.to_dict().items():
        if value is not None:
            widget.frames.geometry_fields[name].setText(repr(value))


def shoot(widget, name):
    """Save what is seen, for people, where XMIST_SCREENSHOTS names a folder."""
    folder = os.environ.get("XMIST_SCREENSHOTS")
    if folder:
        widget.viewer.screenshot(Path(folder) / name, canvas_only=False)


def test_from_a_folder_to_the_image_of_the_command_line(widget, measurement, tmp_path):
    folder, experiment = measurement
    choose(widget, folder, experiment)
    assert "2 positions, 96 × 128 pixels" in widget.frames.found.text()
    assert widget.viewer.layers["sample frames"].data.shape == (2, 96, 128)
    assert "Ready" in widget.message.text()
    widget.frames.geometry_fields["pixel_size"].clear()
    assert "Detector pixel" in widget.message.text()
    widget.frames.geometry_fields["pixel_size"].setText(repr(experiment.pixel_size))
    shoot(widget, "1-frames.png")
    click(widget, widget.preview_button)
    assert widget.result.method == "lcs"
    shoot(widget, "2-preview.png")
    widget.method.setCurrentText("mist-attenuating")
    widget.form["smoothing"].value = "2.0"
    shoot(widget, "3-method.png")
    click(widget, widget.retrieve_button)
    shoot(widget, "4-result.png")
    # Elsewhere, as where the folder of the frames may not be written to.
    widget.save_configuration(tmp_path / "config.toml")
    assert main(["retrieve", str(tmp_path / "config.toml"), "-o", str(tmp_path / "seen.h5")]) == 0
    saved = xmist.open_result(tmp_path / "seen.h5")
    assert saved.options["smoothing"] == 2.0
    for (name, seen), (_, there) in zip(widget.result.channels(), saved.channels(), strict=True):
        np.testing.assert_array_equal(seen, there, err_msg=name)


def test_crop_and_bare_beam_are_drawn(widget, measurement):
    folder, experiment = measurement
    choose(widget, folder, experiment)
    click(widget, widget.frames.show_frames_button)
    click(widget, widget.frames.draw_crop)
    widget.viewer.layers["crop"].add_rectangles([[9.5, 19.5], [79.5, 99.5]])
    click(widget, widget.frames.draw_bare_beam)
    widget.viewer.layers["bare beam"].add_rectangles([[9.5, 29.5], [19.5, 59.5]])
    shoot(widget, "5-shapes.png")
    sections = widget.edited()
    assert sections["preprocess"][-1] == {"step": "crop", "rows": [10, 80], "columns": [20, 100]}
    assert sections["regions"]["outside"] == [0, 10, 10, 40]
    widget.method.setCurrentText("mist")
    click(widget, widget.retrieve_button)
    assert widget.result.shape == (70, 80)
    # The cropped image lies where it was cut out.
    phase = next(layer for layer in widget.viewer.layers if layer.name.startswith("phase"))
    np.testing.assert_allclose(phase.translate, np.array([10, 20]) * phase.scale)


def test_values_of_a_region_and_a_profile(widget, measurement):
    folder, experiment = measurement
    choose(widget, folder, experiment)
    widget.method.setCurrentText("mist")
    click(widget, widget.retrieve_button)
    click(widget, widget.results.draw_region)
    shapes = widget.viewer.layers["regions to measure"]
    shapes.add_rectangles(np.array([[19.5, 29.5], [29.5, 49.5]]))
    click(widget, widget.results.measure_button)
    assert "200 pixels" in widget.results.values.text()
    shapes.add_lines(np.array([[10.0, 10.0], [10.0, 60.0]]))
    click(widget, widget.results.measure_button)
    assert "51 points" in widget.results.values.text()
    shoot(widget, "6-values.png")


def test_wrong_input_is_said_and_nothing_breaks(widget, measurement, tmp_path):
    widget.frames.source.setText(str(tmp_path / "nowhere"))
    click(widget, widget.frames.open_button)
    assert str(tmp_path / "nowhere") in widget.message.text()
    click(widget, widget.retrieve_button)
    assert widget.result is None
    assert widget.message.text()
    folder, experiment = measurement
    choose(widget, folder, experiment)
    widget.frames.geometry_fields["energy_kev"].setText("17,0")
    click(widget, widget.retrieve_button)
    assert widget.result is None
    assert "energy_kev" in widget.message.text()


def test_cancel(widget, measurement):
    folder, experiment = measurement
    choose(widget, folder, experiment)
    widget.method.setCurrentText("mist")
    widget.retrieve_button.click()
    widget.cancel_button.click()
    settle(widget)
    assert widget.result is None
    assert "Cancelled" in widget.message.text()


def test_layers_as_frames(widget):
    stack, experiment, _ = simulate.phantom("fine", shape=(64, 80), positions=2)
    widget.viewer.add_image(stack.reference, name="references")
    widget.viewer.add_image(stack.sample, name="samples")
    widget.frames.reference_layer.setCurrentText("references")
    widget.frames.sample_layer.setCurrentText("samples")
    for name, value in experiment.to_dict().items():
        if value is not None:
            widget.frames.geometry_fields[name].setText(repr(value))
    widget.method.setCurrentText("mist")
    click(widget, widget.retrieve_button)
    expected = xmist.retrieve(stack, experiment, method="mist")
    np.testing.assert_array_equal(widget.result.phase, expected.phase)
    click(widget, widget.frames.draw_crop)
    widget.viewer.layers["crop"].add_rectangles([[-0.5, 9.5], [49.5, 59.5]])
    click(widget, widget.preview_button)
    assert (widget.result.method, widget.result.shape) == ("lcs", (50, 50))
    widget.frames.geometry_fields["energy_kev"].clear()
    click(widget, widget.retrieve_button)
    assert "energy_kev" in widget.message.text()


def test_a_series_is_retrieved_on_demand(widget, tmp_path):
    folder = tmp_path / "ct"
    assert main(["simulate", "ct", "-o", str(folder), "--shape", "48", "48", "--positions", "2"]) == 0
    widget.frames.source.setText(str(folder / "series.toml"))
    click(widget, widget.frames.open_button)
    assert widget.frames.projection.isVisibleTo(widget)
    widget.frames.projection.setValue(3)
    widget.method.setCurrentText("mist")
    click(widget, widget.retrieve_button)
    overrides = {
        "retrieve": {"method": "mist"},
        "series": {"projections": [3, 4]},
        "output": {"files": ["third.h5"]},
    }
    done = xmist.run(folder / "series.toml", overrides=overrides)
    expected = done.open(3)
    np.testing.assert_array_equal(widget.result.phase, expected.phase)
    widget.open(str(done.path))
    np.testing.assert_array_equal(widget.result.phase, expected.phase)
    assert "1 of 1 finished" in widget.results.finished_label.text()


def test_a_result_opens(display, measurement, tmp_path):
    from xmist.view.napari.widget import open_viewer

    stack, experiment, _ = simulate.phantom("fine", shape=(64, 80), positions=2)
    xmist.retrieve(stack, experiment, method="mist").save(tmp_path / "r.h5")
    viewer = open_viewer(tmp_path / "r.h5")
    assert any(layer.name.startswith("phase") for layer in viewer.layers)
    viewer.close()


def test_without_a_display_it_is_one_clear_error(monkeypatch, capsys):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert main(["view"]) == 2
    assert "display" in capsys.readouterr().err
