"""What the README says is true."""

import re
import tomllib
from pathlib import Path

import numpy as np

import xmist
from tests.manufactured import phase_object
from xmist.cli import xmist as command
from xmist.preprocess import STEPS
from xmist.workflow.configuration import parse_mapping

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_lines_of_python_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    case = phase_object(3, (24, 32), strength=0.3)
    names = {"reference": case.reference, "sample": case.sample}
    (code,) = blocks("python")
    exec(code, names)
    assert np.array_equal(names["again"].phase, names["result"].phase)
    again = xmist.retrieve(names["stack"], names["experiment"], method="full-field")
    assert np.array_equal(names["plan"](case.sample).phase, again.phase)


def test_the_configuration_has_no_error():
    (text,) = blocks("toml")
    assert parse_mapping(tomllib.loads(text), folder=".", source="").messages == ()
    assert all(step in text for step in STEPS)


def test_the_commands_and_codes_are_those_of_the_command_line():
    table = re.findall(r"^\| `xmist (\w+)", README, re.MULTILINE)
    assert sorted(table) == sorted(command.commands)
    codes = re.findall(r"^\| ([\d, ]+) \|", README, re.MULTILINE)
    assert codes == ["0", "1", "2", "3", "130, 143"]
    for code in ("0", "1", "2", "3", "130", "143"):
        assert re.search(rf"\b{code} ", command.epilog)


def test_the_two_commands_are_those_of_the_continuous_integration():
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    for line in ("pip install . && xmist demo", 'pip install ".[test]" && pytest'):
        assert f"\n    {line}\n" in README
        assert line in script


def test_the_image_is_small():
    (name,) = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", README)
    assert 10_000 < (ROOT / name).stat().st_size < 300_000


def test_methods_are_named_with_their_papers():
    for entry in xmist.METHODS.values():
        if f"`{entry.name}`" in README:
            assert entry.doi in README
