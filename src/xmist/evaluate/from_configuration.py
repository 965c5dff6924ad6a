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
from xmist.methods import METHODS
from xmist.preprocess import bin_frames, crop
from xmist.workflow.configuration import Draft
from xmist.workflow.discovery import Discovery, discover
from xmist.workflow.outputs import overlap_errors
from xmist.workflow.run import load_projection
from xmist.workflow.schema import CompareSection, RegionsSection

TRUTH: Final = "truth.h5"  # beside the scan file, as `xmist simulate` writes it

# What a comparison does not need of a scan file.
_NEEDLESS: Final = frozenset({"retrieve.method", "output.files"})


def compare_scan(
    scan: Draft,
    folder: str | Path,
    *,
    methods: Sequence[str] | None = None,
    positions: Sequence[int] | None = None,
    projection: int | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    regions: Mapping[str, Any] | None = None,
    truth: str | Path | None = None,
    resolution: bool | None = None,
    threads: int | None = None,
    results: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
    faults: Sequence[ErrorRecord | str] = (),
) -> Comparison:
    """Compare methods on the frames of a scan file, and write tables and figures."""
    tell = progress or (lambda *_: None)
    wished = scan.compare or CompareSection()
    chosen = tuple((wished.methods or METHODS_COMPARED) if methods is None else methods)
    numbers = tuple((wished.positions or POSITIONS_COMPARED) if positions is None else positions)
    boxes = {**_boxes(scan.regions), **(regions or {})}
    problems = [
        problem
        for problem in scan.problems
        if not (problem.path in _NEEDLESS and problem.code == "option-missing")
    ]
    bare = dataclasses.replace(scan, problems=tuple(problems), method=None, options={}, files=())
    found = discover(bare)
    wrong: list[str | ErrorRecord] = [*scan.named(found.errors)]
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
    read = list(found.files)
    read.append(scan.folder / (truth or wished.truth or TRUTH))
    wrong += _target_faults(scan, folder, targets, read, overwrite=overwrite)
    raise_errors([*wrong, *faults])
    try:
        loaded = load_projection(bare, projection, tell, found)
        compared = compare(
            loaded.stack,
            loaded.experiment,
            methods=chosen,
            positions=numbers,
            options=_options(scan, options or {}, chosen),
            regions=boxes,
            truth=right,
            resolution=wished.resolution if resolution is None else resolution,
            threads=scan.threads if threads is None else threads,
            progress=progress,
        )
    except InputError as error:
        raise InputError(scan.named(error.records)) from error
    about = {
        "scan": scan.source,
        "projection": loaded.number,
        "input": loaded.provenance["input"],
        "binning": found.binning,
        "noise": loaded.provenance["noise"],
    }
    compared = dataclasses.replace(
        compared,
        about=about,
        steps=tuple(loaded.provenance["preprocessing"]),
        findings=(*found.findings, *findings),
    )
    tell("drawing", 0, 1)
    compared.save(folder, results=results, overwrite=overwrite)
    return compared


def _options(
    scan: Draft, given: Mapping[str, Mapping[str, Any]], methods: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Return the options of each method: of [options], then [options.METHOD], then those that are given."""
    known = [name for name in methods if name in METHODS]
    found: dict[str, dict[str, Any]] = {name: values for name in known if (values := scan.options_of(name))}
    for name, more in given.items():
        found[name] = {**found.get(name, {}), **more}
    return found


def _boxes(section: RegionsSection | None) -> dict[str, Any]:
    return {} if section is None else {"outside": section.outside, "inside": section.inside}


def _target_faults(
    scan: Draft, folder: str | Path, targets: Sequence[Path], read: Sequence[Path], *, overwrite: bool
) -> list[Any]:
    """Return why the files cannot be written, or which of them would replace an input."""
    faults: list[Any] = list(folder_errors(folder))
    if faults:
        return faults
    precious = overlap_errors(scan, read, targets)
    for path in targets:
        if path in precious:
            faults.append(precious[path])
        elif path.exists():
            faults += [error.message for error in target_errors(path, overwrite=overwrite)]
    return faults


def _truth(
    scan: Draft, given: str | Path | None, found: Discovery, faults: list[str | ErrorRecord]
) -> tuple[Mapping[str, NDArray[Any]] | None, list[Finding]]:
    """Return what is right, as large as the prepared frames, and a remark if a file beside does not fit."""
    path = scan.folder / (given or TRUTH)
    if given is None and (scan.is_series or not path.is_file()):
        return None, []
    try:
        truth = open_result(path)
    except InputError as error:
        if given is not None:
            faults += [f"truth: {fault}" for fault in error.messages]
        return None, [finding("truth-unused", f"truth: {path} is no result of xmist; not used")]
    if found.shape is None or found.sample is None:
        return None, []  # there are other faults
    raw = found.sample.shape
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
