"""Methods × numbers of positions: the same numbers as by hand, and every reason told."""

import csv
import io
import json
import math
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

import xmist
from tests.coded import coded
from tests.evaluate.scene import SHAPE, stack, truth
from tests.manufactured import EXPERIMENT
from xmist.core.errors import InputError
from xmist.core.flags import CLIPPED, SEARCH_EDGE
from xmist.evaluate import scoring
from xmist.evaluate.metrics import correlation, fourier_ring_correlation, nrmse
from xmist.evaluate.regions import make_regions
from xmist.evaluate.scoring import Quality
from xmist.view.figures.grids import Cell, image_grid

METHODS = ("mist", "mist-attenuating", "lcs", "single-material")
OPTIONS = {
    "mist-attenuating": {"smoothing": 1.0, "delta_over_beta": 500.0},
    "lcs": {"dark_field": "none"},
}


@pytest.fixture(scope="module")
def found():
    seen = []
    result = xmist.compare(
        stack(),
        EXPERIMENT,
        methods=METHODS,
        positions=(2, 4, 6),
        options=OPTIONS,
        truth=truth(),
        progress=lambda *step: seen.append(step),
    )
    assert seen[-1] == ("comparing", 12, 12)
    assert ("lcs, N = 4", 7, 12) in seen
    return result


def test_results_are_those_of_retrieve(found):
    assert found.methods == METHODS
    assert found.positions == (2, 4, 6)
    names = ["mist", "mist", "mist-attenuating", "mist-attenuating", "lcs"]
    assert list(found.results) == list(zip(names, (2, 4, 2, 4, 4), strict=True))
    for (method, n), result in found.results.items():
        some = xmist.SpeckleStack(stack().reference[:n], stack().sample[:n])
        again = xmist.retrieve(some, EXPERIMENT, method=method, **OPTIONS.get(method, {}))
        for name, array in again.channels():
            assert np.array_equal(getattr(result, name), array, equal_nan=True)
    assert found.run("lcs", 4).result is found.results["lcs", 4]
    with pytest.raises(InputError, check=coded("result-missing")):
        found.run("umpa", 2)


def test_what_is_impossible_is_told(found):
    reasons = {run.label: run.reason for run in found.runs if run.reason}
    assert reasons["lcs, N = 2"] == "needs at least 3 positions"
    assert reasons["mist, N = 6"] == "the frames have 4 positions"
    assert reasons["single-material, N = 4"] == "needs the option delta_over_beta"
    text = str(found)
    assert "every method, N = 6: the frames have 4 positions" in text
    assert "single-material, N = 2, 4: needs the option delta_over_beta" in text
    assert "N = 6  " not in text
    with pytest.raises(InputError, check=coded("no-method")):
        xmist.compare(stack(), EXPERIMENT, methods=["mist-rapid"], positions=[2])


def test_a_method_that_gives_up_is_listed(found):
    again = xmist.compare(
        stack(),
        EXPERIMENT,
        methods=["mist", "umpa"],
        positions=[2],
        options={"umpa": {"window": 99}},
        regions=found.regions,
        resolution=False,
    )
    assert again.run("mist", 2).result is not None
    assert again.run("umpa", 2).reason.startswith("option window is 99 pixels")


def test_contrast_noise_and_sensitivity_are_those_of_the_metrics(found):
    regions = found.regions
    for run in found.done:
        for channel, quality in run.quality.items():
            image = getattr(run.result, channel).astype(np.float64)
            beam, within = (image[part & found.pixels] for part in (regions.outside, regions.inside))
            # Sums of the same numbers in another order.
            assert quality.cnr == pytest.approx((beam.mean() - within.mean()) / beam.std(), rel=1e-9)
            spread = 1.4826 * np.median(np.abs(beam - np.median(beam)))
            assert quality.cnr_median == pytest.approx(
                (np.median(beam) - np.median(within)) / spread, rel=1e-6
            )
        angle = run.result.refraction_angle[:, regions.outside & found.pixels].astype(np.float64)
        assert run.sensitivity == pytest.approx(angle.std(axis=1), rel=1e-9)
        away = np.abs(angle - np.median(angle, axis=1, keepdims=True))
        assert run.sensitivity_median == pytest.approx(1.4826 * np.median(away, axis=1), rel=1e-9)
    # The disc absorbs a tenth of the light, and scatters: T falls, D rises.
    assert found.run("lcs", 4).quality["transmission"].cnr > 10
    assert found.run("mist-attenuating", 4).quality["dark_field"].cnr < -1


