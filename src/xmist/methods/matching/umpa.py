"""`umpa`: shift, transmission and visibility by matching windows at all positions, one pixel at a time.

Zdora et al. 2017, "X-ray phase-contrast imaging and metrology through unified modulated pattern analysis",
Phys. Rev. Lett. 118 203903, doi:10.1103/PhysRevLett.118.203903; De Marco et al. 2023, Opt. Express 31 635,
doi:10.1364/OE.474794. At each pixel, with a window w and R̄ the windowed mean of the reference, minimise

    Σ_n Σ_r w(r) [ I_S,n(r) − T { R̄_n(r−u) + V (R_n(r−u) − R̄_n(r−u)) } ]²                             (1)

over u, T and V. Speckles move by u = (∆/k)∇φ. T multiplies the mean of the speckles: attenuation, and
concentration by lensing. A window has one u: where u changes within it, its variance blurs as scatter does,
and is taken off D (not V).

With `dark_field="tensor"` the model of the blur is an anisotropic Gaussian, after Smith et al. 2022, "X-ray
directional dark-field imaging using Unified Modulated Pattern Analysis", PLOS ONE 17 e0273315,
doi:10.1371/journal.pone.0273315 (its details could not be checked). From the u of (1), minimise

    Σ_n Σ_r w(r) [ I_S,n(r) − T (R_n * G_Σ)(r−u) ]²,   D_ij = Σ_ij p²/(2∆)                              (2)

over the covariance Σ in pixels², T and small changes of u. From two positions on T is one number for each
pixel, not for each window: fine structure of the sample would be taken for scatter otherwise. Noise makes Σ
indefinite where there is little scatter; the negative part counts to first order, R + ½ Σ_ij ∂_i∂_j R, so
that nothing is clipped.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from numpy.typing import ArrayLike

from xmist.core.experiment import Experiment
from xmist.core.options import Range
from xmist.methods.matching.options import MatchingOptions
from xmist.methods.matching.plan import MatchingPlan, prepare_matching
from xmist.methods.matching.region import RegionPlan
from xmist.numerics.matching.match import MEANS, SCALE


class UmpaOptions(MatchingOptions):
    """Options of `umpa`.

    Parameters
    ----------
    window : int
        Side of the window in pixels, odd, at least 3.
    dark_field : {"auto", "none", "scalar", "tensor"}
        Dark-field to determine, with the visibility; "auto" is "scalar". A tensor needs
        a larger window, such as 9, and several positions.

    Examples
    --------
    >>> UmpaOptions(window=7).window
    7
    """

    window: Annotated[int, Range(3, odd=True, unit="pixels")] = 5
    dark_field: Literal["auto", "none", "scalar", "tensor"] = "auto"


OPTIONS: Final = UmpaOptions


def prepare(
    reference: ArrayLike,
    experiment: Experiment,
    options: UmpaOptions,
    *,
    weights: ArrayLike | None = None,
    threads: int | None = None,
) -> MatchingPlan | RegionPlan:
    """Prepare the method for (position, y, x) reference frames; see `xmist.prepare`."""
    return prepare_matching(
        reference,
        experiment,
        options,
        method="umpa",
        model=SCALE if options.dark_field == "none" else MEANS,
        minimum=1,
        weights=weights,
        threads=threads,
    )
