"""Errors: what was found, what is expected, and how to fix it, as records with a code."""

from __future__ import annotations

import difflib
import math
import numbers
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, overload

_SHOWN_CHARACTERS: Final = 60


class XmistError(Exception):
    """Base of the errors that xmist raises."""


@dataclass(frozen=True)
class ErrorRecord:
    """One thing that makes a run impossible.

    Parameters
    ----------
    code : str
        A key of `ERROR_CODES`.
    message : str
        What was found, what is expected, and how to fix it.
    """

    code: str
    message: str

    def __str__(self) -> str:
        return self.message


ERROR_CODES: Final[Mapping[str, str]] = MappingProxyType(
    {
        # One section for each part of the package: add a code in the section of the code that raises it.
        # --- options of methods, steps and the configuration (core) ---
        "option-conflict": "Two options contradict each other.",
        "option-invalid": "An option has a value that it cannot have.",
        "option-missing": "A required option is missing.",
        "option-unknown": "There is no option of this name.",
        # --- experiment, material and arrays (core) ---
        "array-invalid": "An argument is not an array, or has the wrong type or number of dimensions.",
        "experiment-invalid": "A value of the experiment is not a number, or its unit is evidently wrong.",
        "material-invalid": "A material is unknown, incomplete, contradictory or out of range.",
        "weights-invalid": "Weights are negative, NaN or infinite.",
        "frames-too-small": "The frames are smaller than the methods need.",
        "value-invalid": "An argument has a value that it cannot have.",
        "extra-missing": "A package of an extra is not installed.",
        "no-opposite-projections": "The rotation centre cannot be found: no two projections are opposite.",
        "shape-mismatch": "Arrays that belong together differ in shape.",
        "sample-positions-invalid": (
            "The positions of the sample are not numbers, or there is not one for each frame."
        ),
        "sample-positions-apart": "Frames of the sample at different positions do not overlap.",
        # --- methods ---
        "sample-positions-unsupported": "The method takes no frames of a sample that moves.",
        "initial-invalid": "An initial result has no phase to begin with.",
        "method-unknown": "There is no method of this name.",
        "pixels-unusable": "No pixel of the frames can be used.",
        "speckles-missing": "The reference frames show no speckles.",
        "references-proportional": "All reference frames show the same speckles.",
        # --- preprocessing ---
        "box-outside": "A box reaches beyond the frames.",
        "drift-undetermined": "A shift between reference and sample frame cannot be measured.",
        "flat-invalid": "The flat has no pixel that can be divided by.",
        "flux-undetermined": "There is no flux to scale frames to.",
        "frames-missing": "A step needs frames that were not given, or that an earlier step used.",
        "monitor-missing": "The monitor or the exposure time of some frames is not known, or not above 0.",
        "step-order": "A preprocessing step stands before one that must come first.",
        "step-unknown": "There is no preprocessing step of this name.",
        # --- input and output files (io) ---
        "angles-missing": "A series has no rotation angles.",
        "axes-mismatch": "The stated axes do not fit the shape or the number of frames.",
        "axes-missing": "The axes of an array with more than three axes are not stated.",
        "counts-wrapped": "Negative counts were stored as unsigned numbers, and so became very large.",
        "dataset-ambiguous": "Several datasets of an HDF5 file can be frames.",
        "dataset-incomplete": "Parts of a dataset were never written, are damaged, or are in missing files.",
        "dataset-invalid": "A dataset holds other values than expected.",
        "dataset-missing": "An HDF5 file has no such dataset.",
        "file-being-written": "Another program is writing a file, and it cannot be read yet.",
        "file-changed": "A file changed while it was in use.",
        "file-damaged": "A file is damaged or truncated.",
        "file-missing": "A file does not exist.",
        "file-unreadable": "A file cannot be read: no permission, or not a regular file.",
        "format-unknown": "The ending of a name is not one of frames, or does not match what the file holds.",
        "frames-unsupported": "A file holds no frames, or stores them in a way that is not read.",
        "image-key-invalid": (
            "An image key does not state the kind of each frame, or no frame has the requested value."
        ),
        "link-broken": "A link in an HDF5 file leads to nothing.",
        "link-outside": 'A link leads to another folder, which links = "inside" does not allow.',
        "memory-insufficient": "The data do not fit into memory.",
        "output-exists": "A file of this name exists already.",
        "output-invalid": "A file cannot be written: no folder, no permission, or wrong ending of its name.",
        "package-missing": "An optional package is not installed.",
        "projection-missing": "A series has no such projection, or it has not been retrieved.",
        "result-invalid": "A file holds no result of xmist, or a damaged or newer one.",
        # --- configuration, projections and series (workflow) ---
        "angle-missing": "The header of a projection states no angle.",
        "angles-mismatch": "Frames of a projection were taken at angles that differ.",
        "angles-unequal-number": "There are more or fewer angles than projections.",
        "cluster-unavailable": "A Dask cluster does not answer, or has no worker.",
        "configuration-unreadable": "A configuration is not text in TOML, or cannot be read.",
        "disk-full": "A disk, or a limit of the system, has no room for the results.",
        "frames-shared": "Reference and sample are the same frames.",
        "frames-unequal-numbers": "The numbers of frames do not fit the positions, repeats and projections.",
        "frames-invalid": (
            "Without the frames marked as invalid, projection or position of the others is not known."
        ),
        "geometry-mismatch": "The headers of reference and sample state different set-ups.",
        "frames-unused": "Dark or flat frames are given that no preprocessing step uses.",
        "journal-unreadable": "The journal of a series is damaged.",
        "output-is-input": "A result would replace a file that is read, or would be read the next time.",
        "output-outside": "A configuration names a file to write outside its own folder.",
        "positions-mismatch": "The positions of the diffuser in the headers do not pair the frames.",
        "positions-missing": "A header does not state the position of the diffuser.",
        "positions-too-few": "There are fewer positions of the diffuser than the method needs.",
        "projection-failed": "None of the projections that were tried can be retrieved.",
        "results-missing": "A configuration has no finished results.",
        "series-changed": "Configuration or input of a series have changed since it was begun.",
        "series-locked": "Another process is working on a series.",
        # --- volumes (tomography, workflow) ---
        "cone-beam-wide": (
            "A cone beam moves rays too far for parallel geometry, and no GPU was found, or it is needed."
        ),
        "projections-too-few": "Too few projections can be used for a reconstruction.",
        # --- simulation (simulate) ---
        "field-small": "The simulated field is too small for its objects or their refraction.",
        "sampling-coarse": "The samples of the simulated wave are too coarse.",
        "preset-unknown": "There is no simulated preset or phantom of this name.",
        # --- comparison, planning and display (evaluate, view) ---
        "display-missing": "There is no display to open a window on.",
        "channel-missing": "A result does not have the channel that was asked for.",
        "ending-unknown": "The ending of a file name is not that of a format that can be written.",
        "metric-undefined": "A metric is not defined for these images.",
        "no-method": "None of the compared methods can work on the frames.",
        "pixels-too-few": "Too few pixels have a value.",
        "region-invalid": "A region of a comparison is not a box or mask inside the frames.",
        "result-missing": "A comparison has no run of this method and number of positions.",
    }
)


