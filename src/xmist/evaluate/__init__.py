"""Judge results and methods: metrics, comparison, benchmark, planning, demo."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xmist.core.lazy import lazy_names

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

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "benchmark": "Benchmark run_benchmark save_benchmark",
        "comparison": "Comparison compare",
        "metrics": "",
        "planning": "ExpectedErrors expected_errors",
        "regions": "",
    },
)
