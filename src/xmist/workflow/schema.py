"""The tables of a configuration file, checked by the engine for options."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Final, Literal, NamedTuple

from xmist.core.errors import ErrorRecord, nearest, shown, suggest
from xmist.core.options import Options, Parsed, Range, describe, read_options
from xmist.io.frames.addresses import names_file
from xmist.io.frames.axes import Axes, as_axes
from xmist.methods import METHODS
from xmist.tomography.options import VolumeOptions


class ConfigurationError(NamedTuple):
    """An error of a configuration: path of the key, what is wrong with it (": " begins a sentence), code."""

    path: str
    text: str
    code: str = "value-invalid"

    @classmethod
    def of(cls, record: ErrorRecord) -> ConfigurationError:
        """Return an error whose message begins with the path of its key."""
        path, text = record.message.split(" ", 1)
        return cls(path, text, record.code)


class Problems(list[ConfigurationError]):
    """The errors of a configuration."""

    def add(self, path: str, text: str, code: str = "value-invalid") -> None:
        """Add an error; see `ConfigurationError`."""
        self.append(ConfigurationError(path, text, code))


def _require(condition: bool) -> None:
    if not condition:
        raise ValueError


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _are(value: Any, kind: Any) -> bool:
    return isinstance(value, (list, tuple)) and bool(value) and all(map(kind, value))


def _as_names(value: Any) -> tuple[str, ...]:
    names = (value,) if isinstance(value, str) else value
    _require(_are(names, lambda name: isinstance(name, str) and name.strip()))
    return tuple(names)


def _as_angles(value: Any) -> str | tuple[float, ...] | tuple[str, ...] | dict[str, float]:
    if isinstance(value, Mapping):
        _require(set(value) == {"start", "step"} and all(map(_is_number, value.values())))
        return {key: float(number) for key, number in value.items()}
    if isinstance(value, str):
        _require(bool(value.strip()))
        return value
    if _are(value, lambda name: isinstance(name, str) and names_file(name)):
        return tuple(value)
    _require(_are(value, _is_number))
    return tuple(map(float, value))


def _as_rising(value: Any) -> tuple[float, ...]:
    _require(_are(value, _is_number) and all(earlier < later for earlier, later in pairwise(value)))
    return tuple(map(float, value))


def _as_range(value: Any) -> tuple[int, int]:
    _require(_are(value, _is_whole) and len(value) == 2 and 0 <= value[0] < value[1])
    return value[0], value[1]


def _as_counts(value: Any) -> tuple[int, ...]:
    _require(_are(value, _is_whole) and len(set(value)) == len(value) and min(value) >= 1)
    return tuple(value)


def _as_boxes(value: Any) -> tuple[tuple[int, ...], ...]:
    boxes = [value] if _are(value, _is_whole) else value
    _require(_are(boxes, lambda box: _are(box, _is_whole) and len(box) == 4))
    _require(all(0 <= y0 < y1 and 0 <= x0 < x1 for y0, y1, x0, x1 in boxes))
    return tuple(tuple(box) for box in boxes)


def _frames(what: str) -> Parsed:
    text = f"the {what}: a file, a pattern such as '{what}_*.tif', 'file.h5::/data', or a list of these"
    return Parsed(_as_names, text)


def _box(what: str) -> Parsed:
    text = (
        f"{what}: a box [y0, y1, x0, x1] in pixels of the prepared frames, ends excluded, or a list of them"
    )
    return Parsed(_as_boxes, text)


def _as_sample_positions(value: Any) -> tuple[Any, ...] | str:
    """Read [[y, x], …], the name of a table, or two header keys [y, x] (on the command line "y,x")."""
    if isinstance(value, str):
        keys = tuple(word.strip() for word in value.split(","))
        _require(len(keys) <= 2 and all(keys))
        return keys if len(keys) == 2 else value
    if _are(value, lambda key: isinstance(key, str)):
        _require(len(value) == 2)
        return tuple(value)
    _require(_are(value, lambda pair: _are(pair, _is_number) and len(pair) == 2))
    return tuple(tuple(map(float, pair)) for pair in value)


def _whole(what: str) -> Range:
    return Range(1, expected=f"{what}, a whole number from 1")


def _as_sample_axes(value: Any) -> Axes:
    axes = as_axes(value)
    _require("set" not in axes)
    return axes


def _as_reference_axes(value: Any) -> Axes:
    axes = as_axes(value)
    _require("projection" not in axes)
    return axes


_Names = tuple[str, ...]
_SampleAxes = Annotated[
    Axes,
    Parsed(
        _as_sample_axes,
        "the axes of the sample's arrays in order, of projection, position, repeat, y and x, such as "
        "'projection,position,y,x'; the first may count files",
    ),
]
_ReferenceAxes = Annotated[
    Axes,
    Parsed(
        _as_reference_axes,
        "the axes of the references' arrays in order, of set, position, repeat, y and x, such as "
        "'position,repeat,y,x'; as for the sample if left out",
    ),
]
_PositionKey = Annotated[
    _Names, Parsed(_as_names, "the header's key of the diffuser's position, or a list of keys")
]
_SamplePositions = Annotated[
    Any,
    Parsed(
        _as_sample_positions,
        "the position (y, x) of a sample that moves while the diffuser stays, for each frame, in effective "
        "pixels: a list [[y, x], ...], a text file of two columns, or two keys of the headers",
    ),
]


class InputSection(Options):
    """Where the frames are.

    Parameters
    ----------
    links : str
        Links in HDF5 files and symbolic links: "all" are followed, or only those "inside" the folder
        of the file.
    """

    reference: Annotated[_Names, _frames("reference")]
    sample: Annotated[_Names, _frames("sample")]
    sample_axes: _SampleAxes | None = None
    reference_axes: _ReferenceAxes | None = None
    dark: Annotated[_Names, _frames("dark")] | None = None
    flat: Annotated[_Names, _frames("flat")] | None = None
    repeats: Annotated[int, _whole("the number of frames per position, which are averaged")] = 1
    position_key: _PositionKey | None = None
    sample_positions: _SamplePositions | None = None
    links: Literal["all", "inside"] = "all"


def _quantity(text: str) -> Parsed:
    return Parsed(lambda value: value, text)


class ExperimentSection(Options):
    """Energy and geometry; `Experiment` checks the values."""

    aliases: ClassVar[Mapping[str, str]] = {
        "energy": "energy_kev",
        "energy_ev": "energy_kev",
        "pixel": "pixel_size",
        "distance": "sample_to_detector",
        "detector_distance": "sample_to_detector",
        "propagation_distance": "sample_to_detector",
        "sample_detector_distance": "sample_to_detector",
        "source_distance": "source_to_sample",
        "source_sample_distance": "source_to_sample",
        "focus_to_sample": "source_to_sample",
    }

    energy_kev: Annotated[float, _quantity("the photon energy in keV (17 keV is 17.0)")]
    pixel_size: Annotated[float, _quantity("the detector's pixel in metres (5.8 µm is 5.8e-6)")]
    sample_to_detector: Annotated[float, _quantity("the distance from the sample to the detector in metres")]
    source_to_sample: (
        Annotated[
            float, _quantity("the distance from the source to the sample in metres; none: parallel beam")
        ]
        | None
    ) = None


class RetrieveSection(Options):
    """The method."""

    method: Annotated[str, Range(expected="the name of a method (xmist methods lists them)")]
    threads: Annotated[int, _whole("the number of threads (all cores if left out)")] | None = None


class OutputSection(Options):
    """Where results go."""

    files: Annotated[
        _Names,
        Parsed(
            _as_names,
            "the files to write, such as ['result.h5', 'result.png']; .h5 holds everything, .tif images, "
            ".png a figure",
        ),
    ]
    overwrite: bool = False


_AnglesOf = Annotated[
    Any,
    Parsed(
        _as_angles,
        "angles in degrees: a list of numbers, {start = 0.0, step = 0.5}, a dataset such as "
        "'scan.h5::/entry/sample/rotation_angle' (or a pattern or a list of them), a text file with an angle "
        "on each line ('angles.txt'), or a key of the headers",
    ),
]
_FirstNumber = Annotated[int, Range(0, expected="the number of the first projection in the names of files")]
_ReferenceTimes = Annotated[
    tuple[float, ...],
    Parsed(
        _as_rising,
        "a list of rising numbers, one for each set of references: how many projections came before it "
        "([0, 500] for sets before and after 500 projections)",
    ),
]
_Projections = Annotated[
    tuple[int, int],
    Parsed(_as_range, "[start, stop], the numbers of the projections to retrieve, stop excluded"),
]
_Channels = Annotated[
    _Names, Parsed(_as_names, "a list of the channels to keep, such as ['phase', 'dark_field']")
]
_WarmStart = Annotated[
    int,
    Range(
        2,
        expected="the number of neighbouring projections in a group, a whole number from 2: the others begin "
        "from the result of the first",
    ),
]


class SeriesSection(Options):
    """What only a series of projections has.

    Parameters
    ----------
    between : str
        References between two sets: "linear" (interpolated in time) or "nearest" (the nearest set).
    tilt : float
        Angle of the rotation axis in degrees, turned about x from +y towards +z.
    """

    angles: _AnglesOf | None = None
    expected: Annotated[int, _whole("the number of projections of the whole series")] | None = None
    first: _FirstNumber | None = None
    reference_at: _ReferenceTimes | None = None
    between: Literal["linear", "nearest"] = "linear"
    tilt: Annotated[float, Range(-90.0, 90.0, unit="degrees")] | None = None
    reference_repeats: Annotated[int, _whole("the number of frames per position in a set")] | None = None
    projections: _Projections | None = None
    channels: _Channels | None = None
    block: Annotated[int, _whole("the number of projections in a file")] | None = None
    warm_start: _WarmStart | None = None


_Counts = Annotated[
    tuple[int, ...],
    Parsed(_as_counts, "a list of different numbers of positions from 1, such as [2, 4, 10]"),
]


class CompareSection(Options):
    """Methods and numbers of positions that are compared; see `xmist.compare`."""

    methods: Annotated[_Names, Parsed(_as_names, "a list of methods, such as ['mist', 'umpa']")] | None = None
    positions: _Counts | None = None
    truth: Annotated[str, Range(expected="the file of the true result, such as 'truth.h5'")] | None = None
    resolution: bool = True


class RegionsSection(Options):
    """Where bare beam is, and where the sample is, in pixels of the prepared frames."""

    outside: Annotated[tuple[tuple[int, ...], ...], _box("bare beam")] | None = None
    inside: Annotated[tuple[tuple[int, ...], ...], _box("the sample away from its rim")] | None = None


class TomographySection(VolumeOptions):
    """Volumes that are reconstructed when the series has ended.

    Parameters
    ----------
    file : str, optional
        The file of the volumes; NAME_volumes.h5 beside NAME.h5 of the series if left out.
    """

    file: Annotated[str, Range(expected="the file of the volumes, such as 'volumes.h5'")] | None = None

    @property
    def options(self) -> VolumeOptions:
        """Options of the volumes."""
        names = (option.name for option in describe(VolumeOptions))
        return VolumeOptions(**{name: getattr(self, name) for name in names})


SECTIONS: Final[Mapping[str, type[Options]]] = {
    "input": InputSection,
    "experiment": ExperimentSection,
    "retrieve": RetrieveSection,
    "output": OutputSection,
    # These may be left out as a whole.
    "series": SeriesSection,
    "compare": CompareSection,
    "regions": RegionsSection,
    "tomography": TomographySection,
}
_REQUIRED: Final = ("input", "experiment", "retrieve", "output")
_KNOWN: Final = (*SECTIONS, "options", "preprocess")


def check_sections(data: Mapping[str, Any]) -> tuple[dict[str, Any], Problems]:
    """Check every table by itself; a key with an error has its default or None.

    Examples
    --------
    >>> sections, problems = check_sections({"retrieve": {"metod": "mist"}})
    >>> [(problem.path, problem.code) for problem in problems[5:7]]
    [('retrieve.metod', 'option-unknown'), ('retrieve.method', 'option-missing')]
    """
    problems = Problems()
    for name in data:
        if name not in _KNOWN:
            text = _belongs(name) or f"is not a table of a configuration; {suggest(name, _KNOWN)}"
            problems.add(name, text, "option-unknown")
    sections: dict[str, Any] = {}
    for name, kind in SECTIONS.items():
        given = data.get(name, {})
        if not isinstance(given, Mapping):
            problems.add(name, f"is {shown(given)}; expected a table [{name}]")
            given = {}
        if name not in data and name not in _REQUIRED:
            sections[name] = None
            continue
        known = [option.name for option in describe(kind)]
        elsewhere = {
            key: text
            for key in given
            if key not in (*known, *kind.aliases) and not nearest(str(key), known) and (text := _belongs(key))
        }
        for key, text in elsewhere.items():
            problems.add(f"{name}.{key}", text, "option-unknown")
        given = {key: value for key, value in given.items() if key not in elsewhere}
        sections[name], errors = read_options(
            kind, given, owner=f"the table [{name}]", called=f"{name}.{{}}".format
        )
        problems.extend(map(ConfigurationError.of, errors))
    options = data.get("options", {})
    if not isinstance(options, Mapping):
        problems.add("options", f"is {shown(options)}; expected a table of options")
    sections["options"] = options if isinstance(options, Mapping) else {}
    steps = data.get("preprocess", [])
    if not isinstance(steps, list):
        problems.add("preprocess", f"is {shown(steps)}; expected tables [[preprocess]], each with a step")
        steps = []
    sections["preprocess"] = [_checked_step(step_path(n), step, problems) for n, step in enumerate(steps)]
    return sections, problems


def _belongs(key: str) -> str:
    """Return a text if a key that is not known where it stands is one of another table; else empty."""
    tables = [name for name, kind in SECTIONS.items() if key in (option.name for option in describe(kind))]
    if any(key in (option.name for option in entry.options) for entry in METHODS.values()):
        tables.append("options")
    return f"belongs in the table {' or '.join(f'[{name}]' for name in tables)}" if tables else ""


def _checked_step(path: str, table: Any, problems: Problems) -> tuple[str, dict[str, Any]] | None:
    """Return the name and the options of a step; None if there is no name."""
    if not isinstance(table, Mapping):
        problems.add(path, f"is {shown(table)}; expected a table with a step")
    elif not isinstance(table.get("step"), str):
        found = f"is {shown(table['step'])}" if "step" in table else "is missing"
        problems.add(f"{path}.step", f"{found}; expected the name of a step", "option-missing")
    else:
        return table["step"], {key: value for key, value in table.items() if key != "step"}
    return None


def expected_value(section: str, key: str) -> str:
    """Return in words what a key of a table may be."""
    return next(option.expected for option in describe(SECTIONS[section]) if option.name == key)


def step_path(index: int) -> str:
    """Return the path of a step of the preprocessing, counted from 1: "preprocess[1]"."""
    return f"preprocess[{index + 1}]"
