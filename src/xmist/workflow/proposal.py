"""Propose a configuration from the contents of a folder."""

from __future__ import annotations

import glob
import json
import os
import re
import textwrap
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise, takewhile
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.core.errors import ErrorRecord, InputError, XmistError, suggest
from xmist.core.findings import Finding
from xmist.io.frames.addresses import natural_sort
from xmist.io.frames.frames import FrameSeries, offer_geometry, open_frames
from xmist.io.frames.loading import load_frames
from xmist.io.frames.series import FRAME_ENDINGS, HDF5_ENDINGS
from xmist.io.frames.sources import listed
from xmist.methods import METHODS
from xmist.methods.common.bare_beam import drift_of_pair
from xmist.preprocess import Frames, apply_steps
from xmist.workflow.beam import monitor_text
from xmist.workflow.proposal_names import name_series, series_lines
from xmist.workflow.schema import expected_value

if TYPE_CHECKING:
    from xmist.io.frames.hdf5_reader import ListedDataset

_DEEPEST: Final = 3  # folders below the one that is looked at
_MOST_FILES: Final = 100_000

# Words in the names of files, folders and datasets; the first role that fits counts.
_ROLES: Final[Mapping[str, frozenset[str]]] = {
    role: frozenset(words.split())
    for role, words in {
        "dark": "dark darks darkfield bias dk",
        "reference": "ref refs reference references speckle speckles membrane diffuser sandpaper noobj",
        "flat": "flat flats flatfield white whitefield ff",
        "sample": "sample samples sam smp obj object objects proj projection projections img",
    }.items()
}
_GEOMETRY: Final = ("energy_kev", "pixel_size", "sample_to_detector", "source_to_sample")

# Angles that differ by less than this part of their range are the same, ...
_SAME_ANGLE: Final = 1e-3
# ... or, of many, by less than this part of the least step that so many could have.
_SAME_STEP: Final = 0.25
_AXES_TEXT: Final = (
    "Guessed: one axis of the sample's array is as long as there are reference frames. Are these its "
    "positions of the diffuser?"
)
_LAST_TEXT: Final = "Guessed: the frames are along the last axis of the arrays. Are these the positions?"
_NAMED_TEXT: Final = (
    "Guessed: the numbers in the names of the files count projections and positions. Do they?"
)
# How comments begin that say what is not used.
_LEFT: Final = ("# Left out: ", "# Not used, ", "# Cannot be used as it is: ")
_ABSENT: Final = frozenset({"no", "without"})
# Errors of frames that can be read, but not used together.
_UNFIT: Final = frozenset(
    {"axes-mismatch", "axes-missing", "frames-unequal-numbers", "positions-mismatch", "shape-mismatch"}
)


@dataclass(frozen=True)
class _Item:
    """A file, a dataset, or its frames of one image key, whose use need not be guessed."""

    path: Path
    dataset: str = ""
    role: str = ""


