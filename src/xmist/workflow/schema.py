"""The sections of a configuration file as pydantic models, and their errors in words.

A field's description says what is expected: every error of a field is built from its path, what was found and
that description.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any, Final, Literal, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from xmist.core.errors import shown, suggest


class Problem(NamedTuple):
    """An error of a configuration: path of the key, what is wrong with it (": " begins a sentence), code."""

    path: str
    text: str
    code: str = "value-invalid"


class Section(BaseModel):
    """A table whose keys are all known, and whose values are never converted from another type."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def _require(condition: bool) -> None:
    """Let pydantic report the field; its description says what is expected."""
    if not condition:
        raise ValueError


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _as_names(value: Any) -> tuple[str, ...]:
    names = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, (list, tuple)) else ()
    _require(bool(names) and all(isinstance(name, str) and name.strip() for name in names))
    return names


def _as_angles(value: Any) -> str | tuple[float, ...] | dict[str, float]:
    if isinstance(value, Mapping):
        _require(set(value) == {"start", "step"} and all(map(_is_number, value.values())))
        return {key: float(number) for key, number in value.items()}
    if isinstance(value, str):
        _require(bool(value.strip()))
        return value
    _require(isinstance(value, (list, tuple)) and bool(value) and all(map(_is_number, value)))
    return tuple(map(float, value))


def _as_rising(value: Any) -> tuple[float, ...]:
    _require(isinstance(value, (list, tuple)) and bool(value) and all(map(_is_number, value)))
    _require(all(earlier < later for earlier, later in pairwise(value)))
    return tuple(map(float, value))


def _as_range(value: Any) -> tuple[int, int]:
    _require(isinstance(value, (list, tuple)) and len(value) == 2 and all(map(_is_whole, value)))
    _require(0 <= value[0] < value[1])
    return value[0], value[1]


def _as_counts(value: Any) -> tuple[int, ...]:
    _require(isinstance(value, (list, tuple)) and bool(value) and all(map(_is_whole, value)))
    _require(len(set(value)) == len(value) and min(value) >= 1)
    return tuple(value)


def _as_boxes(value: Any) -> tuple[tuple[int, ...], ...]:
    boxes = [value] if isinstance(value, list) and value and not isinstance(value[0], list) else value
    _require(isinstance(boxes, list) and bool(boxes))
    for box in boxes:
        _require(isinstance(box, list) and len(box) == 4 and all(map(_is_whole, box)))
        _require(0 <= box[0] < box[1] and 0 <= box[2] < box[3])
    return tuple(tuple(box) for box in boxes)


def _frames(what: str) -> str:
    return f"the {what}: a file, a pattern such as '{what}_*.tif', 'file.h5::/entry/data', or a list of these"


def _box(what: str) -> str:
    return (
        f"{what}: a box [y0, y1, x0, x1] in pixels of the prepared frames, ends excluded, or a list of them"
    )


Names = Annotated[tuple[str, ...], BeforeValidator(_as_names)]


class InputSection(Section):
    """Where the frames are."""

    reference: Names = Field(description=_frames("reference"))
    sample: Names = Field(description=_frames("sample"))
    dark: Names | None = Field(default=None, description=_frames("dark"))
    flat: Names | None = Field(default=None, description=_frames("flat"))
    repeats: int = Field(
        default=1, ge=1, description="the number of frames of each position, to be averaged, from 1"
    )
    position_key: Names | None = Field(
        default=None, description="the header's key of the diffuser's position, or a list of keys"
    )


class ExperimentSection(Section):
    """Energy and geometry; `Experiment` checks the values."""

    energy_kev: Any = Field(description="the photon energy in keV (17 keV is 17.0)")
    pixel_size: Any = Field(description="the detector's pixel in metres (5.8 µm is 5.8e-6)")
    sample_to_detector: Any = Field(description="the distance from the sample to the detector in metres")
    source_to_sample: Any = Field(
        default=None,
        description="the distance from the source to the sample in metres; leave it out for a parallel beam",
    )


