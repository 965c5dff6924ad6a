"""The house: one-way dependencies, light imports, public names that exist and are documented."""

import ast
import inspect
import pkgutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import xmist

SOURCE = Path(xmist.__file__).parent

# A module may import from rooms to the right of its own, never from those to the left.
FLOORS = [
    ["__init__"],
    ["__main__"],
    ["cli", "demo"],
    ["benchmark", "report", "napari"],
    ["comparison"],
    ["scanning"],
    ["pipeline"],
    ["plotting"],
    ["config"],
    ["preprocess"],
    ["metrics"],
    ["simulate"],
    ["io"],
    ["methods"],
    ["numerics"],
    ["data"],
    ["arrays"],
    ["experiment"],
    ["flags"],
    ["progress"],
    ["errors"],
    ["version"],
]
LEVEL = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}

# Facades that DESIGN.md lets reach upwards, by imports inside the function alone.
FACADES = {
    ("data", "Retrieval.save"),
    ("data", "Retrieval.to_xarray"),
    ("data", "Retrieval._repr_html_"),
    ("data", "SpeckleStack._repr_html_"),
}


def _room(module):
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


class _Imports(ast.NodeVisitor):
    """Collect (enclosing function, imported module) of one file."""

    def __init__(self):
        self.scope = []
        self.found = []

    def _enter(self, node):
        self.scope.append(node.name)
        self.generic_visit(node)
        self.scope.pop()

    visit_FunctionDef = visit_AsyncFunctionDef = visit_ClassDef = _enter  # noqa: N815

    def visit_If(self, node):
        if ast.unparse(node.test) != "TYPE_CHECKING":
            self.generic_visit(node)

    def visit_Import(self, node):
        self.found += [(".".join(self.scope), alias.name) for alias in node.names]

    def visit_ImportFrom(self, node):
        assert node.level == 0, "relative imports hide the direction"
        if node.module == "xmist":
            self.found += [(".".join(self.scope), f"xmist.{alias.name}") for alias in node.names]
        else:
            self.found.append((".".join(self.scope), node.module))


def _violations(path, text):
    visitor = _Imports()
    visitor.visit(ast.parse(text))
    relative = path.relative_to(SOURCE).with_suffix("")
    room = relative.parts[0]
    wrong = []
    for scope, module in visitor.found:
        if module.split(".")[0] != "xmist" or room == "__init__":
            continue
        target = _room(module)
        assert target in LEVEL, f"{path.name} imports {module}, a room that the house does not have"
        if LEVEL[target] < LEVEL[room] and (room, scope) not in FACADES:
            wrong.append(f"{relative} ({scope or 'module'}) imports {module}")
    return wrong


FILES = sorted(SOURCE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_go_one_way(path):
    assert not _violations(path, path.read_text(encoding="utf-8"))


def test_the_guard_notices_a_wrong_import():
    path = SOURCE / "numerics" / "poisson.py"
    assert _violations(path, "from xmist.methods import prepare")
    assert _violations(path, "def f():\n    import xmist.io.nexus")
    assert _violations(SOURCE / "data.py", "from xmist.io import save_result")
    assert not _violations(path, "from xmist.errors import InputError")


def test_numerics_knows_no_physics():
    for path in (SOURCE / "numerics").glob("*.py"):
        visitor = _Imports()
        visitor.visit(ast.parse(path.read_text(encoding="utf-8")))
        rooms = {_room(module) for _, module in visitor.found if module.startswith("xmist")}
        assert rooms <= {"numerics", "errors"}, path.name


def test_importing_xmist_is_light():
    code = (
        "import sys, xmist, xmist.data, xmist.experiment, xmist.errors\n"
        "heavy = ['scipy', 'numba', 'matplotlib', 'h5py', 'pydantic', 'click', 'tifffile', 'fabio', 'tqdm']\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", xmist.__all__)
def test_public_names_exist_and_are_documented(name):
    thing = getattr(xmist, name)
    assert name in dir(xmist)
    if inspect.isclass(thing) or inspect.isfunction(thing) or inspect.ismodule(thing):
        assert len(thing.__doc__ or "") > 20


def test_unknown_public_name():
    with pytest.raises(AttributeError, match="no attribute 'retreive'"):
        _ = xmist.retreive


def _public_functions():
    for info in pkgutil.walk_packages(xmist.__path__, "xmist."):
        if info.name.endswith("__main__"):
            continue
        module = import_module(info.name)
        for name, thing in vars(module).items():
            if not name.startswith("_") and getattr(thing, "__module__", None) == info.name:
                yield f"{info.name}.{name}", thing


def test_every_public_function_has_a_docstring_with_its_parameters():
    missing = []
    for name, thing in _public_functions():
        if not inspect.isfunction(thing) or ".cli" in name or ".demo" in name:
            continue
        documentation = thing.__doc__ or ""
        parameters = [p for p in inspect.signature(thing).parameters if not p.startswith("_")]
        undocumented = [p for p in parameters if p not in documentation]
        if not documentation or (undocumented and not documentation.rstrip().endswith("`xmist.prepare`.")):
            missing.append(f"{name}: {undocumented}")
    assert not missing, "\n".join(missing)


def test_numbers_are_typed_for_users():
    assert (SOURCE / "py.typed").exists()
    assert np.isfinite(float(xmist.__version__.split(".")[0]))
