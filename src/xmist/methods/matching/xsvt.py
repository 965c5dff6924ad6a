"""`xsvt`: shift, transmission and visibility by correlation of speckle vectors, one pixel at a time.

Berujon & Ziegler 2015, "Near-field speckle-scanning-based x-ray imaging", Phys. Rev. A 92 013837,
doi:10.1103/PhysRevA.92.013837; 2016, "X-ray multimodal tomography using speckle-vector tracking", Phys. Rev.
Appl. 5 044014, doi:10.1103/PhysRevApplied.5.044014. The N grey values of a pixel, or of a window about it,
are its fingerprint v. The shift u maximises the zero-normalised correlation

    ρ(u) = cov(v_S(r), v_R(r−u)) / (std v_S(r) std v_R(r−u))                                            (1)

T is the ratio of the means, and T V the regression coefficient of v_S on v_R. (The published visibility,
std/mean of one over that of the other, is V/ρ: noise makes it too large.) N = 1 with a window is XST.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from numpy.typing import ArrayLike

from xmist.core.experiment import Experiment
from xmist.methods.matching.common import MatchingPlan, prepare_matching
from xmist.methods.matching.options import MatchingOptions
from xmist.numerics.matching.match import OFFSET


@dataclass(frozen=True, kw_only=True)
class XsvtOptions(MatchingOptions):
    """Options of `xsvt`.

    Parameters
    ----------
    window : int
        Pixels a side of the window, odd; 1 for the published method, which needs N ≥ 3.
    max_shift : int, optional
        Shifts up to so many pixels along either axis are searched, about 0 or the start values. None: 4, or 1
        about start values.
    dark_field : str
        "scalar", or "none": no dark-field and visibility are given.
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
    >>> XsvtOptions(window=1).window
    1
    """


OPTIONS: Final = XsvtOptions


def prepare(
    reference: ArrayLike,
    experiment: Experiment,
    options: XsvtOptions,
    *,
    weights: ArrayLike | None = None,
    threads: int | None = None,
) -> MatchingPlan:
    """Do once what depends on the reference alone; see `xmist.prepare`."""
    return prepare_matching(
        reference,
        experiment,
        options,
        method="xsvt",
        model=OFFSET,
        minimum=3 if options.window == 1 else 1,
        weights=weights,
        threads=threads,
    )