def test_resolution_is_that_of_every_other_position(found):
    run = found.run("mist", 4)
    frames = stack()
    halves = [
        xmist.retrieve(
            xmist.SpeckleStack(frames.reference[start:4:2], frames.sample[start:4:2]),
            EXPERIMENT,
            method="mist",
        )
        for start in (0, 1)
    ]
    for channel in ("dark_field", "phase"):
        ring = fourier_ring_correlation(
            *(getattr(half, channel) for half in halves),
            pixel_size=EXPERIMENT.effective_pixel,
            mask=np.all([half.flags == 0 for half in halves], axis=0) & found.pixels,
        )
        best = 2 * EXPERIMENT.effective_pixel
        expected = best if math.isnan(ring.resolution) else ring.resolution
        assert run.quality[channel].resolution == expected
    assert found.run("mist", 2).quality["phase"].resolution is None
    assert (
        "half of 2 positions is less than the 2 that mist needs" in found.run("mist", 2).findings[0].message
    )


def test_errors_are_against_the_truth(found):
    right = truth()
    run = found.run("mist-attenuating", 4)
    for channel in right:
        image, quality = getattr(run.result, channel), run.quality[channel]
        assert quality.correlation == correlation(image, right[channel], mask=found.pixels)
        # None where most of the truth is constant, so that it has no median absolute deviation.
        robust = scoring._number(correlation, image, right[channel], mask=found.pixels, robust=True)
        assert quality.correlation_median == robust
        assert quality.nrmse == nrmse(image, right[channel], mask=found.pixels)
        assert quality.nrmse_median == nrmse(image, right[channel], mask=found.pixels, robust=True)
        inside = found.regions.inside & found.pixels
        assert quality.nrmse_inside == nrmse(image, right[channel], mask=inside)
    # The truth is constant inside the disc: there is no correlation.
    assert quality.correlation_inside is None
    assert run.quality["phase"].nrmse is None


WILD = (np.nan, 0.0, 1e9, -1e9)


def _with_wild_pixels(run, places, value):
    """A run whose result has a value in flagged places."""
    flags = np.where(places, SEARCH_EDGE, 0).astype(np.uint16)
    images = {}
    for name, image in run.result.channels():
        images[name] = np.where(places, np.float32(value), image)
    return replace(run, result=replace(run.result, flags=flags, **images))


