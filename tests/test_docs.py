"""The reference names every public thing, and nothing that does not exist; pages lead to each other."""

import re
from importlib import import_module
from pathlib import Path

import pytest

import xmist
from xmist import METHODS
from xmist.cli import xmist as command

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"

# Modules for users, each with the page that documents what its __all__ names.
MODULES = {
    "xmist": "python",
    "xmist.simulate": "simulate",
    "xmist.preprocess": "preprocess",
    "xmist.evaluate.metrics": "metrics",
    "xmist.tomography": "tomography",
    "xmist.view.figures": "plotting",
    "xmist.io": "io",
}


def read(path):
    return path.read_text(encoding="utf-8")


def listed(page):
    """Return (module, name) of every entry of a page's tables, and of the plain names that it explains."""
    module, found, inside = None, [], False
    for line in read(page).splitlines():
        if match := re.match(r"\.\. currentmodule:: (\S+)", line):
            module = match[1]
        elif re.match(r"\.\. autosummary::", line):
            inside = True
        elif inside and (match := re.match(r"   (\w+)$", line)):
            found.append((module, match[1]))
        elif match := re.match(r"``([\w.]+)``$", line):
            inside = False
            found.append((module, match[1].removeprefix("xmist.")))
        elif line and not line.startswith(" "):
            inside = False
    return found


PAGES = sorted((DOCS / "reference").glob("*.rst"))


@pytest.mark.parametrize("name", MODULES)
def test_every_public_name_is_documented(name):
    module = import_module(name)
    documented = {
        entry for home, entry in listed(DOCS / "reference" / f"{MODULES[name]}.rst") if home == name
    }
    # Constants are told in their section's words; a table has its own page.
    assert set(module.__all__) - documented == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_documented_name_exists_and_says_what_it_is(page):
    for home, name in listed(page):
        thing = getattr(import_module(home), name)
        if callable(thing):
            assert len(thing.__doc__ or "") > 20, name


def test_every_method_and_command_has_a_page():
    """Both are made by the build, from tables; what can be forgotten are the pages that ask for them."""
    assert ".. xmist-methods::" in read(DOCS / "reference" / "methods.rst")
    assert "generated/method-*" in read(DOCS / "reference" / "methods.rst")
    for method in METHODS.values():
        assert len(import_module(method.module).__doc__) > 100
    assert ":nested: full" in read(DOCS / "reference" / "cli.rst")
    for name, entry in command.commands.items():
        assert entry.short_help.endswith("."), name
        assert "Example" in entry.help or name == "demo", name


def test_every_page_is_in_a_table_of_contents():
    lists = "\n".join(
        read(path)
        for path in DOCS.rglob("*")
        if path.suffix in (".md", ".rst") and "gallery" not in path.parts
    )
    for path in (
        *DOCS.glob("*.md"),
        *DOCS.glob("howto/*.md"),
        *DOCS.glob("reference/*"),
        *DOCS.glob("develop/*.md"),
    ):
        if path.stem == "index" or path.is_dir():
            continue
        patterns = re.findall(r"^ *(?:.*<)?/?(?:[a-z]+/)?([\w-]+\*?)>?$", lists, re.MULTILINE)
        assert any(re.fullmatch(pattern.replace("*", ".*"), path.stem) for pattern in patterns), path.name
    for script in (DOCS / "examples").glob("plot_*.py"):
        assert f"gallery/{script.stem}" in lists, f"{script.name} is not in a table of contents"


def test_links_between_pages_lead_somewhere():
    for path in DOCS.rglob("*.md"):
        if "_made" in path.parts or "gallery" in path.relative_to(DOCS).parts[:1]:
            continue
        for target in re.findall(r"\]\(([^)#\s]+)", re.sub(r"```.*?```", "", read(path), flags=re.DOTALL)):
            if re.match(r"[a-z]+:", target) or "gallery/" in target or "_made/" in target:
                continue
            there = path.parent / target
            assert any(there.with_name(there.name + end).exists() for end in ("", ".md", ".rst")), (
                f"{path}: {target}"
            )


def test_examples_use_only_names_that_import_xmist_brings():
    # A page runs after others in one process, where a module that another page imported is there already.
    for path in (ROOT / "README.md", *DOCS.rglob("*.md")):
        for block in re.findall(r"```python\n(.*?)```", read(path), flags=re.DOTALL):
            imported = re.findall(r"^(?:import|from) xmist\.(\w+)", block, flags=re.MULTILINE)
            code = re.sub(r"^(?:import|from) .*$|#.*$", "", block, flags=re.MULTILINE)
            used = set(re.findall(r"\bxmist\.(\w+)", code))
            assert used <= {*xmist.__all__, *imported}, path.name


def test_the_version_is_said_once():
    assert xmist.__version__ in read(ROOT / "CITATION.cff")