def propose_configuration(
    folder: str | Path,
    *,
    base: str | Path | None = None,
    geometry: Mapping[str, float] | None = None,
    frames: Mapping[str, Sequence[str]] | None = None,
    method: str | None = None,
) -> str:
    """Return a commented configuration from the contents of a folder.

    Parameters
    ----------
    folder : str or Path
        Folder of frames; three levels below it are looked at too.
    base : str or Path, optional
        Folder that the configuration shall be in; `folder` if None. Names in the file are relative to it.
    geometry : mapping of str to float, optional
        Energy and geometry by key, which come before what the headers state.
    frames : mapping of str to sequence of str, optional
        Names of files by role ("reference", "sample"), relative to `base`, instead of those that are guessed.
    method : str, optional
        Name of a method.

    Returns
    -------
    str
        TOML. The roles of the files are guessed from their names, and the geometry is what their headers
        state, each with where it comes from. What is not known stands as a comment that must be filled in:
        no physical value is guessed.

    Raises
    ------
    InputError
        If the folder is missing, or holds no frames.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("ref_1", "ref_2", "sample_1", "sample_2"):
    ...         np.save(f"{folder}/{name}.npy", np.ones((16, 16), np.float32))
    ...     lines = propose_configuration(folder).splitlines()
    >>> [line for line in lines if line.startswith(("reference", "sample"))]
    ['reference = "ref_*.npy"', 'sample = "sample_*.npy"']
    """
    folder = Path(folder)
    if not folder.is_dir():
        kind = "is not a folder" if folder.exists() else "does not exist"
        raise InputError(f"{folder} {kind}; expected a folder of frames", "file-missing")
    base = folder if base is None else Path(base)
    items, stacks, broken = _frame_items(folder)
    if not items:
        raise InputError(
            f"{folder} holds no frames; expected files that end in {', '.join(FRAME_ENDINGS)}, in it or "
            f"up to {_DEEPEST} folders below" + "".join(f"; {text}" for text in broken[:1]),
            code="file-missing",
        )
    roles, others = _sort_by_role(items, folder)
    specs = {role: _spelled(found, base) for role, found in roles.items()}
    specs |= {role: list(names) for role, names in (frames or {}).items()}
    if method is not None and method not in METHODS:
        raise InputError(f"method is '{method}'; {suggest(method, METHODS)}", code="method-unknown")
    series, errors = _opened(specs, base)
    axes = _guessed_axes(specs, series, base)
    if "reference_axes" in axes:
        series |= _opened(specs, base, axes)[0]
    plan = plan_series(stacks)
    named = None
    if plan is None and not axes and not frames and {"reference", "sample"} <= {*series}:
        named = name_series(series["reference"], series["sample"], base)
    if named is not None:
        specs["sample"] = [named.sample]
        specs["reference"] = [named.reference] if named.reference else specs["reference"]
    guessed = plan or named
    number = guessed.positions if guessed else len(series.get("reference", ()))
    return "\n".join(
        [
            "# A configuration of xmist. Fill in what is marked FILL IN, and check the rest; then",
            "# xmist check shows what would be done, and xmist retrieve does it.",
            "# Names of files are relative to this file. Lengths are in metres, energies in keV.",
            "",
            *_input_lines(specs, series, {} if axes else errors, _spelled(others, base), stacks, plan),
            *(_comment(_LAST_TEXT if "reference_axes" in axes else _AXES_TEXT) if axes else []),
            *(f"{key} = {toml_text(value)}" for key, value in axes.items()),
            *(_comment(_NAMED_TEXT) if named else []),
            *(f"# Left out: {' '.join(text.split())}" for text in broken),
            "",
            *_experiment_lines(series.get("reference") or series.get("sample"), geometry or {}),
            "",
            *_preprocess_lines(specs, series),
            "",
            *_retrieve_lines(number, method),
            "",
            *(_series_lines(plan, base) if plan else series_lines(named) if named else []),
            "[output]",
            "# .h5 holds everything, .tif an image for each channel, .png a figure.",
            'files = ["result.h5", "result.png"]',
            "overwrite = false",
            "",
        ]
    )


def describe_proposal(text: str, folder: Path) -> tuple[list[str], tuple[Finding, ...], list[ErrorRecord]]:
    """Return how a proposed configuration uses each frame, as text, findings, and what does not fit."""
    from xmist.workflow.configuration import parse_mapping
    from xmist.workflow.discovery import discover
    from xmist.workflow.listing import angle_range, angle_source, describe_rows, list_frames

    found = discover(parse_mapping(tomllib.loads(text), folder=folder, source=""))
    lines = list(describe_rows(list_frames(found)))
    turned = angle_range(found)
    if turned is not None:
        lines.append(
            f"{'angles':14} {turned[0]:g} to {turned[1]:g} degrees ({angle_source(found)}), "
            f"{found.last - found.first} projections"
        )
    left = [line.removeprefix("# ") for line in text.splitlines() if line.startswith(_LEFT)]
    return [*lines, *left], tuple(found.findings), [each for each in found.errors if each.code in _UNFIT]