class InputError(XmistError, ValueError):
    """The input cannot be used; lists every error that was found.

    Parameters
    ----------
    errors : str, ErrorRecord or sequence of them
        One sentence each: what was found, what is expected, how to fix it.
    code : str
        Code of errors that are given as text, a key of `ERROR_CODES`.

    Examples
    --------
    >>> raise InputError("energy_kev is -17.0; expected a positive energy in keV", "experiment-invalid")
    Traceback (most recent call last):
    ...
    xmist.core.errors.InputError: energy_kev is -17.0; expected a positive energy in keV
    """

    @overload
    def __init__(self, errors: Sequence[ErrorRecord] | ErrorRecord) -> None: ...

    @overload
    def __init__(self, errors: Sequence[str] | str, code: str) -> None: ...

    def __init__(self, errors: Sequence[str | ErrorRecord] | str | ErrorRecord, code: str = "") -> None:
        given = (errors,) if isinstance(errors, str | ErrorRecord) else tuple(errors)
        self.records: tuple[ErrorRecord, ...] = tuple(
            item if isinstance(item, ErrorRecord) else ErrorRecord(code, item) for item in given
        )
        lines = self.messages
        text = lines[0] if len(lines) == 1 else "\n".join(f"- {line}" for line in lines)
        super().__init__(text)

    @property
    def codes(self) -> tuple[str, ...]:
        """Codes of the errors, in order."""
        return tuple(record.code for record in self.records)

    @property
    def messages(self) -> tuple[str, ...]:
        """Messages of the errors, in order."""
        return tuple(record.message for record in self.records)


