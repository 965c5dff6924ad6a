"""What can be known of a scan before any frame is read: its frames, its faults, its outputs."""

from __future__ import annotations

import dataclasses
import math
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from xmist.core.arrays import SMALLEST_FRAME
from xmist.core.data import CHANNELS
from xmist.core.errors import InputError
from xmist.core.experiment import Experiment
from xmist.io import NEXUS_ENDINGS, TIFF_ENDINGS
from xmist.io.frames.frames import FrameSeries, Offer, Pairing, offer_geometry, open_frames, pair_frames
from xmist.io.frames.sources import listed
from xmist.io.results.atomic import target_errors
from xmist.methods import METHODS
from xmist.preprocess import make_step_options
from xmist.preprocess.frames import box_slices
from xmist.workflow.configuration import Draft
from xmist.workflow.projection.reading import ROLES, reading_faults

# A header and a scan file that differ by more do not mean the same set-up.
_AGREEMENT: Final = 0.01


# Longer ones exist, but millimetres that are taken for metres are more frequent.
_USUAL: Final = {
    "pixel_size": (2e-4, "5.8 µm is 5.8e-6"),
    "sample_to_detector": (100.0, "500 mm is 0.5"),
    "source_to_sample": (1000.0, "500 mm is 0.5"),
}


@dataclass(frozen=True, kw_only=True)
class Survey:
    """A scan as it stands before the work.

    Parameters
    ----------
    draft : Draft
        What the scan file states.
    series : mapping of str to FrameSeries
        The frames by their role, as far as they can be opened.
    pairing : Pairing or None
        Which of them belong together; None if they do not fit.
    shape : (y, x) or None
        Size of the prepared frames.
    binning : int
        Pixels of the detector along one of the prepared frames.
    offers : tuple of Offer
        What the headers say of the geometry.
    outputs : tuple of Path
        Every file that may be written.
    faults : tuple of str
        Everything that is wrong.
    remarks : tuple of str
        What a person should look at.
    """

    draft: Draft
    series: Mapping[str, FrameSeries]
    pairing: Pairing | None
    shape: tuple[int, int] | None
    binning: int
    offers: tuple[Offer, ...]
    outputs: tuple[Path, ...]
    faults: tuple[str, ...]
    remarks: tuple[str, ...]

    @property
    def experiment(self) -> Experiment:
        """The experiment with the pixel of the prepared frames."""
        experiment = self.draft.finish().experiment
        return dataclasses.replace(experiment, pixel_size=experiment.pixel_size * self.binning)


def survey(draft: Draft) -> Survey:
    """Look at a scan without reading a frame; every fault is found, none is raised.

    Parameters
    ----------
    draft : Draft
        What the scan file states.

    Returns
    -------
    Survey
        With all faults of the scan file, the frames' headers and the files to write.
    """
    faults: list[str] = []
    series = _open(draft, faults)
    pairing = _pair(draft, series, faults)
    offers = offer_geometry(series["reference"]) if "reference" in series else ()
    first = series.get("reference") or series.get("sample")
    shape, binning = prepared_shape(draft, None if first is None else first.shape, faults)
    outputs = _outputs(draft)
    faults += _output_faults(draft, series, outputs, shape)
    if draft.scan is not None:
        faults.append(
            "scan: the file states many projections, and this is about a single one; run xmist scan"
        )
    return Survey(
        draft=draft,
        series=series,
        pairing=pairing,
        shape=shape,
        binning=binning,
        offers=offers,
        outputs=outputs,
        faults=(*draft.tell(_hints(offers)), *faults),
        remarks=(*_key_remarks(series), *_remarks(draft, offers)),
    )


def _open(draft: Draft, faults: list[str]) -> dict[str, FrameSeries]:
    series: dict[str, FrameSeries] = {}
    for role in ROLES:
        spec = getattr(draft.input, role)
        if spec is None:
            continue
        still = role in ("dark", "flat")
        try:
            series[role] = open_frames(
                spec,
                name=draft.called.get(f"input.{role}", f"input.{role}"),
                folder=draft.folder,
                position_key=None if still else draft.input.position_key,
            )
        except InputError as error:
            faults += error.faults
    return series


def _pair(draft: Draft, series: Mapping[str, FrameSeries], faults: list[str]) -> Pairing | None:
    if "reference" not in series or "sample" not in series:
        return None
    reference, sample = series["reference"], series["sample"]
    same = {source.label for source in reference.sources} & {source.label for source in sample.sources}
    if same:
        faults.append(
            f"{listed(sorted(same))} stands in {reference.name} and in {sample.name}; "
            "expected different frames"
        )
        return None
    for role in ("dark", "flat"):
        still = series.get(role)
        if still is not None and still.shape != reference.shape:
            faults.append(
                f"{still.name} has frames of {_size(still.shape)} pixels; expected {_size(reference.shape)}, "
                "as the reference has"
            )
    try:
        pairing = pair_frames(reference, sample, exposures=draft.input.exposures)
    except InputError as error:
        faults += error.faults
        return None
    least = METHODS[draft.method].minimum_positions if draft.method else 1
    if len(pairing) < least:
        faults.append(
            f"{reference.name} has {len(pairing)} position{'s' * (len(pairing) > 1)} of the mask; "
            f"{draft.method} needs at least {least}"
        )
    return pairing