@pytest.fixture(scope="module")
def clean():
    """Two runs without a flag, and the halves of the first."""
    regions = make_regions(stack(), {"outside": [2, 10, 2, 62], "inside": [25, 35, 27, 37]})
    pairs = [("mist", 4), ("mist-attenuating", 4)]
    runs, halves = scoring.run_methods(
        stack(), EXPERIMENT, pairs, OPTIONS, resolution=True, report=lambda *_: None
    )
    places = np.zeros(SHAPE, bool)
    return [_with_wild_pixels(run, places, 0) for run in runs], halves, regions


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_flagged_pixels_change_no_score_by_a_bit(clean, share):
    runs, halves, regions = clean
    places = np.random.default_rng(5).random(SHAPE) < share
    scores = []
    for value in WILD:
        wild = [runs[0], _with_wild_pixels(runs[1], places, value)]
        scored, pixels = scoring.score_runs(wild, regions, truth(), halves)
        images = [run.result.dark_field for run in scored]
        same = scoring.agreement(images, pixels)
        scores.append(
            (
                [run.quality for run in scored],
                [run.sensitivity for run in scored],
                [run.sensitivity_median for run in scored],
                same.tolist(),
            )
        )
    assert all(each == scores[0] for each in scores)
    quality = scores[0][0][1]["dark_field"]
    assert None not in (quality.cnr, quality.cnr_median, quality.resolution, quality.nrmse)
    # Above 20 % the flags of one leave the other alone.
    alone, _ = scoring.score_runs(runs[:1], regions, truth(), halves[:1])
    other = scored[0]
    assert (alone[0].quality == other.quality) == (share > scoring.MOST_FLAGGED)
    assert [run.apart for run in scored] == [False, share > scoring.MOST_FLAGGED]
    unflagged = int((~places).sum())
    assert scored[1].pixels == unflagged
    assert other.pixels == (math.prod(SHAPE) if share > scoring.MOST_FLAGGED else unflagged)
    assert [record.code for record in scored[1].findings if record.severity == "warning"] == (
        ["scored-apart"] if share > scoring.MOST_FLAGGED else []
    )


def test_a_result_that_is_scored_apart_is_marked(found, clean):
    runs, halves, regions = clean
    places = np.random.default_rng(5).random(SHAPE) < 0.3
    scored, pixels = scoring.score_runs(
        [runs[0], _with_wild_pixels(runs[1], places, 1e9)], regions, truth(), halves
    )
    marked = replace(
        found,
        runs=tuple(scored),
        regions=regions,
        pixels=pixels[0],
        agreement={name: np.eye(2) for name in found.agreement},
        agreement_median={name: np.eye(2) for name in found.agreement},
    )
    text = str(marked)
    assert f"{math.prod(SHAPE)} of {math.prod(SHAPE)} pixels (100 %)" in text
    assert "* Scored apart: mist-attenuating, N = 4 flags" in text
    tables = dict(block.split("\n", 1) for block in text.split("\n\n") if "\n" in block)
    for title, scored_apart in (("Contrast-to-noise ratio, dark-field", True), ("Peak memory (MB)", False)):
        line = next(line for line in tables[title].splitlines() if "mist-attenuating" in line)
        assert line.endswith(" *") == scored_apart
    rows = {row["method"]: row for row in marked.table}
    assert rows["mist-attenuating"]["scored_apart"]
    assert rows["mist-attenuating"]["pixels_scored"] == int((~places).sum())
    assert not rows["mist"]["scored_apart"]
    labels = [text.get_text() for text in marked.figures()["agreement"].axes[0].get_yticklabels()]
    assert labels == ["mist, N = 4", "mist-attenuating, N = 4 *"]


def test_clipped_pixels_are_scored():
    found = xmist.compare(
        stack(),
        EXPERIMENT,
        methods=["mist"],
        positions=[4],
        options={"mist": {"positive": True}},
        resolution=False,
    )
    clipped = found.results["mist", 4].flags & CLIPPED > 0
    assert clipped.any()
    assert found.pixels[clipped].any()


def test_flagged_pixels_of_the_truth_do_not_count(found):
    result = found.results["mist-attenuating", 4]
    flags = np.zeros(SHAPE, np.uint16)
    flags[20:24] = SEARCH_EDGE
    options = {"methods": ["mist"], "positions": [2], "resolution": False, "regions": found.regions}
    scores = []
    for value in WILD:
        phase = result.phase.copy()
        phase[20:24] = value
        right = replace(result, phase=phase, flags=flags)
        scores.append(xmist.compare(stack(2), EXPERIMENT, truth=right, **options).run("mist", 2).quality)
    assert all(quality == scores[0] for quality in scores)


