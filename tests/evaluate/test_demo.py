"""The demo: what a newcomer sees first."""

import dataclasses
import math

import numpy as np
import pytest

import xmist
from tests.cli.scenes import call
from xmist.evaluate import demo
from xmist.evaluate.tables import digits
from xmist.io.frames.frames import offer_geometry, open_frames

# As the quick one, but smaller.
SETTINGS = dataclasses.replace(demo.QUICK, shape=(96, 96), positions=(2, 6))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "made" / "berries"
    steps = []
    found = demo.run_demo(folder, settings=SETTINGS, progress=lambda *step: steps.append(step))
    assert ("simulating", 6, 6) in steps
    assert ("full-field, N = 6", 3, 4) in steps
    return folder, found


def test_the_full_demo_is_the_experiment_of_the_paper():
    assert tuple(demo.FULL.options) == ("mist", "full-field")
    assert demo.FULL.positions == (2, 4, 10)
    assert demo.PAPER.options["umpa"]["window"] == demo.PAPER.options["xsvt"]["window"] == 5


def test_the_demo_of_the_paper_has_its_methods():
    assert tuple(demo.PAPER.options)[:3] == ("umpa", "xsvt", "mist")
    assert demo.PAPER.positions == demo.FULL.positions
    assert demo.names("x", demo.PAPER)["table I"].name == "table-1.md"
    assert "table I" not in demo.names("x")
    for name, options in demo.PAPER.options.items():
        xmist.methods.make_options(name, options)


def test_the_table_of_the_paper(made):
    found = dataclasses.replace(
        made[1], runs=tuple(dataclasses.replace(run, method="mist") for run in made[1].runs[:2])
    )
    line = demo.paper_table(found).splitlines()[-1]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    first, second = (run.quality["dark_field"] for run in found.runs)
    assert cells == [
        "mist",
        *("10.9", digits(abs(first.cnr)), digits(abs(first.cnr_median))),
        *("22.6", digits(abs(second.cnr)), digits(abs(second.cnr_median))),
    ]


def test_images_are_close_to_the_truth(made):
    run = made[1].run("full-field", 6)
    # A phase whose error is a tenth of its signal correlates by at least √(1 − 0.1²) with it.
    assert run.quality["phase"].nrmse < 0.1
    assert run.quality["phase"].correlation > math.sqrt(1 - 0.1**2)
    right = made[1].truth["dark_field"][made[1].regions.inside].astype(np.float64)
    blind = right.std() / math.sqrt((right**2).mean())  # who knows the mean alone
    assert run.quality["dark_field"].nrmse_inside < blind
    other = made[1].run("mist", 6)
    assert run.quality["dark_field"].nrmse_inside < other.quality["dark_field"].nrmse_inside


def test_the_regions_are_those_of_the_berry(made):
    truth, regions = made[1].truth, made[1].regions
    y, x = (np.arange(size) - (size - 1) / 2 for size in SETTINGS.shape)
    radius = np.hypot(y[:, None], x) / (0.4 * min(SETTINGS.shape))  # 1 at its rim
    assert radius[regions.outside].min() > 1
    assert radius[regions.inside].max() < 1
    assert regions.inside[radius < 0.5].all()
    assert np.abs(truth["phase"][regions.outside]).max() < 1e-3 * np.abs(truth["phase"]).max()


def test_files_open(made):
    folder, found = made
    files = demo.names(folder, SETTINGS)
    written = sorted(folder.iterdir())
    assert set(written) <= set(files.values())
    assert files["figure"] in written
    assert files["table"] in written
    result = xmist.open_result(folder / "full-field-6.h5")
    assert np.array_equal(result.phase, found.results["full-field", 6].phase)
    for role, number in (("reference", 6), ("sample", 6), ("dark", 5), ("flat", 5)):
        series = open_frames(f"{files['frames']}::/entry/{role}/data", name=role)
        assert (len(series), series.shape) == (number, SETTINGS.shape)
        offers = {offer.name: offer.value for offer in offer_geometry(series.sources[0])}
        assert offers == pytest.approx(
            {name: value for name, value in result.experiment.to_dict().items() if value is not None}
        )


def test_the_configuration_retrieves_the_frames_once_more(made, capsys):
    files = demo.names(made[0], SETTINGS)
    done = call(capsys, "retrieve", files["configuration"])
    assert done.code == 0, done.err
    mine, theirs = (xmist.open_result(made[0] / name) for name in ("result.h5", "full-field-6.h5"))
    assert mine.method == theirs.method
    # Dark and flat frames bring noise of their own, less than that of the frames: five are averaged.
    error = theirs.phase - made[1].truth["phase"]
    assert np.std(mine.phase - theirs.phase) < np.std(error)
    for name in ("result.h5", "result.png"):
        (made[0] / name).unlink()


def test_what_is_told(made):
    text = demo.words(made[1])
    assert "Contrast-to-noise ratio, dark-field" in text
    assert "Against the truth, phase" in text
    assert "mist-attenuating" in text


def test_a_second_demo_takes_another_folder(made, tmp_path, monkeypatch, capsys):
    asked = []

    def run_demo(folder, **options):
        asked.append((str(folder), options["settings"]))
        folder.mkdir(exist_ok=True)
        return made[1]

    monkeypatch.setattr(demo, "run_demo", run_demo)
    monkeypatch.chdir(tmp_path)
    first = call(capsys, "demo")
    assert "Contrast-to-noise ratio" in first.out
    assert f"Figure: {demo.names('xmist-demo')['figure']}" in first.out
    assert "xmist info xmist-demo/full-field-10.h5" in first.err
    second = call(capsys, "demo", "--quick")
    assert "xmist-demo exists already, so the files are in xmist-demo-2" in second.err
    call(capsys, "demo", "--overwrite")
    call(capsys, "demo", "-o", "mine")
    assert [name for name, _ in asked] == ["xmist-demo", "xmist-demo-2", "xmist-demo", "mine"]
    assert [plan for _, plan in asked] == [demo.FULL, demo.QUICK, demo.FULL, demo.FULL]
    assert call(capsys, "demo", "--quick", "--paper").code == 2
    call(capsys, "demo", "--paper", "-o", "paper")
    assert asked[-1] == ("paper", demo.PAPER)


def test_a_folder_that_cannot_be_made(tmp_path, capsys):
    (tmp_path / "file").write_bytes(b"")
    done = call(capsys, "demo", "-o", tmp_path / "file" / "below")
    assert done.code == 2
    assert "cannot be made" in done.err
