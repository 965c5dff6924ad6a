"""Configuration files in TOML: what to read, the experiment, the method with its options, what to write."""

from __future__ import annotations

import dataclasses
import os
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from xmist.core.data import CHANNELS
from xmist.core.errors import ErrorRecord, InputError, decimal_comma, raise_errors, shown, suggest
from xmist.core.experiment import Experiment
from xmist.core.findings import Finding, finding
from xmist.core.options import Options, read_options
from xmist.io import NEXUS_ENDINGS, RESULT_ENDINGS, ending_error
from xmist.io.frames.axes import Axes
from xmist.methods import METHODS
from xmist.workflow.schema import (
    CompareSection,
    ConfigurationError,
    InputSection,
    OutputSection,
    Problems,
    RegionsSection,
    SeriesSection,
    TomographySection,
    check_sections,
    step_path,
)

# A larger file is not a configuration.
_LARGEST: Final = 2**20

# Valid stand-ins: what is given is checked even where another value is missing.
_STAND_INS: Final = {"energy_kev": 17.0, "pixel_size": 1e-6, "sample_to_detector": 1.0}

Steps = tuple[tuple[str, Mapping[str, Any]], ...]


@dataclass(frozen=True, kw_only=True)
class ParsedConfiguration:
    """A configuration with its errors; parts that have one are None.

    `called` holds other names of keys by path: a command line says "--energy-kev". `general_options` is the
    table [options], `method_options` its tables by method; `options` are those of the chosen method.
    """

    source: str
    folder: Path
    problems: tuple[ConfigurationError, ...]
    called: Mapping[str, str]
    input: InputSection
    experiment: Experiment | None
    preprocess: Steps | None
    method: str | None
    options: Mapping[str, Any] | None
    general_options: Mapping[str, Any]
    method_options: Mapping[str, Mapping[str, Any]]
    findings: tuple[Finding, ...]
    threads: int | None
    files: tuple[Path, ...]
    overwrite: bool
    series: SeriesSection | None
    compare: CompareSection | None
    regions: RegionsSection | None
    tomography: TomographySection | None

    @property
    def is_series(self) -> bool:
        """Whether it describes a series: by a table [series], {projection} in a name, or an axis."""
        named = any("{projection}" in name for name in self.input.sample or ())
        return self.series is not None or named or "projection" in (self.input.sample_axes or ())

    @property
    def reference_axes(self) -> Axes | None:
        """The axes of the references; as those of the sample where nothing else is stated."""
        axes = self.input.reference_axes
        if axes is None and self.input.sample_axes is not None:
            axes = tuple("set" if axis == "projection" else axis for axis in self.input.sample_axes)
        return axes

    @property
    def series_section(self) -> SeriesSection:
        """The table [series], or its defaults."""
        return self.series or SeriesSection()

    @property
    def messages(self) -> tuple[str, ...]:
        """A sentence for each error, with the path of its key."""
        return tuple(str(record) for record in self.errors())

    def errors(self, hints: Mapping[str, str] | None = None) -> list[ErrorRecord]:
        """Return the errors with the paths of their keys, and with the hints that there are by path."""
        found = []
        for path, text, code in self.problems:
            hint = f"; {hints[path]}" if hints and path in hints else ""
            space = "" if text.startswith(":") else " "
            found.append(ErrorRecord(code, f"{self.name_of(path)}{space}{text}{hint}"))
        return found

    def name_of(self, path: str) -> str:
        """Return how messages call a key: its path, or the option of the command line that gave it."""
        return self.called.get(path, path)

    def named(self, records: Iterable[ErrorRecord]) -> list[ErrorRecord]:
        """Return errors with the file's name before each, unless they are about an option."""
        return [
            ErrorRecord(record.code, f"{self.source}: {record.message}")
            if self.source and not record.message.startswith(("--", f"{self.source}:"))
            else record
            for record in records
        ]

    def finish(self) -> Configuration:
        """Return the configuration, or raise all its errors."""
        raise_errors(self.named(self.errors()))
        return Configuration(**{item.name: getattr(self, item.name) for item in dataclasses.fields(self)})

    def options_of(self, method: str) -> dict[str, Any]:
        """Return the options of a method from [options] and [options.METHOD]; see `combine_options`."""
        return combine_options(method, self.general_options, self.method_options)

    def to_dict(self) -> dict[str, Any]:
        """Return everything that the results depend on, as plain data."""
        assert self.experiment is not None  # only asked of what has no error
        stated: dict[str, Any] = {
            "input": _stated(self.input),
            "experiment": self.experiment.to_dict(),
            "preprocess": [{"step": name, **options} for name, options in self.preprocess or ()],
            "retrieve": {"method": self.method},
            "options": dict(self.options or {}),
        }
        if self.is_series:
            # How many projections share a file changes no result.
            stated["series"] = _stated(dataclasses.replace(self.series_section, block=None))
        return stated


