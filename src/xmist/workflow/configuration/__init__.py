"""Scan files: what to read, the experiment, the method with its options, and what to write, as TOML."""

from __future__ import annotations

import dataclasses
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from xmist.core.errors import InputError, suggest
from xmist.core.experiment import Experiment
from xmist.io import RESULT_ENDINGS, ending_error
from xmist.methods import METHODS, find_method
from xmist.workflow.configuration.draft import Draft, ScanFile
from xmist.workflow.configuration.materials import look_up_materials
from xmist.workflow.configuration.proposal import propose_scan, toml_text
from xmist.workflow.configuration.schema import (
    CompareSection,
    Faults,
    InputSection,
    OutputSection,
    StepSection,
    check_sections,
    step_path,
)

__all__ = ["Draft", "ScanFile", "draft_scan", "make_draft", "propose_scan", "read_scan", "toml_text"]

# A scan file is text that people write; what is larger was given by mistake.
_LARGEST: Final = 2**20

# Valid stand-ins: what is given is checked even where another value is missing.
_STAND_INS: Final = {"energy_kev": 17.0, "pixel_size": 1e-6, "sample_to_detector": 1.0}


def read_scan(path: str | Path) -> ScanFile:
    """Read a scan file.

    Parameters
    ----------
    path : str or Path
        The TOML file.

    Returns
    -------
    ScanFile
        Without a fault.

    Raises
    ------
    InputError
        Lists all faults, each with the path of its key: what was found and what would be right.

    Notes
    -----
    The file is read as data: it can name files to read and files to write, and the latter only inside its own
    folder.

    Examples
    --------
    >>> read_scan("scan.toml").method  # doctest: +SKIP
    'mist'
    """
    return draft_scan(path).finish()


def draft_scan(
    path: str | Path,
    changes: Mapping[str, Any] | None = None,
    *,
    called: Mapping[str, str] | None = None,
) -> Draft:
    """Read a scan file with whatever is wrong with it.

    Parameters
    ----------
    path : str or Path
        The TOML file.
    changes : mapping, optional
        Sections with keys that take the place of the file's. Their files to write may be anywhere.
    called : mapping, optional
        Other names of keys for messages, by path: a command line says "--energy-kev" for
        "experiment.energy_kev".

    Returns
    -------
    Draft
        What could be read, and the faults.

    Raises
    ------
    InputError
        If the file is missing or is not TOML.

    Examples
    --------
    >>> draft_scan("scan.toml").faults  # doctest: +SKIP
    ()
    """
    path, changes = Path(path), changes or {}
    data = _read_toml(path)
    for name, section in changes.items():
        given = data.get(name, {})
        mixable = isinstance(section, Mapping) and isinstance(given, Mapping)
        data[name] = {**given, **section} if mixable else section
    return make_draft(
        data,
        folder=path.parent,
        source=str(path),
        confined="files" not in changes.get("output", {}),
        called=called,
    )


