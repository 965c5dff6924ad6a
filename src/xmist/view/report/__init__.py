"""One self-contained HTML page for results: images to explore, findings and provenance."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

from xmist.core.checks import Checks
from xmist.core.data import Retrieval, SpeckleStack
from xmist.core.errors import ErrorRecord, InputError, raise_errors, shown, suggest
from xmist.io.results.atomic import target_errors, write_file

__all__ = ["write_report"]

ENDINGS: Final = (".html", ".htm")
_END: Final = b"</html>\n"
# Pixels are compared with each other only if they are the same size to this part of it.
_AGREEMENT: Final = 1e-6


def write_report(
    path: str | Path,
    results: Sequence[tuple[str, Retrieval]],
    *,
    channels: Sequence[str] | None = None,
    frames: SpeckleStack | None = None,
    overwrite: bool = False,
) -> Path:
    """Write results as one HTML page that needs no server and no network.

    Parameters
    ----------
    path : str or Path
        The file (`.html`), which appears whole or not at all.
    results : sequence of (str, Retrieval)
        Results with their names. The page shows the first; others can be switched to, and compared with it
        by a slider or by blinking. All have the same number (y, x) of pixels of the same size.
    channels : sequence of str, optional
        Channels to show, such as "phase", each with its standard deviation, and diagnostics by their names;
        None shows all. The flags are always shown.
    frames : SpeckleStack, optional
        Raw frames of the first result, of which the page shows those at three positions at most, binned.
    overwrite : bool
        Replace an existing file.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    InputError
        Lists the errors of the name of the file and of the results.
    OutputError
        When writing failed; says what was kept and where.

    Notes
    -----
    Values travel as 16-bit numbers with their scale, in steps of a 32nd of a pixel's noise or a 65532nd of
    the range, whichever is greater; the page states the step. Every text is shown as text and never run.

    Examples
    --------
    >>> experiment = xmist.Experiment(energy_kev=17.0, pixel_size=5.8e-6, sample_to_detector=1.0)
    >>> flags = np.zeros((8, 9), np.uint16)
    >>> result = xmist.Retrieval(method="mist", experiment=experiment, flags=flags, phase=np.ones((8, 9)))
    >>> write_report("page.html", [("plain", result)]).name
    'page.html'
    """
    results = _pairs(results)
    errors = []
    if channels is not None:
        errors = channel_errors(channels, results)
        results = [(name, _kept(result, channels)) for name, result in results] if not errors else results
    raise_errors([*page_errors(path, overwrite=overwrite), *errors, *_result_errors(results)])

    def write(file: BinaryIO) -> None:
        file.writelines(page_pieces(results, frames))

    return write_file(path, write, _verify, overwrite=overwrite)


def page_pieces(
    results: Sequence[tuple[str, Retrieval]], frames: SpeckleStack | None = None
) -> Iterator[bytes]:
    """Return the page of results that were checked, in pieces."""
    from xmist.view.report.content import Blocks, describe, describe_frames
    from xmist.view.report.document import document

    blocks = Blocks()
    found = [describe(name, result, blocks) for name, result in results]
    title = f"{' · '.join(name for name, _ in results)} · xmist"
    raw = None if frames is None else describe_frames(frames)
    if raw is not None and "quality" in results[0][1].provenance:  # a projection of a series
        raw["name"] = results[0][0]
    for piece in document(title, {"results": found, "frames": raw}, blocks.texts):
        # Names of files can hold bytes that are no text.
        yield piece.encode("utf-8", errors="replace")


def page_errors(path: str | Path, *, overwrite: bool = False) -> Sequence[ErrorRecord]:
    """Return why a page cannot be written to a file."""
    if Path(path).suffix.lower() not in ENDINGS:
        message = f"{path}: a report is a web page; expected a name that ends in .html"
        return [ErrorRecord("ending-unknown", message)]
    return target_errors(path, overwrite=overwrite)


def channel_errors(channels: Sequence[str], results: Sequence[tuple[str, Retrieval]]) -> list[ErrorRecord]:
    """Return the errors of the channels to show."""
    check = Checks()
    known = {name for _, result in results for name in _shown_names(result)}
    if isinstance(channels, str) or not all(isinstance(name, str) for name in channels):
        check.add(f"channels is {shown(channels)}; expected a list of names such as ['phase']")
        return check.errors
    if not channels:
        check.add(f"channels is empty; expected names out of {', '.join(sorted(known))}")
    for name in channels:
        if name not in known:
            check.add(f"channels names '{name}'; {suggest(name, known)}", "channel-missing")
    for name, result in results if not check.errors else ():
        if not any(channel in channels for channel, _ in result.channels()):
            available = ", ".join(channel for channel, _ in result.channels())
            message = f"channels names none that {name} has; expected one at least of {available}"
            check.add(message, "channel-missing")
    return check.errors


def _shown_names(result: Retrieval) -> list[str]:
    return [*(name for name, _ in result.channels()), *result.diagnostics]


def _kept(result: Retrieval, names: Sequence[str]) -> Retrieval:
    """Return a result with some of its channels, their standard deviations, and some of its diagnostics."""
    wanted = {*names, *(f"{name}_std" for name in names)}
    lost: dict[str, Any] = {name: None for name, _ in result.channels() if name not in wanted}
    maps = {name: image for name, image in result.diagnostics.items() if name in wanted}
    return dataclasses.replace(result, **lost, diagnostics=maps)


def _pairs(results: Any) -> list[tuple[str, Retrieval]]:
    """Return the results as a list, if they are pairs of a name and a result."""
    given = list(results) if isinstance(results, Iterable) and not isinstance(results, Mapping) else [results]
    for item in given:
        pair = item if isinstance(item, (tuple, list)) and len(item) == 2 else (None, None)
        if not isinstance(pair[0], str) or not isinstance(pair[1], Retrieval):
            raise InputError(
                f"results hold a {type(item).__name__}; expected pairs of a name and a Retrieval, such as "
                "[('result', result)]",
                code="value-invalid",
            )
    return given


def _result_errors(results: Sequence[tuple[str, Retrieval]]) -> list[ErrorRecord]:
    check = Checks()
    if not results:
        check.add("there is no result to report; expected one at least")
        return check.errors
    first_name, first = results[0]
    for name, result in results:
        one, other = result.experiment.effective_pixel, first.experiment.effective_pixel
        if not result.flags.size or not any(True for _ in result.channels()):
            check.add(f"{name} has no channel or no pixel; expected an image to show", "channel-missing")
        elif result.shape != first.shape:
            sizes = f"{name} has {result.shape} pixels (y, x) and {first_name} {first.shape}"
            check.add(f"{sizes}; expected equal sizes", "shape-mismatch")
        elif abs(one - other) > _AGREEMENT * other:
            check.add(
                f"{name} has pixels of {one:.6g} m in the sample's plane and {first_name} of {other:.6g} m; "
                "expected equal ones"
            )
    names = [name for name, _ in results]
    for name in dict.fromkeys(names):
        if names.count(name) > 1:
            check.add(f"{names.count(name)} results are called {name}; expected different names")
    return check.errors


def _verify(written: Path) -> None:
    with written.open("rb") as file:
        file.seek(-len(_END), 2)
        if file.read() != _END:
            raise ValueError("the page does not end as it should")
