"""How much memory and disk a scan takes, and how many workers fit into what there is."""

from __future__ import annotations

import math
import re
from typing import Final

from xmist.core.errors import InputError
from xmist.workflow.projection.survey import amount
from xmist.workflow.series import guard
from xmist.workflow.series.blocks import Form
from xmist.workflow.series.inputs import Inputs
from xmist.workflow.series.writing import WAITING

_UNITS: Final = {"": 1, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
_BINARY: Final = {"KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}
# While a projection is retrieved, the results of others wait, and those of one are being written.
_RESULTS: Final = WAITING + 1
# Bytes of the process that workers are copied from, and of the one that cleans up behind them.
_HELPERS: Final = 130e6
# Images of a result that others begin from: channels, flags, diagnostics, and the unknowns made of them.
_START: Final = 16
# Bytes of a file beside its images.
_OVERHEAD: Final = 12_000


def parse_memory(text: str | float) -> float:
    """Give bytes.

    Parameters
    ----------
    text : str or float
        "4GB", "500 MB", "2GiB", or a number of bytes.

    Raises
    ------
    InputError
        If it is no amount above 0.

    Examples
    --------
    >>> parse_memory("4GB"), parse_memory("1.5 GiB")
    (4000000000.0, 1610612736.0)
    """
    fault = f"memory is {text!r}; expected an amount such as 4GB or 500MB"
    if isinstance(text, (int, float)) and not isinstance(text, bool):
        value = float(text)
    else:
        found = re.fullmatch(r"\s*([0-9]+\.?[0-9]*)\s*([KMGT]I?)?B?\s*", str(text).upper())
        if found is None:
            raise InputError(fault)
        unit = found[2] or ""
        value = float(found[1]) * {**_UNITS, **_BINARY}[unit]
    if not 0 < value < 1e18:
        raise InputError(fault)
    return value


def process_memory(trial: int, inputs: Inputs, form: Form, *, warm: bool = False) -> float:
    """Give the bytes of one process at work, whatever the size of its blocks.

    Parameters
    ----------
    trial : int
        Bytes that a process held which retrieved a projection.
    inputs : Inputs
        What is read: the frames of a projection are, while the one before is retrieved.
    form : Form
        What a block holds.
    warm : bool
        Whether projections begin from the result of another, which is kept.
    """
    layout = inputs.layout
    frames = 4 * layout.positions * math.prod(layout.shape)
    # Steps need room for what they take and for what they give.
    ahead = frames * (2 if inputs.steps.functions or inputs.steps.rest else 1)
    start = 4 * _START * math.prod(layout.shape) if warm else 0
    return trial + ahead + start + _RESULTS * form.bytes_each


def leading_memory(workers: int | None) -> float:
    """Give the bytes of all processes but those at work.

    Parameters
    ----------
    workers : int or None
        None if this process does the work itself.
    """
    return 0.0 if workers is None else float(guard.peak_memory() or 0) + _HELPERS


def disk_space(form: Form, count: int, block: int) -> float:
    """Give the bytes of all files.

    Parameters
    ----------
    form : Form
        What a block holds.
    count : int
        Number of projections.
    block : int
        Projections a block.

    Notes
    -----
    The flags shrink to next to nothing, the images do not.
    """
    images = form.bytes_each - 2 * form.shape[0] * form.shape[1]
    return float(count * images + -(-count // block) * _OVERHEAD)


def fit_workers(limit: float | None, workers: int, each: float, parent: float) -> int:
    """Give how many workers fit into the memory that is allowed.

    Parameters
    ----------
    limit : float or None
        Bytes for all processes; None for no limit.
    workers : int
        How many are wished.
    each : float
        Bytes of one.
    parent : float
        Bytes of the process that leads them; 0 if it does the work itself.

    Raises
    ------
    InputError
        If not even one fits.

    Examples
    --------
    >>> fit_workers(4e9, 8, 1.2e9, 0.2e9)
    3
    """
    if limit is None:
        return workers
    fit = int((limit - parent) // each)
    if fit < 1:
        raise InputError(
            f"memory is {amount(limit)}, and a projection takes {amount(each + parent)}; allow more, or crop "
            "or bin the frames"
        )
    return min(workers, fit)
