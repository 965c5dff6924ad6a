"""`python -m xmist` is the command `xmist`."""

from __future__ import annotations

import sys

from xmist.cli import main

if __name__ == "__main__":
    sys.exit(main())
