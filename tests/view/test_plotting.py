"""Figures: right colours, limits, units and scale; nothing overlaps; nothing global is touched."""

import itertools
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image as Picture

from tests.coded import coded
from tests.io.results import CONE
from tests.view.drawings import EXPERIMENT, figure, image_axes, make_result, pixels
from xmist import CHANNELS, InputError, OutputError, Retrieval
from xmist.core.findings import Finding
from xmist.core.flags import FILLED, MASKED, UNDETERMINED
from xmist.view import figures
from xmist.view.figures import comparison, page, panels, save_figure, save_result_figure
from xmist.view.figures.panels import Image, Panel, si


def _bars(drawn):
    return [axes._colorbar for axes in drawn.axes if hasattr(axes, "_colorbar")]


def _labels(drawn):
    return [bar.ax.get_ylabel() or bar.ax.get_xlabel() for bar in _bars(drawn)]


def _texts(drawn):
    return [text.get_text() for text in drawn.texts]


def _colour_at(drawn, axes, x, y):
    """Return the colour that is drawn at an image's pixel."""
    column, row = axes.transData.transform((x, y))
    image = pixels(drawn)
    return image[len(image) - 1 - int(row), int(column)]


def test_one_panel_a_channel_with_units_that_suit_the_data():
    drawn = figure(make_result())
    assert [axes.get_title(loc="left") for axes in image_axes(drawn)] == [
        "phase",
        "transmission",
        "dark-field",
    ]
    assert _labels(drawn) == ["φ (rad)", "T", "D (pm)"]
    assert _texts(drawn)[0] == "mist, N = 10"
    assert "17 keV, effective distance 1 m, pixel 6.5 µm" in _texts(drawn)[1]
    assert "smoothing = 2" in " ".join(_texts(drawn))
    assert "cutoff_length" not in " ".join(_texts(drawn))  # left at None


def test_what_is_drawn_are_the_numbers_in_the_unit_of_the_colour_bar():
    result = make_result(names=("dark_field",))
    drawn = figure(result)
    shown = image_axes(drawn)[0].images[0]
    np.testing.assert_allclose(shown.get_array().filled(np.nan), result.dark_field * 1e12, rtol=1e-6)
    assert shown.get_clim() == (_bars(drawn)[0].vmin, _bars(drawn)[0].vmax)


def test_gradients_and_deviations_are_drawn_when_asked_for():
    result = make_result(names=("phase", "refraction_angle", "phase_std", "visibility"))
    assert len(_bars(figure(result))) == 2  # phase and visibility
    drawn = figure(result, channels=["refraction_angle", "phase_std"])
    assert _labels(drawn) == ["$α_{x}$ (µrad)", "$α_{y}$ (µrad)", "$σ_{φ}$ (rad)"]
    assert len(_bars(figure(make_result(names=("phase_std",))))) == 1  # there is nothing else


def test_a_tensor_is_drawn_as_its_mean_and_elements():
    result = make_result(names=("dark_field_tensor",))
    drawn = figure(result, channels=["dark_field_tensor"])
    assert _labels(drawn) == ["D (pm)", "$D_{xx}$ (pm)", "$D_{xy}$ (pm)", "$D_{yy}$ (pm)"]
    directions, mean, xx, xy, yy = (axes.images[0] for axes in image_axes(drawn))
    assert directions.get_array().ndim == 3
    tensor = result.dark_field_tensor
    np.testing.assert_allclose(
        mean.get_array().filled(np.nan), (tensor[0] + tensor[2]) / 2 * 1e12, rtol=1e-6, atol=1e-6
    )
    assert mean.get_clim() == xx.get_clim() == yy.get_clim()
    low, high = xy.get_clim()
    assert low == -high
    both = make_result(names=("dark_field", "dark_field_tensor"))
    assert len(_bars(figure(both))) == 1  # and the directions
    assert len(_bars(figure(both, channels=["dark_field", "dark_field_tensor"]))) == 4  # it is the mean


def test_flagged_pixels_do_not_move_the_limits():
    result = make_result(names=("phase",), holes=False)
    phase, flags = result.phase.copy(), result.flags.copy()
    phase[:5], flags[:5] = 1e9, 8
    phase[5, 0] = np.inf
    wild = Retrieval(method="mist", experiment=EXPERIMENT, flags=flags, phase=phase)
    limits = image_axes(figure(wild))[0].images[0].get_clim()
    good = result.phase[5:]
    assert good.min() <= limits[0] < limits[1] <= good.max()
    # Half a percent is cut at each side, of all but one pixel.
    assert np.mean((good >= limits[0]) & (good <= limits[1])) == pytest.approx(0.99, abs=1 / good.size + 1e-3)


