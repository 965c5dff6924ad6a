"""The page in a real browser, without a window and without a network.

Run by `pytest -m browser`. Needs Playwright (`pip install ".[browser]"`) and a Chromium: Debian's, a Chrome,
or the one that `playwright install chromium` fetches; without them these tests fail.
"""

import shutil

import numpy as np
import pytest

from tests.view.browser import (
    COLOURS,
    canvas,
    hover,
    number_in,
    panel,
    pixels,
    readout,
    saved_profile,
    set_line,
    set_line_by_keys,
    settle,
)
from tests.view.pages import EVIL, empty_result, evil_result, make_result
from xmist import simulate
from xmist.view.report import write_report

pytestmark = pytest.mark.browser

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as running:
        path = next(filter(None, map(shutil.which, NAMES)), None)
        started = running.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def results():
    return {"first": make_result(), "second": make_result(seed=8)}


@pytest.fixture(scope="module")
def files(tmp_path_factory, results):
    folder = tmp_path_factory.mktemp("pages")
    both = list(results.items())
    stack, _, _ = simulate.phantom("fine", shape=(48, 64), positions=2)
    return {
        "frames": write_report(folder / "frames.html", both[:1], frames=stack),
        "one": write_report(folder / "one.html", both[:1]),
        "two": write_report(folder / "two.html", both),
        "mixed": write_report(
            folder / "mixed.html",
            [*both[:1], ("plain", make_result(("transmission",), diagnostics={})), ("other", both[1][1])],
        ),
        "empty": write_report(folder / "empty.html", [("empty", empty_result())]),
        "evil": write_report(folder / "evil.html", [(EVIL, evil_result()), (f"2{EVIL}", evil_result())]),
    }


@pytest.fixture(scope="module")
def tab(browser):
    return browser.new_page(viewport={"width": 1280, "height": 900})


@pytest.fixture
def show(tab, files):
    """Open a page and wait for its pictures; whatever it complains about fails the test."""
    complaints = []
    listeners = {
        "console": lambda message: complaints.append(message.text),
        "pageerror": lambda error: complaints.append(str(error)),
        "request": lambda request: request.url.startswith("file:") or complaints.append(request.url),
    }

    def open_page(name, **media):
        tab.emulate_media(**({"color_scheme": "light", "reduced_motion": "no-preference"} | media))
        tab.mouse.move(0, 0)
        tab.goto(files[name].as_uri())
        settle(tab)
        return tab

    for event, listener in listeners.items():
        tab.on(event, listener)
    yield open_page
    for event, listener in listeners.items():
        tab.remove_listener(event, listener)
    assert complaints == []


def test_it_opens_with_its_images_and_words(show):
    page = show("one")
    titles = [panel(page, number).get_attribute("aria-label") for number in range(4)]
    assert titles == ["Transmission", "Phase", "Dark-field", "Direction of scatter"]
    assert all(canvas(page, number).evaluate(COLOURS) > 50 for number in range(4))
    text = page.locator("body").inner_text()
    for words in (
        "full-field",
        "N = 4",
        "17 keV",
        "sample and reference are alike",
        "Settled after 2 outer steps",
        "no frame determines this pixel",
        "smoothing",
        "0.0.7",
        "doi.org/10.1088/2040-8986/abc313",
    ):
        assert words in text
    assert page.locator("[aria-label^='Misfit over the outer steps'] circle").count() == 3
    assert page.locator("[aria-label='Wheel of directions']").is_visible()


def test_pan_and_zoom_are_shared_by_all_images(show):
    page = show("one")
    places = [(0.3, 0.4), (0.8, 0.7)]
    before = [hover(page, 0, *place) for place in places]
    hover(page, 1, 0.25, 0.25)
    page.mouse.wheel(0, -450)
    box = canvas(page, 2).bounding_box()
    page.mouse.move(box["x"] + 100, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + 130, box["y"] + 80)
    page.mouse.up()
    after = [hover(page, 0, *place) for place in places]
    assert after != before
    # Zoomed in: the same way on the page is a shorter one in the image, by 2^1.5 as the wheel was turned.
    ratio = (before[1][0] - before[0][0]) / (after[1][0] - after[0][0])
    assert ratio == pytest.approx(2**1.5, rel=0.2)  # a pixel in eleven at either end
    for number in (1, 2, 3):
        assert [hover(page, number, *place) for place in places] == after
    canvas(page, 3).dblclick()
    assert [hover(page, 0, *place) for place in places] == before


