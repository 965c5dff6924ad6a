"""The sections of a scan file as pydantic models, and their faults in words.

A field's description says what would be right: every fault of a field is built from its path, what was found
and that description.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from xmist.errors import suggest

_SHOWN_CHARACTERS: Final = 60


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
    """Where the frames are, see `xmist.io.frames.open_frames`."""

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


_SECTIONS: Final[Mapping[str, tuple[Any, str]]] = {
    "input": (InputSection, "a table with reference and sample"),
    "experiment": (ExperimentSection, "a table with energy_kev, pixel_size and sample_to_detector"),
    "preprocess": (list[StepSection], "tables [[preprocess]], each with a step"),
    "retrieve": (RetrieveSection, "a table with method"),
    "options": (dict[str, Any], "a table of the method's options"),
    "output": (OutputSection, "a table with files"),
}
_OPTIONAL: Final[Mapping[str, Any]] = {"preprocess": [], "options": {}}


def check_sections(data: Mapping[str, Any]) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Check every section of a scan file by itself.

    Parameters
    ----------
    data : mapping
        What the file holds, as plain data.

    Returns
    -------
    dict
        By name, the checked value of every section without a fault.
    list of tuple of str
        For each fault the path of its key ("input.reference") and what is wrong with it.

    Examples
    --------
    >>> sections, faults = check_sections({"retrieve": {"metod": "mist"}})
    >>> faults[-3]
    ('retrieve.method', 'is missing; expected the name of a method (xmist methods lists them)')
    """
    sections: dict[str, Any] = {}
    faults = [
        (name, f"is not a section of a scan file; {suggest(name, _SECTIONS)}")
        for name in data
        if name not in _SECTIONS
    ]
    for name, (kind, expected) in _SECTIONS.items():
        try:
            # A section that is left out lacks its required keys, and each of them is told.
            sections[name] = TypeAdapter(kind).validate_python(data.get(name, _OPTIONAL.get(name, {})))
        except ValidationError as error:
            faults += [_fault(name, kind, expected, item["loc"], item) for item in error.errors()]
    return sections, faults


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


def _fault(
    name: str, kind: Any, expected: str, place: tuple[int | str, ...], item: Mapping[str, Any]
) -> tuple[str, str]:
    if kind == list[StepSection] and place:
        name, kind, expected = step_path(int(place[0])), StepSection, "a table with a step"
        place = place[1:]
    if place:
        key = str(place[0])
        path = f"{name}.{key}"
        if item["type"] == "extra_forbidden":
            return path, f"is not a known key; {suggest(key, kind.model_fields)}"
        expected = kind.model_fields[key].description if key in kind.model_fields else expected
        if item["type"] == "missing":
            return path, f"is missing; expected {expected}"
        name = path
    return name, f"is {shown(item['input'])}; expected {expected}"


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


def shown(value: Any) -> str:
    """Give a value as a message shows it, cut if it is long.

    Parameters
    ----------
    value : object
        What was found.

    Examples
    --------
    >>> shown("17 keV")
    "'17 keV'"
    """
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 1]}…"
