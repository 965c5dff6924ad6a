"""Step flux: scale all frames to one flux, which bare beam in the frames or a monitor shows."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xmist.core.arrays import Image
from xmist.core.errors import InputError
from xmist.core.options import Options, Range
from xmist.numerics.images.bare_beam import block_sums, brightest_blocks
from xmist.preprocess.frames import Frames, Span, SpanOption, box_slices, check_pair

_BLOCK = 16  # pixels a side; averages over speckle, and is smaller than bare beam around a sample


class FluxOptions(Options):
    """Options of `flux`; see `xmist.preprocess.normalise_flux`.

    Parameters
    ----------
    rows, columns : (start, stop), optional
        Box of bare beam, counted from 0, stop excluded; without it, bare beam is found in the frames.
    source : str
        Where the flux comes from: "frames", their bare beam; "monitor", a monitor or the ring current that
        the files state for each frame, times the exposure time where it is stated; "time", the exposure time.
    monitor : str, optional
        Key of the monitor in the headers, such as "/entry/control/data"; it is looked for if left out.

    Examples
    --------
    >>> FluxOptions(rows=[0, 50]).rows
    (0, 50)
    """

    rows: SpanOption = None
    columns: SpanOption = None
    source: Literal["frames", "monitor", "time"] = "frames"
    monitor: Annotated[str, Range(expected="a key of the headers, such as '/entry/control/data'")] | None = (
        None
    )


def normalise_flux(
    reference: ArrayLike,
    sample: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    rows: Span | None = None,
    columns: Span | None = None,
) -> tuple[Image, Image]:
    """Scale every frame to the flux that the reference frames have on average.

    Parameters
    ----------
    reference, sample : (position, y, x) array_like
        Frames.
    weights : (position, y, x) array_like, optional
        Weights; pixels of weight 0 do not count.
    rows, columns : (start, stop), optional
        Box of bare beam, counted from 0, stop excluded. Where both are None the flux of the references is
        that of all pixels, and the bare beam of the sample frames is looked for (see Notes).

    Returns
    -------
    reference, sample : (position, y, x) float32 array
        Scaled frames; counts stay counts.

    Raises
    ------
    InputError
        If the frames or the box are invalid, or if there is no flux to scale to.

    Notes
    -----
    To find bare beam, the ratio of sample to reference is averaged over blocks of 16 × 16 pixels and all
    positions. Bare beam is the brightest cluster of ratios that holds at least 5 % of the blocks; a cluster
    is as wide as four times the scatter between neighbouring blocks. Where a sample covers the whole frame,
    its brightest part is taken for bare beam.

    Examples
    --------
    >>> reference = np.random.default_rng(1).uniform(90, 110, (2, 40, 50))
    >>> bare, sample = normalise_flux(reference, 0.8 * reference, rows=(0, 20), columns=(0, 20))
    >>> round(float((sample / bare).mean()), 5)
    1.0
    """
    first, second, given = check_pair(reference, sample, weights)
    factors, _ = flux_factors(first, second, given, rows=rows, columns=columns)
    return scale_frames(first, factors[0]), scale_frames(second, factors[1])


def scale_frames(frames: Image, factors: NDArray[np.float64]) -> Image:
    """Multiply each frame (position, y, x) by its factor (position,)."""
    with np.errstate(over="ignore"):  # beyond float32 becomes inf, which is a bad pixel
        return frames * factors.astype(np.float32)[:, None, None]


def flux_factors(
    reference: Image,
    sample: Image,
    weights: Image | None,
    *,
    rows: Span | None,
    columns: Span | None,
) -> tuple[NDArray[np.float64], float]:
    """Return factors (2, position) of reference and sample frames, and the share of bare beam in the frame.

    See `normalise_flux`; `rows` and `columns` are the box of bare beam, or None.
    """
    ys, xs = box_slices(rows, columns, (reference.shape[1], reference.shape[2]))
    block = 0 if rows is not None or columns is not None else _BLOCK
    sums = np.array(
        [
            block_sums(
                reference[n, ys, xs],
                sample[n, ys, xs],
                None if weights is None else weights[n, ys, xs],
                block,
            )
            for n in range(len(reference))
        ]
    )
    flux = sums[:, 0].sum(axis=1) / np.maximum(sums[:, 2].sum(axis=1), 1.0)
    if not (flux > 0).all():
        dark = int(np.flatnonzero(~(flux > 0))[0])
        where = "in the box" if block == 0 else "of weight above 0"
        raise InputError(
            f"reference {dark} has no flux in the pixels {where}; expected bare beam there",
            "flux-undetermined",
        )
    bare = np.ones(sums.shape[2], bool) if block == 0 else brightest_blocks(sums)
    ratio = sums[:, 1][:, bare].sum(axis=1) / np.maximum(sums[:, 0][:, bare].sum(axis=1), 1e-300)
    if not (ratio > 0).all():
        dark = int(np.flatnonzero(~(ratio > 0))[0])
        raise InputError(
            f"sample {dark} has no flux where bare beam is expected; give rows and columns of it",
            "flux-undetermined",
        )
    scale = flux.mean() / flux
    share = (ys.stop - ys.start) * (xs.stop - xs.start) / reference[0].size
    return np.array([scale, scale / ratio]), float(share * bare.mean())


def apply_flux(frames: Frames, options: FluxOptions) -> Frames:
    """Scale reference and sample frames to the mean flux of the references."""
    if options.source != "frames":
        return _apply_beam(frames, options)
    factors, share = flux_factors(
        frames.reference, frames.sample, frames.weights, rows=options.rows, columns=options.columns
    )
    how = "given" if options.rows or options.columns else "found"
    return frames.replace(
        f"flux: reference frames × {_range(factors[0])}, sample frames × {_range(factors[1])}; bare beam is "
        f"{100 * share:.3g} % of the frame ({how})",
        reference=scale_frames(frames.reference, factors[0]),
        sample=scale_frames(frames.sample, factors[1]),
    )


def _apply_beam(frames: Frames, options: FluxOptions) -> Frames:
    """Scale frames by the monitor or exposure time in the files, to the mean of the references."""
    beam = frames.beam
    name = "exposure time" if options.source == "time" else "monitor"
    if options.rows or options.columns:
        raise InputError(
            f'rows and columns are a box of bare beam, and source = "{options.source}" needs none; leave '
            "them out",
            "option-conflict",
        )
    if beam is None or not (np.isfinite(beam) & (beam > 0)).all():
        unknown = 0 if beam is None else int(np.count_nonzero(np.isnan(beam)))
        if beam is None or unknown == beam.size:
            found = "no frame has one"
        elif unknown:
            found = f"{unknown} of {beam.size} frames have none"
        else:
            found = f"a frame has {float(beam.min()):g}"
        raise InputError(
            f"the {name} of all frames is not known ({found}); expected numbers above 0 in the headers: see "
            'xmist info, name it with monitor = "…", or use source = "frames"',
            "monitor-missing",
        )
    factors = beam[0].mean() / beam
    return frames.replace(
        f"flux: reference frames × {_range(factors[0])}, sample frames × {_range(factors[1])}, by the {name}",
        reference=scale_frames(frames.reference, factors[0]),
        sample=scale_frames(frames.sample, factors[1]),
        beam=None,
    )


def _range(values: NDArray[np.float64]) -> str:
    low, high = float(values.min()), float(values.max())
    return f"{low:.4f}" if high - low < 5e-5 else f"{low:.4f} to {high:.4f}"