def toml_text(value: Any) -> str:
    """Write a value as TOML."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(toml_text(item) for item in value)}]"
    return repr(value).lower() if isinstance(value, bool) else repr(value)


def _frame_items(folder: Path) -> tuple[list[_Item], list[KeyedStack], list[str]]:
    """Find files and datasets that may hold frames (without results), stacks with keys, unreadable files."""
    files: list[Path] = []
    for place, folders, names in os.walk(folder):
        depth = len(Path(place).relative_to(folder).parts)
        folders[:] = [] if depth >= _DEEPEST else [name for name in folders if not name.startswith(".")]
        files += [
            Path(place, name)
            for name in names
            if name.lower().endswith(FRAME_ENDINGS) and not name.startswith(".") and name.isprintable()
        ]
        if len(files) > _MOST_FILES:
            raise InputError(
                f"{folder} holds more than {_MOST_FILES} files of frames; expected those of one acquisition",
                code="value-invalid",
            )
    items: list[_Item] = []
    stacks: list[KeyedStack] = []
    broken: list[str] = []
    stored = {
        path: _datasets(path, broken) for path in natural_sort(files) if path.suffix.lower() in HDF5_ENDINGS
    }
    linked = {source: path for path, found in stored.items() for each in found for source in each.sources}
    twice: dict[Path, Path] = {}  # raw files of masters, which show the same frames
    for path in natural_sort(files):
        if path not in stored:
            items.append(_Item(path))
            continue
        for dataset in (each.path for each in stored[path]):
            master = linked.get((Path(os.path.realpath(path)), dataset), path)
            if master != path:
                twice[path] = master
                continue
            keyed = find_keyed(path, dataset)
            if keyed is None:
                items.append(_Item(path, dataset))
                continue
            stacks.append(keyed)
            items += [_Item(path, f"{dataset}[image_key={key}]", role) for key, role in keyed.roles.items()]
    for master in dict.fromkeys(twice.values()):
        raw = [path.name for path in twice if twice[path] == master]
        broken.append(f"{listed(raw, 3)}: {master.name} leads to the same frames")
    return items, stacks, broken


def _datasets(path: Path, broken: list[str]) -> list[ListedDataset]:
    """Return the datasets of an HDF5 file that may be frames; `broken` receives what cannot be read."""
    from xmist.io.frames.hdf5_reader import list_datasets

    try:
        found, wrong = list_datasets(path)
    except InputError as error:
        broken += error.messages
        return []
    broken += wrong
    return found


def _sort_by_role(items: Sequence[_Item], folder: Path) -> tuple[dict[str, list[_Item]], list[_Item]]:
    roles: dict[str, list[_Item]] = {}
    others: list[_Item] = []
    for item in items:
        # The nearest name decides: the dataset, then the file, then the folders around it.
        near = [item.dataset, item.path.stem, *reversed(item.path.parent.relative_to(folder).parts)]
        role = item.role or next((role for role in map(_role, near) if role), None)
        if role is None:
            others.append(item)
        else:
            roles.setdefault(role, []).append(item)
    if "reference" not in roles and "flat" in roles:
        roles["reference"] = roles.pop("flat")  # many call the frames without the sample flats
    return roles, others


def _role(name: str) -> str | None:
    words = [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)]
    if any(one in _ABSENT and two in _ROLES["sample"] for one, two in pairwise(words)):
        return "reference"
    return next((role for role, known in _ROLES.items() if known.intersection(words)), None)


def _spelled(items: Sequence[_Item], base: Path) -> list[str]:
    """Name items briefly: by a pattern if it finds exactly these, in the same order."""
    groups: dict[tuple[Path, str, str], list[_Item]] = {}
    for item in items:
        groups.setdefault((item.path.parent, item.path.suffix, item.dataset), []).append(item)
    names: list[str] = []
    for (folder, _, dataset), members in groups.items():
        short = _pattern([item.path.name for item in members], folder)
        for name in [short] if short else [item.path.name for item in members]:
            place = _relative(folder, base) / (name if short else glob.escape(name))
            names.append(place.as_posix() + (f"::{dataset}" if dataset else ""))
    return names


def _pattern(names: Sequence[str], folder: Path) -> str:
    if len(names) < 2:
        return ""
    before = _common_start(names)
    after = _common_start([name[len(before) :][::-1] for name in names])[::-1]
    before, after = before.rstrip("0123456789"), after.lstrip("0123456789")
    pattern = f"{glob.escape(before)}*{glob.escape(after)}"
    return pattern if {path.name for path in folder.glob(pattern)} == set(names) else ""


def _common_start(names: Sequence[str]) -> str:
    alike = takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))
    return "".join(letters[0] for letters in alike)


def _relative(folder: Path, base: Path) -> Path:
    try:
        return Path(os.path.relpath(folder, base))
    except ValueError:  # another drive, on Windows
        return folder.resolve()


def _opened(
    specs: Mapping[str, list[str]], base: Path, axes: Mapping[str, str] = MappingProxyType({})
) -> tuple[dict[str, FrameSeries], dict[str, str]]:
    """Open the items, with the axes of reference and sample; return errors for those that fail."""
    series, errors = {}, {}
    for role, spec in specs.items():
        stated = axes.get(f"{role}_axes")
        try:
            series[role] = open_frames(
                spec, name=f"input.{role}", folder=base, axes=tuple(stated.split(",")) if stated else None
            )
        except InputError as error:
            errors[role] = "; ".join(map(str, error.records))
    return series, errors


def _guessed_axes(
    specs: Mapping[str, list[str]], series: Mapping[str, FrameSeries], base: Path
) -> dict[str, str]:
    """Return the keys of axes that can be guessed; none if there is no need or no way to.

    Sample arrays of four axes are guessed if just one has the size of the references; frames along the last
    axis, if reference and sample can only be read as such.
    """
    reference, fitting = series.get("reference"), []
    if not {"reference", "sample"} & {*series} and {"reference", "sample"} <= {*specs}:
        last = {"sample_axes": "y,x,position", "reference_axes": "y,x,position"}
        both, _ = _opened({role: specs[role] for role in ("reference", "sample")}, base, last)
        same = {(len(each), each.shape) for each in both.values()}
        return last if len(both) == 2 and len(same) == 1 else {}
    if reference is None or "sample" in series or "sample" not in specs:
        return {}
    for axes in ("position,projection,y,x", "projection,position,y,x"):
        try:
            opened = open_frames(specs["sample"], name="", folder=base, axes=tuple(axes.split(",")))
        except InputError:
            return {}
        sizes = dict(zip(axes.split(","), opened.sources[0].sizes, strict=False))
        if len(opened.sources) == 1 and sizes.get("position") == len(reference):
            fitting.append(axes)
    return {"sample_axes": fitting[0]} if len(fitting) == 1 else {}


def _input_lines(
    specs: Mapping[str, list[str]],
    series: Mapping[str, FrameSeries],
    errors: Mapping[str, str],
    others: Sequence[str],
    stacks: Sequence[KeyedStack],
    plan: SeriesLayout | None,
) -> list[str]:
    lines = ["[input]"]
    if any("[image_key=" not in name for spec in specs.values() for name in spec) or not specs:
        lines.append("# Guessed from the names.")
    if stacks:
        lines += _comment(
            f"image_key in {listed([stack.path.name for stack in stacks], 2)} tells the frames apart: 0 with "
            "the sample, 1 without it, 2 dark; those marked as invalid (3) are left out. Was the diffuser in "
            "the beam when those without the sample were taken?"
        )
    for role in ("reference", "sample", "dark", "flat"):
        if role in specs:
            spec = specs[role]
            if role in series:
                frames = series[role]
                y, x = frames.shape
                lines.append(f"# {len(frames)} frame{'s' * (len(frames) > 1)} of {y} × {x} pixels (y × x)")
            if role in errors:
                lines.append(f"# Cannot be used as it is: {' '.join(errors[role].split())}")
            lines.append(f"{role} = {toml_text(spec[0] if len(spec) == 1 else spec)}")
        elif role in ("reference", "sample"):
            lines += _fill_in("input", role, "")
    if others:
        lines.append(f"# Not used, for their names do not tell their part: {listed(others, 20)}")
    if plan is not None:
        lines += _comment(
            f"By image_key and angles: {plan.projections} projections at {plan.positions} "
            f"position{'s' * (plan.positions > 1)} of the diffuser, {plan.text}"
        )
        lines.append(f"sample_axes = {toml_text(plan.sample_axes)}")
        lines.append(f"reference_axes = {toml_text(plan.reference_axes)}")
    lines += [
        "# Frames of each position of the diffuser, one after the other; they are averaged.",
        "repeats = 1",
    ]
    return lines


def _experiment_lines(series: FrameSeries | None, given: Mapping[str, float]) -> list[str]:
    offers = [] if series is None else list(offer_geometry(series.sources[0]))
    lines = ["[experiment]"]
    for name in _GEOMETRY:
        found = [offer for offer in offers if offer.name == name]
        if name in given:
            lines += [*_comment("Given to xmist init."), f"{name} = {toml_text(float(given[name]))}"]
            continue
        for offer in found:
            lines += _comment(f"{offer.source}{f': {offer.note}' if offer.note else ''}")
            lines.append(f"{'# ' * (len(found) > 1)}{name} = {toml_text(float(f'{offer.value:.9g}'))}")
        if len(found) > 1:
            lines.append(f"# FILL IN: take one of these for {name}")
        elif not found and name == "source_to_sample":
            lines += ["# For a cone beam, the distance from the source to the sample:", f"# {name} ="]
        elif not found:
            lines += _fill_in("experiment", name, "")
    return lines


def _drift(series: Mapping[str, FrameSeries]) -> float | None:
    """Return the pixels by which bare beam moved between the first reference and sample frame, if it did."""
    if "reference" not in series or "sample" not in series:
        return None
    try:
        one, other = (load_frames(series[role], groups=[[0]]).frames for role in ("reference", "sample"))
        frames = apply_steps(Frames(one, other), [("bad-pixels", {}), ("unlit", {})])
        return drift_of_pair(frames.reference, frames.sample, frames.weights)
    except XmistError:  # whatever is wrong with the frames is reported where they are used
        return None


def _preprocess_lines(specs: Mapping[str, object], series: Mapping[str, FrameSeries]) -> list[str]:
    from xmist.preprocess import STEPS

    lines = ["# Steps in order, each with its options; there are:"]
    for name, step in STEPS.items():
        lines += _comment(f"{name}: {step.summary}", "#   ")
    for name in ("dark", "flat", "bad-pixels", "unlit"):
        if name in specs or name not in ("dark", "flat"):
            lines += ["[[preprocess]]", f"step = {toml_text(name)}", ""]
    drift = _drift(series)
    if drift is not None:
        lines += _comment(
            f"Speckles of bare beam moved by {drift:.2g} pixels between the first reference and sample frame."
        )
        lines += ["[[preprocess]]", 'step = "drift"', ""]
    beam = monitor_text(series["reference"], series["sample"]) if {"reference", "sample"} <= {*series} else ""
    if beam:
        lines += [*_comment(beam), "[[preprocess]]", 'step = "flux"', 'source = "monitor"', ""]
    return lines[:-1]


def _retrieve_lines(number: int, method: str | None) -> list[str]:
    lines = ["[retrieve]", "# Methods, see also: xmist methods"]
    for entry in METHODS.values():
        lines += _comment(f"{entry.name} (N >= {entry.minimum_positions}): {entry.summary}", "#   ")
    fitting = [name for name, entry in METHODS.items() if entry.minimum_positions <= number]
    lines.append(f"method = {toml_text(method or next(iter(fitting or METHODS)))}")
    return [*lines, "", "# Options of the method, such as smoothing = 2.0", "[options]"]


def _series_lines(plan: SeriesLayout, base: Path) -> list[str]:
    lines = ["[series]"]
    if plan.angles is not None:
        places = [(_relative(path.parent, base) / path.name).as_posix() for path in plan.paths]
        names = [f"{place}::{plan.angles}[image_key=0]" for place in dict.fromkeys(places)]
        lines.append(f"angles = {toml_text(names[0] if len(names) == 1 else names)}")
    if plan.reference_at:
        lines.append("# How many projections came before each set of references")
        lines.append(f"reference_at = {toml_text(plan.reference_at)}")
    else:
        lines += [
            "# FILL IN: how many projections came before each set of references",
            "# reference_at = [0]",
        ]
    if plan.reference_repeats is not None:
        lines.append(f"reference_repeats = {plan.reference_repeats}  # frames of each position in a set")
    else:
        lines.append("# The positions have other numbers of references: all of a position are averaged.")
    return [*lines, ""]


def _fill_in(section: str, key: str, value: str) -> list[str]:
    return [*_comment(f"FILL IN: {expected_value(section, key)}"), f"# {key} = {value}".rstrip()]


def _comment(text: str, mark: str = "# ") -> list[str]:
    return textwrap.wrap(
        " ".join(text.split()), 100, initial_indent=mark, subsequent_indent="#".ljust(len(mark))
    )


# The part of a frame by its image key; the third kind, invalid, has none.
KEY_ROLES: Final = {0: "sample", 1: "reference", 2: "dark"}


@dataclass(frozen=True, eq=False)
class KeyedStack:
    """A stack whose frames have keys."""

    path: Path
    keys: NDArray[np.int64]
    angles: tuple[str, NDArray[np.float64]] | None

    @property
    def turned(self) -> NDArray[np.float64] | None:
        """The angles of the sample frames."""
        return None if self.angles is None else self.angles[1][self.keys == 0]

    @property
    def roles(self) -> dict[int, str]:
        """The uses (reference, sample, dark) of which the stack has frames, by key."""
        return {key: role for key, role in KEY_ROLES.items() if (self.keys == key).any()}


@dataclass(frozen=True, kw_only=True)
class SeriesLayout:
    """The keys of a configuration about a series: axes, angles, and when references were taken.

    `angles` are datasets of `first` or, for a series in several stacks, of all `paths`. `reference_repeats`
    is None where the positions have other numbers of repeats. `text` says how the frames were distinguished.
    """

    positions: int
    projections: int
    sample_axes: str
    reference_axes: str | None
    paths: tuple[Path, ...]
    angles: str | None
    reference_at: tuple[int, ...]
    reference_repeats: int | None
    text: str


def find_keyed(path: Path, dataset: str) -> KeyedStack | None:
    """Return a stack that holds frames of several kinds."""
    from xmist.io.frames.hdf5_columns import describe_key

    found = describe_key(path, dataset)
    if found is None or len(set(found[0].tolist())) < 2:
        return None
    return KeyedStack(path, *found)


def plan_series(stacks: Sequence[KeyedStack]) -> SeriesLayout | None:
    """Return how many projections at how many positions are in stacks, and where the references are.

    Several stacks of the same angles are taken as one per position, of other angles as parts of a series. In
    one stack frames of the same angle are taken as its positions, and angles that come again as those of the
    next position.
    """
    stacks = [stack for stack in stacks if (stack.keys == 0).any()]
    if not stacks:
        return None
    turned = [stack.turned for stack in stacks]
    known = all(angles is not None for angles in turned)
    counts = {int(np.count_nonzero(stack.keys == 0)) for stack in stacks}
    if len(stacks) > 1 and len(counts) == 1 and (not known or _same_angles(turned)):
        return _plan_stacks(stacks, counts.pop())
    if len(stacks) > 1 and not known:
        return None
    keys = np.concatenate([stack.keys for stack in stacks])
    angles = np.concatenate([found for found in turned if found is not None]) if known else None
    return _plan_stack(stacks, keys, angles)


def _same_angles(turned: Sequence[NDArray[np.float64] | None]) -> bool:
    first = turned[0]
    assert first is not None
    width = _angle_width(first)
    ordered = np.sort(first)  # the stage may turn to and fro
    return all(
        angles is not None
        and angles.size == first.size
        and bool((np.abs(np.sort(angles) - ordered) <= width).all())
        for angles in turned
    )


def _angle_width(angles: NDArray[np.float64]) -> float:
    """Return by how much angles of the same projection may differ."""
    part = min(_SAME_ANGLE, _SAME_STEP / max(angles.size - 1, 1))
    return part * max(float(np.ptp(angles)), 1e-9)


def _plan_stacks(stacks: Sequence[KeyedStack], projections: int) -> SeriesLayout | None:
    """Plan a series of a stack for each position."""
    if projections == 1:
        return None
    first = stacks[0]
    if first.angles is None and projections <= np.count_nonzero(first.keys == 1):
        return None
    runs = [_reference_runs(stack.keys) for stack in stacks]
    times = tuple(before for before, _ in runs[0])
    consistent = all(tuple(before for before, _ in found) == times for found in runs)
    sizes = {size for found in runs for _, size in found}
    return SeriesLayout(
        positions=len(stacks),
        projections=projections,
        sample_axes="position,projection,y,x",
        reference_axes="position,set,repeat,y,x",
        paths=(first.path,),
        angles=None if first.angles is None else first.angles[0],
        reference_at=times if consistent else (),
        reference_repeats=sizes.pop() if len(sizes) == 1 else None,
        text="a stack a position",
    )


def _plan_stack(
    stacks: Sequence[KeyedStack], keys: NDArray[np.int64], angles: NDArray[np.float64] | None
) -> SeriesLayout | None:
    """Plan a series in one stack, or in stacks one after the other."""
    frames = int(np.count_nonzero(keys == 0))
    runs = _reference_runs(keys)
    together, blocks = 1, 1
    if angles is not None:
        width = _angle_width(angles)
        starts = np.flatnonzero(np.abs(np.diff(angles, prepend=np.inf)) > width)
        lengths = set(np.diff([*starts, frames]).tolist())
        together = lengths.pop() if len(lengths) == 1 else 1
        size = 1 + int(np.count_nonzero(np.diff(np.sort(angles)) > width))  # different angles
        if together == 1 and frames % size == 0:
            parts = np.sort(angles.reshape(-1, size), axis=1)  # forwards or backwards
            blocks = len(parts) if bool((np.abs(parts - parts[0]) <= width).all()) else 1
    projections = frames // (together * blocks)
    if projections == 1 or (angles is None and frames <= np.count_nonzero(keys == 1)):
        return None
    if blocks > 1:  # a position after the other: each may have references
        times = sorted({before % projections for before, _ in runs if before < frames} - {0})
        own = len(runs) == blocks * (len(times) + 1)
        consistent = own or [before for before, _ in runs] == [0]
        times = [0, *times] if own else [0]
        sizes = {size if own else size // blocks for _, size in runs}
        axes = "position,set,repeat,y,x" if own else "set,position,repeat,y,x"
        order, text = "position,projection,y,x", "the angles come again at each position"
    else:
        # Between the positions of a projection there may be references too.
        sums: dict[int, int] = {}
        for before, size in runs:
            sums[before // together] = sums.get(before // together, 0) + size
        times, sizes = list(sums), set(sums.values())
        consistent = not any(size % together for size in sizes)
        sizes = {size // together for size in sizes}
        axes, order = "set,position,repeat,y,x", "projection,position,y,x"
        text = "the positions of a projection one after the other"
    if len(stacks) > 1:
        text += f", in {len(stacks)} stacks"
    consistent = consistent and len(sizes) == 1
    return SeriesLayout(
        positions=together * blocks,
        projections=projections,
        sample_axes=order,
        reference_axes=axes,
        paths=tuple(stack.path for stack in stacks),
        angles=None if stacks[0].angles is None else stacks[0].angles[0],
        reference_at=tuple(times) if consistent else (),
        reference_repeats=sizes.pop() if consistent else None,
        text=text,
    )


def _reference_runs(keys: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Return for references that follow each other how many sample frames came before, and their number."""
    before, runs = 0, []
    for key, run in groupby(keys[(keys == 0) | (keys == 1)].tolist()):
        size = len(list(run))
        if key == 1:
            runs.append((before, size))
        else:
            before += size
    return runs
