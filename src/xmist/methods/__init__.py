"""The methods of retrieval, each with its options, and the functions that run them."""

from xmist.methods.registry import (
    METHODS,
    Method,
    Plan,
    check_sample_stepping,
    find_method,
    is_quick_look,
    least_positions,
    make_options,
    prepare,
    register_method,
    retrieve,
)

__all__ = [
    "METHODS",
    "Method",
    "Plan",
    "check_sample_stepping",
    "find_method",
    "is_quick_look",
    "least_positions",
    "make_options",
    "prepare",
    "register_method",
    "retrieve",
]
