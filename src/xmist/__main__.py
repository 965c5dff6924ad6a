"""The command `xmist`, also as `python -m xmist`.

Nothing is imported before Ctrl-C is cared for: the command line and what it needs take a while to load.
"""

from __future__ import annotations

import sys

# Those of `xmist.cli.console`, which is not there yet.
_INTERRUPTED = 130
_MESSAGE = "Interrupted; no incomplete file was left."


def main() -> int:
    """Run the command line with the arguments of the process.

    Returns
    -------
    int
        Exit code.
    """
    try:
        from xmist.cli import main as run

        return run()
    except KeyboardInterrupt:
        sys.stderr.write(f"{_MESSAGE}\n")
        return _INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
