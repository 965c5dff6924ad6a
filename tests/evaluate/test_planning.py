import json
from dataclasses import replace

import numpy as np
import pytest

import xmist
from tests.coded import coded
from xmist import evaluate, simulate
from xmist.cli import main
from xmist.view.figures.expectations import plan_figure

RECIPE = simulate.find_recipe("fibres")((48, 48), 1, 0)
GIVEN = {
    "shape": (48, 48),
    "detector": RECIPE.detector,
    "distances": [1.0],
    "speckles": [25e-6],
    "visibility": 0.3,
    "positions": [6],
    "photons": [1e4],
    "draws": 2,
    "seed": 1,
    "method": "mist",
    "options": {"smoothing": 2.0},
}


def plan(**changes):
    return evaluate.expected_errors(RECIPE.sample, RECIPE.experiment, **(GIVEN | changes))


def test_without_a_sample_errors_are_noise_alone():
    detector = replace(RECIPE.detector, saturation=None)
    changes = {"photons": [1e6, 4e6], "positions": [3, 9], "draws": 2, "detector": detector}
    table = evaluate.expected_errors([], RECIPE.experiment, **(GIVEN | changes))
    by_choice = {(row.positions, row.photons): row for row in table}
    for name in ("phase_error", "dark_field_error", "refraction_angle_error"):
        few, bright, many = (getattr(by_choice[choice], name) for choice in ((3, 1e6), (3, 4e6), (9, 1e6)))
        # Linear in weak noise: four times the photons, half the error. The same diffusers, other noise: the
        # few lowest modes dominate φ, so that two images are good to some 40 %.
        assert abs(few / bright - 2.0) <= 0.8
        assert many < few or name == "phase_error"
    row = by_choice[3, 1e6]
    assert row.dose == 6e6
    assert row.dark_field_nrmse is None  # the truth is constant
    assert row.phase_nrmse is None


def test_same_seed_same_table():
    one, two = plan(workers=1), plan(workers=2)
    assert one.rows == two.rows
    assert plan(seed=2).rows != one.rows


def test_rows_text_and_figure():
    calls = []
    table = plan(distances=[0.5, 1.0, 2.0], draws=1, progress=lambda *call: calls.append(call))
    assert calls[-1] == ("planning", 3, 3)
    assert len(table) == 3
    assert [row.distance for row in table] == [0.5, 1.0, 2.0]
    assert json.loads(json.dumps(table.to_rows()))[0]["positions"] == 6
    lines = str(table).splitlines()
    assert len(lines) == 5
    assert lines[2].startswith(" 0.5 m")
    figure = plan_figure(table)
    assert [axes.get_xlabel() for axes in figure.axes] == ["distance (m)"] * 3
    assert len(figure.axes[0].lines) == 1
    several = plan(distances=[0.5, 1.0], photons=[1e3, 1e5], draws=1)
    assert len(plan_figure(several).axes[0].lines) == 2
    with pytest.raises(xmist.InputError, check=coded("value-invalid")):
        plan_figure(evaluate.ExpectedErrors(rows=(), method="mist", draws=1))


def test_a_method_without_phase():
    (row,) = plan(method="mist-attenuating", draws=1)
    assert row.phase_error is None
    assert row.dark_field_error is not None
    assert "–" in str(evaluate.ExpectedErrors(rows=(row,), method="mist-attenuating", draws=1))


def test_the_mean_of_the_phase_counts_for_nothing():
    """A method that knows δ/β gives φ with its mean, the truth has none; frames of (M) give it back."""
    recipe = simulate.find_recipe("currant")((48, 48), 1, 0)
    options = {"smoothing": 1.0, "delta_over_beta": 1150.0}
    (row,) = evaluate.expected_errors(
        recipe.sample,
        recipe.experiment,
        **(GIVEN | {"method": "mist-attenuating", "options": options, "draws": 1, "photons": [1e5]}),
        edge_sigma=recipe.edge_sigma,
    )
    assert row.phase_nrmse <= 0.3


def test_method_is_chosen():
    assert plan(method=None, options=None, draws=1).method in xmist.METHODS


@pytest.mark.parametrize(
    ("changes", "code", "name"),
    [
        ({"distances": []}, "value-invalid", "distances"),
        ({"distances": [-1.0]}, "value-invalid", "distances is -1"),
        ({"photons": [0.0]}, "value-invalid", "photons is 0"),
        ({"photons": [1e6]}, "value-invalid", "65535"),
        ({"positions": [0]}, "value-invalid", "positions is 0"),
        ({"positions": [1]}, "positions-too-few", "mist"),
        ({"method": "mst"}, "method-unknown", "mst"),
        ({"options": {"smothing": 1.0}}, "option-unknown", "smothing"),
        ({"visibility": 0.0}, "value-invalid", "visibility is 0"),
        ({"draws": 0}, "value-invalid", "draws is 0"),
        ({"shape": (12, 48)}, "value-invalid", "12"),
    ],
)
def test_bad_plans(changes, code, name):
    with pytest.raises(xmist.InputError, check=coded(code, names=[name])):
        plan(**changes)


def test_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = ["simulate", "fibres", "--plan", "--shape", "48", "48", "--distance", "1", "--positions", "4"]
    arguments += ["--photons", "1e4", "--method", "mist"]
    assert main([*arguments, "-o", "plan"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4
    assert (tmp_path / "plan" / "plan.png").stat().st_size > 10_000
    assert main([*arguments, "--json"]) == 0
    table = json.loads(capsys.readouterr().out)
    assert (len(table["rows"]), table["method"]) == (2, "mist")
    assert main([*arguments, "-o", "plan"]) == 2
    assert "exists already" in capsys.readouterr().err


def test_command_writes_frames(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = ["simulate", "low_dose", "--shape", "48", "48", "--positions", "2", "--quiet"]
    assert main(arguments) == 0
    assert (tmp_path / "xmist-low-dose" / "config.toml").exists()
    assert main(arguments) == 2
    assert main([*arguments, "--overwrite", "--form", "hdf5"]) == 0
    assert np.isfinite(xmist.open_result("xmist-low-dose/truth.h5").phase).all()
    for wrong, message in (
        (["simulate", "curant"], "did you mean 'currant'"),
        (["simulate", "currant", "--distance", "1", "--angles", "3", "--json"], "3 errors"),
        (["simulate", "currant", "--method", "mst"], "did you mean 'mist'"),
    ):
        capsys.readouterr()
        assert main(wrong) == 2
        assert message in capsys.readouterr().err