def test_values_under_the_cursor_are_those_of_the_result(show, results):
    page = show("one")
    result = results["first"]
    x, y = hover(page, 1, 0.52, 0.47)
    value, spread = readout(page, 1).removesuffix(" rad").split(" ± ")
    digits = spread.lstrip("0.").replace(".", "")
    assert len(digits) == 2
    # Rounded to the digits that are shown, and before that to a step: below a 32nd of the noise of 1.5 rad.
    half = 0.5 * 10.0 ** -len(spread.partition(".")[2]) + 0.5 * 1.2 * 1.5 / 32
    assert number_in(value) == pytest.approx(float(result.phase[y, x]), abs=half)
    assert number_in(spread) == pytest.approx(float(result.phase_std[y, x]), abs=half)
    assert readout(page, 1).endswith(" rad")
    assert readout(page, 2).endswith(" pm")
    assert number_in(readout(page, 2)) == pytest.approx(1e12 * float(result.dark_field[y, x]), rel=0.2)
    assert "anisotropy" in readout(page, 3)
    page.mouse.move(0, 0)
    settle(page)
    assert "px" not in page.locator("#status").inner_text()


def test_a_profile_is_what_the_result_holds(show, results):
    page = show("one")
    result = results["first"]
    box = canvas(page, 0).bounding_box()
    page.keyboard.down("Shift")
    page.mouse.move(box["x"] + 30, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + 200, box["y"] + 150)
    page.mouse.up()
    page.keyboard.up("Shift")
    settle(page)
    scale = 64 / box["width"]
    ends = [int(page.locator("#profile-tools input").nth(n).input_value()) for n in range(4)]
    assert ends == [int(scale * length) for length in (30, 40, 200, 150)]
    assert page.locator(".profile svg").count() == 3
    set_line(page, x0=1, y0=3, x1=62, y1=6)  # through the hole, which has no value
    found = saved_profile(page)
    x, y = found["x (pixel)"].astype(int), found["y (pixel)"].astype(int)
    assert (x[0], y[0], x[-1], y[-1], len(x)) == (1, 3, 62, 6, 62)
    length = result.experiment.effective_pixel * np.hypot(61, 3)
    # 15 digits travel as text.
    assert found["distance (m)"] == pytest.approx(np.linspace(0, length, 62), rel=1e-12, abs=1e-18)
    for title, array in (
        ("phase (rad)", result.phase),
        ("transmission", result.transmission),
        ("dark-field (m)", result.dark_field),
        ("standard deviation of phase (rad)", result.phase_std),
    ):
        expected = array[y, x]
        assert np.array_equal(np.isnan(found[title]), np.isnan(expected))
        assert np.isnan(expected).sum() == 6
        # Half a step, of which 65532 or more make the range, or 32 the noise (0.05 of the disc's height).
        spread = np.nanmax(array) - np.nanmin(array)
        assert np.nanmax(np.abs(found[title] - expected)) <= spread / 32 * 0.06


def test_the_contrast_follows_its_handles(show):
    page = show("one")
    before = [pixels(page, number) for number in (0, 1)]
    handle = panel(page, 1).get_by_role("slider", name="Upper limit")
    box = handle.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] - 60, box["y"] + 20, steps=3)
    page.mouse.up()
    page.mouse.move(5, 5)
    assert pixels(page, 1) != before[1]
    assert pixels(page, 0) == before[0]
    panel(page, 1).get_by_role("button", name="Auto").click()
    page.mouse.move(5, 5)
    assert pixels(page, 1) == before[1]
    value = float(handle.get_attribute("aria-valuenow"))
    handle.focus()
    page.keyboard.press("ArrowLeft")
    settle(page)
    assert float(handle.get_attribute("aria-valuenow")) < value
    assert pixels(page, 1) != before[1]
    page.get_by_label("Colours").select_option("viridis")
    assert pixels(page, 0) != before[0]


