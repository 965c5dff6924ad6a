"""Options that commands share, and what they state in the terms of a scan file."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from xmist.cli.console import Settings
from xmist.core.errors import InputError, raise_errors, shown

Command = TypeVar("Command", bound=Callable[..., Any])

# Option of the command line -> section and key of the scan file.
_KEYS: Final = {
    "reference": ("input", "reference"),
    "sample": ("input", "sample"),
    "dark": ("input", "dark"),
    "flat": ("input", "flat"),
    "exposures": ("input", "exposures"),
    "position_key": ("input", "position_key"),
    "energy_kev": ("experiment", "energy_kev"),
    "pixel_size": ("experiment", "pixel_size"),
    "sample_to_detector": ("experiment", "sample_to_detector"),
    "source_to_sample": ("experiment", "source_to_sample"),
    "method": ("retrieve", "method"),
    "threads": ("retrieve", "threads"),
    "output": ("output", "files"),
}


class Whole(click.IntRange):
    """A whole number, of `low` at least, and what would be right where it is none.

    Parameters
    ----------
    low : int, optional
        Least value.
    """

    def __init__(self, low: int | None = None) -> None:
        super().__init__(min=low)

    def _describe_range(self) -> str:
        return "" if self.min is None else super()._describe_range()

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Give the number, or fail with one sentence."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            bound = "" if self.min is None else f" from {self.min}"
            self.fail(f"{shown(value)} given, expected a whole number{bound}, such as 4", param, ctx)


class Number(click.types.FloatParamType):
    """A number, and what would be right where it is none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Give the number, or fail with one sentence."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            self.fail(f"{shown(value)} given, expected a number, such as 0.5 or 2e-6", param, ctx)


def common(command: Command) -> Command:
    """Add --quiet and --debug, which every command has."""

    def remember(context: click.Context, parameter: click.Parameter, value: bool) -> None:
        if value:
            setattr(context.ensure_object(Settings), str(parameter.name), True)

    for name, text in (
        ("--debug", "Show the traceback of an error."),
        ("--quiet", "No progress and no remarks; errors only."),
    ):
        command = click.option(
            name, is_flag=True, is_eager=True, expose_value=False, callback=remember, help=text
        )(command)
    return command


def scan_options(command: Command) -> Command:
    """Add everything that a scan file can state, as options."""
    several = {"multiple": True}
    options: list[tuple[tuple[str, ...], str, str, dict[str, Any]]] = [
        (
            ("--reference",),
            "FRAMES",
            "Frames without the sample: a file, a quoted pattern or file.h5::/path.",
            several,
        ),
        (("--sample",), "FRAMES", "Frames with the sample, in the order of the reference.", several),
        (("--dark",), "FRAMES", "Frames without beam, for --step dark.", several),
        (("--flat",), "FRAMES", "Frames without mask and sample, for --step flat.", several),
        (("--exposures",), "NUMBER", "Repeated exposures of each position, to be averaged.", {}),
        (("--position-key",), "TEXT", "Key of the mask's position in the headers.", {}),
        (("--energy-kev",), "KEV", "Photon energy in keV.", {}),
        (("--pixel-size",), "METRES", "Pixel of the detector in metres.", {}),
        (("--sample-to-detector",), "METRES", "Distance from the sample to the detector.", {}),
        (("--source-to-sample",), "METRES", "Distance from the source; parallel beam without it.", {}),
        (
            ("--step",),
            "STEP",
            "A step of the preprocessing, in order, instead of those of the scan file: bad-pixels, or "
            "'crop: rows=[10, 200]'.",
            several,
        ),
        (("--method",), "NAME", "Method; xmist methods lists them.", {}),
        (("--option",), "NAME=VALUE", "An option of the method, such as smoothing=2.", several),
        (("--threads",), "NUMBER", "Threads; every core without it. Never changes a result.", {}),
        (
            ("-o", "--output"),
            "FILE",
            ".h5 (everything), .tif (one image a channel) or .png; may be repeated.",
            several,
        ),
    ]
    command = click.option("--overwrite", is_flag=True, help="Replace files that exist.")(command)
    for names, metavar, text, more in reversed(options):
        command = click.option(*names, metavar=metavar, help=text, **more)(command)
    return click.argument("scan", nargs=-1, metavar="[SCAN.toml]")(command)


