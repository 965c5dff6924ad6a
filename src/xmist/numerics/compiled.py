"""Compilation of kernels by numba: without the interpreter's lock, and with the machine code kept on disk."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

__all__ = ["fixed", "jit"]


def jit(function: Callable[..., Any]) -> Any:
    """Compile a kernel at its first call; keep the machine code for the next process if that is possible.

    Machine code is kept beside the module, else in the user's cache. In a container or on a node where
    neither can be written, each process compiles the kernel again. (`NUMBA_CACHE_DIR` names a place to keep
    it.)
    """
    kernel = numba.njit(nogil=True, error_model="numpy")(function)
    if kernel is function:  # NUMBA_DISABLE_JIT
        return kernel
    with suppress(RuntimeError):  # numba found no place to write; `cache=True` would fail at import
        kernel.enable_caching()
    return kernel


def fixed(array: NDArray[np.generic]) -> Any:
    """Return a view that cannot be written: a kernel is compiled anew for arrays that can and cannot be."""
    view = array.view()
    view.flags.writeable = False
    return view