def test_the_truth_may_come_as_file_or_object(found, tmp_path):
    frames = stack(2)
    result = found.results["mist-attenuating", 4]
    result.save(tmp_path / "truth.h5")
    options = {"methods": ["mist"], "positions": [2], "resolution": False, "regions": found.regions}
    for given in (result, tmp_path / "truth.h5", {"phase": result.phase}):
        again = xmist.compare(frames, EXPERIMENT, truth=given, **options)
        assert np.array_equal(again.truth["phase"], result.phase)
    assert set(again.truth) == {"phase"}


def test_agreement(found):
    labels = [run.label for run in found.done]
    matrix = found.agreement["dark_field"]
    assert matrix.shape == (len(labels),) * 2
    assert np.array_equal(matrix, matrix.T, equal_nan=True)
    a, b = (labels.index(name) for name in ("mist, N = 4", "mist-attenuating, N = 4"))
    pair = [found.results[name, 4].dark_field for name in ("mist", "mist-attenuating")]
    assert matrix[a, b] == correlation(*pair, mask=found.pixels)
    robust = found.agreement_median["dark_field"]
    assert robust[a, b] == correlation(*pair, mask=found.pixels, robust=True)
    assert np.isnan(found.agreement["transmission"][a]).all()  # mist has none
    assert np.isnan(matrix[labels.index("lcs, N = 4")]).all()


def test_all_errors_at_once():
    with pytest.raises(InputError, check=lambda error: len(error.codes) == 7):
        xmist.compare(
            stack(),
            EXPERIMENT,
            methods=["mist", "misst", "mist"],
            positions=[2, 2.5],
            options={"mist": {"smoothin": 1}, "umpa": {"window": 5}},
            regions={"outside": [0, 99, 0, 9]},
            truth={"phase": np.zeros((3, 3))},
        )


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"positions": 2}, "value-invalid"),
        ({"positions": []}, "value-invalid"),
        ({"positions": [2, 2]}, "value-invalid"),
        ({"positions": [True]}, "value-invalid"),
        ({"positions": [0]}, "value-invalid"),
        ({"methods": []}, "value-invalid"),
        ({"truth": {}}, "channel-missing"),
    ],
)
def test_bad_input(given, code):
    with pytest.raises(InputError, check=coded(code)):
        xmist.compare(stack(2), EXPERIMENT, **{"methods": ["mist"], "positions": [2], **given})


def test_without_regions_the_rest_is_said():
    frames = stack(2)
    same = xmist.SpeckleStack(frames.reference, frames.reference)
    found = xmist.compare(same, EXPERIMENT, methods=["mist"], positions=[2], resolution=False)
    assert found.regions.about["outside"].startswith("not found: no sample")
    assert found.run("mist", 2).quality["phase"].cnr is None
    assert found.run("mist", 2).sensitivity is None
    assert "not found: no sample" in str(found)


def test_time_and_memory_are_measured(found):
    for run in found.done:
        assert run.seconds > 0
        assert run.prepare_seconds > 0
        # Holds its channels at least: φ, the angles and D in four bytes a pixel.
        assert run.memory > 4 * 4 * math.prod(SHAPE)
    assert not tracemalloc.is_tracing()


def test_memory_counts_what_is_asked_for_and_no_more(monkeypatch):
    def prepare(*_arguments, **_named):
        return lambda _sample: np.ones(2**20) + 0 * np.ones(2**20)

    monkeypatch.setattr(scoring, "prepare", prepare)
    held = np.ones(2**20)
    tracemalloc.start()
    try:
        memory = scoring.measure(stack(2), EXPERIMENT, "mist", {}, None)[3]
        assert tracemalloc.is_tracing()
    finally:
        tracemalloc.stop()
    # Two or three arrays of 8 MiB at a time, as numpy reuses temporaries.
    assert 2 * held.nbytes <= memory < 3.5 * held.nbytes


