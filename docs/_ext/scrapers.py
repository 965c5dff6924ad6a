"""Figures of `xmist.view.figures`, which pyplot does not know of, for sphinx-gallery."""

from __future__ import annotations

from typing import Any

from sphinx_gallery.scrapers import figure_rst


def pages(block: tuple[Any, ...], variables: dict[str, Any], config: dict[str, Any]) -> str:
    """Save the figure that a block assigned to `page`, and show it."""
    page = variables["example_globals"].pop("page", None)
    if page is None:
        return ""
    path = next(variables["image_path_iterator"])
    page.savefig(path, dpi=110)
    return str(figure_rst([path], config["src_dir"]))
