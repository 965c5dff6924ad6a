"""A method of thirty lines: the transmission as the ratio of sample and reference frames."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from xmist.core.data import Retrieval
from xmist.core.options import Options, Range
from xmist.methods.common.frames import check_frames
from xmist.methods.common.reference import prepare_reference
from xmist.numerics.images.smooth import gaussian


class ToyOptions(Options):
    """Options of `toy`.

    Parameters
    ----------
    blur : float
        Gaussian σ in pixels.
    """

    blur: Annotated[float, Range(0.0, unit="pixels")] = 1.0


OPTIONS = ToyOptions


@dataclass(frozen=True)
class ToyPlan:
    reference: object
    experiment: object
    options: ToyOptions

    def __call__(self, sample, *, weights=None):
        frames, _ = self.reference.check(sample, weights)
        ratio = np.float32(frames.mean(axis=0) / self.reference.frames.mean(axis=0))
        if self.options.blur:
            gaussian(ratio[None], self.options.blur)
        findings = check_frames(self.reference.frames, frames, None, may_attenuate=True)
        return Retrieval(
            method="toy",
            experiment=self.experiment,
            flags=self.reference.flags,
            options=self.options.plain(),
            findings=findings,
            provenance={"positions": len(frames)},
            transmission=ratio,
        )


def prepare(reference, experiment, options, *, weights=None, threads=None):
    """Prepare the method for reference frames."""
    prepared = prepare_reference(reference, weights, method="toy", minimum=1, threads=threads)
    return ToyPlan(prepared, experiment, options)