def test_files(found, tmp_path):
    folder = tmp_path / "made" / "here"
    written = found.save(folder, results=True)
    assert sorted(folder.iterdir()) == sorted(written)
    expected = found.targets(folder, results=True)
    assert set(written) <= set(expected)
    rows = list(csv.DictReader(io.StringIO((folder / "comparison.csv").read_text())))
    assert len(rows) == len(found.runs) == len(found.table)
    for row, item in zip(rows, found.table, strict=True):
        assert row["method"] == item["method"]
        value = item["dark_field_cnr"]
        assert row["dark_field_cnr"] == ("" if value is None else repr(value))
    data = json.loads((folder / "comparison.json").read_text())
    assert (
        data["runs"][1]["quality"]["phase"]["resolution"] == found.run("mist", 4).quality["phase"].resolution
    )
    for name in ("agreement", "agreement_median"):
        assert data[name]["labels"] == [run.label for run in found.done]
    assert data["runs"][3]["options"] == OPTIONS["mist-attenuating"]
    page = (folder / "comparison.md").read_text()
    for part in ("## Contrast-to-noise ratio, dark-field", "![dark-field.png]", "Sample (inside): found"):
        assert part in page
    result = xmist.open_result(folder / "mist-4.h5")
    assert np.array_equal(result.phase, found.results["mist", 4].phase)


def test_nothing_is_overwritten(found, tmp_path, monkeypatch):
    (tmp_path / "comparison.csv").write_text("mine")
    with pytest.raises(InputError, check=coded("output-exists", names=["comparison.csv"])):
        found.save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["comparison.csv"]
    assert (tmp_path / "comparison.csv").read_text() == "mine"
    monkeypatch.setattr(type(found), "figures", lambda _: {})
    found.save(tmp_path, overwrite=True)
    assert (tmp_path / "comparison.csv").read_text().startswith("method,positions")


def test_the_figure_has_a_row_a_method_and_a_column_a_number(found):
    page = found.figure("dark_field")
    texts = [text.get_text() for text in page.texts]
    assert "mist" in texts
    labels = [text.replace("\n", " ") for text in texts]
    assert "mist-attenuating, smoothing = 1, delta_over_beta = 500" in labels
    assert not any(label.startswith("lcs") for label in labels)  # was asked for none
    assert "Not retrieved by lcs." in texts
    images = [axes for axes in page.axes if axes.images]
    assert [axes.get_title() for axes in images if axes.get_title()] == ["N = 2", "N = 4", "truth"]
    assert len(images) == 2 * 2 + 1
    assert len({image.get_clim() for axes in images for image in axes.images}) == 1
    assert all(image.get_array().min() >= 0 for axes in images for image in axes.images)
    assert images[0].images[0].get_clim()[0] == 0
    both = found.figure("dark_field", positive=False)
    assert min(image.get_array().min() for axes in both.axes for image in axes.images) < 0
    with pytest.raises(InputError, check=coded("channel-missing")):
        found.figure("dark-field")


def test_without_the_truth_the_calmest_dark_field_sets_the_colours():
    calm, wild = (scale * np.linspace(0, 1, 64 * 64).reshape(64, 64) for scale in (1e-12, 1e-9))
    page = image_grid("dark_field", [[Cell(wild), Cell(calm)]], rows=["a"], columns=["x", "y"], pixel=1e-6)
    flagged = np.where(calm > 0.5e-12, 1, 0)
    other = image_grid("dark_field", [[Cell(calm, "", flagged)]], rows=["a"], columns=["x"], pixel=1e-6)
    assert other.axes[0].images[0].get_clim()[1] == pytest.approx(498, abs=2)  # flagged pixels do not count
    (limits,) = {image.get_clim() for axes in page.axes for image in axes.images}
    # The middle 99 % of the calm one, in fm.
    assert limits == pytest.approx((5.0, 995.0), abs=1.0)


def test_no_table_for_people_has_powers_of_ten(found):
    quality = {"dark_field": Quality(cnr=1740.0, resolution=1.74e-3, correlation=0.5, nrmse=1740.0)}
    run = replace(found.run("mist", 2), quality=quality, sensitivity=(1.74e-6, 1.74e-6), memory=1.74e9)
    text = str(replace(found, runs=(run,)))
    assert text.count("1740") == 6
    assert "e+" not in text


