"""Files: frames in, results out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from xmist.errors import InputError

if TYPE_CHECKING:
    from xmist.data import Retrieval

__all__ = ["RESULT_ENDINGS", "describe", "open_result", "save_result"]

NEXUS_ENDINGS: Final = (".h5", ".hdf5", ".nxs")
TIFF_ENDINGS: Final = (".tif", ".tiff")
RESULT_ENDINGS: Final = (*NEXUS_ENDINGS, *TIFF_ENDINGS, ".png")


def save_result(result: Retrieval, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write a result as numbers; the ending decides the format.

    Parameters
    ----------
    result : Retrieval
        What to write.
    path : str or Path
        `.h5`, `.hdf5` or `.nxs`: everything, as NeXus HDF5. `.tif` or `.tiff`: one float32 ImageJ file a
        channel, its name added to the stem. (`.png` is a picture: `Retrieval.save` draws it.)
    overwrite : bool
        Replace a file that stands there already.

    Returns
    -------
    Path
        The file; for TIFF the first of them.

    Raises
    ------
    InputError
        For an unknown ending, a missing folder, or a file that stands there already.
    OutputError
        When writing failed; says what was kept and where.

    Examples
    --------
    >>> save_result(result, "result.h5")  # doctest: +SKIP
    PosixPath('result.h5')
    """
    path = Path(path)
    ending = path.suffix.lower()
    if not result.flags.size:
        raise InputError(f"the result has no pixels (shape {result.shape}); nothing to write to {path}")
    if ending in NEXUS_ENDINGS:
        from xmist.io.nexus import write_nexus

        return write_nexus(result, path, overwrite=overwrite)
    if ending in TIFF_ENDINGS:
        from xmist.io.images import write_tiff

        return write_tiff(result, path, overwrite=overwrite)
    if ending == ".png":
        raise InputError(f"{path} is a picture, and save_result writes numbers; Retrieval.save draws it")
    raise InputError(ending_fault(path))


def open_result(path: str | Path) -> Retrieval:
    """Open a result that was saved as NeXus HDF5.

    Parameters
    ----------
    path : str or Path
        The file.

    Returns
    -------
    Retrieval
        Equal to what was saved, bit for bit.

    Raises
    ------
    InputError
        If the file is missing, holds no result of xmist, comes from a newer schema, or is damaged; names
        the file and what is wrong.

    Examples
    --------
    >>> open_result("result.h5").phase.shape  # doctest: +SKIP
    (2048, 2048)
    """
    from xmist.io.nexus_reader import read_nexus

    return read_nexus(path)


def describe(path: str | Path) -> dict[str, Any]:
    """Say what is in a file: a result, or frames.

    Parameters
    ----------
    path : str or Path
        The file; "file.h5::/path" for a dataset of frames in it.

    Returns
    -------
    dict
        Plain data. For a result: `kind` "result", `path`, `bytes`, `method`, `shape` (y, x), `channels` (for
        each the unit, the least, greatest and median value that is finite, and the number of NaN),
        `diagnostics` (the same of each map, without unit), `flags` (number of pixels for each flag that
        occurs), `flagged` (number of pixels with any flag), `experiment` (four parameters and what follows
        from them), `options`, `findings`, `provenance`, `written_by` and `schema`. For anything else what
        `xmist.io.frames.describe_frames` says.

    Raises
    ------
    InputError
        If the file is missing, or cannot be read.

    Examples
    --------
    >>> describe("result.h5")["method"]  # doctest: +SKIP
    'mist'
    """
    from xmist.io.nexus_reader import read_version
    from xmist.io.summary import describe_result

    if "::" not in str(path) and read_version(path) is not None:
        return describe_result(path)
    from xmist.io.frames import describe_frames

    return describe_frames(path)


def ending_fault(path: str | Path) -> str:
    """Say that a result cannot be written under a name because of its ending.

    Parameters
    ----------
    path : str or Path
        The name.

    Examples
    --------
    >>> ending_fault("result.jpg")
    "result.jpg ends in '.jpg'; expected one of .h5, .hdf5, .nxs (all), .tif, .tiff (images), .png (picture)"
    """
    ending = Path(path).suffix
    found = f"ends in '{ending}'" if ending else "has no ending"
    return f"{path} {found}; expected one of .h5, .hdf5, .nxs (all), .tif, .tiff (images), .png (picture)"
