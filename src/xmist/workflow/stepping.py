"""Frames of a sample that moves while the diffuser stays, and the position of the sample in each."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xmist.core.data import as_sample_positions
from xmist.core.errors import ErrorRecord, InputError, raise_errors
from xmist.io.frames.positions import find_value
from xmist.methods import METHODS, check_sample_stepping
from xmist.workflow.configuration import ParsedConfiguration
from xmist.workflow.frames import FrameReader, FrameTable
from xmist.workflow.placement import FrameRequest, place_frames


def place_stepped(parsed: ParsedConfiguration) -> tuple[FrameTable, FrameTable, NDArray[np.float64]]:
    """Return tables of references and sample frames, one for each position of the sample, and the positions.

    A single reference serves for all positions.
    """
    if parsed.method in METHODS:
        check_sample_stepping(str(parsed.method))
    frames = parsed.input
    sample, reference = (
        place_frames(FrameRequest.of(parsed, role, count=1)) for role in ("sample", "reference")
    )
    raise_errors([*reference.missing_errors, *sample.missing_errors])
    number = sample.positions
    if reference.positions == 1:
        reference = dataclasses.replace(reference, places=np.repeat(reference.places, number, axis=1))
    if reference.positions != number:
        raise InputError(
            f"{reference.name} has {reference.positions} frames and {sample.name} {number}; expected one "
            "reference frame, or one for every position of the sample",
            "frames-unequal-numbers",
        )
    given = frames.sample_positions
    assert given is not None
    if isinstance(given, str):
        values = _from_table(parsed.folder / given)
    elif isinstance(given[0], str):
        values = _from_headers(sample, [str(key) for key in given])
    else:
        values = [[float(number) for number in pair] for pair in given]
    errors: list[ErrorRecord] = []
    positions = as_sample_positions(values, (number, *sample.shape), errors)
    raise_errors(errors)
    assert positions is not None
    return reference, sample, positions


def _from_table(path: Path) -> Sequence[Sequence[float]]:
    """Read two columns y and x of a text file; a first line without numbers is a heading."""
    try:
        lines = [line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"sample_positions: {path} cannot be read as a table ({error}); expected a text file with two "
            "columns y and x, a list of [y, x], or two header keys [y, x]",
            "sample-positions-invalid",
        ) from None
    rows: list[list[float]] = []
    for number, line in enumerate(filter(None, lines)):
        words = line.replace(",", " ").replace(";", " ").split()
        try:
            rows.append([float(word) for word in words])
        except ValueError:
            if number == 0:
                continue
            rows.append([])
        if len(rows[-1]) != 2:
            raise InputError(
                f"sample_positions: {path} has the line '{line}'; expected two numbers y and x in pixels",
                "sample-positions-invalid",
            )
    return rows


def _from_headers(sample: FrameTable, keys: Sequence[str]) -> list[list[float]]:
    """Read two numbers of the header of each frame, of the first of its repeats."""
    rows = []
    with FrameReader(sample) as reader:
        for number, frame in sample.places[0, :, 0].tolist():
            header, row = reader.header(number, frame), []
            for key in keys:
                value = find_value(header, key)
                try:
                    row.append(float(value or ""))
                except ValueError:
                    raise InputError(
                        f"sample_positions: the header of {sample.addresses[number]} has "
                        f"{'no' if value is None else 'no number as'} '{key}'; expected a position in pixels",
                        "sample-positions-invalid",
                    ) from None
            rows.append(row)
    return rows