class StepSection(BaseModel):
    """A step of the preprocessing, with its options as further keys."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    step: str = Field(description="the name of a step")


class RetrieveSection(Section):
    """The method."""

    method: str = Field(description="the name of a method (xmist methods lists them)")
    threads: int | None = Field(
        default=None, ge=1, description="a whole number from 1; leave it out to use every core"
    )


class OutputSection(Section):
    """Where results go."""

    files: Names = Field(
        description="the files to write, such as ['result.h5', 'result.png']; .h5 holds everything, .tif "
        "images, .png a figure"
    )
    overwrite: bool = Field(default=False, description="true or false")


class SeriesSection(Section):
    """What only a series of projections has."""

    order: Literal["position", "projection"] | None = Field(
        default=None,
        description='"position" if all projections of a position of the diffuser follow each other (a stack '
        'for each position), "projection" if all positions of a projection do (interleaved)',
    )
    angles: Annotated[Any, BeforeValidator(_as_angles)] = Field(
        default=None,
        description="angles in degrees: a list of numbers, {start = 0.0, step = 0.5}, a dataset such as "
        "'scan.h5::/entry/sample/rotation_angle', or a key of the headers",
    )
    expected: int | None = Field(
        default=None, ge=1, description="the number of projections of the whole series, from 1"
    )
    reference_at: Annotated[tuple[float, ...], BeforeValidator(_as_rising)] | None = Field(
        default=None,
        description="a list of rising numbers, one for each set of references: how many projections came "
        "before it ([0, 500] for sets before and after 500 projections)",
    )
    between: Literal["linear", "nearest"] = Field(
        default="linear",
        description='"linear" (references interpolated in time) or "nearest" (the set nearest in time)',
    )
    reference_repeats: int | None = Field(
        default=None,
        ge=1,
        description="the number of frames of each position in a set of references, a whole number from 1",
    )
    projections: Annotated[tuple[int, int], BeforeValidator(_as_range)] | None = Field(
        default=None,
        description="[start, stop], the projections to retrieve, counted from 0, stop excluded",
    )
    channels: Names | None = Field(
        default=None, description="a list of the channels to keep, such as ['phase', 'dark_field']"
    )
    block: int | None = Field(
        default=None, ge=1, description="the number of projections in a file, a whole number from 1"
    )
    warm_start: int | None = Field(
        default=None,
        ge=2,
        description="how many neighbouring projections share a start, a whole number from 2: the first "
        "of them begins from nothing, the others from its result",
    )


class CompareSection(Section):
    """Methods and numbers of positions that are compared; see `xmist.compare`."""

    methods: Names | None = Field(
        default=None, description="a list of methods, such as ['mist', 'umpa'] (xmist methods lists them)"
    )
    positions: Annotated[tuple[int, ...], BeforeValidator(_as_counts)] | None = Field(
        default=None, description="a list of different numbers of positions from 1, such as [2, 4, 10]"
    )
    truth: str | None = Field(default=None, description="the file of the true result, such as 'truth.h5'")
    resolution: bool = Field(default=True, description="true or false")


class RegionsSection(Section):
    """Where bare beam is, and where the sample is, in pixels of the prepared frames."""

    outside: Annotated[Any, BeforeValidator(_as_boxes)] = Field(default=None, description=_box("bare beam"))
    inside: Annotated[Any, BeforeValidator(_as_boxes)] = Field(
        default=None, description=_box("the sample away from its rim")
    )


_SECTIONS: Final[Mapping[str, tuple[type[BaseModel], str]]] = {
    "input": (InputSection, "a table with reference and sample"),
    "experiment": (ExperimentSection, "a table with energy_kev, pixel_size and sample_to_detector"),
    "retrieve": (RetrieveSection, "a table with method"),
    "output": (OutputSection, "a table with files"),
    # These may be left out as a whole.
    "series": (SeriesSection, "a table with order and angles"),
    "compare": (CompareSection, "a table with methods and positions"),
    "regions": (RegionsSection, "a table with outside and inside"),
}
_REQUIRED: Final = ("input", "experiment", "retrieve", "output")
_KNOWN: Final = (*_SECTIONS, "options", "preprocess")


def check_sections(data: Mapping[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """Check every section by itself; a key with an error has its default or None.

    Examples
    --------
    >>> sections, problems = check_sections({"retrieve": {"metod": "mist"}})
    >>> problems[5].path, problems[5].code
    ('retrieve.method', 'key-missing')
    """
    problems = [
        Problem(name, f"is not a section of a configuration; {suggest(name, _KNOWN)}", "key-unknown")
        for name in data
        if name not in _KNOWN
    ]
    sections: dict[str, Any] = {
        name: _checked(name, kind, expected, data.get(name, {}), problems)
        if name in data or name in _REQUIRED
        else None
        for name, (kind, expected) in _SECTIONS.items()
    }
    options = data.get("options", {})
    if not isinstance(options, Mapping):
        problems.append(Problem("options", f"is {shown(options)}; expected a table of options"))
    sections["options"] = options if isinstance(options, Mapping) else {}
    steps = data.get("preprocess", [])
    if not isinstance(steps, list):
        text = f"is {shown(steps)}; expected tables [[preprocess]], each with a step"
        problems.append(Problem("preprocess", text))
        steps = []
    sections["preprocess"] = [
        _checked(step_path(index), StepSection, "a table with a step", step, problems)
        for index, step in enumerate(steps)
    ]
    return sections, problems


def _checked(path: str, kind: type[BaseModel], expected: str, value: Any, problems: list[Problem]) -> Any:
    """Return a section whose wrong keys have their defaults, or None; None for a step with an error."""
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        wrong: set[str] = set()
        known = kind.model_fields
        for item in error.errors():
            if not item["loc"]:
                problems.append(Problem(path, f"is {shown(item['input'])}; expected {expected}"))
                value = {}
                continue
            key = str(item["loc"][0])
            wrong.add(key)
            if item["type"] == "extra_forbidden":
                text, code = f"is not a known key; {suggest(key, known)}", "key-unknown"
            elif item["type"] == "missing":
                text, code = f"is missing; expected {known[key].description}", "key-missing"
            else:
                text, code = f"is {shown(item['input'])}; expected {known[key].description}", "value-invalid"
            problems.append(Problem(f"{path}.{key}", text, code))
    if kind is StepSection:
        return None
    good = {key: item for key, item in value.items() if key not in wrong}
    lacking = [key for key, item in known.items() if item.is_required() and key not in good]
    # Every required key takes text, so that text can stand in for those that have an error.
    section = kind.model_validate({**dict.fromkeys(lacking, "-"), **good})
    return section.model_copy(update=dict.fromkeys(lacking))


def expected_value(section: str, key: str) -> str:
    """Return in words what a key of a section may be."""
    return str(_SECTIONS[section][0].model_fields[key].description)


def step_path(index: int) -> str:
    """Return the path of a step of the preprocessing, counted from 1 as people count: "preprocess[1]"."""
    return f"preprocess[{index + 1}]"