def make_draft(
    data: Mapping[str, Any],
    *,
    folder: str | Path,
    source: str,
    confined: bool = True,
    called: Mapping[str, str] | None = None,
) -> Draft:
    """Check what a scan file states.

    Parameters
    ----------
    data : mapping
        The sections, as plain data.
    folder : str or Path
        Names of files are relative to this folder.
    source : str
        Where the data comes from, for messages.
    confined : bool
        Whether the files to write must stay inside the folder.
    called : mapping, optional
        Other names of keys for messages, by path ("experiment.energy_kev").

    Returns
    -------
    Draft
        What could be read, and the faults.

    Examples
    --------
    >>> draft = make_draft({"retrieve": {"method": "misst"}}, folder=".", source="example")
    >>> draft.faults[-1]
    "retrieve.method is 'misst'; did you mean 'mist'? Known: ..."
    """
    sections, faults = check_sections(data)
    frames, output = sections["input"], sections["output"]
    experiment = _experiment(data.get("experiment"), faults)
    steps = _steps(sections["preprocess"], frames, faults)
    method, options = _method(sections["retrieve"].method, sections["options"], experiment, faults)
    files = _files(output, Path(folder), confined, faults)
    compare = _compared(sections["compare"], experiment, faults)
    wrong = {path.partition(".")[0] for path, _ in faults}
    return Draft(
        source=source,
        folder=Path(folder),
        problems=tuple(faults),
        called=called or {},
        input=frames,
        experiment=None if "experiment" in wrong else experiment,
        preprocess=steps,
        method=method,
        options=options,
        threads=sections["retrieve"].threads,
        files=files,
        overwrite=output.overwrite,
        scan=sections["scan"],
        compare=compare,
        regions=sections["regions"],
    )


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        if path.is_dir():
            raise InputError(f"{path} is a folder; expected a scan file (xmist init {path} writes one)")
        if not path.is_file():
            kind = "is not a regular file" if path.exists() else "does not exist"
            raise InputError(f"{path} {kind}; expected a scan file (xmist init FOLDER writes one)")
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} cannot be read ({getattr(error, 'strerror', None) or error})") from error
    if len(content) > _LARGEST:
        raise InputError(f"{path} is larger than a scan file can be; expected TOML text of 1 MiB at most")
    try:
        return tomllib.loads(content.decode("utf-8-sig"))  # editors on Windows add a mark at the beginning
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not text in UTF-8; expected a scan file in TOML") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError(f"{path} is not TOML ({error}); expected lines such as: key = 1.0") from error


def _experiment(values: Any, faults: Faults) -> Experiment | None:
    """Give the experiment; the values that are given are checked even where others are missing."""
    given = values if isinstance(values, Mapping) else {}
    names = [item.name for item in dataclasses.fields(Experiment)]
    try:
        return Experiment(**{**_STAND_INS, **{name: given[name] for name in names if name in given}})
    except InputError as error:
        for fault in error.faults:
            name, text = fault.split(" ", 1)
            faults.append((f"experiment.{name}", text))
    return None


def _method(
    method: str | None, options: Mapping[str, Any], experiment: Experiment | None, faults: Faults
) -> tuple[str | None, dict[str, Any] | None]:
    """Check method and options by the method's own rules."""
    if method is None:
        return None, None
    try:
        entry = find_method(method)
    except InputError:
        faults.append(("retrieve.method", f"is '{method}'; {suggest(method, METHODS)}"))
        return None, None
    before = len(faults)
    options = look_up_materials("options", options, experiment, faults)
    given = {name: plain(value) for name, value in options.items()}
    kind = import_module(entry.module).OPTIONS
    _check("options", method, kind, given, faults)
    return method, given if len(faults) == before else None


def _compared(
    section: CompareSection | None, experiment: Experiment | None, faults: Faults
) -> CompareSection | None:
    """Check the methods of a comparison and their options; a missing δ/β is a reason there, no fault."""
    if section is None:
        return None
    names = section.methods or ()
    for name in dict.fromkeys(names):
        if name not in METHODS:
            faults.append(("compare.methods", f"names '{name}'; {suggest(name, METHODS)}"))
        elif names.count(name) > 1:
            faults.append(("compare.methods", f"names {name} more than once; expected it once"))
    options = {
        name: look_up_materials(f"compare.options.{name}", values, experiment, faults)
        for name, values in section.options.items()
    }
    for name, values in options.items():
        path = f"compare.options.{name}"
        if name not in METHODS:
            faults.append((path, f"is not a method; {suggest(name, METHODS)}"))
            continue
        given = {key: plain(value) for key, value in values.items()}
        if METHODS[name].delta_over_beta == "required":
            given.setdefault("delta_over_beta", 1.0)
        _check(path, name, import_module(METHODS[name].module).OPTIONS, given, faults)
    return section.model_copy(update={"options": options})


