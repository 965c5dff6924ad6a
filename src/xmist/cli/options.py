"""Options that commands share, and the configuration that they make together with its file."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from xmist.cli.console import Settings
from xmist.core.errors import ErrorRecord, InputError, decimal_comma, raise_errors, shown

if TYPE_CHECKING:
    from xmist.workflow.configuration import ParsedConfiguration

Command = TypeVar("Command", bound=Callable[..., Any])

# Option of the command line -> section and key of the configuration.
_KEYS: Final = {
    **{
        name: ("input", name)
        for name in (
            *("reference", "sample", "dark", "flat", "repeats", "position_key", "sample_positions"),
            *("sample_axes", "reference_axes"),
        )
    },
    **{
        name: ("experiment", name)
        for name in ("energy_kev", "pixel_size", "sample_to_detector", "source_to_sample")
    },
    "method": ("retrieve", "method"),
    "threads": ("retrieve", "threads"),
    "output": ("output", "files"),
}

# Steps with options, as they are typed.
_STEPS: Final = {
    "crop": "crop: rows=[10, 200], columns=[20, 300]",
    "bin": "bin: size=2",
    "bad-pixels": "bad-pixels: saturation=16383",
    "flux": "flux: rows=[0, 50], columns=[0, 50]",
    "unlit": "unlit: margin=5",
}


class Whole(click.IntRange):
    """A whole number of at least `low`; its error gives an example."""

    def __init__(self, low: int | None = None) -> None:
        super().__init__(min=low)

    def _describe_range(self) -> str:
        return "" if self.min is None else super()._describe_range()

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number, or fail with one sentence."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            bound = "" if self.min is None else f" from {self.min}"
            self.fail(f"{shown(value)} given, expected a whole number{bound}, such as 4", param, ctx)


class Number(click.types.FloatParamType):
    """A number; its error gives an example."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number, or fail with one sentence."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            point = decimal_comma(str(value))
            hint = f", with a decimal point: {point}" if point else ", such as 0.5 or 2e-6"
            self.fail(f"{shown(value)} given, expected a number{hint}", param, ctx)


def common(command: Command) -> Command:
    """Add --quiet and --debug, which every command has."""

    def remember(context: click.Context, parameter: click.Parameter, value: bool) -> None:
        if value:
            setattr(context.ensure_object(Settings), str(parameter.name), True)

    for name, text in (
        ("--debug", "Show the traceback of an error."),
        ("--quiet", "Print only warnings and errors: no progress, no notes."),
    ):
        command = click.option(
            name, is_flag=True, is_eager=True, expose_value=False, callback=remember, help=text
        )(command)
    return command


