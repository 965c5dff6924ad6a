"""The command `xmist`.

Exit codes: 0 done; 1 failed; 2 wrong input or usage, and nothing was written; 3 done, but some unmasked
pixels have no value; 130 and 143 after Ctrl-C and SIGTERM, which leave no incomplete file.
"""

from __future__ import annotations

from collections.abc import Sequence

import click

from xmist.cli.benchmark import benchmark
from xmist.cli.check import check
from xmist.cli.compare import compare
from xmist.cli.console import run
from xmist.cli.demo import demo
from xmist.cli.info import info
from xmist.cli.init import init
from xmist.cli.methods import methods
from xmist.cli.plot import plot
from xmist.cli.report import report
from xmist.cli.retrieve import retrieve
from xmist.cli.simulate import simulate
from xmist.cli.tomography import tomography
from xmist.cli.view import view
from xmist.core.version import __version__


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""
    \b
    Exit codes:
      0    done
      1    failed
      2    wrong input or usage; nothing was written
      3    done, but unmasked pixels have no value, or projections failed
      130  interrupted (Ctrl-C), 143  terminated; no incomplete file is left
    """,
)
@click.version_option(__version__, prog_name="xmist", message="%(prog)s %(version)s")
def xmist() -> None:
    """Transmission, phase and dark-field from X-ray speckle images, in SI units.

    \b
    To try it:
      xmist demo                  retrieve a simulated experiment
      xmist simulate PRESET       write frames with a known truth
    With your own frames:
      xmist init FOLDER           write a configuration file
      xmist check CONFIG.toml     show what would be done, and every error
      xmist retrieve CONFIG.toml  retrieve one projection or a series
      xmist compare CONFIG.toml -o FOLDER   compare methods on the same frames
      xmist plot RESULT.h5 -o FIGURE.pdf    draw a figure for a paper
      xmist report RESULT.h5 -o PAGE.html   write a web page of a result
      xmist tomography RESULT.h5 -o V.h5    reconstruct volumes from a series
      xmist view [FOLDER]         open napari with the xmist widget
    """


_COMMANDS = (
    demo,
    simulate,
    init,
    check,
    retrieve,
    compare,
    plot,
    report,
    tomography,
    view,
    info,
    methods,
    benchmark,
)
for command in _COMMANDS:
    xmist.add_command(command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    return run(xmist, arguments)