@pytest.mark.parametrize("number", [2, 5, 14])
def test_one_number_of_positions_makes_no_strip(number):
    names = [f"method {n}" for n in range(number)]
    image = np.linspace(0, 1e-12, 64 * 64).reshape(64, 64)
    page = image_grid(
        "dark_field", [[Cell(image)] for _ in names], rows=names, columns=["N = 2"], pixel=1e-6, truth=image
    )
    images = [axes for axes in page.axes if axes.images]
    assert [axes.get_title() for axes in images] == [*names, "truth"]
    assert "N = 2" in [text.get_text() for text in page.texts]
    places = [axes.get_position() for axes in images]
    assert len({(round(place.x0, 6), round(place.y0, 6)) for place in places}) == number + 1
    width, height = page.get_size_inches()
    assert 0.6 < width / height < 2.5  # 3 : 2 within what whole rows and columns allow


def test_what_a_method_cannot_do_is_written_in_its_place(found):
    texts = [text.get_text().replace("\n", " ") for text in found.figure("transmission").texts]
    assert "needs at least 3 positions" in texts


def test_the_phase_is_zero_in_bare_beam(found):
    page = found.figure("phase")
    shown = next(axes for axes in page.axes if axes.images).images[0].get_array()
    mean = float(shown[found.regions.outside].mean())
    assert abs(mean) < 1e-5 * float(np.abs(shown).max())  # float32


def test_values_under_weight_zero_change_no_score_and_no_image():
    frames = stack(2)
    weights = np.ones(frames.reference.shape, np.float32)
    weights[0, :9, :30] = 0.0  # bare beam too, at one position
    plain, *others = (
        xmist.compare(
            xmist.SpeckleStack(
                *(
                    np.where(weights == 0.0, np.float32(value), part)
                    for part in (frames.reference, frames.sample)
                ),
                weights,
            ),
            EXPERIMENT,
            methods=["mist"],
            truth=truth(),
            resolution=False,
        )
        for value in (0.0, np.nan, -1e9, 1e9)
    )
    for other in others:
        assert other.run("mist", 2).quality == plain.run("mist", 2).quality
        assert np.array_equal(other.frames, plain.frames, equal_nan=True)
        assert np.array_equal(other.pixels, plain.pixels)


def test_a_dead_first_frame_keeps_only_the_first_from_being_compared():
    frames = stack()
    sample = frames.sample.copy()
    sample[0] = np.nan
    dead = xmist.SpeckleStack(frames.reference, sample)
    options = {"single-exposure": {"delta_over_beta": 500.0}}
    found = xmist.compare(
        dead, EXPERIMENT, methods=["single-exposure"], positions=[1, 3], options=options, resolution=False
    )
    assert found.run("single-exposure", 1).reason.startswith("sample has no finite pixel")
    assert found.run("single-exposure", 3).result is not None
    with pytest.raises(InputError, check=coded("no-method")):
        xmist.compare(dead, EXPERIMENT, methods=["single-exposure"], positions=[1], options=options)


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"methods": 5}, "value-invalid"),
        ({"methods": [["mist"]]}, "value-invalid"),
        ({"options": 5}, "option-invalid"),
        ({"options": {"mist": 5}}, "option-invalid"),
        ({"options": {5: {}}}, "option-unknown"),
        ({"methods": ["umpa"], "options": {"umpa": {"stride": 2}}}, "option-conflict"),
        ({"regions": [0, 5, 0, 5]}, "region-invalid"),
    ],
)
def test_other_kinds_of_arguments(given, code):
    with pytest.raises(InputError, check=coded(code)):
        xmist.compare(stack(), EXPERIMENT, **{"methods": ["mist"], "positions": [2], **given})