def test_where_all_pixels_are_flagged_they_decide_the_limits():
    result = make_result(names=("phase",), holes=False)
    parts = result.__getstate__() | {"flags": np.ones(result.shape, np.uint16)}
    expected = image_axes(figure(result))[0].images[0].get_clim()
    assert image_axes(figure(Retrieval(**parts)))[0].images[0].get_clim() == expected


@pytest.mark.parametrize("name", ["phase", "dark_field", "dark_field_tensor"])
def test_a_pixel_without_a_value_has_a_colour_of_its_own(name):
    result = make_result(names=(name,))
    drawn = figure(result)
    neutral = np.array(to_rgb(page.NO_VALUE))
    for axes in image_axes(drawn):
        np.testing.assert_allclose(_colour_at(drawn, axes, 3.5, 31.5), neutral, atol=1 / 255)
        colours = axes.images[0].get_cmap()(np.linspace(0, 1, 256))[:, :3]
        assert np.abs(colours - neutral).max(axis=1).min() > 0.1
    assert any(text.startswith("no value (0.33 % of the pixels)") for text in _texts(drawn))  # 16 of 4800
    whole = figure(make_result(names=(name,), holes=False))
    assert not any("no value" in text for text in _texts(whole))


def test_rows_run_downwards_and_columns_to_the_right():
    phase = np.zeros((30, 40))
    phase[:10, :15] = 1.0
    flags = np.zeros((30, 40), np.uint16)
    drawn = figure(Retrieval(method="mist", experiment=EXPERIMENT, flags=flags, phase=phase))
    axes = image_axes(drawn)[0]
    box = axes.get_window_extent()
    image = pixels(drawn)
    top = len(image) - box.y1
    assert image[int(top + 0.1 * box.height), int(box.x0 + 0.1 * box.width)].min() > 0.95
    for across, down in ((0.9, 0.1), (0.1, 0.9), (0.9, 0.9)):
        assert image[int(top + down * box.height), int(box.x0 + across * box.width)].max() < 0.05


def test_options_and_findings_stay_out_of_a_figure_for_a_paper():
    result = make_result(holes=False, **LONG)
    assert [text for text in _texts(figures.figure(result)) if not text.endswith("µm")] == []
    assert _texts(figures.figure(result, title="Berry"))[0] == "Berry"
    assert len(_texts(figure(result))) > 10


def test_limits_colours_and_units_are_those_asked_for():
    result = make_result(names=("phase", "dark_field"))
    drawn = figures.figure(
        result,
        channels=["phase", "scattering_angle"],
        limits={"scattering_angle": (0, 1e-5)},
        cmap={"phase": "viridis"},
        units={"scattering_angle": "nrad", "phase": "mrad"},
    )
    phase, angle = (axes.images[0] for axes in image_axes(drawn))
    assert phase.get_cmap().name == "viridis"
    assert angle.get_clim() == pytest.approx((0, 1e4), rel=1e-12)
    assert _labels(drawn) == ["φ (mrad)", "θ (nrad)"]
    np.testing.assert_allclose(phase.get_array().filled(np.nan), result.phase * 1e3, rtol=1e-6)


def test_angles_are_drawn_in_microradian():
    flags = np.zeros((20, 30), np.uint16)
    small = np.full((2, 20, 30), 1e-8) * np.arange(30)
    result = Retrieval(method="mist", experiment=EXPERIMENT, flags=flags, refraction_angle=small)
    assert _labels(figures.figure(result)) == ["$α_{x}$ (µrad)", "$α_{y}$ (µrad)"]


def test_a_figure_is_cropped_to_what_frames_determine():
    result = make_result(names=("phase", "dark_field_tensor"), holes=False)
    flags = result.flags.copy()
    flags[:7], flags[:, 70:], flags[20, 20] = MASKED, FILLED, UNDETERMINED
    result = Retrieval(**(result.__getstate__() | {"flags": flags}))
    shapes = {axes.images[0].get_array().shape[:2] for axes in image_axes(figures.figure(result))}
    assert shapes == {(53, 70)}
    whole = image_axes(figures.figure(result, crop="whole"))[0]
    assert whole.images[0].get_array().shape[:2] == (60, 80)
    part = image_axes(figures.figure(result, channels=["phase"], crop=(10, 20, 30, 70)))[0].images[0]
    np.testing.assert_array_equal(part.get_array().filled(np.nan), result.phase[10:20, 30:70])


