"""The demo: what a newcomer sees first."""

import math

import numpy as np
import pytest

import xmist
from tests.cli.scenes import call
from xmist import demo
from xmist.io.frames import offer_geometry, open_frames
from xmist.simulate.recipes import FLESH


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "made" / "berries"
    steps = []
    scores = demo.run_demo(folder, progress=lambda *step: steps.append(step))
    assert ("simulating", 10, 10) in steps
    return folder, {(score.method, score.exposures, score.channel): score for score in scores}


@pytest.fixture(scope="module")
def truth(folder):
    return xmist.open_result(demo.names(folder[0])["truth"])


def test_scores_are_those_of_the_files(folder, truth):
    assert list(folder[1]) == [(m, n, c) for c in demo.PICTURES for m in demo.METHODS for n in demo.EXPOSURES]
    for (method, n, channel), score in folder[1].items():
        result = xmist.open_result(demo.names(folder[0])[f"{method}, N = {n}"])
        assert result.method == method
        assert result.provenance["exposures"] == n
        found, right = (getattr(r, channel).astype(np.float64) for r in (result, truth))
        for mask, correlation, nrmse in (
            (np.ones(demo.SHAPE, bool), score.correlation, score.nrmse),
            (demo.inside(), score.correlation_inside, score.nrmse_inside),
        ):
            a, b = found[mask], right[mask]
            if channel == "phase":
                a, b = a - a.mean(), b - b.mean()
            assert correlation == pytest.approx(np.corrcoef(a, b)[0, 1], rel=1e-9)
            assert nrmse == pytest.approx(math.sqrt(((a - b) ** 2).sum() / (b**2).sum()), rel=1e-9)


def test_pictures_are_close_to_the_truth(folder, truth):
    scores = folder[1]
    # A picture whose error is a tenth of its signal correlates by at least √(1 − 0.1²) with it.
    for method in demo.METHODS:
        for n in demo.EXPOSURES:
            assert scores[method, n, "phase"].nrmse < 0.1
            assert scores[method, n, "phase"].correlation > math.sqrt(1 - 0.1**2)
    right = truth.dark_field[demo.inside()].astype(np.float64)
    blind = right.std() / math.sqrt((right**2).mean())  # who knows the mean alone
    for n in demo.EXPOSURES:
        seen, other = (scores[method, n, "dark_field"] for method in (demo.METHOD, demo.OTHER))
        assert seen.nrmse_inside < blind
        assert seen.correlation_inside > other.correlation_inside
        assert seen.nrmse_inside < other.nrmse_inside
        assert seen.nrmse < other.nrmse
    # Explains more than half of the variance.
    assert scores[demo.METHOD, 10, "dark_field"].correlation_inside > math.sqrt(0.5)
    # Five times the exposures leave less of an error.
    for method in demo.METHODS:
        for channel in demo.PICTURES:
            assert scores[method, 10, channel].nrmse < scores[method, 2, channel].nrmse


def test_inside_is_where_the_words_say(truth):
    pixels = truth.experiment.effective_distance / truth.experiment.effective_pixel
    moved = np.hypot(*truth.refraction_angle) * pixels
    assert moved[demo.inside()].max() < 0.5
    assert moved.max() > 1.0
    # π r² pixels, but for those that the circle of 2πr pixels cuts.
    circle = demo.INSIDE * 0.4 * min(demo.SHAPE)
    assert demo.inside().sum() == pytest.approx(math.pi * circle**2, abs=2 * math.pi * circle)


def test_the_other_method_is_told_what_the_flesh_is():
    told = demo.METHODS[demo.OTHER]["delta_over_beta"]
    assert told == pytest.approx(FLESH.delta / FLESH.beta, rel=1e-3)
    assert demo.METHODS[demo.METHOD] == {}


def test_files_open(folder):
    files = demo.names(folder[0])
    assert sorted(folder[0].iterdir()) == sorted(files.values())
    result = xmist.open_result(files["full-field, N = 10"])
    assert np.isfinite(result.phase).all()
    for role, number in (("reference", 10), ("sample", 10), ("dark", 5), ("flat", 5)):
        series = open_frames(f"{files['frames']}::/entry/{role}/data", name=role)
        assert (len(series), series.shape) == (number, demo.SHAPE)
        offers = {offer.name: offer.value for offer in offer_geometry(series)}
        assert offers == pytest.approx(
            {name: value for name, value in result.experiment.to_dict().items() if value is not None}
        )


def test_the_scan_file_retrieves_the_frames_once_more(folder, truth, capsys):
    files = demo.names(folder[0])
    done = call(capsys, "retrieve", files["scan"])
    assert done.code == 0, done.err
    mine, theirs = xmist.open_result(folder[0] / "result.h5"), xmist.open_result(files["full-field, N = 10"])
    assert mine.method == theirs.method
    # Dark and flat frames bring noise of their own, less than that of the frames: five are averaged.
    for channel in demo.PICTURES:
        image, same, right = (getattr(result, channel) for result in (mine, theirs, truth))
        error = same - right
        assert np.std(image - same) < np.std(error)
    for name in ("result.h5", "result.png"):
        (folder[0] / name).unlink()


def test_a_second_demo_takes_another_folder(tmp_path, monkeypatch, capsys):
    made = []

    def run_demo(folder, **_options):
        made.append(str(folder))
        folder.mkdir(exist_ok=True)
        return [
            demo.Score(
                method="full-field",
                exposures=2,
                channel="dark_field",
                correlation=0.5,
                nrmse=0.25,
                correlation_inside=0.75,
                nrmse_inside=0.125,
            )
        ]

    monkeypatch.setattr(demo, "run_demo", run_demo)
    monkeypatch.chdir(tmp_path)
    first = call(capsys, "demo")
    row = next(line for line in first.out.splitlines() if "dark-field  full" in line)
    assert row.split() == ["dark-field", "full-field", "2", "0.5000", "0.250", "0.7500", "0.125"]
    assert f"Figure: {demo.names('xmist-demo')['figure']}" in first.out
    assert str(demo.names("xmist-demo")["full-field, N = 10"]) in first.err
    second = call(capsys, "demo")
    assert "xmist-demo exists already, so this demo went to xmist-demo-2" in second.err
    call(capsys, "demo", "--overwrite")
    call(capsys, "demo", "-o", "mine")
    assert made == ["xmist-demo", "xmist-demo-2", "xmist-demo", "mine"]


def test_a_folder_that_cannot_be_made(tmp_path, capsys):
    (tmp_path / "file").write_bytes(b"")
    done = call(capsys, "demo", "-o", tmp_path / "file" / "below")
    assert done.code == 2
    assert "cannot be made" in done.err
