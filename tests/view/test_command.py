"""`xmist report`, and --report of the commands that give a result."""

import pytest

from tests.cli.scenes import call, snapshot, write_config, write_frames
from tests.view.pages import Page, make_result
from tests.workflow.series_scenes import write_config as write_projections


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_page_of_one_result_and_of_several(folder, capsys):
    make_result(("phase",)).save("one.h5")
    make_result(("phase",), seed=4).save("two.h5")
    done = call(capsys, "report", "one.h5", "-o", "page.html")
    assert (done.code, done.out) == (0, "Wrote page.html\n")
    assert [one["name"] for one in Page(folder / "page.html").data["results"]] == ["one.h5"]
    done = call(capsys, "report", "one.h5", "--compare", "two.h5", "-o", "page.html", "--overwrite")
    assert done.code == 0
    assert [one["name"] for one in Page(folder / "page.html").data["results"]] == ["one.h5", "two.h5"]


def test_results_of_one_name_are_told_apart_by_their_folders(folder, capsys):
    for name in ("a", "b"):
        (folder / name).mkdir()
        make_result(("phase",)).save(f"{name}/result.h5")
    assert call(capsys, "report", "a/result.h5", "--compare", "b/result.h5", "-o", "page.html").code == 0
    assert [one["name"] for one in Page(folder / "page.html").data["results"]] == [
        "a/result.h5",
        "b/result.h5",
    ]


def test_all_errors_at_once_and_nothing_written(folder, capsys):
    (folder / "text.h5").write_text("no result")
    before = snapshot(folder)
    done = call(capsys, "report", "missing.h5", "--compare", "text.h5", "-o", "page.png")
    assert done.code == 2
    for words in ("3 errors", "missing.h5 does not exist", "text.h5", "page.png: a report is a web page"):
        assert words in done.err
    assert snapshot(folder) == before


def test_retrieve_writes_a_page_too(folder, capsys):
    write_frames(folder)
    write_config(folder)
    done = call(capsys, "retrieve", "config.toml", "--report", "page.html")
    assert (done.code, done.out) == (0, "Wrote result.h5\nWrote page.html\n")
    [result] = Page(folder / "page.html").data["results"]
    assert (result["name"], result["method"]) == ("result.h5", "mist")
    before = snapshot(folder)
    done = call(capsys, "retrieve", "config.toml", "-o", "other.h5", "--report", "page.html")
    assert done.code == 2
    assert "--report: page.html exists already" in done.err
    assert snapshot(folder) == before


def test_errors_of_the_page_and_of_the_series_are_told_together(folder, capsys):
    write_frames(folder)
    write_config(folder, retrieve={"method": "misst"})
    before = snapshot(folder)
    done = call(capsys, "retrieve", "config.toml", "--report", "page.png")
    assert done.code == 2
    for words in ("2 errors", "retrieve.method is 'misst'", "--report: page.png: a report is a web page"):
        assert words in done.err
    assert snapshot(folder) == before


def test_compare_writes_a_page_into_the_folder_that_it_makes(folder, capsys):
    write_frames(folder, shape=(48, 48))
    write_config(folder)
    command = ("compare", "config.toml", "-o", "out", "--methods", "mist,optical-flow", "--positions", "3")
    done = call(capsys, *command, "--no-resolution", "--report", "out/page.html")
    assert done.code == 0, done.err
    assert done.out.endswith("Wrote out/page.html\n")
    names = [result["name"] for result in Page(folder / "out" / "page.html").data["results"]]
    assert names == ["mist, N = 3", "optical-flow, N = 3"]
    done = call(capsys, *command, "--report", "out/page.html")
    assert done.code == 2
    assert "--report: out/page.html exists already" in done.err


def test_raw_frames_are_shown_while_they_are_the_same(folder, capsys):
    write_frames(folder)
    write_config(folder, preprocess=[{"step": "crop", "rows": [0, 16]}])
    assert call(capsys, "retrieve", "config.toml", "--report", "page.html").code == 0
    shown = Page(folder / "page.html").data["frames"]
    assert (shown["positions"], len(shown["shown"])) == (3, 6)

    def frames(*more):
        assert call(capsys, "report", "result.h5", "-o", "again.html", "--overwrite", *more).code == 0
        return Page(folder / "again.html").data["frames"]

    assert frames() == shown
    assert frames("--no-frames") is None
    (folder / "sample_1.tif").write_bytes((folder / "sample_2.tif").read_bytes())
    assert frames() is None
    (folder / "sample_1.tif").unlink()
    assert frames() is None


