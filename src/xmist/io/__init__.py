"""Files of frames and of results."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, overload

from xmist.core.errors import InputError

if TYPE_CHECKING:
    import xarray

    from xmist.core.data import Retrieval

__all__ = ["RESULT_ENDINGS", "describe", "open_result", "save_result"]

NEXUS_ENDINGS: Final = (".h5", ".hdf5", ".nxs")
TIFF_ENDINGS: Final = (".tif", ".tiff")
PREVIEW_MARK: Final = "xmist-preview"  # keyword in the metadata of the figure of a preview
FIGURE_ENDINGS: Final = (".png", ".pdf", ".svg")
RESULT_ENDINGS: Final = (*NEXUS_ENDINGS, *TIFF_ENDINGS, *FIGURE_ENDINGS)


def save_result(result: Retrieval, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write a result; the ending decides the format.

    Parameters
    ----------
    result : Retrieval
        What to write.
    path : str or Path
        `.h5`, `.hdf5` or `.nxs`: everything, as NeXus HDF5. `.tif` or `.tiff`: one float32 ImageJ file per
        channel, its name added to the stem. (`Retrieval.save` also draws figures.)
    overwrite : bool
        Replace an existing file.

    Returns
    -------
    Path
        The file; for TIFF the first of them.

    Raises
    ------
    InputError
        For an unknown ending, a missing folder, or an existing file.
    OutputError
        When writing failed; states what was kept and where.

    Examples
    --------
    >>> save_result(result, "result.h5")  # doctest: +SKIP
    PosixPath('result.h5')
    """
    path = Path(path)
    ending = path.suffix.lower()
    if not result.flags.size:
        raise InputError(
            f"the result has no pixels (shape {result.shape}); nothing to write to {path}", "result-invalid"
        )
    if ending in NEXUS_ENDINGS:
        from xmist.io.results.nexus import write_nexus

        return write_nexus(result, path, overwrite=overwrite)
    if ending in TIFF_ENDINGS:
        from xmist.io.results.images import write_tiff

        return write_tiff(result, path, overwrite=overwrite)
    if ending in FIGURE_ENDINGS:
        raise InputError(f"save_result writes no figures; Retrieval.save draws {path}", "output-invalid")
    raise InputError(ending_error(path), "output-invalid")


@overload
def open_result(path: str | Path, *, projection: int | None = None) -> Retrieval: ...


@overload
def open_result(path: str | Path, *, chunks: Any) -> xarray.Dataset: ...


def open_result(
    path: str | Path, *, projection: int | None = None, chunks: Any = None
) -> Retrieval | xarray.Dataset:
    """Open a result that was saved as NeXus HDF5, or the results of a series.

    Parameters
    ----------
    path : str or Path
        The file.
    projection : int, optional
        Of a series: the number of the projection to read.
    chunks : int, str, tuple or dict, optional
        Return an xarray dataset of Dask arrays with these chunks, such as {"projection": 16}, which are read
        when they are computed; {} is one projection per chunk (needs `xmist[xarray,dask]`).

    Returns
    -------
    Retrieval or xarray.Dataset
        Equal to what was saved, bit for bit; a dataset of shape (projection, y, x) if `chunks` is given.

    Raises
    ------
    InputError
        If the file is missing, damaged, not a result of xmist, or of a newer schema; or if it holds a series,
        and neither `projection` nor `chunks` is given.

    Examples
    --------
    >>> open_result("result.h5").phase.shape  # doctest: +SKIP
    (2048, 2048)
    >>> open_result("series.h5", chunks={"projection": 16})["phase"].mean("projection")  # doctest: +SKIP
    """
    from xmist.io.results.stacks import is_stack

    if not is_stack(path):
        if projection is not None:
            raise InputError(f"{path} holds a single projection; leave out projection", "option-conflict")
        from xmist.io.results.nexus_reader import read_nexus

        result = read_nexus(path)
        return result if chunks is None else _in_chunks(result, chunks)
    from xmist.io.results.stacks import lazy_dataset, read_projection

    if chunks is not None:
        return lazy_dataset(path, chunks)
    if projection is None:
        raise InputError(
            f"{path} holds a series; give projection=0 for one projection, or chunks={{}} for all as a lazy "
            "dataset",
            "option-missing",
        )
    return read_projection(path, projection)


def _in_chunks(result: Retrieval, chunks: Any) -> xarray.Dataset:
    try:
        return result.to_xarray().chunk(chunks)
    except ImportError:
        raise InputError(
            'chunks needs Dask; install it with: pip install "xmist[xarray,dask]"', "package-missing"
        ) from None
    except (ValueError, TypeError, ArithmeticError, NotImplementedError) as error:
        raise InputError(
            f'chunks is {chunks!r} ({error}); expected such as {{"y": 512}} or "auto"',
            "option-invalid",
        ) from error


def describe(path: str | Path) -> dict[str, Any]:
    """Return what is in a file: a result, or frames.

    Parameters
    ----------
    path : str or Path
        The file; "file.h5::/path" for a dataset of frames in it.

    Returns
    -------
    dict
        Plain data. For a result: `kind` "result", `path`, `bytes`, `method`, `shape` (y, x), `channels` (for
        each the unit, the minimum, median and maximum of the finite values, and the number of NaN),
        `derived` (the same for what follows from the channels, see `Retrieval.derived`),
        `diagnostics` (the same for each map, without unit), `flags` (number of pixels for each flag
        that occurs), `flagged` (number of pixels with any flag), `experiment` (four parameters and
        derived quantities), `options`, `findings`, `provenance`, `written_by` and `schema`. For a
        series: `kind` "stack"; for volumes "volumes". For frames: `kind` "frames", with their
        number, shape, dtype, geometry and header.

    Raises
    ------
    InputError
        If the file is missing, or cannot be read.

    Examples
    --------
    >>> describe("result.h5")["method"]  # doctest: +SKIP
    'mist'
    """
    from xmist.io.results.nexus_reader import read_version
    from xmist.io.results.stacks import describe_stack, is_stack
    from xmist.io.results.summary import describe_result
    from xmist.io.results.volumes import describe_volumes, is_volumes

    if is_volumes(path):
        return describe_volumes(path)
    if is_stack(path):
        return describe_stack(path)
    if "::" not in str(path) and read_version(path) is not None:
        return describe_result(path)
    from xmist.io.frames.frames import describe_frames

    return describe_frames(path)


def ending_error(path: str | Path) -> str:
    """Return why a result cannot be written under a name with this ending.

    >>> ending_error("result.jpg").partition("; ")[0]
    "result.jpg ends in '.jpg'"
    """
    ending = Path(path).suffix
    found = f"ends in '{ending}'" if ending else "has no ending"
    return (
        f"{path} {found}; expected one of {', '.join(NEXUS_ENDINGS)} (all), "
        f"{', '.join(TIFF_ENDINGS)} (images), {', '.join(FIGURE_ENDINGS)} (figure)"
    )