def log_option(command: Command) -> Command:
    """Add --log, for commands that work for long."""

    def keep(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
        if value is not None:
            context.ensure_object(Settings).keep_log(value)

    text = "Add to this file what was done and found, and when."
    return click.option("--log", metavar="FILE", expose_value=False, callback=keep, help=text)(command)


def configuration_options(command: Command) -> Command:
    """Add options for the keys of a configuration: frames, experiment, method and output."""
    frames = "Frames without the sample: a file, a quoted pattern or file.h5::/path."
    files = ".h5 (everything), .tif (an image per channel), or a figure (.png, .pdf, .svg); may be repeated."
    positions = (
        "Positions of a sample that moves while the diffuser stays, in pixels: a text file of two columns y "
        "and x, or two header keys, y,x."
    )
    axes = "Axes of the sample's arrays, in order: projection, position, repeat, y, x. Such as y,x,position."
    of_references = "Axes of the references' arrays, with set instead of projection."
    step = (
        "A preprocessing step, such as bad-pixels or 'crop: rows=[10, 200]'; may be repeated. Replaces all "
        "steps of the file."
    )
    key = "Change a key of the configuration file, such as input.sample='s12_*.tif'; may be repeated."
    options: list[tuple[str, str, str, bool]] = [  # names, metavar, help, and whether it may be repeated
        ("--reference", "FRAMES", frames, True),
        ("--sample", "FRAMES", "Frames with the sample, in the order of the reference.", True),
        ("--dark", "FRAMES", "Frames without beam, for --step dark.", True),
        ("--flat", "FRAMES", "Frames without diffuser and sample, for --step flat.", True),
        ("--repeats", "NUMBER", "Number of frames per position; they are averaged.", False),
        ("--position-key", "TEXT", "Key of the diffuser's position in the headers.", False),
        ("--sample-positions", "TEXT", positions, False),
        ("--sample-axes", "AXES", axes, False),
        ("--reference-axes", "AXES", of_references, False),
        ("--energy-kev", "KEV", "Photon energy in keV.", False),
        ("--pixel-size", "METRES", "Pixel of the detector in metres.", False),
        ("--sample-to-detector", "METRES", "Distance from the sample to the detector.", False),
        (
            "--source-to-sample",
            "METRES",
            "Distance from the source to the sample; parallel beam if left out.",
            False,
        ),
        ("--step", "STEP", step, True),
        ("--method", "NAME", "Method; xmist methods lists them.", False),
        ("--option", "NAME=VALUE", "An option of the method, such as smoothing=2; may be repeated.", True),
        ("--threads", "NUMBER", "Threads; all cores if left out. Does not change a result.", False),
        ("-o --output", "FILE", files, True),
        ("--set set_keys", "SECTION.KEY=VALUE", key, True),
    ]
    command = click.option("--overwrite", is_flag=True, help="Replace files that exist.")(command)
    for names, metavar, text, several in reversed(options):
        command = click.option(*names.split(), metavar=metavar, help=text, multiple=several)(command)
    return click.argument("config", nargs=-1, metavar="[CONFIG.toml]")(command)


def changes(given: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the options as sections of a configuration, and the names of its keys in messages."""
    from xmist.workflow.schema import step_path

    errors: list[ErrorRecord] = []
    sections: dict[str, Any] = {}
    called = {f"{section}.{key}": _flag(name) for name, (section, key) in _KEYS.items()}
    for name, (section, key) in _KEYS.items():
        value = given[name]
        if value is None or value == ():
            continue
        if section == "experiment":
            value = _number(value, float)
        elif key in ("repeats", "threads"):
            value = _number(value, int)
        sections.setdefault(section, {})[key] = list(value) if isinstance(value, tuple) else value
    options = read_options(given["option"], errors)
    if options:
        sections["options"] = options
        called |= {f"options.{name}": f"--option {name}" for name in options}
    steps = [_step(text, errors) for text in given["step"]]
    if given["overwrite"]:
        sections.setdefault("output", {})["overwrite"] = True
    raise_errors(errors)
    if steps:
        sections["preprocess"] = steps
        for index, step in enumerate(steps):
            called |= {f"{step_path(index)}.{key}": f"--step {step['step']}: {key}" for key in step}
            called[f"{step_path(index)}.step"] = "--step"
    return sections, called


def _set_keys(texts: Sequence[str], sections: dict[str, Any], called: dict[str, str]) -> None:
    """Add keys that --set gives as "section.key=value"; options of their own come before them."""
    errors = []
    for text in texts:
        path, mark, value = (part.strip() for part in text.partition("="))
        section, dot, key = path.partition(".")
        if not (mark and value and section and dot and key) or "." in key:
            message = (
                f"--set {text!r} cannot be read; expected SECTION.KEY=VALUE, such as retrieve.method=umpa"
            )
            errors.append(ErrorRecord("option-invalid", message))
        elif key not in sections.get(section, {}):
            sections.setdefault(section, {})[key] = read_value(value)
            called[path] = f"--set {path}"
    raise_errors(errors)


def single_configuration(config: Sequence[str]) -> str | None:
    """Return the one configuration file, if any; more are names that a shell made of a pattern."""
    from xmist.io.frames.series import FRAME_ENDINGS

    if len(config) == 1 and config[0].lower().endswith(FRAME_ENDINGS):
        raise InputError(
            f"{config[0]} is no configuration file; expected one (.toml), or frames after --reference and "
            "--sample: an option for each file, or a pattern in quotes",
            code="configuration-unreadable",
        )
    if len(config) > 1:
        raise InputError(
            f"unexpected arguments {', '.join(config[:3])}{' and more' * (len(config) > 3)}; expected one "
            "configuration file (.toml). A pattern needs quotes, --reference 'ref_*.tif', so that the shell "
            "leaves it alone; several files need an option each: --reference a.tif --reference b.tif",
            code="option-conflict",
        )
    return config[0] if config else None


def parse_arguments(config: Sequence[str], given: dict[str, Any]) -> ParsedConfiguration:
    """Return the configuration from a file and options."""
    from xmist.workflow.configuration import parse_configuration, parse_mapping

    path = single_configuration(config)
    sections, called = changes(given)
    if path is None and given["set_keys"]:
        raise InputError("--set changes keys of a configuration file; give one", code="option-conflict")
    if path is None:
        return parse_mapping(sections, folder="", source="", confined=False, called=called)
    # Names on a command line are relative to the folder where it was typed.
    for section, keys in (("input", ("reference", "sample", "dark", "flat")), ("output", ("files",))):
        for key in keys:
            if key in sections.get(section, {}):
                names = sections[section][key]
                sections[section][key] = [
                    str(Path.cwd() / _home(name)) if name.strip() else name for name in names
                ]
    _set_keys(given["set_keys"], sections, called)
    given_keys = {
        f"{section}.{key}" for section, keys in sections.items() if isinstance(keys, dict) for key in keys
    }
    if "preprocess" in sections:
        given_keys |= {key for key in called if key.startswith("preprocess")}
    own = {key: name for key, name in called.items() if key in given_keys}
    return parse_configuration(path, sections, called=own)


def _home(name: str) -> Path:
    """Expand ~, which the shell does not expand in quotes."""
    try:
        return Path(name).expanduser()
    except RuntimeError:  # there is no such user
        return Path(name)


def listed_names(text: str | None) -> list[str] | None:
    """Read names with commas; None if there is no text."""
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _number(text: str, kind: type[int] | type[float]) -> Any:
    """Return a number, or the text as it is, so that its error is reported with all others."""
    try:
        return kind(text)
    except ValueError:
        return text


def read_options(texts: Sequence[str], errors: list[ErrorRecord]) -> dict[str, Any]:
    """Read options as "name=value"; a value is TOML, or text without quotes."""
    found: dict[str, Any] = {}
    for text in texts:
        name, mark, value = (part.strip() for part in text.partition("="))
        if not name or not mark or not value:
            message = f"--option {text!r} cannot be read; expected NAME=VALUE, such as smoothing=2"
            errors.append(ErrorRecord("option-invalid", message))
        elif name in found:
            message = f"--option {name} is given twice; expected it once"
            errors.append(ErrorRecord("option-conflict", message))
        else:
            found[name] = read_value(value)
    return found


def read_value(text: str) -> Any:
    """Read a value as TOML; other text is a string, so that quotes may be left out."""
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return parsed["value"] if len(parsed) == 1 else text


def _step(text: str, errors: list[ErrorRecord]) -> dict[str, Any]:
    """Read "name" or "name: key=value, key=value"."""
    name, mark, rest = text.partition(":")
    options: dict[str, Any] = {}
    if mark and rest.strip():
        try:
            options = tomllib.loads(f"options = {{ {rest} }}")["options"]
        except tomllib.TOMLDecodeError:
            example = _STEPS.get(name.strip(), "NAME: key=value, key=value")
            message = f"--step {text!r} cannot be read; expected NAME, or with its options '{example}'"
            errors.append(ErrorRecord("option-invalid", message))
    return {"step": name.strip(), **options}


def as_typed(path: Path) -> Path:
    """Return a name relative to this folder, if it is inside."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
