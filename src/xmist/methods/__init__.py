"""The methods: the registry, and the two calls that use it."""

from xmist.methods.registry import METHODS, Method, Plan, find_method, make_options, prepare, retrieve

__all__ = ["METHODS", "Method", "Plan", "find_method", "make_options", "prepare", "retrieve"]
