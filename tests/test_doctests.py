"""Every example in a docstring runs and prints what it says."""

import doctest
import pkgutil
from importlib import import_module

import numpy as np
import pytest

import xmist

# The widget of napari cannot be imported without napari; it has no examples.
NAPARI = ("widget", "options_form", "frames_page", "result_page", "shapes")
WITHOUT = ("__main__", *(f".napari.{name}" for name in NAPARI))
MODULES = [
    info.name for info in pkgutil.walk_packages(xmist.__path__, "xmist.") if not info.name.endswith(WITHOUT)
]


@pytest.mark.parametrize("name", ["xmist", *MODULES])
def test_examples(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # an example may write a file
    failed, _ = doctest.testmod(
        import_module(name), extraglobs={"np": np, "xmist": xmist}, optionflags=doctest.ELLIPSIS
    )
    assert failed == 0
