"""The page without a browser: it holds everything, loads nothing, and shows any text as text."""

import base64
import json

import numpy as np
import pytest

import xmist
from tests.coded import coded
from tests.view.pages import EVIL, EXPERIMENT, Page, digest, empty_result, evil_result, make_result
from xmist import CHANNELS, FLAGS, Experiment, InputError
from xmist.view.report import write_report
from xmist.view.report.content import plain

# What a page is built of, whatever it shows.
ELEMENTS = {
    *("html", "head", "meta", "title", "style", "body", "header", "div", "h1", "p", "main", "noscript"),
    *("footer", "script", "ul"),
}


@pytest.fixture(scope="module")
def result():
    return make_result()


@pytest.fixture(scope="module")
def page(tmp_path_factory, result):
    path = tmp_path_factory.mktemp("page") / "page.html"
    assert write_report(path, [("first.h5", result), ("second.h5", make_result(seed=9))]) == path
    return Page(path)


def test_every_channel_travels_within_half_its_step(page, result):
    for name, array in result.channels():
        components = CHANNELS[name].components
        for number, component in enumerate(components or [""]):
            values, step = page.image(0, f"{name} {component}".strip())
            image = array[number] if components else array
            assert np.array_equal(np.isnan(values), np.isnan(image))
            # Half a step, and a rounding of float32 at the largest value.
            slack = step / 2 + np.finfo(np.float32).eps * float(np.nanmax(np.abs(image)))
            assert np.nanmax(np.abs(values - image)) <= slack, name
    values, step = page.image(0, "diagnostics residual")
    assert np.nanmax(np.abs(values - result.diagnostics["residual"])) <= step


def test_what_is_said_of_a_result(page, result):
    first, second = page.data["results"]
    assert (first["name"], second["name"]) == ("first.h5", "second.h5")
    assert first["size"] == [48, 64]
    assert first["pixel"] == EXPERIMENT.effective_pixel
    assert first["findings"] == [record.to_dict() for record in reversed(result.findings)]  # warnings first
    assert first["convergence"] == result.provenance["convergence"]
    assert first["configuration"]["options"] == {
        "smoothing": 2.0,
        "unknowns": ["phase", "dark_field"],
        "seed": None,
    }
    assert first["configuration"]["experiment"]["energy_kev"] == 17.0
    assert first["configuration"]["versions"]["retrieved by xmist"] == "0.0.7"
    assert any("10.1088/2040-8986/abc313" in line for line in first["citation"])
    counts = {row["bit"]: row["number"] for row in first["flags"]["rows"]}
    assert counts == {flag.bit: int(np.count_nonzero(result.flags & flag.bit)) for flag in FLAGS}
    assert first["flags"]["flagged"] == 48
    phase = next(channel for channel in first["channels"] if channel["key"] == "phase")
    assert phase["std"] == "phase_std"
    assert phase["mean"] == pytest.approx(float(np.nanmean(result.phase, dtype=float)), rel=1e-9)


def test_the_contrast_spans_the_middle_of_the_unflagged_pixels(page, result):
    found = next(channel for channel in page.data["results"][0]["channels"] if channel["key"] == "phase")
    low, high = np.percentile(result.phase[result.flags == 0], (0.5, 99.5))
    # Between two neighbouring values a percentile interpolates; the page takes one of the two.
    ordered = np.sort(result.phase[result.flags == 0])
    gaps = max(np.diff(ordered)[:20].max(), np.diff(ordered)[-20:].max()) + found["step"]
    assert found["limits"] == pytest.approx([low, high], abs=float(gaps))
    tensor = next(one for one in page.data["results"][0]["channels"] if one["key"] == "dark_field_tensor xy")
    assert tensor["limits"][0] == -tensor["limits"][1]


def test_nothing_is_loaded_and_only_its_own_script_may_run(page):
    assert {tag for tag, _ in page.elements} <= ELEMENTS
    assert not any({"src", "href", "style"} & set(attributes) for _, attributes in page.elements)
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert "default-src 'none'" in page.policy
    [code] = page.code
    [style] = page.style
    assert f"script-src '{digest(code)}'" in page.policy
    assert f"style-src '{digest(style)}'" in page.policy
    assert "http" not in code.replace("http://www.w3.org/2000/svg", "")
    assert "url(" not in style
    assert "innerHTML" not in code


def test_raw_frames_travel_as_small_images(tmp_path, result):
    frames = np.arange(5 * 400 * 40, dtype=np.float32).reshape(5, 400, 40)
    sample = frames.copy()
    sample[2] = np.nan
    stack = xmist.SpeckleStack(frames + 1, sample)
    found = Page(write_report(tmp_path / "page.html", [("a", result)], frames=stack)).data["frames"]
    assert (found["positions"], found["binning"], found["columns"]) == (5, 2, 3)
    assert [one["title"] for one in found["shown"]] == [
        f"{role} frame at position {position}" for role in ("Reference", "Sample") for position in (0, 2, 4)
    ]
    # The mean of the first block of 2 × 2 pixels in a row of 40: (0 + 1 + 40 + 41) / 4 + 1.
    assert found["shown"][0]["range"][0] == 21.5
    assert found["shown"][4]["range"] == []
    assert found["limits"][0] < found["limits"][1]
    for one in found["shown"]:
        assert base64.b64decode(one["png"])[:4] == b"\x89PNG"


