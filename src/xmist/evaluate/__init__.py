"""Judge results and methods: metrics, comparison, benchmark, planning, demo."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xmist.evaluate import metrics as metrics
    from xmist.evaluate import regions as regions
    from xmist.evaluate.benchmark import Benchmark as Benchmark
    from xmist.evaluate.benchmark import run_benchmark as run_benchmark
    from xmist.evaluate.benchmark import save_benchmark as save_benchmark
    from xmist.evaluate.comparison import Comparison as Comparison
    from xmist.evaluate.comparison import compare as compare
    from xmist.evaluate.planning import ExpectedErrors as ExpectedErrors
    from xmist.evaluate.planning import expected_errors as expected_errors

_HOME = {
    "Comparison": "comparison",
    "compare": "comparison",
    "run_benchmark": "benchmark",
    "save_benchmark": "benchmark",
    "Benchmark": "benchmark",
    "expected_errors": "planning",
    "ExpectedErrors": "planning",
}

_MODULES = ("metrics", "regions")

__all__ = sorted([*_HOME, *_MODULES])


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"xmist.evaluate.{_HOME[name]}"), name)
    if name in _MODULES:
        return import_module(f"xmist.evaluate.{name}")
    raise AttributeError(f"module 'xmist.evaluate' has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
