"""The version of xmist."""

__version__ = "0.1.0"
