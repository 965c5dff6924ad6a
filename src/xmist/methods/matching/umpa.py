"""`umpa`: shift, transmission and visibility by matching windows of all exposures, one pixel at a time.

Zdora et al. 2017, "X-ray phase-contrast imaging and metrology through unified modulated pattern analysis",
Phys. Rev. Lett. 118 203903, doi:10.1103/PhysRevLett.118.203903; De Marco et al. 2023, Opt. Express 31 635,
doi:10.1364/OE.474794. At each pixel, with a window w and R̄ the windowed mean of the reference, minimise

    Σ_n Σ_r w(r) [ I_S,n(r) − T { R̄_n(r−u) + V (R_n(r−u) − R̄_n(r−u)) } ]²                             (1)

over u, T and V. Speckles move by u = (∆/k)∇φ. T is what the speckles' mean is multiplied by: attenuation,
and the concentration by lensing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from numpy.typing import ArrayLike

from xmist.core.experiment import Experiment
from xmist.methods.matching.common import MatchingPlan, prepare_matching
from xmist.methods.matching.options import MatchingOptions
from xmist.numerics.matching.match import MEANS, SCALE


@dataclass(frozen=True, kw_only=True)
class UmpaOptions(MatchingOptions):
    """Options of `umpa`.

    Parameters
    ----------
    window : int
        Pixels a side of the window, odd, at least 3.
    max_shift : int, optional
        Shifts up to so many pixels along either axis are searched, about 0 or the start values. None: 4, or 1
        about start values.
    dark_field : str
        "scalar", or "none" for eq. (1) with V = 1.
    weighting : str
        "flat" or "hamming": weights in the window. Flat averages more and gives the better dark-field.
    initial : str, Retrieval or (2, y, x) array, optional
        Start values of the search: a method that is run first with its own default options, its result, or
        shifts along x and y in pixels.
    integrator : str
        "dct" (Frankot–Chellappa with the even mirror) or "southwell", for the phase.
    background : (y, x) bool array or (int, int, int, int), optional
        Bare beam, where the shift and φ are set to 0, T and V to 1 in the mean: a mask, or a box
        y0, y1, x0, x1 in pixels, ends excluded.

    Raises
    ------
    InputError
        Lists every value that is out of range.

    Examples
    --------
    >>> UmpaOptions(window=7).window
    7
    """

    @staticmethod
    def smallest_window() -> int:
        """Least pixels a side: the mean over one pixel is the pixel itself."""
        return 3


OPTIONS: Final = UmpaOptions


def prepare(
    reference: ArrayLike,
    experiment: Experiment,
    options: UmpaOptions,
    *,
    weights: ArrayLike | None = None,
    threads: int | None = None,
) -> MatchingPlan:
    """Do once what depends on the reference alone; see `xmist.prepare`."""
    return prepare_matching(
        reference,
        experiment,
        options,
        method="umpa",
        model=MEANS if options.dark_field == "scalar" else SCALE,
        minimum=1,
        weights=weights,
        threads=threads,
    )
