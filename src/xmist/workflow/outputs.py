"""The files that a run writes, and errors of these, found before a frame is read."""

from __future__ import annotations

import math
import os
import re
import shutil
from collections.abc import Iterable, Sequence
from contextlib import suppress
from fnmatch import fnmatch
from glob import has_magic
from pathlib import Path
from typing import Final

from xmist.core.data import CHANNELS, DERIVED
from xmist.core.errors import ErrorRecord
from xmist.io import NEXUS_ENDINGS, TIFF_ENDINGS
from xmist.io.frames.sources import listed
from xmist.io.results.atomic import all_target_errors, target_errors
from xmist.methods import METHODS
from xmist.workflow.configuration import ParsedConfiguration
from xmist.workflow.rotation import angle_files

ROLES: Final = ("reference", "sample", "dark", "flat")
_PLACE: Final = re.compile(r"\{\w+\}")  # {projection}, which stands for digits


def result_files(parsed: ParsedConfiguration) -> tuple[Path, ...]:
    """Return every file that a single projection may write; a TIFF is one for each channel."""
    files: list[Path] = []
    for path in parsed.files:
        if path.suffix.lower() in TIFF_ENDINGS:
            gives = METHODS[parsed.method].gives if parsed.method else ()
            files += [
                path.with_name(f"{path.stem}_{name}{path.suffix}") for name in (*gives, *DERIVED, "flags")
            ]
        else:
            files.append(path)
    return tuple(files)


def series_file(parsed: ParsedConfiguration) -> Path:
    """Return the file that shows all projections of a series."""
    return next((path for path in parsed.files if path.suffix.lower() in NEXUS_ENDINGS), Path())


def quality_plots(parsed: ParsedConfiguration) -> tuple[Path, ...]:
    """Return the figures of a series' quality."""
    return tuple(path for path in parsed.files if path.suffix.lower() == ".png")


def volumes_file(parsed: ParsedConfiguration) -> Path:
    """Return the file of the volumes of a series."""
    master = series_file(parsed)
    given = None if parsed.tomography is None else parsed.tomography.file
    return master.with_name(f"{master.stem}_volumes.h5") if given is None else parsed.folder / given


def blocks_folder(master: Path) -> Path:
    """Return the folder of the blocks, beside the file that shows them."""
    return master.with_name(f"{master.stem}_blocks")


def output_errors(
    parsed: ParsedConfiguration, read: Sequence[str | Path], shape: tuple[int, int] | None
) -> list[ErrorRecord]:
    """Return errors that prevent writing the results."""
    if parsed.is_series:
        return _series_errors(parsed, read)
    files = result_files(parsed)
    overlaps = overlap_errors(parsed, read, files)
    errors = [overlaps[path] for path in files if path in overlaps]
    others = [path for path in files if path not in overlaps]
    errors += all_target_errors(others, overwrite=parsed.overwrite)
    return errors or (_space_errors(parsed, files, shape) if shape is not None and parsed.method else [])


def _series_errors(parsed: ParsedConfiguration, read: Sequence[str | Path]) -> list[ErrorRecord]:
    if not parsed.files:
        return []  # that is an error of its own
    masters = [path for path in parsed.files if path.suffix.lower() in NEXUS_ENDINGS]
    plots = quality_plots(parsed)
    errors = []
    if len(masters) != 1:
        errors.append(
            f"output.files names {len(masters)} files of {', '.join(NEXUS_ENDINGS)}; a series "
            "needs one, which shows all projections"
        )
    others = [str(path) for path in parsed.files if path not in masters and path not in plots]
    if others:
        errors.append(
            f"output.files names {listed(others)}; a series writes one NeXus file, and .png of its quality"
        )
    if errors:
        return _records(errors)
    names = angle_files(parsed.series_section.angles)
    read = [*read, *(parsed.folder / name.partition("::")[0] for name in names)]
    written = [masters[0], *plots, blocks_folder(masters[0]) / "block_000000_000001.h5"]
    return [
        *overlap_errors(parsed, read, written).values(),
        *_records(target_errors(masters[0], overwrite=True)),
    ]


def _records(texts: Iterable[str | ErrorRecord]) -> list[ErrorRecord]:
    return [ErrorRecord("output-invalid", text) if isinstance(text, str) else text for text in texts]


def overlap_errors(
    parsed: ParsedConfiguration, read: Iterable[str | Path], written: Sequence[Path]
) -> dict[Path, ErrorRecord]:
    """Return errors for files to write that would replace input, now or in the next run."""
    errors: dict[Path, ErrorRecord] = {}
    precious: set[str] = set()
    if any(os.path.lexists(path) for path in written):  # else nothing that is read can be meant
        precious = {os.path.realpath(path) for path in (*read, *([parsed.source] if parsed.source else []))}
    for path in written:
        text = ""
        with suppress(ValueError):  # a name that no file system takes, which the writer reports
            if os.path.realpath(path) in precious:
                text = f"{path} would replace a file that is read"
            elif pattern := _pattern(parsed, path):
                text = f"{path} would be read as a frame the next time, because {pattern} matches it"
        if text:
            errors[path] = ErrorRecord("output-is-input", f"{text}; expected another name for the result")
    return errors


def _pattern(parsed: ParsedConfiguration, path: Path) -> str:
    """Return the pattern of the input that a file matches, with its key; empty if there is none."""
    parent, name = os.path.split(os.path.realpath(path))
    for role in ROLES:
        for spec in getattr(parsed.input, role) or ():
            place = _PLACE.sub("[0-9]*", spec.partition("::")[0])
            folder, last = os.path.split(os.path.realpath(parsed.folder / place))
            if has_magic(place) and fnmatch(name, last) and (parent == folder or fnmatch(parent, folder)):
                return f"{parsed.name_of(f'input.{role}')} = '{spec}'"
    return ""


def _space_errors(
    parsed: ParsedConfiguration, files: Sequence[Path], shape: tuple[int, int]
) -> list[ErrorRecord]:
    """Return an error if a disk or a limit of the system has no room for the results."""
    gives = METHODS[parsed.method].gives if parsed.method else ()
    images = sum(len(CHANNELS[name].components) or 1 for name in gives) + len(DERIVED)
    needs: dict[Path, int] = {}
    largest: dict[Path, int] = {}
    for path in files:
        each = {NEXUS_ENDINGS: 4 * images + 2, TIFF_ENDINGS: 4}  # a figure has the size of its paper
        size = math.prod(shape) * next((n for ends, n in each.items() if path.suffix.lower() in ends), 0)
        needs[path.parent] = needs.get(path.parent, 0) + size
        largest[path.parent] = max(largest.get(path.parent, 0), size)
    limit = _largest_file()
    errors = []
    for folder, need in needs.items():
        with suppress(OSError):
            free = shutil.disk_usage(folder).free
            if free < need:
                errors.append(
                    f"no space on the disk of {folder}: the results need up to {amount(need)}, and "
                    f"{amount(free)} are free; make room, or write elsewhere"
                )
        if limit is not None and largest[folder] > limit:
            errors.append(
                f"the system limits a file to {amount(limit)} and a result needs up to "
                f"{amount(largest[folder])}; raise the limit (ulimit -f), or crop the frames"
            )
    return [ErrorRecord("disk-full", text) for text in errors]


def _largest_file() -> int | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    return None if soft == resource.RLIM_INFINITY else soft


def amount(size: float) -> str:
    """Return a number of bytes as text.

    Examples
    --------
    >>> amount(3_400_000_000)
    '3.4 GB'
    """
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"