def changes(given: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Give what the options state as sections of a scan file, and how messages call its keys.

    Parameters
    ----------
    given : dict
        Values of the options by name, as `scan_options` adds them.

    Raises
    ------
    InputError
        Lists every option whose text cannot be read.
    """
    from xmist.workflow.configuration.schema import step_path

    faults: list[str] = []
    sections: dict[str, Any] = {}
    called = {f"{section}.{key}": _flag(name) for name, (section, key) in _KEYS.items()}
    for name, (section, key) in _KEYS.items():
        value = given[name]
        if value is None or value == ():
            continue
        if section == "experiment":
            value = _number(value, float)
        elif key in ("exposures", "threads"):
            value = _number(value, int)
        sections.setdefault(section, {})[key] = list(value) if isinstance(value, tuple) else value
    options = read_options(given["option"], faults)
    if options:
        sections["options"] = options
        called |= {f"options.{name}": f"--option {name}" for name in options}
    steps = [_step(text, faults) for text in given["step"]]
    if given["overwrite"]:
        sections.setdefault("output", {})["overwrite"] = True
    raise_errors(faults)
    if steps:
        sections["preprocess"] = steps
        for index, step in enumerate(steps):
            called |= {f"{step_path(index)}.{key}": f"--step {step['step']}: {key}" for key in step}
            called[f"{step_path(index)}.step"] = "--step"
    return sections, called


def single_scan(scan: Sequence[str]) -> str | None:
    """Give the one scan file, if any; more are names that a shell made of a pattern.

    Parameters
    ----------
    scan : sequence of str
        Arguments that belong to no option.

    Raises
    ------
    InputError
        If there are several.
    """
    from xmist.io.frames.series import FRAME_ENDINGS

    if len(scan) == 1 and scan[0].lower().endswith(FRAME_ENDINGS):
        raise InputError(
            f"{scan[0]} is no scan file; expected one (.toml), or frames after --reference and --sample: an "
            "option for each file, or a pattern in quotes"
        )
    if len(scan) > 1:
        raise InputError(
            f"unexpected arguments {', '.join(scan[:3])}{' and more' * (len(scan) > 3)}; expected one "
            "scan file (.toml). A pattern needs quotes, --reference 'ref_*.tif', so that the shell leaves it "
            "alone; several files need an option each: --reference a.tif --reference b.tif"
        )
    return scan[0] if scan else None


def listed_names(text: str | None) -> list[str] | None:
    """Read names with commas; None if there is no text.

    Parameters
    ----------
    text : str or None
        What an option was given.
    """
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _number(text: str, kind: type[int] | type[float]) -> Any:
    """Give a number, or the text as it is, so that its fault is told with all others."""
    try:
        return kind(text)
    except ValueError:
        return text


def read_options(texts: Sequence[str], faults: list[str]) -> dict[str, Any]:
    """Read options as "name=value"; a value is TOML, or text without quotes.

    Parameters
    ----------
    texts : sequence of str
        The options.
    faults : list of str
        Receives a sentence for each that cannot be read.
    """
    found: dict[str, Any] = {}
    for text in texts:
        name, mark, value = (part.strip() for part in text.partition("="))
        if not name or not mark or not value:
            faults.append(f"--option {text!r} cannot be read; expected NAME=VALUE, such as smoothing=2")
        elif name in found:
            faults.append(f"--option {name} is given twice; expected it once")
        else:
            found[name] = _value(value)
    return found


def _value(text: str) -> Any:
    """Read a value as TOML does; what is no TOML is text, so that quotes may be left out."""
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return parsed["value"] if len(parsed) == 1 else text


def _step(text: str, faults: list[str]) -> dict[str, Any]:
    """Read "name" or "name: key=value, key=value"."""
    name, mark, rest = text.partition(":")
    options: dict[str, Any] = {}
    if mark and rest.strip():
        try:
            options = tomllib.loads(f"options = {{ {rest} }}")["options"]
        except tomllib.TOMLDecodeError:
            faults.append(
                f"--step {text!r} cannot be read; expected NAME, or 'NAME: key=value, key=value' with values "
                "as in a scan file"
            )
    return {"step": name.strip(), **options}


def as_typed(path: Path) -> Path:
    """Give a name as a person would type it: relative to this folder where it lies inside.

    Parameters
    ----------
    path : Path
        A file that was written.
    """
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
