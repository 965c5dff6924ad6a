"""The option engine: types say what is allowed, all errors come at once, forms and help texts follow."""

import dataclasses
import inspect
import pickle
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import numpy as np
import pytest

from xmist.core.errors import InputError
from xmist.core.options import Options, Parsed, Range, describe, read_options


def _span(value: Any) -> tuple[int, int]:
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise ValueError
    if value[0] >= value[1]:
        raise ValueError("is empty; expected start below stop")
    return tuple(value)


class Toy(Options):
    """Options of a toy.

    Parameters
    ----------
    ratio : float
        A ratio
        over two lines.
    size : int
        Pixels a side.
    ridge, cutoff : float or "auto"
        Two at once.
    """

    ratio: Annotated[float, Range(0.0, above=True)]
    size: Annotated[int, Range(3, 15, odd=True, unit="pixels")] = 5
    ridge: Annotated[float | Literal["auto"], Range(0.0)] = 0.0
    cutoff: Annotated[float, Range(0.0, above=True, unit="m")] | Literal["auto"] | None = None
    mode: Literal["flat", "hamming"] = "flat"
    positive: bool = False
    name: str = "toy"
    rows: Annotated[tuple[int, int], Parsed(_span, "two numbers", plain=list)] | None = None

    def conflicts(self) -> Iterator[tuple[tuple[str, ...], str]]:
        if self.positive and self.ridge == "auto":
            yield ("positive", "ridge"), "is true with ridge 'auto'; give a number for ridge"


def codes(errors):
    return sorted(error.code for error in errors)


def test_values_are_kept_in_one_form():
    made = Toy(ratio=2, size=np.int64(7), ridge=np.float32(0.5), cutoff="auto", rows=[1, 2])
    assert dataclasses.astuple(made) == (2.0, 7, 0.5, "auto", "flat", False, "toy", (1, 2))
    assert type(made.ratio) is float
    assert type(made.size) is int
    assert made.plain()["rows"] == [1, 2]
    assert pickle.loads(pickle.dumps(made)) == made


def test_options_are_frozen_and_keyword_only():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Toy(ratio=1.0).size = 3
    with pytest.raises(TypeError):
        Toy(1.0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ratio", 0),
        ("ratio", None),
        ("ratio", True),
        ("ratio", np.nan),
        ("ratio", 10**400),
        ("ratio", np.ones(2)),
        ("size", 4),
        ("size", 5.0),
        ("size", 17),
        ("size", True),
        ("ridge", "often"),
        ("ridge", None),
        ("ridge", -1),
        ("cutoff", 0.0),
        ("mode", "round"),
        ("mode", ["flat"]),
        ("positive", 1),
        ("name", ""),
        ("rows", 3),
        ("rows", (2, 2)),
    ],
)
def test_invalid_values(name, value):
    made, errors = read_options(Toy, {"ratio": 1.0, name: value}, owner="toy")
    assert codes(errors) == ["option-invalid"]
    assert errors[0].message.startswith(f"option {name} is ")
    assert "; expected " in errors[0].message
    assert getattr(made, name) == (None if name == "ratio" else getattr(Toy(ratio=1.0), name))


def test_all_errors_come_at_once():
    values = {"sise": 5, "mode": "round", "positive": True, "ridge": "auto"}
    _, errors = read_options(Toy, values, owner="toy", called="[toy].{}".format)
    assert codes(errors) == ["option-conflict", "option-invalid", "option-missing", "option-unknown"]
    assert "did you mean 'size'?" in next(e.message for e in errors if e.code == "option-unknown")
    assert all(error.message.startswith("[toy].") for error in errors)
    with pytest.raises(InputError) as caught:
        Toy(ratio=-1, size=2)
    assert caught.value.codes == ("option-invalid", "option-invalid")


def test_a_conflict_with_an_invalid_value_is_not_reported():
    _, errors = read_options(Toy, {"ratio": 1.0, "positive": True, "ridge": "aut"}, owner="toy")
    assert codes(errors) == ["option-invalid"]


def test_what_forms_and_help_need():
    options = {option.name: option for option in describe(Toy)}
    assert options["ratio"].required
    assert not options["size"].required
    assert options["ratio"].about == "A ratio over two lines."
    assert options["cutoff"].about == options["ridge"].about == "Two at once."
    assert options["cutoff"].optional
    assert options["mode"].words == ("flat", "hamming")
    assert options["size"].range.unit == "pixels"
    expected = {name: option.expected for name, option in options.items()}
    assert expected["ratio"] == "a number above 0"
    assert expected["size"] == "an odd whole number from 3 to 15 pixels"
    assert expected["cutoff"] == 'a number above 0 m or "auto"'
    assert expected["positive"] == "true or false"
    assert list(inspect.signature(Toy).parameters) == list(options)
