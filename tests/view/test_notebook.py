"""Rich display: pictures and a table, no script, and any text as text."""

import base64
import io
import re

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image as Picture

from tests.view.pages import EXPERIMENT, make_result
from xmist import Experiment, Retrieval, SpeckleStack
from xmist.core.findings import Finding
from xmist.view.figures.page import NO_VALUE

EVIL = "<script>alert(1)</script><img src=x onerror=alert(1)>"


def pictures(html):
    texts = re.findall(r'src="data:image/png;base64,([^"]*)"', html)
    return [np.asarray(Picture.open(io.BytesIO(base64.b64decode(text))).convert("RGB")) for text in texts]


def test_a_result_shows_its_images_and_a_table():
    result = make_result()
    html = result._repr_html_()
    assert len(pictures(html)) == 3
    for words in (
        "phase",
        "dark-field",
        "transmission",
        "N = 4",
        "48 × 64",
        "sample and reference are alike",
    ):
        assert words in html
    assert "<script" not in html
    phase = pictures(html)[0]
    assert phase.shape == (48, 64, 3)
    # The hole has its own colour; the disc, whose phase is negative, is darker than its surroundings.
    assert phase[3, 5].tolist() == [round(255 * part) for part in to_rgb(NO_VALUE)]
    assert phase[20:28, 28:36].mean() < 50 < 200 < phase[:8, 30:].mean()


def test_colour_bar_scale_bar_and_a_report_to_save():
    result = make_result(("phase",), shape=(20, 200))
    html = result._repr_html_()
    low, high = np.percentile(result.phase[result.flags == 0], (0.5, 99.5))
    for limit in (low, high):
        assert f"<span>{limit:.3g}</span>".replace("-", "−") in html
    assert html.count("linear-gradient(") == 1
    # A third of 200 pixels of 6.5 µm is 433 µm; 200 µm are 30.8 pixels.
    assert "width:31px;border-top" in html
    assert '<small style="white-space:nowrap">200 µm</small>' in html
    [page] = re.findall(r'href="data:text/html;base64,([^"]*)"', html)
    text = base64.b64decode(page).decode("utf-8")
    assert text.startswith("<!DOCTYPE html>")
    assert text.endswith("</html>\n")
    # More pixels than the report holds, and than are seen.
    assert "joined 2 × 2" in make_result(("phase",), shape=(20, 300))._repr_html_()


def test_an_experiment_shows_what_follows_from_it():
    html = Experiment(
        energy_kev=8.04, pixel_size=75e-6, sample_to_detector=0.8, source_to_sample=0.55
    )._repr_html_()
    for words in ("8.04 keV", "154.2 pm", "2.455", "30.56 µm", "325.9 mm"):
        assert words in html
    assert "parallel" in EXPERIMENT._repr_html_()


def test_large_images_become_small_ones():
    result = make_result(("phase",), shape=(450, 300))
    [picture] = pictures(result._repr_html_())
    assert picture.shape == (150, 100, 3)


def test_malicious_text_stays_text():
    html = make_result(
        ("phase",), method=EVIL, findings=(Finding("no-light", "warning", EVIL),)
    )._repr_html_()
    assert "<script" not in html
    assert "<img src" not in html
    assert html.count("&lt;script&gt;") == 2


@pytest.mark.parametrize("shape", [(8, 9), (0, 0)])
def test_a_result_without_channels(shape):
    html = Retrieval(method="mist", experiment=EXPERIMENT, flags=np.zeros(shape, np.uint16))._repr_html_()
    assert not pictures(html)
    assert "none" in html


def test_a_result_that_is_nan_everywhere():
    nothing = np.full((8, 9), np.nan)
    html = Retrieval(
        method="mist", experiment=EXPERIMENT, flags=np.zeros((8, 9), np.uint16), phase=nothing
    )._repr_html_()
    assert len(pictures(html)) == 1


def test_a_stack_shows_its_first_pair():
    random = np.random.default_rng(1)
    reference = random.uniform(1, 2, (3, 16, 20))
    reference[1, 5, 0] = np.nan
    weights = np.ones(reference.shape)
    weights[:, :2] = 0
    html = SpeckleStack(reference, 0.5 * reference, weights)._repr_html_()
    first, second = pictures(html)
    assert first.shape == (16, 20, 3)
    assert first.mean() > second.mean()  # one scale for both
    for words in ("3 positions", "16 × 20", "reference 1 (0.1 %)", "120 (12 %)"):
        assert words in html
    assert "no weights given" in SpeckleStack(reference, reference)._repr_html_()
    for value in (np.nan, -1e9, 1e9):
        hidden = np.where(weights == 0, value, reference)
        assert SpeckleStack(hidden, 0.5 * reference, weights)._repr_html_() == html
