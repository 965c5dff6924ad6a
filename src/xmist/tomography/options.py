"""Options of a reconstruction."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from xmist.core.errors import suggest
from xmist.core.options import Options, Parsed, Range
from xmist.io.results.volumes import QUANTITIES

Box = tuple[int, int, int, int]
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
        Iterations of "cgls", which ends before where it has settled, and of "sirt".
    prior : {"none", "smooth", "tv"}
        Prior on the slice in "cgls": the sum of squared differences of neighbours, or total variation.
        Without one, only that iterations end keeps noise down.
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
    iterations: Annotated[int, Range(1, 10_000)] = 20
    prior: Literal["none", "smooth", "tv"] = "smooth"
    strength: Annotated[float, Range(0.0)] = 0.1
    acquisition: Literal["auto", "full", "half"] = "auto"
    padding: Annotated[float | Literal["auto"], Range(0.0, 2.0)] = "auto"


def _as_quantities(value: Any) -> tuple[str, ...]:
    names = [name.strip() for name in value.split(",")] if isinstance(value, str) else list(value)
    unknown = [name for name in names if name not in QUANTITIES]
    if unknown:
        raise ValueError(f"holds {unknown[0]!r}; {suggest(str(unknown[0]), QUANTITIES)}")
    if not names or len(set(names)) < len(names):
        raise ValueError
    return tuple(names)


def _as_box(value: Any) -> str | Box:
    if value in ("auto", "none"):
        return str(value)
    box = tuple(int(part) for part in value.split(",")) if isinstance(value, str) else tuple(value)
    if len(box) != 4 or not all(isinstance(part, int) and not isinstance(part, bool) for part in box):
        raise ValueError
    if not (0 <= box[0] < box[1] and 0 <= box[2] < box[3]):
        raise ValueError
    return box


def _as_numbers(value: Any) -> tuple[int, ...]:
    if isinstance(value, str):
        value = [int(part) for part in value.split(",")]
    numbers = [value] if isinstance(value, int) else list(value)
    if not all(isinstance(part, int) and not isinstance(part, bool) for part in numbers):
        raise ValueError
    return tuple(numbers)


class VolumeOptions(TomographyOptions):
    """Options of volumes from the results of a series.

    Parameters
    ----------
    volumes : tuple of str, optional
        Volumes to reconstruct, of "delta", "mu", "scattering"; all that the results allow if left out.
    delta_from : {"auto", "phase", "refraction"}
        "refraction" reconstructs δ from refraction angles, which need no zero of φ. "auto" does so where the
        object leaves the frame.
    air : "auto", "none" or (y0, y1, x0, x1)
        Where the sample never is: its values are subtracted from the projections. "auto" takes the columns at
        both borders, if the object stays inside the frame.
    exclude : tuple of int
        Numbers of projections to leave out.
    max_valueless : float
        Projections with a larger share of pixels without a value are left out.
    psf_sigma : float, optional
        Width σ of the detector's point spread in m. Details of the dark-field that are lost through it are
        restored as far as noise allows.
    block : int, optional
        Slices in a file.

    Examples
    --------
    >>> VolumeOptions(algorithm="fbp", volumes=("delta",)).volumes
    ('delta',)
    """

    volumes: (
        Annotated[
            Any, Parsed(_as_quantities, 'a list of volumes, such as ["delta", "scattering"], each once', list)
        ]
        | None
    ) = None
    delta_from: Literal["auto", "phase", "refraction"] = "auto"
    air: Annotated[
        Any,
        Parsed(_as_box, '"auto", "none", or a box [y0, y1, x0, x1] in pixels, ends excluded', lambda v: v),
    ] = "auto"
    exclude: Annotated[Any, Parsed(_as_numbers, "a list of numbers of projections", list)] = ()
    max_valueless: Annotated[float, Range(0.0, 1.0)] = 0.05
    psf_sigma: Annotated[float, Range(0.0, 1e-2, above=True, unit="m")] | None = None
    block: Annotated[int, Range(1)] | None = None
