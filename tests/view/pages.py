"""Results to report, and what a page holds when it is read without a browser."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import numpy as np

from xmist import CHANNELS, Experiment, Retrieval
from xmist.core.findings import Finding
from xmist.core.flags import BAD_SAMPLE, FILLED, UNDETERMINED
from xmist.view.report.encode import Codes, unpack

EXPERIMENT = Experiment(energy_kev=17.0, pixel_size=6.5e-6, sample_to_detector=1.0)
RICH = (
    "phase",
    "transmission",
    "dark_field",
    "dark_field_tensor",
    "phase_std",
    "dark_field_std",
)
CONVERGENCE = {
    "converged": True,
    "iterations": [5, 4, 3],
    "misfit": [0.5, 0.01, 0.002],
    "residual_by_frame": [0.1, 0.1],
}


def make_result(names=RICH, shape=(48, 64), *, seed=3, **parts):
    """Return a disc with noise in every channel, a hole without value, some flags, and diagnostics."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    disc = (np.hypot(y - shape[0] / 2, x - shape[1] / 2) < shape[0] / 3).astype(float)
    size = {"phase": -30.0, "dark_field": 2e-11, "dark_field_tensor": 2e-11}
    flags = np.zeros(shape, np.uint16)
    flags[2:5, 3:9] = UNDETERMINED | BAD_SAMPLE
    flags[10, 20:50] = FILLED
    images = {}
    for name in names:
        components = len(CHANNELS[name].components)
        whole = size.get(name, 1.0) * (
            disc + random.normal(0, 0.05, ((components,) if components else ()) + shape)
        )
        whole[..., flags == FILLED] *= 5  # far off, as filled values can be
        if name.endswith("_std"):
            whole = np.abs(whole) * size.get(name.removesuffix("_std"), 1.0) * -0.01
            whole = np.abs(whole) + 1e-14
        whole[..., flags & UNDETERMINED > 0] = np.nan
        images[name] = whole.astype(np.float32)
    defaults = {
        "options": {"smoothing": 2.0, "unknowns": ("phase", "dark_field"), "seed": None},
        "findings": (
            Finding("undetermined", "note", "some pixels are NaN"),
            Finding("identical-frames", "warning", "sample and reference are alike"),
        ),
        "provenance": {"xmist_version": "0.0.7", "positions": 4, "convergence": CONVERGENCE},
        "diagnostics": {"residual": np.abs(random.normal(1, 0.1, shape)).astype(np.float32)},
    }
    return Retrieval(
        method=parts.pop("method", "full-field"),
        experiment=parts.pop("experiment", EXPERIMENT),
        flags=flags,
        **images,
        **(defaults | parts),
    )


class Page(HTMLParser):
    """The elements of a page in order, with the text of its scripts and styles."""

    def __init__(self, path):
        super().__init__()
        self.elements = []
        self.scripts = []
        self.text = ""
        self.title = ""
        self._inside = None
        self.markup = path.read_text(encoding="utf-8")
        self.feed(self.markup)
        self.close()
        self.data = json.loads(next(text for kind, text in self.scripts if kind.get("id") == "data"))
        self.policy = next(a["content"] for tag, a in self.elements if "http-equiv" in a)
        self.code = [text for kind, text in self.scripts if not kind]
        self.style = self.scripts_of("style")

    def scripts_of(self, tag):
        return re.findall(rf"<{tag}>(.*?)</{tag}>", self.markup, re.DOTALL)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self._inside = tag
        if tag == "script":
            self.scripts.append((dict(attributes), ""))

    def handle_endtag(self, tag):
        self._inside = None

    def handle_data(self, data):
        if self._inside == "script":
            kind, text = self.scripts[-1]
            self.scripts[-1] = (kind, text + data)
        elif self._inside == "title":
            self.title += data

    def image(self, result, key):
        """Return the values of an image as they travel, and their step."""
        found = next(channel for channel in self.data["results"][result]["channels"] if channel["key"] == key)
        size = self.data["results"][result]["size"]
        text = next(text for kind, text in self.scripts if kind.get("id") == f"block-{found['block']}")
        codes = Codes(unpack(text, tuple(size), found["predictor"]), found["low"], found["step"])
        return codes.values(), found["step"]


def digest(text):
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


EVIL = "</script><script>window.pwned=1</script><img src=x onerror=window.pwned=1><!--\u2028'\"`"


def evil_result():
    return make_result(
        ("phase", "dark_field"),
        shape=(16, 32),
        method=EVIL,
        options={EVIL: EVIL, "nested": {EVIL: [EVIL, {EVIL: EVIL}]}},
        findings=(Finding("no-light", "warning", EVIL), Finding("undetermined", "note", "plain")),
        provenance={
            EVIL: EVIL,
            "input": {"sample": [{"name": EVIL}]},
            "convergence": {EVIL: EVIL, "misfit": EVIL},
        },
    )


def empty_result():
    """Return channels that hold nothing, one value, and one value beside infinity."""
    shape = (16, 32)
    far = np.zeros(shape)
    far[3, 4] = np.inf
    return Retrieval(
        method="a method of tomorrow",
        experiment=EXPERIMENT,
        flags=np.full(shape, 32, np.uint16),
        transmission=np.full(shape, np.nan),
        phase=np.full(shape, -2.5),
        dark_field=far,
    )