def test_malicious_text_stays_text(tmp_path):
    evil = evil_result()
    path = write_report(tmp_path / "page.html", [(EVIL, evil)])
    page = Page(path)
    harmless = Page(write_report(tmp_path / "harmless.html", [("a", make_result(("phase", "dark_field")))]))
    tags = [tag for tag, _ in page.elements]
    assert tags == [tag for tag, _ in harmless.elements]
    assert page.code == harmless.code
    assert EVIL in page.title
    found = page.data["results"][0]
    assert found["name"] == found["method"] == found["findings"][0]["message"] == EVIL
    assert found["configuration"]["options"]["nested"] == {EVIL: [EVIL, {EVIL: EVIL}]}
    assert "<img" not in page.markup


def test_channels_without_contrast(tmp_path):
    page = Page(write_report(tmp_path / "page.html", [("empty", empty_result())]))
    transmission, phase, dark_field = (
        next(one for one in page.data["results"][0]["channels"] if one["key"] == key)
        for key in ("transmission", "phase", "dark_field")
    )
    assert (transmission["missing"], transmission["limits"]) == (512, [0.0, 1.0])
    assert phase["limits"][0] < phase["range"][0] == phase["range"][1] == -2.5 < phase["limits"][1]
    assert (dark_field["missing"], dark_field["outside"]) == (0, 1)
    assert len(page.data["results"][0]["citation"]) == 1


def test_names_that_are_no_text(tmp_path):
    page = Page(write_report(tmp_path / "page.html", [("frame\udcff.h5", make_result(("phase",)))]))
    assert page.data["results"][0]["name"] == "frame\udcff.h5"


def test_data_that_json_cannot_carry_is_told_in_words():
    given = {"noise": float("nan"), "far": np.float64("inf"), 3: {"a": (np.int16(2), object)}}
    found = json.loads(json.dumps(plain(given), allow_nan=False))
    assert found == {"noise": "nan", "far": "inf", "3": {"a": [2, str(object)]}}


def test_a_page_stays_small(tmp_path):
    # 25 MB for three channels of 2048² pixels: noise, which packs worst.
    random = np.random.default_rng(5)
    size = 512
    flags = np.where(random.random((size, size)) < 0.01, 2, 0).astype(np.uint16)
    images = {name: random.normal(size=(size, size)) for name in ("phase", "transmission", "dark_field")}
    noise = xmist.Retrieval(method="mist", experiment=EXPERIMENT, flags=flags, **images)
    path = write_report(tmp_path / "page.html", [("noise", noise)])
    empty = write_report(tmp_path / "empty.html", [("noise", make_result(("phase",), shape=(16, 32)))])
    assert (path.stat().st_size - empty.stat().st_size) * 16 + empty.stat().st_size < 25e6


def test_everything_that_is_wrong_is_told_at_once(tmp_path):
    other = Experiment(energy_kev=17.0, pixel_size=6.6e-6, sample_to_detector=1.0)
    results = [
        ("a", make_result(("phase",))),
        ("b", make_result(("phase",), shape=(48, 65))),
        ("c", make_result(("phase",), experiment=other)),
        ("d", make_result(())),
        ("a", make_result(("phase",))),
    ]
    codes = ("ending-unknown", "shape-mismatch", "value-invalid", "channel-missing", "value-invalid")
    with pytest.raises(InputError, check=coded(*codes)):
        write_report(tmp_path / "page.pdf", results)
    with pytest.raises(InputError, check=coded("value-invalid")):
        write_report(tmp_path / "page.html", [])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("wrap", [lambda r: r, lambda r: [r], lambda r: {"a": r}, lambda r: [(5, r)]])
def test_results_without_names_are_an_error(tmp_path, result, wrap):
    with pytest.raises(InputError, check=coded("value-invalid")):
        write_report(tmp_path / "page.html", wrap(result))
    assert not any(tmp_path.iterdir())


def test_nothing_is_overwritten(tmp_path):
    path = tmp_path / "page.html"
    path.write_text("mine")
    with pytest.raises(InputError, check=coded("output-exists")):
        write_report(path, [("a", make_result(("phase",)))])
    assert path.read_text() == "mine"
    write_report(path, [("a", make_result(("phase",)))], overwrite=True)
    assert path.read_text(encoding="utf-8").endswith("</html>\n")


def test_the_same_result_gives_the_same_page(tmp_path):
    one, two = (
        write_report(tmp_path / f"{name}.html", [("a", make_result())]).read_bytes()
        for name in ("one", "two")
    )
    assert one == two
