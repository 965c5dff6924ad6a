"""A comparison from a scan file to its folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from numpy.typing import NDArray

from xmist.core.data import Retrieval
from xmist.core.errors import ErrorRecord, InputError, raise_errors
from xmist.core.findings import Finding, finding
from xmist.core.progress import Progress
from xmist.evaluate.checks import method_errors, option_errors, position_errors
from xmist.evaluate.comparison import Comparison, compare, target_files
from xmist.evaluate.defaults import METHODS_COMPARED, POSITIONS_COMPARED
from xmist.evaluate.regions import region_errors
from xmist.evaluate.scoring import CHANNELS_COMPARED
from xmist.io import open_result
from xmist.io.results.atomic import folder_errors, target_errors
from xmist.preprocess import bin_frames, crop
from xmist.workflow.configuration import Draft, plain
from xmist.workflow.configuration.schema import CompareSection, RegionsSection
from xmist.workflow.projection import digests, load_stack, read_from
from xmist.workflow.projection.reading import reading_faults
from xmist.workflow.projection.survey import Survey, survey

TRUTH: Final = "truth.h5"  # beside the scan file, as `xmist simulate` writes it

# What a comparison does not need of a scan file.
_NEEDLESS: Final = frozenset({"retrieve.method", "output.files"})


def compare_scan(
    scan: Draft,
    folder: str | Path,
    *,
    methods: Sequence[str] | None = None,
    positions: Sequence[int] | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    regions: Mapping[str, Any] | None = None,
    truth: str | Path | None = None,
    resolution: bool | None = None,
    threads: int | None = None,
    results: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
    faults: Sequence[str] = (),
) -> Comparison:
    """Compare methods on the frames of a scan file, and write tables and figures."""
    tell = progress or (lambda *_: None)
    wished = scan.compare or CompareSection()
    chosen = tuple((wished.methods or METHODS_COMPARED) if methods is None else methods)
    numbers = tuple((wished.positions or POSITIONS_COMPARED) if positions is None else positions)
    boxes = {**_boxes(scan.regions), **(regions or {})}
    problems = [
        (path, text)
        for path, text in scan.problems
        if not (path in _NEEDLESS and text.startswith("is missing"))
    ]
    bare = dataclasses.replace(scan, problems=tuple(problems), method=None, options={}, files=())
    found = survey(bare)
    wrong: list[str | ErrorRecord] = [*scan.named(found.faults)]
    # What the file says of methods, options and numbers was looked at with it.
    if methods is not None:
        wrong += method_errors(chosen)
    if positions is not None:
        wrong += position_errors(numbers)
    wrong += option_errors(options or {}, chosen)
    if found.shape is not None:
        wrong += region_errors(boxes, found.shape)
    right, findings = _truth(scan, truth or wished.truth, found, wrong)
    targets = target_files(folder, chosen, numbers, results=results)
    read = [Path(file) for series in found.series.values() for file in series.files]
    read.append(scan.folder / (truth or wished.truth or TRUTH))
    wrong += _target_faults(scan, folder, targets, read, overwrite=overwrite)
    raise_errors([*wrong, *faults])
    try:
        stack, notes, noise = load_stack(bare, found, tell)
        compared = compare(
            stack,
            found.experiment,
            methods=chosen,
            positions=numbers,
            options=_options(scan, wished, options or {}, chosen),
            regions=boxes,
            truth=right,
            resolution=wished.resolution if resolution is None else resolution,
            threads=scan.threads if threads is None else threads,
            progress=progress,
        )
    except InputError as error:
        raise InputError(scan.named(read_from(found, error))) from error
    about = {
        "scan": scan.source,
        "input": digests(found, tell),
        "binning": found.binning,
        "noise": noise,
    }
    compared = dataclasses.replace(compared, about=about, steps=tuple(notes), findings=tuple(findings))
    tell("drawing", 0, 1)
    compared.save(folder, results=results, overwrite=overwrite)
    return compared


def _options(
    scan: Draft,
    wished: CompareSection,
    given: Mapping[str, Mapping[str, Any]],
    methods: Sequence[str],
) -> dict[str, dict[str, Any]]:
    """Bring the options together; those of methods that are not compared do not matter, unless given."""
    found: dict[str, dict[str, Any]] = {}
    if scan.method is not None and scan.method in methods and scan.options:
        found[scan.method] = dict(scan.options)
    for name, values in wished.options.items():
        if name in methods:  # takes the place of [options] as a whole
            found[name] = {key: plain(value) for key, value in values.items()}
    for name, values in given.items():
        found[name] = {**found.get(name, {}), **values}
    return found


def _boxes(section: RegionsSection | None) -> dict[str, Any]:
    return {} if section is None else {"outside": section.outside, "inside": section.inside}


def _target_faults(
    scan: Draft, folder: str | Path, targets: Sequence[Path], read: Sequence[Path], *, overwrite: bool
) -> list[str]:
    """Return why the files cannot be written, or which of them would replace an input."""
    faults = [error.message for error in folder_errors(folder)]
    if faults:
        return faults
    precious = reading_faults(scan, read, targets)
    for path in targets:
        if path in precious:
            faults.append(precious[path])
        elif path.exists():
            faults += [error.message for error in target_errors(path, overwrite=overwrite)]
    return faults


def _truth(
    scan: Draft, given: str | Path | None, found: Survey, faults: list[str | ErrorRecord]
) -> tuple[Mapping[str, NDArray[Any]] | None, list[Finding]]:
    """Return what is right, as large as the prepared frames, and a remark if a file beside does not fit."""
    path = scan.folder / (given or TRUTH)
    if given is None and not path.is_file():
        return None, []
    try:
        truth = open_result(path)
    except InputError as error:
        if given is not None:
            faults += [f"truth: {fault}" for fault in error.faults]
        return None, [finding("truth-unused", f"truth: {path} is no result of xmist; not used")]
    if found.shape is None or "sample" not in found.series:
        return None, []  # there are other faults
    raw = found.series["sample"].shape
    images = _prepared(truth, scan, raw)
    shape = next(iter(images.values())).shape if images else truth.shape
    if images and shape == found.shape:
        return images, []
    fault = f"truth: {path} has {shape[0]} × {shape[1]} pixels"
    if not images:
        fault = f"truth: {path} has none of {', '.join(CHANNELS_COMPARED)}"
    if given is not None:
        expected = f"the frames' {raw[0]} × {raw[1]}" if images else "one at least"
        faults.append(f"{fault}; expected {expected}")
    unlike = ", unlike the frames" if images else ""
    return None, [finding("truth-unused", f"{fault}{unlike}; not used")]


def _prepared(truth: Retrieval, scan: Draft, raw: tuple[int, int]) -> dict[str, NDArray[Any]]:
    images = {name: array for name in CHANNELS_COMPARED if (array := getattr(truth, name)) is not None}
    if truth.shape != raw:
        return images
    for step, options in scan.preprocess or ():
        if step == "crop":
            images = {
                name: crop(image[None], rows=options.get("rows"), columns=options.get("columns"))[0]
                for name, image in images.items()
            }
        elif step == "bin":
            images = {
                name: bin_frames(image[None], size=options["size"])[0][0] for name, image in images.items()
            }
    return images
