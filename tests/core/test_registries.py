"""Codes of findings and errors: what the source uses is registered, and what is registered is used."""

import ast
from pathlib import Path

import pytest

import xmist
from xmist.core.errors import ERROR_CODES, ErrorRecord, InputError
from xmist.core.findings import FINDING_CODES, Finding, finding, warnings_of

SOURCE = Path(xmist.__file__).parent
REGISTRIES = {SOURCE / "core" / "errors.py", SOURCE / "core" / "findings.py"}
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in SOURCE.rglob("*.py")}


def _texts(node):
    return [
        item.value
        for item in ast.walk(node)
        if isinstance(item, ast.Constant) and isinstance(item.value, str)
    ]


USED = {text for path, tree in TREES.items() if path not in REGISTRIES for text in _texts(tree)}
CALLS = [
    (path, node)
    for path, tree in TREES.items()
    for node in ast.walk(tree)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
]


def _code(call):
    """Return the code that a call states as a constant, or None."""
    place = {"finding": 0, "Finding": 0, "ErrorRecord": 0, "InputError": 1}.get(call.func.id)
    given = next((word.value for word in call.keywords if word.arg == "code"), None)
    if given is None and place is not None and len(call.args) > place:
        given = call.args[place]
    return given.value if isinstance(given, ast.Constant) and isinstance(given.value, str) else None


@pytest.mark.parametrize("code", sorted(FINDING_CODES))
def test_registered_findings_are_used(code):
    assert code in USED
    entry = FINDING_CODES[code]
    assert entry.severity in ("note", "warning")
    assert entry.meaning.endswith(".")
    assert entry.remedy.endswith(".")


@pytest.mark.parametrize("code", sorted(ERROR_CODES))
def test_registered_errors_are_used(code):
    assert code in USED
    assert ERROR_CODES[code].endswith(".")


def test_codes_in_the_source_are_registered():
    unknown = [
        (path.relative_to(SOURCE).as_posix(), code)
        for path, call in CALLS
        if (code := _code(call)) is not None
        and code not in (FINDING_CODES if call.func.id in ("finding", "Finding") else ERROR_CODES)
    ]
    assert unknown == []


def test_a_finding_is_plain_data_and_back():
    record = finding("identical-frames", "all are equal")
    assert Finding.from_dict(record.to_dict()) == record
    assert warnings_of([record, finding("undetermined", "one pixel")]) == (record,)


def test_an_error_has_messages_and_codes():
    error = InputError([ErrorRecord("shape-mismatch", "one"), ErrorRecord("option-invalid", "two")])
    assert error.codes == ("shape-mismatch", "option-invalid")
    assert error.messages == ("one", "two")
    assert str(error) == "- one\n- two"
