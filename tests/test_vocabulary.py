"""One name per thing: class names are unique, and words that the vocabulary replaces do not come back."""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "xmist"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "docs").rglob("*.rst"))]
FILES = [*sorted(SOURCE.rglob("*.py")), *(page for page in PAGES if "gallery" not in page.parts)]

REPLACED = re.compile(
    r"\b(exposures?|membranes?|scan files?|drafts?|faults?|remarks?|suspicions?|pictures?)\b", re.IGNORECASE
)
# Literal quotations: methods and papers, metadata of files, exposure of a detector, motors and files.
QUOTED = re.compile(
    r"single-exposure|single_exposure|SingleExposure|exposure[ _-]times?|count_time|"
    r"\.exposure\b|exposure\.py|mask\|membrane\|diffuser|membrane diffuser sandpaper",
    re.IGNORECASE,
)
ALLOWED = {ROOT / "docs" / "develop" / "vocabulary.md", ROOT / "docs" / "develop" / "changelog.md"}


def _found(path):
    text = QUOTED.sub("", path.read_text(encoding="utf-8"))
    return [match[0] for match in REPLACED.finditer(text)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_replaced_words_do_not_return(path):
    if path not in ALLOWED:
        assert _found(path) == []


def test_replaced_words_do_not_return_in_names_of_tests():
    names = [
        name
        for path in (ROOT / "tests").rglob("*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert [name for name in names if REPLACED.search(QUOTED.sub("", name).replace("_", " "))] == []


def test_class_names_are_unique():
    names = Counter(
        node.name
        for path in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    )
    assert {name for name, number in names.items() if number > 1} == set()


def test_docstrings_do_not_begin_as_speech():
    begin = re.compile(r'"""(Give|Say|Tell)s?\b')
    files = [path for folder in ("src", "tests", "benchmarks") for path in (ROOT / folder).rglob("*.py")]
    assert [str(path) for path in files if begin.search(path.read_text(encoding="utf-8"))] == []
