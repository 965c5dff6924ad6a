"""Options of a reconstruction."""

from __future__ import annotations

from typing import Annotated, Literal

from xmist.core.options import Options, Range

Filter = Literal["none", "hann", "hamming", "blackman", "bartlett", "nuttall", "parzen", "triang"]


class TomographyOptions(Options):
    """Options of a reconstruction.

    Parameters
    ----------
    algorithm : {"auto", "fbp", "cgls", "sirt"}
        Filtered back-projection, or an iterative algorithm with the projectors of astra-toolbox. "auto" is
        "cgls" where the projections have weights and astra-toolbox is installed, else "fbp".
    centre : float or "auto"
        Column of the rotation axis in pixels, counted from 0 at the middle of the first pixel.
    rings : {"none", "small", "all"}
        Ring suppression in the sinograms.
    filter : str
        Window on the ramp filter of "fbp"; "none" is the plain ramp.
    iterations : int
        Iterations of "cgls" and "sirt".
    prior : {"none", "smooth", "tv"}
        Prior on the slice in "cgls": the sum of squared differences of neighbours, or total variation.
    strength : float
        Strength of the prior relative to the data; 0.01 to 10 is typical.
    acquisition : {"auto", "full", "half"}
        "half": over 360° with the axis near a border of the frame, each projection shows half of the object.
        "auto" is "half" where the angles span 360° and the axis is off the middle by over 5 % of the width.
    padding : float or "auto"
        Margin on both sides of a slice that "cgls" and "sirt" reconstruct too and cut off, as a share of its
        width: room for an object that leaves the frame. "auto" is 0, and 0.25 where a series shows that the
        object leaves the frame. "fbp" continues each row by its border value.

    Examples
    --------
    >>> TomographyOptions(algorithm="fbp", centre=31.5).centre
    31.5
    """

    algorithm: Literal["auto", "fbp", "cgls", "sirt"] = "auto"
    centre: Annotated[float | Literal["auto"], Range(unit="pixels")] = "auto"
    rings: Literal["none", "small", "all"] = "none"
    filter: Filter = "none"
    iterations: Annotated[int, Range(1, 10_000)] = 30
    prior: Literal["none", "smooth", "tv"] = "none"
    strength: Annotated[float, Range(0.0)] = 0.1
    acquisition: Literal["auto", "full", "half"] = "auto"
    padding: Annotated[float | Literal["auto"], Range(0.0, 2.0)] = "auto"