@dataclass(frozen=True, kw_only=True)
class Configuration(ParsedConfiguration):
    """A configuration without an error."""

    experiment: Experiment
    preprocess: Steps
    method: str
    options: Mapping[str, Any]


def read_configuration(path: str | Path) -> Configuration:
    """Read a configuration file.

    Parameters
    ----------
    path : str or Path
        The TOML file.

    Returns
    -------
    Configuration
        Checked.

    Raises
    ------
    InputError
        Lists all errors, each with the path of its key: what was found and what is expected.

    Notes
    -----
    The file is data: it can name files to read and files to write, and the latter only inside its own folder.

    Examples
    --------
    >>> read_configuration("config.toml").method  # doctest: +SKIP
    'mist'
    """
    return parse_configuration(path).finish()


def parse_configuration(
    path: str | Path,
    overrides: Mapping[str, Any] | None = None,
    *,
    called: Mapping[str, str] | None = None,
) -> ParsedConfiguration:
    """Read a configuration with its errors; `overrides` are sections with keys that replace the file's.

    Files to write that are given by overrides may be anywhere. Raises an `InputError` where the file is
    missing or is not TOML.
    """
    path, overrides = Path(path), overrides or {}
    data = read_toml(path)
    for name, section in overrides.items():
        given = data.get(name, {})
        mixable = isinstance(section, Mapping) and isinstance(given, Mapping)
        data[name] = {**given, **section} if mixable else section
    if isinstance(overrides.get("options"), Mapping) and isinstance(data["options"], Mapping):
        # What is given here comes before the file's [options.METHOD].
        data["options"] = {
            name: {key: item for key, item in value.items() if key not in overrides["options"]}
            if name in METHODS and isinstance(value, Mapping)
            else value
            for name, value in data["options"].items()
        }
    return parse_mapping(
        data,
        folder=path.parent,
        source=str(path),
        confined="files" not in overrides.get("output", {}),
        called=called,
    )


def parse_mapping(
    data: Mapping[str, Any],
    *,
    folder: str | Path,
    source: str,
    confined: bool = True,
    called: Mapping[str, str] | None = None,
) -> ParsedConfiguration:
    """Check sections given as plain data; files to write must be inside the folder where `confined`.

    Examples
    --------
    >>> parsed = parse_mapping({"retrieve": {"method": "misst"}}, folder=".", source="example")
    >>> parsed.problems[-1].path, parsed.problems[-1].code
    ('retrieve.method', 'method-unknown')
    """
    sections, problems = check_sections(data)
    output, folder = sections["output"], Path(folder)
    experiment = _experiment(data.get("experiment"), problems)
    steps = _steps(sections["preprocess"], sections["input"], problems)
    method = sections["retrieve"].method
    if method is not None and method not in METHODS:
        text = f"is '{method}'; {suggest(method, METHODS)}"
        problems.add("retrieve.method", text, "method-unknown")
        method = None
    general, tables = _split_options(sections["options"], experiment, problems)
    options, findings = _options(method, general, tables, problems)
    _check_series(sections["series"], method, problems)
    _check_compared(sections["compare"], problems)
    files = _files(output, folder, confined, problems)
    _check_tomography(sections, folder, confined, problems)
    return ParsedConfiguration(
        **{name: sections[name] for name in ("input", "series", "compare", "regions", "tomography")},
        source=source,
        folder=folder,
        problems=tuple(problems),
        called=called or {},
        experiment=None if any(path.startswith("experiment") for path, *_ in problems) else experiment,
        preprocess=steps,
        method=method,
        options=options,
        general_options=general,
        method_options=tables,
        findings=tuple(findings),
        threads=sections["retrieve"].threads,
        files=files,
        overwrite=output.overwrite,
    )


