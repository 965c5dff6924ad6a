"""Architecture: imports go down the levels, `import xmist` is light, public names are documented."""

import ast
import inspect
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import xmist
from xmist.core import hooks

SOURCE = Path(xmist.__file__).parent

# A package imports from lower levels, never from a sibling on its own level.
LEVELS = [
    ["core"],
    ["numerics"],
    ["methods", "io", "simulate"],
    ["preprocess", "tomography"],
    ["workflow"],
    ["evaluate"],
    ["view"],
    ["cli"],
]
LEVEL = {package: level for level, packages in enumerate(LEVELS, start=1) for package in packages}
EXEMPT = {"__init__", "__main__"}


def _package(module):
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def _imports(text, root="xmist"):
    """Return the modules of a package that a file imports, also inside functions and under TYPE_CHECKING."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the direction"
            if node.module == "xmist":
                found += [f"xmist.{alias.name}" for alias in node.names]
            else:
                found.append(node.module or "")
    return [module for module in found if module.split(".")[0] == root]


def _violations(path, text):
    relative = path.relative_to(SOURCE).with_suffix("")
    package = relative.parts[0]
    if package in EXEMPT:
        return []
    wrong = []
    for module in _imports(text):
        target = _package(module)
        assert target in LEVEL, f"{relative} imports {module}, which is in no package of the levels"
        if target != package and LEVEL[target] >= LEVEL[package]:
            wrong.append(f"{relative} imports {module}")
    return wrong


# Imports against the levels that still stand; this set only shrinks.
STANDING: set[str] = set()

FILES = sorted(SOURCE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_go_down_the_levels(path):
    wrong = _violations(path, path.read_text(encoding="utf-8"))
    assert not [line for line in wrong if line not in STANDING]


def test_no_standing_violation_is_stale():
    found = {line for path in FILES for line in _violations(path, path.read_text(encoding="utf-8"))}
    assert found >= STANDING


def test_the_guard_notices_a_wrong_import():
    path = SOURCE / "numerics" / "solvers" / "poisson.py"
    assert _violations(path, "from xmist.methods import prepare")
    assert _violations(path, "def f():\n    import xmist.io.results.nexus")
    assert _violations(path, "if TYPE_CHECKING:\n    from xmist.io import save_result")
    assert _violations(SOURCE / "io" / "__init__.py", "from xmist.simulate import phantom")
    assert not _violations(path, "from xmist.core.errors import InputError")


def test_no_test_imports_another():
    tests = Path(__file__).parent
    for path in tests.rglob("*.py"):
        shared = [name for name in _imports(path.read_text(encoding="utf-8"), "tests") if ".test_" in name]
        assert not shared, f"{path.name}: what two tests need belongs into a module of its own"
    for path in (tests.parent / "benchmarks").glob("*.py"):
        assert not _imports(path.read_text(encoding="utf-8"), "tests"), path.name


def test_numerics_knows_no_physics():
    for path in (SOURCE / "numerics").rglob("*.py"):
        used = _imports(path.read_text(encoding="utf-8"))
        assert not [m for m in used if m.startswith("xmist.core") and m != "xmist.core.errors"], path.name


def test_importing_xmist_is_light():
    code = (
        "import sys, xmist, xmist.core.data, xmist.core.experiment, xmist.core.errors\n"
        "heavy = ['scipy', 'numba', 'matplotlib', 'h5py', 'pydantic', 'click', 'tifffile', 'xraydb']\n"
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


def _reference_names():
    """Return the names that docs/reference documents."""
    pages = (Path(__file__).parents[1] / "docs" / "reference").glob("*.rst")
    names = set()
    for page in pages:
        if page.stem == "index":
            continue
        text = page.read_text(encoding="utf-8")
        module = "xmist"
        for line in text.splitlines():
            if line.startswith(".. currentmodule::"):
                module = line.split("::")[1].strip()
            elif re.fullmatch(r"   [A-Za-z_][\w.]*", line):
                name = line.strip()
                names.add(name if name.startswith("xmist.") else f"{module}.{name}")
    return sorted(names)


def _resolve(name):
    parts = name.split(".")
    thing = xmist
    for number, part in enumerate(parts[1:], start=2):
        try:
            thing = getattr(thing, part)
        except AttributeError:
            thing = import_module(".".join(parts[:number]))
    return thing


@pytest.mark.parametrize("name", _reference_names())
def test_reference_names_document_their_parameters(name):
    thing = _resolve(name)
    documentation = inspect.getdoc(thing) or ""
    assert documentation
    if inspect.isfunction(thing):
        missing = [p for p in inspect.signature(thing).parameters if p not in documentation]
        assert not missing


def test_every_function_has_a_docstring():
    missing = []
    for path in FILES:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            is_public = isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
            overload = is_public and any("overload" in ast.unparse(d) for d in node.decorator_list)
            if is_public and not overload and not ast.get_docstring(node):
                missing.append(f"{path.relative_to(SOURCE)}: {node.name}")
    assert not missing


def test_methods_are_named_only_by_themselves_and_in_the_list_of_defaults():
    named = {
        (str(path.relative_to(SOURCE)), node.value)
        for path in FILES
        if path.relative_to(SOURCE).parts[0] != "methods" and path.name != "defaults.py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value in xmist.METHODS
    }
    assert named == set()


def test_numbers_are_typed_for_users():
    assert (SOURCE / "py.typed").exists()
    assert np.isfinite(float(xmist.__version__.split(".")[0]))


def test_every_hook_exists():
    for name in hooks._TARGETS:
        assert callable(hooks.hook(name))
