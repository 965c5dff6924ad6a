"""Compare methods by a configuration file, and write the comparison to a folder."""

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
from xmist.evaluate.defaults import METHODS_COMPARED, POSITIONS_COMPARED, usual_positions
from xmist.evaluate.regions import region_errors
from xmist.evaluate.scoring import CHANNELS_COMPARED
from xmist.io import open_result
from xmist.io.results.atomic import all_target_errors, folder_errors
from xmist.methods import METHODS
from xmist.preprocess import bin_frames, crop
from xmist.workflow.configuration import ParsedConfiguration
from xmist.workflow.discovery import Discovery, discover
from xmist.workflow.outputs import overlap_errors
from xmist.workflow.run import load_projection
from xmist.workflow.schema import CompareSection, RegionsSection

TRUTH: Final = "truth.h5"  # beside the configuration, as `xmist simulate` writes it

# Keys of a configuration that a comparison does not need.
_NEEDLESS: Final = frozenset({"retrieve.method", "output.files"})


def compare_configuration(
    parsed: ParsedConfiguration,
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
    errors: Sequence[ErrorRecord] = (),
) -> Comparison:
    """Compare methods on the frames of a configuration; write tables and figures.

    Arguments replace what the configuration states; `errors` are raised with those that are found here.
    """
    report = progress or (lambda *_: None)
    section = parsed.compare or CompareSection()
    chosen = tuple((section.methods or METHODS_COMPARED) if methods is None else methods)
    boxes = {**_boxes(parsed.regions), **(regions or {})}
    problems = [
        problem
        for problem in parsed.problems
        if not (problem.path in _NEEDLESS and problem.code == "option-missing")
    ]
    bare = dataclasses.replace(parsed, problems=tuple(problems), method=None, options={}, files=())
    found = discover(bare)
    wrong = list(parsed.named(found.errors))
    there = POSITIONS_COMPARED[-1] if found.reference is None else found.reference.positions
    numbers = tuple((section.positions or usual_positions(there)) if positions is None else positions)
    # Methods, options and numbers of the file were checked with it.
    if methods is not None:
        wrong += method_errors(chosen)
    if positions is not None:
        wrong += position_errors(numbers)
    wrong += option_errors(options or {}, chosen)
    if found.shape is not None:
        wrong += region_errors(boxes, found.shape)
    right, findings = _truth(parsed, truth or section.truth, found, wrong)
    targets = target_files(folder, chosen, numbers, results=results)
    if unwritable := folder_errors(folder):
        wrong += unwritable
    else:  # else no file can be written, or replace an input
        read = [*found.files, parsed.folder / (truth or section.truth or TRUTH)]
        inputs = overlap_errors(parsed, read, targets)
        wrong += [inputs[path] for path in targets if path in inputs]
        existing = [path for path in targets if path not in inputs and path.exists()]
        wrong += all_target_errors(existing, overwrite=overwrite)
    raise_errors([*wrong, *errors])
    try:
        loaded = load_projection(bare, projection, report, found)
        compared = compare(
            loaded.stack,
            loaded.experiment,
            methods=chosen,
            positions=numbers,
            options=_options(parsed, options or {}, chosen),
            regions=boxes,
            truth=right,
            resolution=section.resolution if resolution is None else resolution,
            threads=parsed.threads if threads is None else threads,
            progress=progress,
        )
    except InputError as error:
        raise InputError(parsed.named(error.records)) from error
    about = {
        "configuration": parsed.source,
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
    report("drawing", 0, 1)
    compared.save(folder, results=results, overwrite=overwrite)
    return compared


def _options(
    parsed: ParsedConfiguration, given: Mapping[str, Mapping[str, Any]], methods: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Return the options of each method: of [options], then [options.METHOD], then those that are given."""
    known = [name for name in methods if name in METHODS]
    found: dict[str, dict[str, Any]] = {name: values for name in known if (values := parsed.options_of(name))}
    for name, more in given.items():
        found[name] = {**found.get(name, {}), **more}
    return found


def _boxes(section: RegionsSection | None) -> dict[str, Any]:
    return {} if section is None else {"outside": section.outside, "inside": section.inside}


def _truth(
    parsed: ParsedConfiguration, given: str | Path | None, found: Discovery, errors: list[ErrorRecord]
) -> tuple[Mapping[str, NDArray[Any]] | None, list[Finding]]:
    """Return the true images in the size of the prepared frames, or why the file of the truth is not used."""
    path = parsed.folder / (given or TRUTH)
    if given is None and (parsed.is_series or not path.is_file()):
        return None, []
    try:
        truth = open_result(path)
    except InputError as error:
        if given is not None:
            errors += [ErrorRecord(record.code, f"truth: {record.message}") for record in error.records]
        return None, [finding("truth-unused", f"truth: {path} is no result of xmist; not used")]
    if found.shape is None or found.sample is None:
        return None, []  # there are other errors
    raw = found.sample.shape
    images = _prepared(truth, parsed, raw)
    shape = next(iter(images.values())).shape if images else truth.shape
    if images and shape == found.shape:
        return images, []
    if images:
        what, expected = f"{shape[0]} × {shape[1]} pixels", f"the frames' {raw[0]} × {raw[1]}"
    else:
        what, expected = f"none of {', '.join(CHANNELS_COMPARED)}", "one at least"
    if given is not None:
        code = "shape-mismatch" if images else "channel-missing"
        errors.append(ErrorRecord(code, f"truth: {path} has {what}; expected {expected}"))
    return None, [finding("truth-unused", f"truth: {path} has {what}; expected {expected}; not used")]


def _prepared(truth: Retrieval, parsed: ParsedConfiguration, raw: tuple[int, int]) -> dict[str, NDArray[Any]]:
    images = {name: array for name in CHANNELS_COMPARED if (array := getattr(truth, name)) is not None}
    if truth.shape != raw:
        return images
    for step, options in parsed.preprocess or ():
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