def prepared_shape(
    draft: Draft, shape: tuple[int, int] | None, faults: list[str]
) -> tuple[tuple[int, int] | None, int]:
    """Follow the size of a frame through the steps that change it.

    Parameters
    ----------
    draft : Draft
        What the scan file states.
    shape : (y, x) or None
        Size of a frame as it is read.
    faults : list of str
        Receives a sentence for each fault.

    Returns
    -------
    (y, x) or None
        Size of a prepared frame; None if there is a fault.
    int
        Pixels of the detector along one of the prepared frame.
    """
    if shape is None or draft.preprocess is None:
        return None, 1
    binning = 1
    for number, (name, given) in enumerate(draft.preprocess, 1):
        options = make_step_options(name, given)
        try:
            ys, xs = box_slices(getattr(options, "rows", None), getattr(options, "columns", None), shape)
        except InputError as error:
            faults += [f"preprocess[{number}].{message}" for message in error.faults]
            return None, 1
        if name == "crop":
            shape = (ys.stop - ys.start, xs.stop - xs.start)
        elif name == "bin":
            binning *= options.size
            shape = (shape[0] // options.size, shape[1] // options.size)
        if min(shape) < SMALLEST_FRAME:
            faults.append(
                f"preprocess[{number}] ({name}) leaves {_size(shape)} pixels; expected at least "
                f"{SMALLEST_FRAME} × {SMALLEST_FRAME}"
            )
            return None, 1
    return shape, binning


def _outputs(draft: Draft) -> tuple[Path, ...]:
    """Give every file that may be written; a TIFF is one for each channel."""
    outputs: list[Path] = []
    for path in draft.files:
        if path.suffix.lower() in TIFF_ENDINGS:
            gives = METHODS[draft.method].gives if draft.method else ()
            outputs += [path.with_name(f"{path.stem}_{name}{path.suffix}") for name in (*gives, "flags")]
        else:
            outputs.append(path)
    return tuple(outputs)


def _output_faults(
    draft: Draft,
    series: Mapping[str, FrameSeries],
    outputs: Sequence[Path],
    shape: tuple[int, int] | None,
) -> list[str]:
    faults: list[str] = []
    read = [path for frames in series.values() for path in frames.files]
    precious = reading_faults(draft, read, outputs)
    for path in outputs:
        if path in precious:
            faults.append(precious[path])
        else:
            faults += [error.message for error in target_errors(path, overwrite=draft.overwrite)]
    if not faults and shape is not None and draft.method:
        faults += _space_faults(draft, outputs, shape)
    return faults


def _space_faults(draft: Draft, outputs: Sequence[Path], shape: tuple[int, int]) -> list[str]:
    """Say if a disk or a limit has no room for the results."""
    gives = METHODS[draft.method].gives if draft.method else ()
    images = sum(len(CHANNELS[name].components) or 1 for name in gives)
    pixels = math.prod(shape)
    needs: dict[Path, int] = {}
    largest: dict[Path, int] = {}
    for path in outputs:
        if path.suffix.lower() in NEXUS_ENDINGS:
            size = pixels * (4 * images + 2)
        elif path.suffix.lower() in TIFF_ENDINGS:
            size = pixels * 4
        else:
            size = 0  # a picture has the size of its paper
        folder = path.parent
        needs[folder] = needs.get(folder, 0) + size
        largest[folder] = max(largest.get(folder, 0), size)
    limit = _largest_file()
    faults = []
    for folder, need in needs.items():
        with suppress(OSError):
            free = shutil.disk_usage(folder).free
            if free < need:
                faults.append(
                    f"no space on the disk of {folder}: the results need up to {amount(need)}, and "
                    f"{amount(free)} are free; make room, or write elsewhere"
                )
        if limit is not None and largest[folder] > limit:
            faults.append(
                f"the system limits a file to {amount(limit)} and a result needs up to "
                f"{amount(largest[folder])}; raise the limit (ulimit -f), or crop the frames"
            )
    return faults


def _largest_file() -> int | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    return None if soft == resource.RLIM_INFINITY else soft


def _hints(offers: Sequence[Offer]) -> dict[str, str]:
    """Give for each key of the experiment what the headers offer."""
    hints: dict[str, list[str]] = {}
    for offer in offers:
        text = f"{offer.value:.6g} {offer.unit} ({offer.source}{f': {offer.note}' if offer.note else ''})"
        hints.setdefault(f"experiment.{offer.name}", []).append(text)
    return {path: f"the header offers {' or '.join(texts)}" for path, texts in hints.items()}


def _key_remarks(series: Mapping[str, FrameSeries]) -> list[str]:
    """Say where frames of a file are taken together that it tells apart."""
    return [
        f"{frames.name}: {remark}"
        for frames in series.values()
        if (remark := next(filter(None, (getattr(source, "remark", "") for source in frames.sources)), ""))
    ]


def _remarks(draft: Draft, offers: Sequence[Offer]) -> list[str]:
    remarks: list[str] = []
    if draft.experiment is None:
        return remarks
    for name, (most, advice) in _USUAL.items():
        given = getattr(draft.experiment, name)
        if given is not None and given > most:
            called = draft.called.get(f"experiment.{name}", f"experiment.{name}")
            remarks.append(f"{called} is {given:.6g} m, more than is usual; metres are expected: {advice}")
    for name in dict.fromkeys(offer.name for offer in offers):
        given = getattr(draft.experiment, name)
        found = [offer for offer in offers if offer.name == name]
        if given is None or not any(math.isclose(given, offer.value, rel_tol=_AGREEMENT) for offer in found):
            stated = "not given (parallel beam)" if given is None else f"{given:.6g} {found[0].unit}"
            remarks.append(
                f"{draft.called.get(f'experiment.{name}', f'experiment.{name}')} is {stated}; "
                f"{_hints(found)[f'experiment.{name}']}"
            )
    return remarks


def _size(shape: tuple[int, int]) -> str:
    return f"{shape[0]} × {shape[1]}"


def amount(size: float) -> str:
    """Write a number of bytes for people.

    Parameters
    ----------
    size : float
        Bytes.

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