class OutputError(XmistError, OSError):
    """The result could not be written; the message says what was kept, and where."""


def raise_errors(errors: Sequence[ErrorRecord]) -> None:
    """Raise one `InputError` that lists the errors; do nothing when there are none."""
    if errors:
        raise InputError(errors)


def prefixed(prefix: str, errors: Iterable[ErrorRecord]) -> list[ErrorRecord]:
    """Return errors with a text before each message, their codes unchanged."""
    return [ErrorRecord(error.code, f"{prefix}{error.message}") for error in errors]


@contextmanager
def collect_errors(errors: list[ErrorRecord], prefix: str = "") -> Iterator[None]:
    """Add the errors of an `InputError` inside to a list, with a text before each message."""
    try:
        yield
    except InputError as error:
        errors += prefixed(prefix, error.records)


@contextmanager
def prefix_errors(prefix: str) -> Iterator[None]:
    """Put a text before each message of an `InputError` inside."""
    try:
        yield
    except InputError as error:
        raise InputError(prefixed(prefix, error.records)) from error


def suggest(name: str, known: Iterable[str], aliases: Mapping[str, str] | None = None) -> str:
    """Return the end of a message about an unknown name: the nearest known one, and all known ones.

    `aliases` are known names by other common ones, in lower case.

    Examples
    --------
    >>> suggest("smoothin", ["smoothing", "ridge"])
    "did you mean 'smoothing'? Known: ridge, smoothing"
    >>> suggest("MIST", ["mist", "umpa"])
    "did you mean 'mist'? Known: mist, umpa"
    """
    known = sorted(known)
    near = (aliases or {}).get(name.lower()) or nearest(name, known)
    hint = f"did you mean '{near}'? " if near else ""
    return f"{hint}Known: {', '.join(known) or 'none'}"


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the known name that is most like another one; empty if none is."""
    known = list(known)
    by_letters = {item.lower(): item for item in known}
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    near = near or [by_letters[item] for item in difflib.get_close_matches(name.lower(), by_letters, n=1)]
    return next(iter(near), "")


def shown(value: Any) -> str:
    """Return a value as a message shows it: on one line, cut if it is long.

    Examples
    --------
    >>> shown("17 keV")
    "'17 keV'"
    """
    try:
        text = " ".join(repr(value).split())
    except ValueError:  # Python writes no whole number of more than some thousand digits
        text = f"{type(value).__name__} too long to be shown"
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 1]}…"


def wrong_value(value: Any, expected: str) -> str:
    """Return what follows the name of a value in an error.

    Examples
    --------
    >>> wrong_value("17,5", "a number in keV")
    "is '17,5', with a decimal comma; expected a point: 17.5"
    """
    point = decimal_comma(value) if isinstance(value, str) else ""
    if point:
        return f"is {shown(value)}, with a decimal comma; expected a point: {point}"
    return f"is {shown(value)}; expected {expected}"


def decimal_comma(text: str) -> str:
    """Return a number that is written with a decimal comma with a point; empty if it is none.

    Examples
    --------
    >>> decimal_comma("5,8e-6"), decimal_comma("1,2,3")
    ('5.8e-6', '')
    """
    found = re.fullmatch(r"\s*([-+]?\d*),(\d+(?:[eE][-+]?\d+)?)\s*", text)
    return f"{found[1]}.{found[2]}" if found else ""


def as_number(value: Any) -> float | None:
    """Return a real number as a float, infinite if it is beyond every float; None for anything else.

    Examples
    --------
    >>> as_number(2), as_number(10**400), as_number("2"), as_number(True)
    (2.0, inf, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return None
    try:
        return float(value)
    except OverflowError:
        return -math.inf if value < 0 else math.inf
