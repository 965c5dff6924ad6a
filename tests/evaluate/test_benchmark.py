"""The tables of `xmist benchmark`: true numbers, reasons, and files."""

import json

import numpy as np
import pytest

from tests.cli.scenes import call
from tests.coded import coded
from xmist import METHODS, InputError, retrieve
from xmist.evaluate.benchmark import SEED, run_benchmark, save_benchmark
from xmist.simulate import phantom

QUICK = {"methods": ["mist", "single-material", "mist-rapid"], "cases": ["fine"], "size": 48}


@pytest.fixture(scope="module")
def found():
    return run_benchmark(**QUICK, positions=[2, 4], speed_sizes=[32], repeats=1, threads=1)


def test_the_scores_are_those_of_the_results(found):
    stack, experiment, truth = phantom("fine", shape=(48, 48), positions=4, seed=SEED)
    (row,) = [row for row in found.accuracy if (row.method, row.positions) == ("mist", 4)]
    phase = retrieve(stack, experiment, method="mist", smoothing=2.0).phase
    a, b = (image.astype(float) for image in (phase, truth.phase))
    away = 1.4826 * np.median(np.abs(a - b - np.median(a - b)))
    a, b = a - a.mean(), b - b.mean()
    expected = (
        (a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum()),
        np.sqrt(((a - b) ** 2).sum() / (b**2).sum()),
        away / np.sqrt((b**2).mean()),
    )
    assert (row.pixels, row.flagged, row.apart) == (48 * 48, 0.0, False)
    assert row.scores["phase"] == pytest.approx(expected, rel=1e-5)  # float32 images


def test_what_a_method_needs_is_told_in_its_row(found):
    reasons = {(row.method, row.positions): row.reason for row in found.accuracy}
    assert reasons["mist-rapid", 2] == "needs at least 4 positions"
    assert reasons["mist-rapid", 4] == reasons["mist", 2] == ""
    assert "delta_over_beta" in reasons["single-material", 2]
    assert {(row.method, row.positions) for row in found.speed} == {("mist", 2), ("mist-rapid", 4)}
    assert all(row.seconds > 0 and row.memory > 0 for row in found.speed)


def test_the_tables_hold_every_row(found):
    text = str(found)
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(lines) == 2 * 2 + len(found.accuracy) + len(found.speed)
    assert len({line.count("|") for line in lines}) == 2
    for fact in ("xmist", "date", "python", "cores", "seed"):
        assert f"{fact} {found.provenance[fact]}" in text


def test_files_hold_the_same(found, tmp_path):
    save_benchmark(found, tmp_path / "b.json")
    data = json.loads((tmp_path / "b.json").read_text(encoding="utf-8"))
    assert data["accuracy"][0]["scores"] == {k: list(v) for k, v in found.accuracy[0].scores.items()}
    assert save_benchmark(found, tmp_path / "b.md").read_text(encoding="utf-8") == str(found)
    with pytest.raises(InputError, check=coded("output-exists")):
        save_benchmark(found, tmp_path / "b.md")
    with pytest.raises(InputError, check=coded("ending-unknown")):
        save_benchmark(found, tmp_path / "b.txt")


def test_all_errors_at_once():
    codes = ("method-unknown", "preset-unknown", *["value-invalid"] * 4)
    with pytest.raises(InputError, check=coded(*codes)):
        run_benchmark(methods=["mst"], cases=["fin"], positions=[0], size=5, speed_sizes=[9], repeats=0)
    with pytest.raises(InputError, check=coded(*["value-invalid"] * 4)):
        run_benchmark(methods=["mist"], positions=["2"], size=48.0, speed_sizes=[True], repeats=1.5)
    with pytest.raises(InputError, check=coded("value-invalid")):
        run_benchmark(positions=[])
    with pytest.raises(InputError, check=coded("value-invalid", "value-invalid")):
        run_benchmark(methods=["mist", "mist"], cases=[], positions=[2, 2], speed_sizes=[])


def test_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = ("benchmark", "--method", "mist", "--phantom", "fine", "--positions", "2", "--size", "48")
    done = call(capsys, *arguments, "--no-speed", "-o", "b.md")
    assert done.code == 0
    assert "| fine | mist | 2 | 2304 | 0." in done.out
    assert done.out.rstrip() == (tmp_path / "b.md").read_text(encoding="utf-8").rstrip()
    assert call(capsys, *arguments, "--no-accuracy", "-o", "b.md").code == 2  # before any work
    done = call(capsys, "benchmark", "--method", "mist", "--no-accuracy", "--speed-size", "32", "--json")
    assert json.loads(done.out)["speed"][0]["method"] == "mist"
    assert call(capsys, "benchmark", "--method", next(iter(METHODS)) + "x").code == 2
    done = call(capsys, "benchmark", "--method", "mst", "-o", "b.txt", "--no-accuracy", "--no-speed")
    assert done.code == 2
    assert "leave nothing to measure" in done.err
    assert "b.txt ends in '.txt'" in done.err
    assert "unknown method 'mst'" in done.err