def test_everything_can_be_done_by_keyboard(show, results):
    page = show("one")
    for _ in range(60):  # the second picture comes in less
        page.keyboard.press("Tab")
        if page.evaluate("() => document.activeElement.ariaLabel || ''").startswith("Phase."):
            break
    assert page.evaluate("() => document.activeElement.tagName") == "CANVAS"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowDown")
    settle(page)
    x, y = 33, 34
    assert page.locator("#status").inner_text().startswith(f"x {x}, y {y} px")
    assert page.locator("#spoken").inner_text().startswith(f"{x}, {y}: {readout(page, 1)}")
    before = pixels(page, 0)
    page.keyboard.press("+")
    assert pixels(page, 0) != before
    page.keyboard.press("0")
    page.keyboard.press("p")
    for _ in range(4):
        page.keyboard.press("ArrowLeft")
    page.keyboard.press("p")
    found = saved_profile(page)
    assert found["x (pixel)"].tolist() == [33, 32, 31, 30, 29]
    assert found["phase (rad)"] == pytest.approx(results["first"].phase[y, 29:34][::-1], abs=0.1)
    canvas(page, 1).focus()
    page.keyboard.press("Escape")
    settle(page)
    assert page.locator(".profile svg").count() == 0


def test_channels_can_be_switched_added_and_removed(show):
    page = show("one")
    before = pixels(page, 0)
    panel(page, 0).locator("select").select_option("phase_std")
    assert pixels(page, 0) != before
    assert panel(page, 0).get_attribute("aria-label") == "Standard deviation of the phase"
    for number, title in ((4, "Residual"), (5, "Flags")):
        page.get_by_role("button", name="Add an image").click()
        assert panel(page, number).get_attribute("aria-label") == title
    assert page.get_by_role("button", name="Add an image").is_disabled()
    flagged = pixels(page, 5)
    panel(page, 5).get_by_label("filled").uncheck()
    assert pixels(page, 5) != flagged
    hover(page, 5, 5.5 / 64, 3.5 / 48)
    assert readout(page, 5) == "bad sample, undetermined"
    unmarked = pixels(page, 1)
    page.get_by_label("Mark flagged pixels").check()
    assert pixels(page, 1) != unmarked
    panel(page, 4).get_by_role("button", name="Remove").click()
    settle(page)
    assert page.locator(".panel").count() == 5


def test_a_difference_is_that_of_the_results(show, results):
    page = show("two")
    first, second = (result.transmission for result in results.values())
    page.get_by_role("button", name="A − B").click()
    before = pixels(page, 0)
    assert panel(page, 0).locator(".tag.first").inner_text() == "A − B"
    limit = panel(page, 0).get_by_label("Greatest difference shown")
    expected = np.nanpercentile(np.abs(first - second), 99)
    assert float(limit.input_value()) == pytest.approx(expected, rel=0.02)  # steps of values, and ranks
    limit.fill("0.01")
    page.keyboard.press("Enter")
    assert pixels(page, 0) != before


def test_limits_can_be_typed_for_each_result(show):
    page = show("two")
    before = pixels(page, 0)
    panel(page, 0).get_by_label("Greatest value shown").fill("0.5")
    page.keyboard.press("Enter")
    own = pixels(page, 0)
    assert own != before
    page.locator(".toolbar select").first.select_option(label="second")
    assert float(panel(page, 0).get_by_label("Greatest value shown").input_value()) > 0.5
    panel(page, 0).get_by_label("Greatest value shown").fill("-5")  # below the least value: not taken
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert float(panel(page, 0).get_by_label("Greatest value shown").input_value()) > 0.5


