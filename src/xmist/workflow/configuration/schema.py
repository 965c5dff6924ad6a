"""The sections of a scan file as pydantic models, and their faults in words.

A field's description says what would be right: every fault of a field is built from its path, what was found
and that description.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from xmist.core.errors import shown, suggest


class Section(BaseModel):
    """A table whose keys are all known, and whose values are never converted from another kind."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def _as_names(value: Any) -> tuple[str, ...]:
    names = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, (list, tuple)) else ()
    if not names or not all(isinstance(name, str) and name.strip() for name in names):
        raise ValueError
    return names


def _frames(what: str) -> str:
    return f"the {what}: a file, a pattern such as '{what}_*.tif', 'file.h5::/entry/data', or a list of these"


Names = Annotated[tuple[str, ...], BeforeValidator(_as_names)]


class InputSection(Section):
    """Where the frames are, see `xmist.io.frames.frames.open_frames`."""

    reference: Names = Field(description=_frames("reference"))
    sample: Names = Field(description=_frames("sample"))
    dark: Names | None = Field(default=None, description=_frames("dark"))
    flat: Names | None = Field(default=None, description=_frames("flat"))
    exposures: int = Field(
        default=1,
        ge=1,
        description="the number of exposures of each position, a whole number from 1",
    )
    position_key: Names | None = Field(
        default=None, description="the header's key of the mask's position, or a list of keys"
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
    """What to retrieve with."""

    method: str = Field(description="the name of a method (xmist methods lists them)")
    threads: int | None = Field(
        default=None, ge=1, description="a whole number from 1; leave it out to use every core"
    )


class OutputSection(Section):
    """Where results go."""

    files: Names = Field(
        description="the files to write, such as ['result.h5', 'result.png']; .h5 holds everything, .tif "
        "images, .png a picture"
    )
    overwrite: bool = Field(default=False, description="true or false")


def _as_angles(value: Any) -> str | tuple[float, ...] | dict[str, float]:
    if isinstance(value, str) and value.strip():
        return value
    if isinstance(value, (list, tuple)) and value and all(map(_is_number, value)):
        return tuple(map(float, value))
    if (
        isinstance(value, Mapping)
        and set(value) == {"start", "step"}
        and all(map(_is_number, value.values()))
    ):
        return {key: float(number) for key, number in value.items()}
    raise ValueError


def _as_numbers(value: Any) -> tuple[float, ...]:
    if not isinstance(value, (list, tuple)) or not value or not all(map(_is_number, value)):
        raise ValueError
    if any(later <= earlier for earlier, later in pairwise(value)):
        raise ValueError
    return tuple(map(float, value))


def _as_range(value: Any) -> tuple[int, int]:
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise ValueError
    if any(isinstance(item, bool) or not isinstance(item, int) for item in value):
        raise ValueError
    start, stop = value
    if not 0 <= start < stop:
        raise ValueError
    return start, stop


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


class ScanSection(Section):
    """How many projections lie in the frames; see `xmist.scan`."""

    order: Literal["position", "projection"] | None = Field(
        default=None,
        description='"position" if all projections of a position of the mask follow each other (a stack a '
        'position), "projection" if all positions of a projection do (interleaved)',
    )
    angles: Annotated[Any, BeforeValidator(_as_angles)] = Field(
        default=None,
        description="angles in degrees: a list of numbers, {start = 0.0, step = 0.5}, a dataset such as "
        "'scan.h5::/entry/sample/rotation_angle', or the key of the headers",
    )
    reference_at: Annotated[tuple[float, ...], BeforeValidator(_as_numbers)] | None = Field(
        default=None,
        description="a list of rising numbers, one for each set of references: how many projections came "
        "before it ([0, 500] for sets before and after 500 projections)",
    )
    between: Literal["linear", "nearest"] = Field(
        default="linear",
        description='"linear" (references interpolated in time) or "nearest" (the set nearest in time)',
    )
    reference_exposures: int | None = Field(
        default=None,
        ge=1,
        description="the number of exposures of each position in a set of references, a whole number from 1",
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


def _as_counts(value: Any) -> tuple[int, ...]:
    if not isinstance(value, (list, tuple)) or not value or len(set(map(repr, value))) < len(value):
        raise ValueError
    if any(isinstance(item, bool) or not isinstance(item, int) or item < 1 for item in value):
        raise ValueError
    return tuple(value)


def _as_boxes(value: Any) -> tuple[tuple[int, ...], ...]:
    boxes = [value] if isinstance(value, list) and value and not isinstance(value[0], list) else value
    if not isinstance(boxes, list) or not boxes:
        raise ValueError
    for box in boxes:
        if not isinstance(box, list) or len(box) != 4:
            raise ValueError
        if any(isinstance(item, bool) or not isinstance(item, int) for item in box):
            raise ValueError
        if not (0 <= box[0] < box[1] and 0 <= box[2] < box[3]):
            raise ValueError
    return tuple(tuple(box) for box in boxes)


def _as_tables(value: Any) -> Mapping[str, Mapping[str, Any]]:
    if not isinstance(value, Mapping) or not all(isinstance(item, Mapping) for item in value.values()):
        raise ValueError
    return value


class CompareSection(Section):
    """Which methods are compared on how many positions; see `xmist.compare`."""

    methods: Names | None = Field(
        default=None, description="a list of methods, such as ['mist', 'umpa'] (xmist methods lists them)"
    )
    positions: Annotated[tuple[int, ...], BeforeValidator(_as_counts)] | None = Field(
        default=None, description="a list of different numbers of positions from 1, such as [2, 4, 10]"
    )
    options: Annotated[Any, BeforeValidator(_as_tables)] = Field(
        default={}, description="a table for each method, such as [compare.options.umpa] with window = 5"
    )
    truth: str | None = Field(
        default=None, description="the file of a result that is right, such as 'truth.h5'"
    )
    resolution: bool = Field(default=True, description="true or false")


class RegionsSection(Section):
    """Where bare beam is, and where the sample is, in pixels of the prepared frames."""

    outside: Annotated[Any, BeforeValidator(_as_boxes)] = Field(
        default=None,
        description="bare beam: a box [y0, y1, x0, x1] in pixels of the prepared frames, ends excluded, or a "
        "list of such boxes",
    )
    inside: Annotated[Any, BeforeValidator(_as_boxes)] = Field(
        default=None,
        description="the sample away from its rim: a box [y0, y1, x0, x1] in pixels of the prepared frames, "
        "ends excluded, or a list of such boxes",
    )


_SECTIONS: Final[Mapping[str, tuple[type[BaseModel], str]]] = {
    "input": (InputSection, "a table with reference and sample"),
    "experiment": (ExperimentSection, "a table with energy_kev, pixel_size and sample_to_detector"),
    "retrieve": (RetrieveSection, "a table with method"),
    "output": (OutputSection, "a table with files"),
}
# Sections that may be left out as a whole.
_OPTIONAL: Final[Mapping[str, tuple[type[BaseModel], str]]] = {
    "scan": (ScanSection, "a table with order and angles"),
    "compare": (CompareSection, "a table with methods and positions"),
    "regions": (RegionsSection, "a table with outside and inside"),
}
_KNOWN: Final = (*_SECTIONS, *_OPTIONAL, "options", "preprocess")

# Path of a key, and what is wrong with it.
Faults = list[tuple[str, str]]


def check_sections(data: Mapping[str, Any]) -> tuple[dict[str, Any], Faults]:
    """Check every section of a scan file by itself.

    Parameters
    ----------
    data : mapping
        What the file holds, as plain data.

    Returns
    -------
    dict
        By name the value of each section. A key with a fault has its default there, or None, so that the
        others can be looked at further; a step with a fault is None.
    list of tuple of str
        For each fault the path of its key ("input.reference") and what is wrong with it.

    Examples
    --------
    >>> sections, faults = check_sections({"retrieve": {"metod": "mist"}})
    >>> faults[5]
    ('retrieve.method', 'is missing; expected the name of a method (xmist methods lists them)')
    """
    faults: Faults = [
        (name, f"is not a section of a scan file; {suggest(name, _KNOWN)}")
        for name in data
        if name not in _KNOWN
    ]
    # A section that is left out lacks its required keys, and each of them is told.
    sections: dict[str, Any] = {
        name: _checked(name, kind, expected, data.get(name, {}), faults)
        for name, (kind, expected) in _SECTIONS.items()
    }
    sections |= {
        name: _checked(name, kind, expected, data[name], faults) if name in data else None
        for name, (kind, expected) in _OPTIONAL.items()
    }
    options = data.get("options", {})
    if not isinstance(options, Mapping):
        faults.append(("options", f"is {shown(options)}; expected a table of the method's options"))
    sections["options"] = options if isinstance(options, Mapping) else {}
    steps = data.get("preprocess", [])
    if not isinstance(steps, list):
        faults.append(("preprocess", f"is {shown(steps)}; expected tables [[preprocess]], each with a step"))
        steps = []
    sections["preprocess"] = [
        _checked(step_path(index), StepSection, "a table with a step", step, faults)
        for index, step in enumerate(steps)
    ]
    return sections, faults


def _checked(path: str, kind: type[BaseModel], expected: str, value: Any, faults: Faults) -> Any:
    """Give a section with its faulty keys at their defaults, or None; None for a step with a fault."""
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        wrong: set[str] = set()
        for item in error.errors():
            if not item["loc"]:
                faults.append((path, f"is {shown(item['input'])}; expected {expected}"))
                value = {}
                continue
            key = str(item["loc"][0])
            wrong.add(key)
            known = kind.model_fields
            if item["type"] == "extra_forbidden":
                faults.append((f"{path}.{key}", f"is not a known key; {suggest(key, known)}"))
            elif item["type"] == "missing":
                faults.append((f"{path}.{key}", f"is missing; expected {known[key].description}"))
            else:
                faults.append(
                    (f"{path}.{key}", f"is {shown(item['input'])}; expected {known[key].description}")
                )
    if kind is StepSection:
        return None
    good = {key: item for key, item in value.items() if key not in wrong}
    lacking = [key for key, item in kind.model_fields.items() if item.is_required() and key not in good]
    # Every required key takes text, so that text can stand in for those that have a fault.
    section = kind.model_validate({**dict.fromkeys(lacking, "-"), **good})
    return section.model_copy(update=dict.fromkeys(lacking))


def expected_value(section: str, key: str) -> str:
    """Give in words what a key of a section may be.

    Parameters
    ----------
    section, key : str
        Their names.

    Examples
    --------
    >>> expected_value("experiment", "energy_kev")
    'the photon energy in keV (17 keV is 17.0)'
    """
    return str(_SECTIONS[section][0].model_fields[key].description)


def step_path(index: int) -> str:
    """Give the path of a step of the preprocessing, counted from 0, as people count.

    Parameters
    ----------
    index : int
        Its place in the list.

    Examples
    --------
    >>> step_path(0)
    'preprocess[1]'
    """
    return f"preprocess[{index + 1}]"
