"""Pairs of reference and sample frames of the same position of the diffuser."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from xmist.core.errors import ErrorRecord, collect_errors, raise_errors
from xmist.io.frames.geometry import offer_geometry
from xmist.io.frames.loading import Groups, group_repeats
from xmist.io.frames.positions import Position, find_alike, format_position, position_scale, same_position
from xmist.io.frames.series import FrameSeries
from xmist.io.frames.sources import listed

# Sample and reference are taken minutes apart, on the same set-up: what their headers say of it may differ
# by the motors' noise alone.
_AGREEMENT = 1e-3


@dataclass(frozen=True)
class Pairing:
    """Which frames of the reference and of the sample belong together."""

    reference: Groups
    sample: Groups
    positions: tuple[Position, ...] | None

    def __len__(self) -> int:
        return len(self.reference)


def pair_frames(reference: FrameSeries, sample: FrameSeries, *, repeats: int | Literal["all"] = 1) -> Pairing:
    """Pair reference and sample by the diffuser's position where the headers give it, else by their order."""
    errors = _geometry_errors(reference, sample)
    if reference.shape != sample.shape:
        text = (
            f"{reference.name} has frames of {_size(reference)} pixels ({reference.label(0)}) and "
            f"{sample.name} of {_size(sample)} ({sample.label(0)}); expected the same"
        )
        errors.insert(0, ErrorRecord("shape-mismatch", text))
    groups: list[Groups] = []
    for series in (reference, sample):
        with collect_errors(errors):
            groups.append(group_repeats(series, repeats))
    order: list[int] | None = None
    if len(groups) == 2:
        if reference.positions is not None and sample.positions is not None:
            order = _match(reference, sample, groups[0], groups[1], errors)
        elif len(groups[0]) != len(groups[1]):
            errors.append(_count_error(reference, sample, len(groups[0]), len(groups[1]), repeats))
    raise_errors(list(dict.fromkeys(errors)))
    if order is None:
        raise_errors(_gap_errors(reference, sample))
        return Pairing(groups[0], groups[1], None)
    assert reference.positions is not None
    positions = tuple(reference.positions[group[0]] for group in groups[0])
    return Pairing(groups[0], tuple(groups[1][index] for index in order), positions)


def _match(
    reference: FrameSeries, sample: FrameSeries, first: Groups, second: Groups, errors: list[ErrorRecord]
) -> list[int] | None:
    """Return the sample's position for each position of the reference.

    Errors name those without a partner.
    """
    ours, theirs = reference.positions, sample.positions
    assert ours is not None
    assert theirs is not None
    if len(reference.position_keys) != len(sample.position_keys):
        text = (
            f"the headers of {reference.name} give {listed(reference.position_keys)} and those of "
            f"{sample.name} {listed(sample.position_keys)}; name the ones to pair by with position_key"
        )
        errors.append(ErrorRecord("positions-mismatch", text))
        return None
    scale = position_scale([*ours, *theirs])
    if len(first) == len(second) == 1:  # there is no range to compare noise with
        scale = tuple(_AGREEMENT * abs(value) if isinstance(value, float) else 0.0 for value in ours[0])
    unmoved = not (reference.position_asked or sample.position_asked) and all(
        same_position(ours[0], position, scale) for position in [*ours, *theirs]
    )
    if unmoved:  # the headers do not tell positions apart
        if len(first) != len(second):
            errors.append(_count_error(reference, sample, len(first), len(second), 1))
        return None
    free = list(range(len(second)))
    order = []
    alone = []
    others = [theirs[group[0]] for group in second]
    for group in first:
        partner = next((i for i in find_alike(ours[group[0]], others, scale) if i in free), None)
        if partner is None:
            alone.append(group)
        else:
            free.remove(partner)
            order.append(partner)
    if alone or free:
        text = (
            f"{reference.name} and {sample.name} were not taken at the same positions of the diffuser: "
            + "; ".join(
                _without_partner(series, groups)
                for series, groups in ((reference, alone), (sample, [second[i] for i in free]))
                if groups
            )
            + "; expected a sample frame for each reference frame. position_key in [input] chooses "
            "another header value; an empty position_key pairs the frames in their order"
        )
        errors.append(ErrorRecord("positions-mismatch", text))
        return None
    return order


def _without_partner(series: FrameSeries, groups: Sequence[Sequence[int]]) -> str:
    assert series.positions is not None
    named = [
        f"{series.label(group[0])} ({format_position(series.position_keys, series.positions[group[0]])})"
        for group in groups
    ]
    return f"only {series.name} has {listed(named)}"


def _count_error(
    reference: FrameSeries, sample: FrameSeries, first: int, second: int, repeats: int | str
) -> ErrorRecord:
    more = reference if first > second else sample
    what = "frames" if repeats == 1 else f"positions of {repeats} frames"
    text = (
        f"{reference.name} has {first} {what} and {sample.name} {second}; expected equal numbers: the last "
        f"of {more.name} is {more.label(len(more) - 1)}"
    )
    return ErrorRecord("frames-unequal-numbers", text)


def _gap_errors(reference: FrameSeries, sample: FrameSeries) -> list[ErrorRecord]:
    """Return errors where invalid frames were left out, so that the order does not give the positions."""
    errors = []
    for series in (reference, sample):
        marked = [source.label for source in series.sources if getattr(source, "gaps", ())]
        if marked:
            text = (
                f"{series.name}: frames of {listed(marked, 2)} are marked as invalid (image_key 3). Without "
                "them, the positions of the other frames are not known; expected positions in the headers "
                "(position_key), or no invalid frames"
            )
            errors.append(ErrorRecord("frames-invalid", text))
    return errors


def _geometry_errors(reference: FrameSeries, sample: FrameSeries) -> list[ErrorRecord]:
    """Return errors where the headers of reference and sample state different geometries."""
    errors = []
    ours = {offer.name: offer for offer in reversed(offer_geometry(reference.sources[0]))}
    theirs = {offer.name: offer for offer in reversed(offer_geometry(sample.sources[0]))}
    for name in sorted(ours.keys() & theirs.keys()):
        one, other = ours[name], theirs[name]
        if not math.isclose(one.value, other.value, rel_tol=_AGREEMENT):
            text = (
                f"{name} is {one.value:.6g} {one.unit} by {one.source}, but {other.value:.6g} {one.unit} by "
                f"{other.source}; expected the same set-up for reference and sample"
            )
            errors.append(ErrorRecord("geometry-mismatch", text))
    return errors


def _size(series: FrameSeries) -> str:
    return f"{series.shape[0]} × {series.shape[1]}"