def test_a_style_that_is_not_possible_is_refused():
    result = make_result(names=("phase",))
    with pytest.raises(InputError) as caught:
        figures.figure(
            result, limits=(1, 0), cmap="gry", crop=(0, 99, 0, 10), units={"phase": "µm", "dark_field": "m"}
        )
    assert caught.value.codes == ("value-invalid",) * 5


SHAPES = [(16, 16), (60, 80), (300, 40), (24, 600), (2000, 1500), (7, 280)]


@pytest.mark.parametrize("shape", SHAPES)
def test_pixels_are_square_and_the_scale_bar_is_true(shape):
    drawn = figure(make_result(shape, names=("phase",), experiment=CONE))
    drawn.canvas.draw()
    box = image_axes(drawn)[0].get_window_extent()
    assert box.width / box.height == pytest.approx(shape[1] / shape[0], rel=1e-6)
    (bar,) = [patch for patch in drawn.artists if patch.get_facecolor()[:3] == (0, 0, 0)]
    length = bar.get_window_extent().width / box.width * shape[1] * CONE.effective_pixel
    label = next(text for text in _texts(drawn) if text.endswith(("µm", "mm")))
    assert si(length, "m") == label
    assert label.split()[0].rstrip("0") in {"1", "2", "5"}
    assert 0.1 < bar.get_window_extent().width / box.width <= 1 / 3 + 1e-9


def _overlaps(drawn):
    """Return the pairs of texts and images that cover each other, and the texts that leave the page."""
    drawn.draw_without_rendering()
    width, height = drawn.bbox.size
    boxes = {}
    for number, axes in enumerate(drawn.axes):
        boxes["axes", number] = axes.get_window_extent()
        for text in [axes.title, axes._left_title, axes.xaxis.label, axes.yaxis.label]:
            boxes["text", number, text.get_text()] = text.get_window_extent()
        for axis in (axes.xaxis, axes.yaxis):
            shown = [tick for tick in axis.get_major_ticks() if axis.get_view_interval()[0] <= tick.get_loc()]
            for tick in shown:
                if tick.get_loc() <= axis.get_view_interval()[1]:
                    for label in (tick.label1, tick.label2):
                        if label.get_visible():
                            boxes["tick", number, label.get_text()] = label.get_window_extent()
    for number, text in enumerate(drawn.texts):
        boxes["page", number, text.get_text()] = text.get_window_extent()
    boxes = {key: box for key, box in boxes.items() if len(key) == 2 or key[2].strip()}
    wrong = [
        key for key, box in boxes.items() if min(box.x0, box.y0, width - box.x1, height - box.y1) < -1e-6
    ]
    for (one, a), (other, b) in itertools.combinations(boxes.items(), 2):
        inside = {one[-1], other[-1]} & {"not given"}  # stands on its image on purpose
        if not inside and min(a.x1, b.x1) - max(a.x0, b.x0) > 0.5 and min(a.y1, b.y1) - max(a.y0, b.y0) > 0.5:
            wrong.append((one, other))
    return wrong


LONG = {
    "options": {f"option_{number}": number * 1.5 for number in range(40)},
    "findings": (
        Finding("identical-frames", "warning", "the sample and the reference are alike " * 9),
        Finding("identical-frames", "warning", "x" * 400),
        Finding("undetermined", "note", "short " * 40),
    ),
}


CHOICES = [("phase",), ("phase", "transmission", "dark_field"), ("dark_field_tensor",), tuple(CHANNELS)]


# Many channels, and those of a large image, are slow to draw and laid out like fewer and smaller ones.
@pytest.mark.parametrize(
    ("shape", "names"),
    [
        (shape, names)
        for shape in (*SHAPES, (16, 160))
        for names in CHOICES
        if max(shape) <= 1000 or len(names) == 1
        if len(names) <= 4 or shape in ((16, 16), (300, 40), (24, 600))
    ],
)
def test_nothing_overlaps_in_a_figure(shape, names):
    result = make_result(shape, names, **LONG)
    assert _overlaps(figures.figure(result, channels=names)) == []
    assert _overlaps(figure(result, channels=names)) == []
    assert _overlaps(figure(result, channels=names, title="A title without end, " * 20)) == []


@pytest.mark.parametrize("shape", [(16, 16), (60, 80), (300, 40), (24, 600)])
def test_nothing_overlaps_in_a_comparison(shape):
    rows = {
        "mist, N = 2": make_result(shape),
        "a very long label of a row that has to be broken": make_result(shape),
    }
    rows["directional"] = make_result(shape, names=("dark_field_tensor",))
    for title in (None, "Two and ten exposures, side by side, " * 5):
        drawn = comparison(
            rows, ["phase", "dark_field", "dark_field_tensor"], rows["mist, N = 2"], title=title
        )
        assert _overlaps(drawn) == []