def test_a_region_gives_mean_and_standard_deviation(show, results):
    page = show("one")
    page.get_by_role("button", name="Region").click()
    start = hover(page, 0, 0.3, 0.3)
    page.mouse.down()
    end = hover(page, 0, 0.7, 0.6)
    page.mouse.up()
    settle(page)
    part = results["first"].transmission[start[1] : end[1] + 1, start[0] : end[0] + 1]
    found = panel(page, 0).locator(".region").inner_text()
    mean, spread = found.split(" (")[0].split(" ± ")
    # Two digits of the spread, four of the mean.
    assert number_in(mean) == pytest.approx(np.nanmean(part), abs=2e-3)
    assert number_in(spread) == pytest.approx(np.nanstd(part), rel=0.06)
    assert f"({np.isfinite(part).sum()} pixels)" in found


def test_derived_images_follow_from_the_dark_field(show, results):
    page = show("one")
    panel(page, 0).locator("select").select_option("scattering_angle")
    settle(page)
    x, y = hover(page, 0, 0.5, 0.5)
    assert readout(page, 0).endswith(" µrad")
    expected = 1e6 * results["first"].scattering_angle[y, x]
    # The step of D is below a 32nd of its noise of 5 %, and the root halves it.
    assert number_in(readout(page, 0)) == pytest.approx(float(expected), rel=2e-3)


def test_an_image_is_saved_as_png(show):
    page = show("one")
    with page.expect_download() as download:
        panel(page, 1).get_by_role("button", name="Save the image of the phase as PNG").click()
    assert download.value.suggested_filename == "phase.png"
    assert download.value.path().read_bytes().startswith(b"\x89PNG")


def test_two_results_are_laid_over_each_other(show, results):
    page = show("two", reduced_motion="reduce")
    split = panel(page, 1).get_by_role("slider", name="Border between")
    halves = pixels(page, 1)
    split.focus()
    page.keyboard.press("End")
    first = pixels(page, 1)
    page.keyboard.press("Home")
    second = pixels(page, 1)
    assert len({halves, first, second}) == 3
    x, y = hover(page, 0, 0.5, 0.5)
    for number, name in enumerate(results):
        # The step of transmission is below 0.05/32 · 1.2, and three decimals are shown at least.
        assert number_in(readout(page, 0, number)) == pytest.approx(
            float(results[name].transmission[y, x]), abs=2e-3
        )
    assert "only differences of phase" not in panel(page, 1).inner_text().lower()
    page.get_by_label("Common contrast").check()
    assert "only differences of phase" in panel(page, 1).inner_text().lower()
    page.get_by_label("Common contrast").uncheck()
    page.mouse.move(5, 5)
    page.get_by_role("button", name="Blink").click()
    tag = panel(page, 1).locator(".tag.first")
    seen = [(tag.inner_text(), pixels(page, 1))]
    page.keyboard.press("b")
    seen.append((pixels(page, 1), tag.inner_text())[::-1])
    assert [name for name, _ in seen] == ["first", "second"]
    assert [image for _, image in seen] == [first, second]
    page.get_by_label("compare with").select_option("")
    settle(page)
    assert tag.is_hidden()
    assert pixels(page, 1) == first


def test_results_that_hold_different_channels(show):
    page = show("mixed")
    split = panel(page, 0).get_by_role("slider", name="Border between")
    assert panel(page, 3).locator(".tag.second").inner_text() == "not in plain"
    for key in ("dark_field_std", "diagnostics residual", "direction", "flags"):
        panel(page, 1).locator("select").select_option(key)
        split.focus()
        page.keyboard.press("ArrowLeft")
        hover(page, 1, 0.8, 0.5)
    page.locator("#toolbar").get_by_label("Show").select_option(label="plain")
    page.get_by_label("compare with").select_option(label="other")
    assert panel(page, 3).locator(".tag.first").inner_text() == "not in plain"
    assert page.locator("h1").inner_text().split() == ["A:", "plain", "B:", "other"]
    assert hover(page, 3, 0.9, 0.5)
    assert readout(page, 3) == ""
    assert "anisotropy" in readout(page, 3, 1)
    page.get_by_label("compare with").select_option(label="plain")  # with itself: with nothing
    settle(page)
    assert page.get_by_label("compare with").input_value() == ""
    assert page.get_by_role("button", name="Blink").is_hidden()


