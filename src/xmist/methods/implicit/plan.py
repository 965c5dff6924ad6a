"""The plan of the implicit methods: least squares at every pixel, then the image channels of the method."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xmist.core import flags as flag
from xmist.core.arrays import Image
from xmist.core.data import Retrieval
from xmist.core.experiment import Experiment
from xmist.core.findings import Finding
from xmist.core.options import Options
from xmist.core.version import __version__
from xmist.methods.common.background import background_mask
from xmist.methods.common.bare_beam import use_bare_beam
from xmist.methods.common.border import check_border
from xmist.methods.common.findings import describe_flags
from xmist.methods.common.frames import check_frames
from xmist.methods.common.motion import check_motion
from xmist.methods.common.period import check_period
from xmist.methods.common.phase import epsilon_of, refraction_of, screening_length2
from xmist.methods.common.reference import PreparedReference
from xmist.methods.implicit.pixelwise import PixelwiseSystem, prepare_pixelwise
from xmist.methods.implicit.regularisation import Agreement, choose, cutoff_of
from xmist.numerics.images.tensors import eigenvalues, nearest_positive


@dataclass(kw_only=True, eq=False)
class Solution:
    """The least-squares solution of one projection; a method makes image channels of it, in place."""

    experiment: Experiment
    options: Any
    reference: PreparedReference
    sample: Image  # (position, y, x), may hold anything where the weight is 0
    weights: Image | None  # given with the sample frames
    unknowns: Image  # (unknown, y, x) in pixel units; NaN where lost
    flags: NDArray[np.uint16]
    lost: NDArray[np.bool_]  # (y, x), determined by no frame
    epsilon: float | None  # rad per pixel, of the inverse Laplacian
    threads: int
    findings: list[Finding]
    provenance: dict[str, Any]

    @property
    def scatter(self) -> float:
        """The factor p²/∆ from d in pixels² to D in m."""
        return self.experiment.effective_pixel**2 / self.experiment.effective_distance

    @property
    def length2(self) -> float:
        """ℓ² = γ∆/(2kp²) in pixels²; 0 without δ/β."""
        return screening_length2(self.experiment, self.options.delta_over_beta)

    def clip(self, dark_field: Image) -> None:
        """Set a negative dark-field to 0 and flag it, if the options ask for it."""
        if self.options.positive:
            negative = dark_field < 0.0
            dark_field[negative] = 0.0
            self.flags[negative] |= flag.CLIPPED

    def clip_tensor(self, tensor: Image) -> Image:
        """Return the nearest positive semi-definite tensor and flag changes, if the options ask for it."""
        if not self.options.positive:
            return tensor
        self.flags[eigenvalues(tensor)[1] < 0.0] |= flag.CLIPPED
        return nearest_positive(tensor)


Channels = dict[str, Any]  # and "diagnostics", if there are some; the refraction angle follows from the phase


@dataclass(frozen=True, kw_only=True, eq=False)
class ImplicitPlan:
    """An implicit method prepared for a reference; call it with the sample frames of a projection."""

    method: str
    experiment: Experiment
    options: Any
    equations: PixelwiseSystem
    channels: Callable[[Solution], Channels]
    may_attenuate: bool = True
    first_order: bool = True  # the equations neglect what is of second order in the shift
    comparison: Agreement | None = None  # what an automatic ridge compares

    def __call__(self, sample: ArrayLike, *, weights: ArrayLike | None = None) -> Retrieval:
        """Retrieve one projection from (position, y, x) sample frames; weights multiply the reference's."""
        equations, options = self.equations, self.options
        frames, given, combined, flags = equations.take(sample, weights)
        cutoff = getattr(options, "cutoff_length", None)
        epsilon = epsilon_of(cutoff, self.experiment) if isinstance(cutoff, float) else None
        provenance: dict[str, Any] = {
            "xmist_version": __version__,
            "positions": len(frames),
            **equations.reference.record(self.experiment),
        }
        wanted = [name for name in ("ridge", "cutoff_length") if getattr(options, name, None) == "auto"]
        if wanted and self.comparison is not None:
            equations, chosen = choose(equations, frames, combined, self.comparison, wanted)
            epsilon = chosen if "cutoff_length" in wanted else epsilon
            record = {
                "ridge": equations.relative_ridge,
                "cutoff_length": cutoff_of(epsilon, self.experiment),
            }
            provenance["regularisation"] = {name: record[name] for name in wanted}
        unknowns = equations.solve(frames, given, combined, flags)
        found = Solution(
            experiment=self.experiment,
            options=options,
            reference=equations.reference,
            sample=frames,
            weights=given,
            unknowns=unknowns,
            flags=flags,
            lost=(flags & flag.UNDETERMINED) > 0,
            epsilon=epsilon,
            threads=equations.threads,
            findings=check_frames(
                equations.reference.frames,
                frames,
                equations.reference.weights,
                may_attenuate=self.may_attenuate,
                sparse=equations.reference.sparse,
            ),
            provenance=provenance,
        )
        channels = self.channels(found)
        if "phase" in channels and "refraction_angle" not in channels:
            channels["refraction_angle"] = refraction_of(
                channels["phase"], self.experiment, threads=equations.threads
            )
        result = Retrieval(
            method=self.method,
            experiment=self.experiment,
            options=options.plain(),
            flags=flags,
            findings=(*found.findings, *describe_flags(flags)),
            provenance=provenance,
            **channels,
        )
        reference = equations.reference
        result = check_border(result, reference.frames, frames, reference.weights, given)
        result = check_motion(
            result,
            reference.frames,
            frames,
            reference.weights,
            first_order=self.first_order,
            threads=equations.threads,
        )
        return use_bare_beam(
            check_period(result, reference.frames, reference.weights),
            reference.frames,
            frames,
            reference.weights,
            background=background_mask(getattr(options, "background", None), flags.shape),
            threads=equations.threads,
        )


def prepare_equations(
    reference: PreparedReference, columns: Sequence[int], options: Options, *, threads: int | None
) -> PixelwiseSystem:
    """Sum the terms that depend on the reference alone; an automatic ridge is added for each projection."""
    ridge = getattr(options, "ridge", 0.0)
    return prepare_pixelwise(
        reference,
        columns,
        smoothing=getattr(options, "smoothing", 0.0),
        window=getattr(options, "window", 1),
        ridge=0.0 if ridge == "auto" else ridge,
        threads=threads,
    )
