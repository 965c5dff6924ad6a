"""Quality of results: metrics, comparison, benchmark, planning, demo."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {
    "Comparison": "comparison",
    "compare": "comparison",
    "run_benchmark": "benchmark",
    "save_benchmark": "benchmark",
    "Benchmark": "benchmark",
    "expected_errors": "planning",
    "ExpectedErrors": "planning",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"xmist.evaluate.{_HOME[name]}"), name)
    raise AttributeError(f"module 'xmist.evaluate' has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