def _check(path: str, owner: str, kind: Any, given: Mapping[str, Any], faults: Faults) -> bool:
    """Check options by their frozen dataclass: names first, then the values of those that are known."""
    before = len(faults)
    known = [item.name for item in dataclasses.fields(kind)]
    for name in given:
        if name not in known:
            others = _owners(name) if owner in METHODS else []
            told = f"; {', '.join(others)} {'have' if len(others) > 1 else 'has'} it" if others else ""
            faults.append((f"{path}.{name}", f"is not an option of {owner}{told}; {suggest(name, known)}"))
    missing = [
        item.name
        for item in dataclasses.fields(kind)
        if item.name not in given
        and item.default is dataclasses.MISSING
        and item.default_factory is dataclasses.MISSING
    ]
    faults += [(f"{path}.{name}", f"is missing; {owner} needs it") for name in missing]
    if missing:
        return False
    try:
        kind(**{name: value for name, value in given.items() if name in known})
    except InputError as error:
        for fault in error.faults:
            # "option smoothing is ..." has the path of its key, others are about several.
            found = re.fullmatch(r"option (\w+) (.*)", fault, re.DOTALL)
            faults.append((f"{path}.{found[1]}", found[2]) if found else (path, f": {fault}"))
    return len(faults) == before


def _owners(option: str) -> list[str]:
    """Give the methods that have an option."""
    kinds = {name: import_module(entry.module).OPTIONS for name, entry in METHODS.items()}
    return [
        name for name, kind in kinds.items() if option in (item.name for item in dataclasses.fields(kind))
    ]


def _steps(
    sections: Sequence[StepSection | None], frames: InputSection, faults: Faults
) -> tuple[tuple[str, Mapping[str, Any]], ...] | None:
    """Check the steps by their own rules, and that they have the frames that they need."""
    from xmist.preprocess import STEPS

    before = len(faults)
    steps = []
    for index, section in enumerate(sections):
        if section is None:
            continue
        path, name = step_path(index), section.step
        options = {key: plain(value) for key, value in (section.model_extra or {}).items()}
        if name not in STEPS:
            faults.append((f"{path}.step", f"is '{name}'; {suggest(name, STEPS)}"))
            continue
        _check(path, f"the step '{name}'", STEPS[name].options, options, faults)
        steps.append((name, options))
    names = [name for name, _ in steps]
    if "dark" in names and "flat" in names and names.index("flat") < names.index("dark"):
        faults.append(("preprocess", "has flat before dark; expected dark before flat"))
    for kind in ("dark", "flat"):
        given = getattr(frames, kind) is not None
        # A step whose name is wrong may be the one that uses it.
        if given and kind not in names and len(steps) == len(sections):
            faults.append(
                (
                    f"input.{kind}",
                    f'is given, but no step of the preprocessing uses it; add [[preprocess]] step = "{kind}" '
                    f"(or --step {kind})",
                )
            )
        if names.count(kind) > 1:
            faults.append(("preprocess", f"has the step '{kind}' more than once; expected it once"))
        if kind in names and not given:
            faults.append((f"input.{kind}", f"is missing; the step '{kind}' needs these frames"))
    return None if None in sections or len(faults) > before else tuple(steps)


def plain(value: Any) -> Any:
    """Give lists, as TOML has them, as the tuples that options are made of.

    Parameters
    ----------
    value : object
        A value of TOML.

    Examples
    --------
    >>> plain([1, [2, 3]])
    (1, (2, 3))
    """
    return tuple(plain(item) for item in value) if isinstance(value, list) else value


def _files(output: OutputSection, folder: Path, confined: bool, faults: Faults) -> tuple[Path, ...]:
    """Give the files to write that have no fault in themselves."""
    files: list[Path] = []
    for name in output.files or ():
        path = folder / name
        if path in files:
            faults.append(("output.files", f"names {name} more than once"))
        elif path.suffix.lower() not in RESULT_ENDINGS:
            faults.append(("output.files", f": {ending_error(name)}"))
        elif confined and not _is_inside(path, folder):
            faults.append(
                (
                    "output.files",
                    f"leads to {name}, outside the scan file's folder; expected a name inside it "
                    "(the option -o may write elsewhere)",
                )
            )
        else:
            files.append(path)
    return tuple(files)


def _is_inside(path: Path, folder: Path) -> bool:
    try:
        return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))
    except (OSError, ValueError):  # a name that no file system takes
        return False
