"""The page as one file: markup, style, script, data and images; it loads nothing else."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Final

import numpy as np

from xmist.core.version import __version__

# In this order: a file uses what those before it define.
SCRIPTS: Final = (
    "format.js",
    "elements.js",
    "images.js",
    "paint.js",
    "view.js",
    "chart.js",
    "contrast.js",
    "profile.js",
    "image_view.js",
    "panel.js",
    "comparison.js",
    "words.js",
    "main.js",
)
# Perceptually uniform, from matplotlib; grey first, since it shows most and prints.
_MAPS: Final = {"grey": "gray", "viridis": "viridis", "inferno": "inferno", "diverging": "RdBu_r"}
_MARK: Final = re.compile(r"\{\{(\w+)\}\}")


def document(title: str, data: Mapping[str, Any], blocks: list[str]) -> Iterator[str]:
    """Return the text of a page in pieces."""
    style, script = _asset("page.css"), _script()
    everything = {**data, "maps": _maps(), "version": __version__}
    parts = {
        "policy": (
            f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; "
            "img-src data:; base-uri 'none'; form-action 'none'"
        ),
        "title": html.escape(title),
        "style": style,
        "data": embedded(everything),
        "script": script,
    }
    for number, piece in enumerate(_MARK.split(_asset("page.html"))):
        if number % 2 == 0:
            yield piece
        elif piece == "blocks":
            for index, block in enumerate(blocks):
                yield f'<script type="text/plain" id="block-{index}">'
                yield block
                yield "</script>\n"
        else:
            yield parts[piece]


def embedded(data: Any) -> str:
    """Return data as JSON that cannot end the element that holds it, nor begin another."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


@cache
def _asset(name: str) -> str:
    return files("xmist.view.report").joinpath("page", name).read_text(encoding="utf-8")


@cache
def _script() -> str:
    body = "\n".join(_asset(name) for name in SCRIPTS)
    return f'(() => {{\n"use strict";\n{body}}})();\n'


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _maps() -> dict[str, str]:
    """Return each colour map as 256 colours in hexadecimal."""
    from matplotlib import colormaps

    places = np.linspace(0.0, 1.0, 256)
    return {
        name: bytes(colormaps[source](places, bytes=True)[:, :3].tobytes()).hex()
        for name, source in _MAPS.items()
    }
