"""Where the measured frames are, which are no part of the project.

Four EDF frames of carbon tubes behind two masks: `random_reference.edf`, `random_sample.edf`,
`hexagonal_reference.edf` and `hexagonal_sample.edf`. A test that needs them is marked
`@needs_real_frames` and asks `real_frames()` for the folder.
"""

import os
from pathlib import Path

import pytest

NAMES = tuple(f"{mask}_{role}.edf" for mask in ("random", "hexagonal") for role in ("reference", "sample"))
VARIABLE = "XMIST_REAL_FRAMES"
_SIBLING = Path(__file__).parents[2] / "shared" / "real"


def real_frames():
    """Return the folder of the measured frames."""
    return Path(os.environ.get(VARIABLE) or _SIBLING)


_MISSING = [name for name in NAMES if not (real_frames() / name).is_file()]
needs_real_frames = pytest.mark.skipif(
    bool(_MISSING),
    reason=f"no measured frames ({', '.join(_MISSING)}) in {real_frames()}; set {VARIABLE} to their folder",
)
