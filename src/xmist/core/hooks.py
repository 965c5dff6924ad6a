"""Functions of higher levels that lower levels call by name, so that no import goes upwards.

`xmist/__init__.py` registers them; a module is imported when its function is first used.
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # importing typing would take most of the time of `import xmist`
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final

_TARGETS: Final[dict[str, tuple[str, str]]] = {}


def register(name: str, module: str, function: str) -> None:
    """Register a function of a module that is imported when `hook(name)` is first called."""
    _TARGETS[name] = module, function


def hook(name: str) -> Callable[..., Any]:
    """Return the function that was registered under a name."""
    module, function = _TARGETS[name]
    found: Callable[..., Any] = getattr(import_module(module), function)
    return found