def test_series_writes_a_page_of_some_projections(folder, capsys):
    write_projections(folder, projections=5)
    done = call(capsys, "retrieve", "config.toml", "--report", "page.html")
    assert done.code == 0, done.err
    assert "Wrote page.html\n" in done.out
    names = [result["name"] for result in Page(folder / "page.html").data["results"]]
    assert names == ["projection 0", "projection 2", "projection 4"]
    assert call(capsys, "report", "scan.h5", "--projection", "3", "-o", "one.html").code == 0
    first, other = (Page(folder / page).data for page in ("page.html", "one.html"))
    assert first["results"][0]["positions"] == first["frames"]["positions"] == 3
    assert (first["frames"]["name"], other["frames"]["name"]) == ("projection 0", "scan.h5")
    assert first["frames"]["shown"][-1] != other["frames"]["shown"][-1]
    # A configuration stands for its finished results.
    assert call(capsys, "report", "config.toml", "-o", "again.html").code == 0
    assert [result["name"] for result in Page(folder / "again.html").data["results"]] == names
    write_projections(folder, projections=5, output={"files": ["other.h5"]})
    done = call(capsys, "report", "config.toml", "-o", "none.html")
    assert done.code == 2
    assert "has no finished results (other.h5); run: xmist retrieve config.toml" in done.err


def test_several_results_may_be_named_one_after_the_other(folder, capsys):
    for number, name in enumerate(("one", "two", "three")):
        make_result(("phase",), seed=number).save(f"{name}.h5")
    for arguments in (["one.h5", "two.h5", "three.h5"], ["one.h5", "two.h5", "--compare", "three.h5"]):
        done = call(capsys, "report", *arguments, "-o", "page.html", "--overwrite")
        assert done.code == 0, done.err
        names = [one["name"] for one in Page(folder / "page.html").data["results"]]
        assert names == ["one.h5", "two.h5", "three.h5"]


def test_channels_can_be_left_out(folder, capsys):
    make_result().save("rich.h5")
    make_result(("phase", "transmission")).save("poor.h5")

    def shown(*arguments):
        done = call(capsys, "report", *arguments, "-o", "page.html", "--overwrite")
        assert done.code == 0, done.err
        results = Page(folder / "page.html").data["results"]
        return [[channel["key"] for channel in one["channels"]] for one in results]

    # Each with its standard deviation; a diagnostic only if it is named.
    assert shown("rich.h5", "--channels", "phase,dark-field") == [
        ["phase", "dark_field", "phase_std", "dark_field_std"]
    ]
    assert shown("rich.h5", "poor.h5", "--channels", "residual, phase") == [
        ["phase", "phase_std", "diagnostics residual"],
        ["phase", "diagnostics residual"],
    ]
    before = snapshot(folder)
    done = call(capsys, "report", "rich.h5", "poor.h5", "-o", "other.html", "--channels", "phse,flags")
    assert done.code == 2
    assert "--channels names 'phse'; did you mean 'phase'?" in done.err
    assert "--channels names 'flags'" in done.err
    done = call(capsys, "report", "rich.h5", "-o", "other.html", "--channels", ",")
    assert (done.code, "--channels is empty; expected names out of dark_field," in done.err) == (2, True)
    done = call(capsys, "report", "rich.h5", "poor.h5", "-o", "other.html", "--channels", "dark_field")
    assert done.code == 2  # a result of which nothing is left
    assert "--channels names none that poor.h5 has; expected one at least of phase, transm" in done.err
    assert snapshot(folder) == before


@pytest.mark.parametrize("command", [("compare", "-o", "out"), ("retrieve",)], ids="".join)
def test_the_page_is_told_last_and_with_all_else(command, folder, capsys):
    name, *more = command
    write_config(folder)
    before = snapshot(folder)
    for file, words in (("none.toml", "none.toml does not exist"), ("config.toml", "")):
        done = call(capsys, name, file, *more, "--report", "page.pdf")
        assert done.code == 2
        first, *middle, last = done.err.splitlines()[1:]
        assert words in first
        assert "--report: page.pdf: a report is a web page" in last
        assert not any("--report" in line for line in [first, *middle])
    assert snapshot(folder) == before
