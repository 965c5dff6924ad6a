"""`xsvt`: shift, transmission and visibility by correlation of speckle vectors, one pixel at a time.

Berujon & Ziegler 2015, "Near-field speckle-scanning-based x-ray imaging", Phys. Rev. A 92 013837,
doi:10.1103/PhysRevA.92.013837; 2016, "X-ray multimodal tomography using speckle-vector tracking", Phys. Rev.
Appl. 5 044014, doi:10.1103/PhysRevApplied.5.044014. The N grey values of a pixel, or of a window about it,
are its vector v. The shift u maximises the zero-normalised correlation

    ρ(u) = cov(v_S(r), v_R(r−u)) / (std v_S(r) std v_R(r−u))                                            (1)

T is the ratio of the means, and T V the regression coefficient of v_S on v_R. (The published visibility,
std/mean of one over that of the other, is V/ρ: noise makes it too large.) N = 1 with a window is XST.
"""

from __future__ import annotations

from typing import Final, Literal

from numpy.typing import ArrayLike

from xmist.core.experiment import Experiment
from xmist.methods.matching.options import MatchingOptions
from xmist.methods.matching.plan import MatchingPlan, prepare_matching
from xmist.methods.matching.region import RegionPlan
from xmist.numerics.matching.match import OFFSET


class XsvtOptions(MatchingOptions):
    """Options of `xsvt`.

    Parameters
    ----------
    window : int
        Side of the window in pixels, odd; 1 is the published method, which needs three positions. One
        position, X-ray speckle tracking (XST), needs a window of more than a speckle.
    dark_field : {"auto", "none", "scalar"}
        Dark-field to determine, with the visibility; "auto" is "scalar".

    Examples
    --------
    >>> XsvtOptions(window=1).window
    1
    """

    dark_field: Literal["auto", "none", "scalar"] = "auto"


OPTIONS: Final = XsvtOptions


def prepare(
    reference: ArrayLike,
    experiment: Experiment,
    options: XsvtOptions,
    *,
    weights: ArrayLike | None = None,
    threads: int | None = None,
) -> MatchingPlan | RegionPlan:
    """Prepare the method for (position, y, x) reference frames; see `xmist.prepare`."""
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
