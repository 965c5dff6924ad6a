"""The margin around the frames, in which nothing is measured.

A fit continues frames and unknowns by their even mirrors, so that nothing flows through the border. Where
speckles at the border of the frames move, that is wrong: a tilt, a defocus or an object that the border cuts
would be lost. The frames then get a margin of pixels without weight. Nothing flows through the outer border
of the margin, and in it the roughness of ψ (third differences) is as small as can be, so that the data alone
determine ψ at the border. Where nothing moves, the border stays closed: that nothing flows through it is then
useful information, most where the visibility is low.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.core.arrays import Image
from xmist.methods.common.border import moves
from xmist.methods.full_field.problem import FitData
from xmist.numerics.images.border_registration import BorderShifts
from xmist.numerics.images.margin import Margined
from xmist.numerics.operators.stencils import gradient

MARGIN: Final = 16  # pixels on each side; frames binned by two have half of it
_MOVED: Final = 0.02  # rms in pixels of motion through the border that opens it
_REACH: Final = 1.0  # pixels at the border of a reference that the model does not take speckles from


def margin_for(shifts: BorderShifts) -> int:
    """Return the margin that the shifts of speckles at the border need, 0 if there are none."""
    return MARGIN if moves(*shifts.through_border(), _MOVED) else 0


def with_margin(images: NDArray[Any], margin: int, beyond: float) -> NDArray[Any]:
    """Return images (…, y, x) with a margin that holds one value."""
    if margin == 0:
        return images
    widths = [(0, 0)] * (images.ndim - 2) + [(margin, margin)] * 2
    return np.pad(images, widths, constant_values=beyond)


def mirrored(images: Image, margin: int) -> Image | Margined:
    """Return images (position, y, x) with a margin that holds their even mirror, without a copy of all."""
    return images if margin == 0 else Margined(images, margin)


def inside(images: NDArray[Any], margin: int) -> NDArray[Any]:
    """Return images (…, y, x) without their margin."""
    height, width = images.shape[-2:]
    return images[..., margin : height - margin, margin : width - margin]


def quadratic_start(shifts: BorderShifts, shape: tuple[int, ...], margin: int) -> Image:
    """Return ψ (y, x) with its margin, the polynomial of degree 2 whose slopes come nearest to shifts."""
    a, b, c, d, e = shifts.polynomial()
    # They are those of speckles that arrive; ψ is where these come from.
    leaving = np.linalg.inv(np.eye(2) - np.array([[c, e], [e, d]]))
    a, b = leaving @ np.array([a, b])
    (c, e), (_, d) = leaving - np.eye(2)
    y, x = (np.arange(size + 2 * margin) - (size - 1) / 2 - margin for size in shape)
    psi = (a * x + 0.5 * c * x**2) + (b * y + 0.5 * d * y**2)[:, None] + e * np.multiply.outer(y, x)
    return np.asarray(psi - psi.mean(), np.float32)


@dataclass(frozen=True, eq=False)
class Hidden:
    """Pixels (y, x) whose weights are set to 0 temporarily, and their codes (position, pixel)."""

    where: NDArray[np.bool_]
    codes: NDArray[np.uint8]

    def restore(self, data: FitData) -> None:
        """Restore the weights of the pixels."""
        data.weights.codes[:, self.where] = self.codes


def hide_incoming(data: FitData, psi: Image, before: Hidden | None) -> Hidden | None:
    """Set weights to 0 where speckles come from outside the reference, if there is a margin.

    `before`: what was hidden for another ψ (y, x), which gets its weights back.
    """
    if before is not None:
        before.restore(data)
    if data.margin == 0:
        return None
    height, width = psi.shape
    source = -gradient(psi, threads=data.threads)
    source[0] += np.arange(width, dtype=np.float32)
    source[1] += np.arange(height, dtype=np.float32)[:, None]
    least = data.margin + _REACH
    outside = (source < least).any(axis=0)
    outside |= (source[0] > width - 1 - least) | (source[1] > height - 1 - least)
    hidden = Hidden(where=outside, codes=data.weights.codes[:, outside])
    data.weights.codes[:, outside] = 0
    return hidden
