"""`xmist plot`: figures from results on the command line."""

import numpy as np
import pytest

from tests.cli.scenes import call
from tests.view.drawings import make_result


@pytest.fixture
def result(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = make_result(names=("phase", "dark_field"))
    made.save("result.h5")
    return made


def test_figures_of_a_result(result, tmp_path, capsys):
    done = call(
        capsys, "plot", "result.h5", "-o", "a.pdf", "-o", "a.png", "--channels", "phase,scattering-angle",
        "--limits", "phase=-40,2", "--cmap", "viridis", "--units", "phase=mrad", "--crop", "0,30,0,40",
    )  # fmt: skip
    assert done.code == 0
    assert done.out == "Wrote a.pdf\nWrote a.png\n"
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")
    again = call(capsys, "plot", "result.h5", "-o", "a.pdf")
    assert again.code == 2


@pytest.mark.parametrize(
    ("arguments", "errors"),
    [
        ([], 1),
        (["-o", "a.jpg"], 1),
        (["-o", "a.png", "--channels", "visibility,phse"], 2),
        (["-o", "a.png", "--channels", "phase", "--limits", "3,1", "--cmap", "greey", "--crop", "3,4"], 3),
        (["-o", "a.png", "--cmap", "greey"], 1),
        (["-o", "a.png", "--limits", "=3"], 1),
        (["-o", "a.png", "--units", "dark_field=rad"], 1),
    ],
)
def test_what_cannot_be_drawn_is_said_at_once(result, tmp_path, capsys, arguments, errors):
    done = call(capsys, "plot", "result.h5", *arguments)
    assert done.code == 2
    assert done.err.count("\n- ") == (errors if errors > 1 else 0)
    assert [path.name for path in tmp_path.iterdir()] == ["result.h5"]


def test_info_shows_angles_in_microradian(result, capsys):
    done = call(capsys, "info", "result.h5")
    row = next(line.split() for line in done.out.splitlines() if "scattering_angle" in line)
    assert row[1] == "µrad"
    assert float(row[4]) == pytest.approx(1e6 * np.nanmax(result.scattering_angle), rel=1e-5)