def test_blinking_goes_by_itself(show):
    page = show("two")
    page.get_by_role("button", name="Blink").click()
    page.wait_for_selector(".tag.first:text-is('second')")
    page.wait_for_selector(".tag.first:text-is('first')")


def test_raw_frames_are_a_tab(show):
    page = show("frames")
    page.get_by_role("button", name="Raw frames").click()
    settle(page)
    shown = page.locator("#frames img")
    assert shown.count() == 4
    assert shown.first.is_visible()
    assert shown.first.evaluate("image => image.decode().then(() => image.naturalWidth)") == 64
    assert not canvas(page, 0).is_visible()
    page.get_by_role("button", name="Images", exact=True).click()
    assert canvas(page, 0).is_visible()
    assert not shown.first.is_visible()


def test_it_can_be_light_and_dark(show):
    page = show("one", color_scheme="dark")
    ground = "() => getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(ground)
    page.get_by_role("button", name="Light", exact=True).click()
    light = page.evaluate(ground)
    page.get_by_role("button", name="Dark", exact=True).click()
    assert page.evaluate(ground) == dark != light
    page.emulate_media(color_scheme="light")  # what was chosen stays
    assert page.evaluate(ground) == dark
    page.get_by_role("button", name="Auto", exact=True).click()
    assert page.evaluate(ground) == light
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(f"dark => ({ground})() === dark", arg=dark)


def test_it_is_accessible(show):
    from axe_playwright_python.sync_playwright import Axe

    for name in ("frames", "two"):
        page = show(name)
        if name == "frames":
            page.get_by_role("button", name="Raw frames").click()
            assert Axe().run(page).response["violations"] == []
    page.get_by_role("button", name="Add an image").click()
    page.locator("details").evaluate_all("all => all.forEach(one => (one.open = true))")
    canvas(page, 0).focus()
    page.keyboard.press("p")
    page.keyboard.press("Shift+ArrowRight")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        settle(page)
        found = Axe().run(page).response["violations"]
        assert [(one["id"], [node["html"][:120] for node in one["nodes"]]) for one in found] == []


def test_channels_without_contrast_are_no_trouble(show):
    page = show("empty")
    hover(page, 1, 4.5 / 32, 3.5 / 16)
    assert readout(page, 0) == "no value"
    assert number_in(readout(page, 1)) == -2.5
    assert readout(page, 2) == "above the range"
    panel(page, 0).get_by_role("slider", name="Upper limit").focus()
    page.keyboard.press("ArrowLeft")
    set_line_by_keys(page)
    assert page.locator(".profile svg").count() == 3


def test_malicious_text_does_nothing(show):
    page = show("evil")
    for _ in range(2):
        page.get_by_role("button", name="Add an image").click()
    page.get_by_role("button", name="Blink").click()
    page.locator("details").evaluate_all("all => all.forEach(one => (one.open = true))")
    settle(page)
    assert page.evaluate("() => window.pwned") is None
    assert page.locator("img").count() == 0
    assert page.locator("script").count() == 2  # the data and the page's own; unpacked images are gone
    text = page.locator("body").inner_text()
    assert text.count("<img src=x onerror=window.pwned=1>") > 5
    assert page.locator("h1").inner_text().startswith("A: </script><script>window.pwned=1</script>")


def test_a_script_that_got_in_would_not_run(tab, files, tmp_path):
    """The policy is the second wall: it holds when the first is broken."""
    broken = tmp_path / "broken.html"
    text = files["one"].read_text(encoding="utf-8")
    broken.write_text(text.replace("<main>", "<main><script>window.pwned=1</script>"), encoding="utf-8")
    tab.goto(broken.as_uri())
    settle(tab)
    assert tab.evaluate("() => window.pwned") is None
