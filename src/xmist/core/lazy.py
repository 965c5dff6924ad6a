"""Public names of packages, which are imported when they are first used."""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # as in `core.hooks`
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any


def lazy_names(
    package: str, names: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Return `__getattr__`, `__dir__` and `__all__` of a package.

    `names` holds the public names of each of its modules; a module without names, or whose own name is among
    them, is public itself.
    """
    home = {name: module for module, words in names.items() for name in words.split() or [module]}

    def attribute(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = import_module(f"{package}.{home[name]}")
        return module if home[name] == name else getattr(module, name)

    return attribute, lambda: sorted(home), sorted(home)
