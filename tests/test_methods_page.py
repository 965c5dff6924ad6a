"""docs/methods.md says what the table of methods says; run this file to write its table anew."""

import re
from pathlib import Path

import pytest

import xmist
from tests.coded import coded
from xmist.methods import make_options

PAGE = Path(__file__).parents[1] / "docs" / "methods.md"
HEAD = "| method | N ≥ | δ/β | sample may attenuate | gives | cost |"
SYMBOLS = {"phase": "φ", "transmission": "T", "dark_field": "D", "dark_field_tensor": "D_ij"}


def _gives(method):
    return ", ".join(SYMBOLS.get(name, name) for name in method.gives if name != "refraction_angle")


def table():
    rows = [
        f"| `{m.name}` | {m.minimum_positions} | {m.delta_over_beta} | {m.attenuation} | "
        f"{_gives(m)} | {m.cost:g} |"
        for m in xmist.METHODS.values()
    ]
    return "\n".join([HEAD, "|---" * 6 + "|", *rows])


def test_the_table_is_that_of_the_code():
    found = re.search(r"^\| method .*?(?=\n\n)", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert found[0] == table(), f"run python -m {__name__}"


def test_the_guide_knows_every_method():
    guide = PAGE.read_text(encoding="utf-8").partition("## Which one")[2]
    assert [name for name in xmist.METHODS if f"`{name}`" not in guide] == []


@pytest.mark.parametrize("method", xmist.METHODS.values(), ids=xmist.METHODS.keys())
def test_what_the_table_says_of_the_ratio_is_so(method):
    if method.delta_over_beta == "required":
        with pytest.raises(xmist.InputError, check=coded("option-missing", names=["delta_over_beta"])):
            make_options(method.name, {})
    elif method.delta_over_beta == "optional":
        assert make_options(method.name, {"delta_over_beta": 2.0}).delta_over_beta == 2.0
    else:
        with pytest.raises(xmist.InputError, check=coded("option-unknown", names=["delta_over_beta"])):
            make_options(method.name, {"delta_over_beta": 2.0})
    assert method.attenuation != "with δ/β" or method.delta_over_beta == "optional"


if __name__ == "__main__":
    text = PAGE.read_text(encoding="utf-8")
    new = re.sub(r"^\| method .*?(?=\n\n)", lambda _: table(), text, flags=re.DOTALL | re.MULTILINE)
    PAGE.write_text(new, encoding="utf-8")
