"""The demo: what a newcomer sees first."""

import numpy as np
import pytest

import xmist
from tests.cli.scenes import call
from xmist import demo
from xmist.io.frames import offer_geometry, open_frames


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "made" / "berries"
    steps = []
    scores = demo.run_demo(folder, progress=lambda *step: steps.append(step))
    assert steps
    return folder, scores


def test_results_are_close_to_the_truth(folder):
    scores = {(score.exposures, score.channel): score for score in folder[1]}
    assert set(scores) == {(n, channel) for n in demo.EXPOSURES for channel in ("phase", "dark_field")}
    for score in scores.values():
        assert score.correlation > 0.8
        assert score.nrmse < 0.5
    for channel in ("phase", "dark_field"):
        assert scores[10, channel].correlation > scores[2, channel].correlation
        assert scores[10, channel].nrmse < scores[2, channel].nrmse


def test_what_is_simulated_is_an_experiment():
    truth, reference, sample = demo.simulate(2)
    assert reference.shape == sample.shape == (2, *truth["phase"].shape)
    assert truth["phase"].min() < 0  # matter
    assert truth["dark_field"].min() >= 0
    assert reference.std() / reference.mean() > 0.2
    assert np.array_equal(reference, reference.astype(np.uint32))  # counts, as their file stores them
    # Rays and diffusion keep the flux: 0.1 % is what the borders may lose.
    assert sample.mean() == pytest.approx(reference.mean(), rel=1e-3)
    again = demo.simulate(2)
    assert np.array_equal(again[1], reference)


def test_without_a_sample_nothing_happens(monkeypatch):
    empty = np.zeros(tuple(size * 2 for size in (160, 288)))
    monkeypatch.setattr(demo, "_berries", lambda: (empty, empty))
    _, reference, sample = demo.simulate(1)
    # Two draws of the same mean differ by the noise of two alone.
    noise = np.sqrt(2 * reference.mean())
    assert np.std(sample - reference) == pytest.approx(noise, rel=0.02)


def test_files_open(folder):
    files = demo.names(folder[0])
    assert sorted(folder[0].iterdir()) == sorted(files.values())
    result = xmist.open_result(files["N = 10"])
    assert result.provenance["exposures"] == 10
    assert not result.flags.any()
    series = open_frames(f"{files['frames']}::/entry/sample/data", name="sample")
    assert {offer.name: offer.value for offer in offer_geometry(series)} == pytest.approx(
        demo.EXPERIMENT.to_dict()
    )


def test_the_scan_file_retrieves_the_same_once_more(folder, capsys):
    files = demo.names(folder[0])
    done = call(capsys, "retrieve", files["scan"])
    assert done.code == 0
    mine, theirs = xmist.open_result(folder[0] / "mine.h5"), xmist.open_result(files["N = 10"])
    assert np.array_equal(mine.phase, theirs.phase)
    assert np.array_equal(mine.dark_field, theirs.dark_field)
    for name in ("mine.h5", "mine.png"):
        (folder[0] / name).unlink()


def test_a_second_demo_takes_another_folder(tmp_path, monkeypatch, capsys):
    made = []

    def run_demo(folder, **_options):
        made.append(str(folder))
        folder.mkdir(exist_ok=True)
        return [demo.Score(exposures=2, channel="dark_field", correlation=0.5, nrmse=0.25)]

    monkeypatch.setattr(demo, "run_demo", run_demo)
    monkeypatch.chdir(tmp_path)
    first = call(capsys, "demo")
    assert "          2  dark-field        0.500    0.25" in first.out
    assert f"Figure: {demo.names('xmist-demo')['figure']}" in first.out
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
