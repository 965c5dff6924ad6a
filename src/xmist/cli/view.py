"""The command `xmist view`."""

from __future__ import annotations

import os
import sys

import click

from xmist.cli.console import DONE
from xmist.cli.options import common
from xmist.core.errors import InputError


@click.command(short_help="Open frames or a result in napari, with the xmist widget.")
@click.argument("path", required=False)
@common
def view(path: str | None) -> int:
    """Open napari with the xmist widget: choose frames, preview, retrieve, and look at the images.

    PATH is a folder of frames, a configuration file, or a result of xmist.

    \b
    Examples:
      xmist view
      xmist view measurement
      xmist view measurement/config.toml
      xmist view result.h5
    """
    try:
        import napari
    except ImportError as error:
        text = 'xmist view needs napari, which is not installed; install it with: pip install "xmist[napari]"'
        raise InputError(text, code="package-missing") from error
    displays = [os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")]
    if sys.platform.startswith("linux") and not any(displays):
        text = "xmist view needs a display, but DISPLAY is not set; use xmist report, which needs none"
        raise InputError(text, code="display-missing")
    from xmist.view.napari.widget import open_viewer

    open_viewer(path)
    napari.run()
    return DONE