def test_the_check_for_overlaps_notices_one():
    drawn = figure(make_result())
    drawn.text(0.01, 0.97, "across the title of the page")
    assert _overlaps(drawn)


@pytest.mark.parametrize("value", [0.0, 1.0, np.nan])
def test_one_value_everywhere_is_drawn(value):
    same = np.full((20, 30), value)
    flags = np.zeros((20, 30), np.uint16)
    result = Retrieval(method="mist", experiment=EXPERIMENT, flags=flags, phase=same, dark_field=same)
    drawn = figure(result)
    pixels(drawn)
    low, high = image_axes(drawn)[0].images[0].get_clim()
    assert low < high
    assert np.isnan(value) or low <= value <= high


def test_text_that_is_no_formula_and_that_the_font_lacks():
    result = make_result(
        findings=(
            Finding("identical-frames", "warning", "cost 5 $ or x_1 $ 日本\udcff"),
            Finding("undetermined", "note", "φ is fine"),
        ),
        options={"note": "$a$"},
    )
    drawn = figure(result)
    pixels(drawn)
    assert "Warning: cost 5 $ or x_1 $ ???" in _texts(drawn)
    assert "Note: φ is fine" in _texts(drawn)


@pytest.mark.parametrize("shape", [(2051, 1025), (30, 4100)])
def test_large_images_are_shown_as_means_of_blocks(shape):
    result = make_result(shape, names=("phase",))
    factor = {2051: 3, 30: 5}[shape[0]]  # the least that brings each side to 1024 or less
    drawn = figure(result)
    pixels(drawn)
    shown = image_axes(drawn)[0].images[0].get_array()
    padded = np.full([-(-size // factor) * factor for size in shape], np.nan)
    padded[: shape[0], : shape[1]] = result.phase
    blocks = padded.reshape(shape[0] // factor + (shape[0] % factor > 0), factor, -1, factor)
    count = np.isfinite(blocks).sum((1, 3))
    expected = np.nansum(blocks, axis=(1, 3)) / np.where(count, count, np.nan)
    np.testing.assert_allclose(shown.filled(np.nan), expected, rtol=1e-12, atol=1e-9)
    assert f"Shown as means of {factor} × {factor} pixels." in _texts(drawn)
    axes = image_axes(drawn)[0]
    assert axes.get_xlim() == (-0.5, shape[1] - 0.5)
    assert axes.get_ylim() == (shape[0] - 0.5, -0.5)


def test_small_images_are_shown_as_they_are():
    assert Image.of(np.zeros((1024, 1024)), None).factor == 1
    assert Image.of(np.zeros((10, 1025)), None).factor == 2


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (5.8e-6, "5.8 µm"),
        (1e-6, "1 µm"),
        (1e-3, "1 mm"),
        (0.999e-6, "999 nm"),
        (2.0, "2 m"),
        (3e-22, "0.0003 am"),
    ],
)
def test_si_prefixes(value, text):
    assert si(value, "m") == text


def test_what_cannot_be_drawn_is_refused():
    result = make_result()
    with pytest.raises(InputError, check=coded("channel-missing")):
        figure(result, channels=["phse"])
    with pytest.raises(InputError, check=coded("channel-missing", "channel-missing")):
        figure(result, channels=["visibility", "shift"])
    with pytest.raises(InputError, check=coded("value-invalid")):
        figure(result, channels=[])
    bare = Retrieval(method="mist", experiment=EXPERIMENT, flags=result.flags)
    with pytest.raises(InputError, check=coded("channel-missing")):
        figure(bare)
    with pytest.raises(InputError, check=coded("value-invalid")):
        comparison({}, ["phase"])
    with pytest.raises(InputError, check=coded("channel-missing")):
        comparison({"a": result}, ["colour"])


# Comparisons


def test_a_comparison_has_one_scale_a_column_that_the_truth_sets():
    truth = make_result(seed=1, holes=False)
    noisy = Retrieval(**(make_result(seed=2).__getstate__() | {"dark_field": 10 * truth.dark_field}))
    rows = {"first": make_result(seed=3), "second": noisy}
    drawn = comparison(rows, ["phase", "dark_field"], truth)
    axes = image_axes(drawn)
    assert len(axes) == 6
    limits = [shown.images[0].get_clim() for shown in axes]
    assert limits[0::2] == [limits[0]] * 3
    assert limits[1::2] == [limits[1]] * 3
    assert limits[1] == pytest.approx(tuple(np.percentile(truth.dark_field * 1e12, (0.5, 99.5))), rel=1e-6)
    assert [text for text in _texts(drawn) if text in {"truth", "first", "second"}] == [
        "truth",
        "first",
        "second",
    ]
    without = image_axes(comparison(rows, ["dark_field"]))
    pool = np.concatenate([result.dark_field[result.flags == 0] for result in rows.values()]) * 1e12
    expected = tuple(np.percentile(pool, (0.5, 99.5)))
    assert without[0].images[0].get_clim() == pytest.approx(expected, rel=1e-6)


def test_the_phase_is_compared_without_its_mean():
    one = make_result(seed=1)
    other = Retrieval(**(one.__getstate__() | {"phase": one.phase + np.float32(100)}))
    first, second = image_axes(comparison({"one": one, "other": other}, ["phase"]))
    np.testing.assert_allclose(first.images[0].get_array(), second.images[0].get_array(), atol=1e-4)
    assert abs(first.images[0].get_array().mean()) < 1e-6


@pytest.mark.parametrize("kind", [dict, SimpleNamespace])
def test_the_truth_can_be_a_mapping_or_an_object(kind):
    result = make_result()
    drawn = comparison(
        {"row": result}, ["transmission", "visibility"], kind(transmission=result.transmission)
    )
    assert len(image_axes(drawn)) == 4
    assert _texts(drawn).count("not given") == 2


def test_a_truth_that_is_the_same_everywhere_leaves_the_limits_to_the_rows():
    result = make_result(names=("transmission",))
    drawn = comparison({"row": result}, ["transmission"], {"transmission": np.ones(result.shape)})
    alone = comparison({"row": result}, ["transmission"])
    low, high = image_axes(drawn)[1].images[0].get_clim()
    assert low == pytest.approx(image_axes(alone)[0].images[0].get_clim()[0], abs=0.05)
    assert high >= 1


def test_panels_of_components():
    assert [panel.component for panel in panels(["dark_field_tensor"])] == ["mean", "xx", "xy", "yy"]
    assert Panel("dark_field_tensor", "xy").pick(make_result()) is None


# Files


def test_an_image_is_a_png_that_says_what_it_is(tmp_path):
    path = make_result(names=("phase",)).save(tmp_path / "berry.png")
    with Picture.open(path) as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 400
        assert picture.text["Software"].startswith("xmist ")
        assert picture.text["Description"].startswith("mist, N = 10; 17 keV")
    assert [file.name for file in tmp_path.iterdir()] == ["berry.png"]


def test_equal_results_give_equal_images(tmp_path):
    one, other = (save_result_figure(make_result(), tmp_path / name) for name in ("a.png", "b.png"))
    assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize(("ending", "starts"), [("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_a_figure_for_a_paper_is_vectors(tmp_path, ending, starts):
    one, other = (make_result(names=("phase",)).save(tmp_path / f"{name}.{ending}") for name in "ab")
    assert one.read_bytes().startswith(starts)
    assert one.read_bytes() == other.read_bytes()
    assert b"Type3" not in one.read_bytes()


def test_a_figure_has_no_other_format(tmp_path):
    with pytest.raises(InputError, check=coded("ending-unknown")):
        save_figure(figure(make_result()), tmp_path / "a.jpg")
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_image_leaves_nothing(tmp_path, monkeypatch):
    drawn = figure(make_result())

    def interrupted(file, **_):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(drawn, "savefig", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_figure(drawn, tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []


def test_an_image_that_came_out_broken_is_not_placed(tmp_path, monkeypatch):
    drawn = figure(make_result())
    monkeypatch.setattr(drawn, "savefig", lambda file, **_: file.write(b"\x89PNG\r\n\x1a\n half"))
    with pytest.raises(OutputError, match="could not be read back"):
        save_figure(drawn, tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []


def test_drawing_touches_neither_pyplot_nor_the_settings(tmp_path):
    code = """
import sys
import matplotlib
before = dict(dict.items(matplotlib.rcParams))
from tests.view.drawings import make_result
make_result().save(sys.argv[1])
assert dict(dict.items(matplotlib.rcParams)) == before
assert "matplotlib.pyplot" not in sys.modules
"""
    arguments = [sys.executable, "-W", "error", "-c", code, str(tmp_path / "a.png")]
    done = subprocess.run(
        arguments, capture_output=True, text=True, check=False, cwd=__file__.rsplit("/tests", 1)[0]
    )
    assert done.returncode == 0, done.stderr