def _stated(section: Options) -> dict[str, Any]:
    """Return what a table states, as plain data."""
    return {name: value for name, value in section.plain().items() if value is not None}


def combine_options(
    method: str, general: Mapping[str, Any], tables: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Return the options of a method: those of [options] that it has, then those of its own table."""
    known = _option_names(method)
    return {**{name: value for name, value in general.items() if name in known}, **tables.get(method, {})}


def plain(value: Any) -> Any:
    """Return lists, as TOML has them, as the tuples that options are made of.

    Examples
    --------
    >>> plain([1, [2, 3]])
    (1, (2, 3))
    """
    return tuple(plain(item) for item in value) if isinstance(value, list) else value


def read_toml(path: Path, _including: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Read the tables of a configuration file, unchecked, over those of the file that it includes."""
    data = _read_one(path)
    if "include" not in data:
        return data
    name, chain = data.pop("include"), (*_including, path.resolve())
    if not isinstance(name, str) or not name:
        text = f"{path}: include is {shown(name)}; expected the name of a configuration file"
        raise InputError(text, code="value-invalid")
    base = path.parent / name
    if base.resolve() in chain:
        names = " → ".join(str(link.name) for link in (*chain, base))
        text = f"{path} includes itself ({names}); remove one include"
        raise InputError(text, code="configuration-unreadable")
    return _merged(read_toml(base, chain), data)


def _merged(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return tables merged; any other value in `own` replaces that in `base`."""
    return {**base} | {
        name: _merged(base[name], value)
        if isinstance(value, Mapping) and isinstance(base.get(name), Mapping)
        else value
        for name, value in own.items()
    }


def _read_one(path: Path) -> dict[str, Any]:
    """Read the tables of one file."""
    try:
        if path.is_dir():
            text = f"{path} is a folder; expected a configuration file (xmist init {path} writes one)"
            raise InputError(text, code="configuration-unreadable")
        if not path.is_file():
            kind = "is not a regular file" if path.exists() else "does not exist"
            text = f"{path} {kind}; expected a configuration file (xmist init FOLDER writes one)"
            raise InputError(text, code="file-missing")
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise ValueError("it is larger than 1 MiB")
        return tomllib.loads(content.decode("utf-8-sig"))  # editors on Windows add a mark at the beginning
    except InputError:
        raise
    except UnicodeDecodeError as error:
        text = f"{path} is not text in UTF-8; expected a configuration file in TOML"
        raise InputError(text, code="configuration-unreadable") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        text = f"{path} is not TOML ({error}); expected {_comma_hint(content) or 'lines such as: key = 1.0'}"
        raise InputError(text, code="configuration-unreadable") from error
    except (OSError, ValueError) as error:
        text = f"{path} cannot be read ({getattr(error, 'strerror', None) or error})"
        raise InputError(f"{text}; expected a configuration file", code="configuration-unreadable") from error


def _comma_hint(content: bytes) -> str:
    """Return the correction of the first line with a decimal comma; empty if there is none."""
    for number, line in enumerate(content.decode("utf-8-sig").splitlines(), 1):
        _, _, value = line.partition("#")[0].partition("=")
        if point := decimal_comma(value):
            return f"a decimal point in line {number}: {point}, not {value.strip()}"
    return ""


def _experiment(values: Any, problems: Problems) -> Experiment | None:
    """Return the experiment; the values that are given are checked even where others are missing."""
    given = values if isinstance(values, Mapping) else {}
    names = [item.name for item in dataclasses.fields(Experiment)]
    try:
        return Experiment(**{**_STAND_INS, **{name: given[name] for name in names if name in given}})
    except InputError as error:
        for record in error.records:
            name, text = record.message.split(" ", 1)
            problems.add(f"experiment.{name}", text)
    return None


def _option_names(method: str) -> list[str]:
    return [option.name for option in METHODS[method].options]


def _split_options(
    options: Mapping[str, Any], experiment: Experiment | None, problems: Problems
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Separate [options] from the tables [options.METHOD]; materials become numbers, lists tuples."""
    tables = {
        name: value for name, value in options.items() if name in METHODS and isinstance(value, Mapping)
    }
    general = {name: value for name, value in options.items() if name not in tables}
    return (
        _looked_up("options", general, experiment, problems),
        {name: _looked_up(f"options.{name}", table, experiment, problems) for name, table in tables.items()},
    )


def _options(
    method: str | None,
    general: Mapping[str, Any],
    tables: Mapping[str, Mapping[str, Any]],
    problems: Problems,
) -> tuple[dict[str, Any] | None, list[Finding]]:
    """Check all options; return those of the method, and findings on those that are ignored."""
    findings: list[Finding] = []
    before = len(problems)
    for name in general:
        owners = [other for other in METHODS if name in _option_names(other)]
        if not owners:
            known = (
                _option_names(method) if method else {key for each in METHODS for key in _option_names(each)}
            )
            text = f"is not known to {method or 'any method'}; {suggest(name, known)}"
            problems.add(f"options.{name}", text, "option-unknown")
        elif method is not None and method not in owners:
            have = f"{', '.join(owners)} {'have' if len(owners) > 1 else 'has'} it"
            text = f"options.{name} is ignored: {method} has no such option ({have})"
            findings.append(finding("option-ignored", text))
    # The method is checked even where it has no table of its own.
    for name, table in ({method: {}, **tables} if method else tables).items():
        chosen = combine_options(name, general, tables) if name == method else dict(table)
        # What a method that is not chosen needs may be given where it is.
        needs = name != method and METHODS[name].delta_over_beta == "required"
        kind = import_module(METHODS[name].module).OPTIONS
        given = {"delta_over_beta": 1.0, **chosen} if needs else chosen
        _, errors = read_options(kind, given, owner=name, called=partial(_option_path, name, table))
        problems.extend(map(ConfigurationError.of, errors))
    if method is None:
        return None, findings
    given = combine_options(method, general, tables)
    return given if len(problems) == before else None, findings


def _option_path(method: str, table: Mapping[str, Any], key: str) -> str:
    return f"options.{method}.{key}" if key in table else f"options.{key}"


def _looked_up(
    path: str, options: Mapping[str, Any], experiment: Experiment | None, problems: Problems
) -> dict[str, Any]:
    """Replace a `delta_over_beta` that is given as a material by its number; 1 where it has an error."""
    found = {name: plain(value) for name, value in options.items()}
    table = found.get("delta_over_beta")
    if not isinstance(table, Mapping):
        return found
    found["delta_over_beta"] = 1.0
    path, keys = f"{path}.delta_over_beta", ("material", "density")
    unknown = [key for key in table if key not in keys]
    for key in unknown:
        problems.add(f"{path}.{key}", f"is not a known key; {suggest(str(key), keys)}", "option-unknown")
    if not isinstance(table.get("material"), str):
        expected = (
            'expected a number, or a table such as {material = "C8H8", density = 1050.0} (density in kg/m³)'
        )
        problems.add(path, f"is {shown(dict(table))}; {expected}", "option-invalid")
    elif not unknown:
        from xmist.core.materials import Material

        try:
            material = Material.of(table["material"], table.get("density"))
            if experiment is not None:
                found["delta_over_beta"] = material.delta_over_beta(experiment.energy_kev)
        except InputError as error:
            for record in error.records:
                problems.add(path, f": {record.message}", "option-invalid")
    return found


def _check_series(section: SeriesSection | None, method: str | None, problems: Problems) -> None:
    if section is None or method is None:
        return
    if section.warm_start is not None and not METHODS[method].accepts_initial:
        able = " or ".join(name for name, entry in METHODS.items() if entry.accepts_initial)
        text = f"is given, and {method} cannot begin from a result; leave it out, or use {able}"
        problems.add("series.warm_start", text)
    gives = (*METHODS[method].gives, *(name for name in CHANNELS if name.endswith("_std")))
    for name in section.channels or ():
        if name not in gives:
            text = f"holds '{name}', which {method} does not give; {suggest(name, gives)}"
            problems.add("series.channels", text)


def _check_tomography(sections: Mapping[str, Any], folder: Path, confined: bool, problems: Problems) -> None:
    section, series = sections["tomography"], sections["series"]
    if section is None:
        return
    if series is None or series.angles is None:
        text = "needs a series with angles; add the table [series] with angles"
        problems.add("tomography", text, "angles-missing")
    if section.file is not None:
        if Path(section.file).suffix.lower() not in NEXUS_ENDINGS:
            text = f"is {shown(section.file)}; expected a name that ends in one of {', '.join(NEXUS_ENDINGS)}"
            problems.add("tomography.file", text, "ending-unknown")
        elif confined and not _is_inside(folder / section.file, folder):
            text = f"leads to {section.file}, outside the folder of the configuration; expected one inside it"
            problems.add("tomography.file", text, "output-outside")


def _check_compared(section: CompareSection | None, problems: Problems) -> None:
    names = (section.methods if section is not None else None) or ()
    for name in dict.fromkeys(names):
        if name not in METHODS:
            text = f"names '{name}'; {suggest(name, METHODS)}"
            problems.add("compare.methods", text, "method-unknown")
        elif names.count(name) > 1:
            problems.add("compare.methods", f"names {name} more than once; expected it once")


def _steps(
    sections: Sequence[tuple[str, Mapping[str, Any]] | None],
    frames: InputSection,
    problems: Problems,
) -> Steps | None:
    """Check the steps, and that they have the frames that they need."""
    from xmist.preprocess import STEPS

    before = len(problems)
    steps = []
    for index, section in enumerate(sections):
        if section is None:
            continue
        path, (name, table) = step_path(index), section
        options = {key: plain(value) for key, value in table.items()}
        if name not in STEPS:
            problems.add(f"{path}.step", f"is '{name}'; {suggest(name, STEPS)}", "step-unknown")
            continue
        _, errors = read_options(
            STEPS[name].options, options, owner=f"the step '{name}'", called=f"{path}.{{}}".format
        )
        problems.extend(map(ConfigurationError.of, errors))
        if name == "crop" and not options:
            text = (
                "is 'crop' without a box; expected rows, columns or both, such as rows = [10, 200] (on a "
                "command line 'crop: rows=[10, 200], columns=[20, 300]')"
            )
            problems.add(f"{path}.step", text, "option-missing")
        steps.append((name, options))
    names = [name for name, _ in steps]
    if "dark" in names and "flat" in names and names.index("flat") < names.index("dark"):
        problems.add("preprocess", "has flat before dark; expected dark before flat")
    for kind in ("dark", "flat"):
        given = getattr(frames, kind) is not None
        # A step whose name is wrong may be the one that uses it.
        if given and kind not in names and len(steps) == len(sections):
            text = (
                f'is given, but no step of the preprocessing uses it; add [[preprocess]] step = "{kind}" '
                f"(or --step {kind})"
            )
            problems.add(f"input.{kind}", text, "frames-unused")
        if names.count(kind) > 1:
            problems.add("preprocess", f"has the step '{kind}' more than once; expected it once")
        if kind in names and not given:
            text = f"is missing; the step '{kind}' needs these frames: name them, or remove the step"
            problems.add(f"input.{kind}", text, "option-missing")
    return None if None in sections or len(problems) > before else tuple(steps)


def _files(output: OutputSection, folder: Path, confined: bool, problems: Problems) -> tuple[Path, ...]:
    """Return the files to write that have no error."""
    files: list[Path] = []
    for name in output.files or ():
        path = folder / name
        if path in files:
            problems.add("output.files", f"names {name} more than once; expected it once")
        elif path.suffix.lower() not in RESULT_ENDINGS:
            problems.add("output.files", f": {ending_error(name)}", "ending-unknown")
        elif confined and not _is_inside(path, folder):
            text = (
                f"leads to {name}, outside the folder of the configuration; expected a name inside it (the "
                "option -o may write elsewhere)"
            )
            problems.add("output.files", text, "output-outside")
        else:
            files.append(path)
    return tuple(files)


def _is_inside(path: Path, folder: Path) -> bool:
    try:
        return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))
    except (OSError, ValueError):  # a name that no file system takes
        return False
