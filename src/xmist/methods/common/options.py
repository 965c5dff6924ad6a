"""Kinds of options that several methods have, so that a name means the same in all of them."""

from __future__ import annotations

from typing import Annotated, Literal

from xmist.core.options import Range

# Gaussian σ that the normal equations are smoothed with.
Smoothing = Annotated[float, Range(0.0, 1000.0, unit="pixels")]
# Tikhonov term, relative to the mean diagonal of the normal matrix in pixel units.
Ridge = Annotated[float | Literal["auto"], Range(0.0)]
# Length in the sample's plane beyond which the phase is damped.
CutoffLength = Annotated[float | Literal["auto"], Range(0.0, above=True, unit="m")]
# γ = δ/β of the sample's single material.
DeltaOverBeta = Annotated[
    float,
    Range(0.0, 1e9, above=True, expected="the ratio δ/β of the sample's material, a number above 0"),
]
Integrator = Literal["dct", "southwell"]

# What a message says of both.
TIED_PHASE = (
    "is given with delta_over_beta; give only one of them: with delta_over_beta the phase is (γ/2) ln T, "
    "and no cut-off is needed"
)
