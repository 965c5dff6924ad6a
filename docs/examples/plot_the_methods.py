"""
From the equation to the methods
================================

Every method in xmist is a way to solve equation (M) of :doc:`plot_the_equation`; they differ in what they drop.

*One pixel at a time.* Drop the derivatives of the unknowns that would tie pixels together, and N exposures give N linear equations at
each pixel.

- ``mist``: no attenuation; unknowns ∇²φ and D.
- ``mist-directional``: the same with the tensor D_xx, D_xy, D_yy.
- ``mist-attenuating``: D varies slowly; unknowns a transmission with refraction folded in, and T·D.
- ``mist-rapid``: D may vary rapidly; unknowns D and its gradient.
- ``lcs``: unknowns 1/T and the shift, and D if wished.

*One window at a time.* ``umpa`` and ``xsvt`` compare a small window of the sample frame with the reference moved by every shift, and
take the best. They are no expansion in the shift, so that it may be large, and they pay with resolution.

*The whole image, one unknown.* ``optical-flow`` takes everything for refraction, ``single-material`` ties φ to T by a known δ/β,
and ``single-exposure`` gives what then remains to D. One exposure suffices.

*The whole image, all unknowns.* ``full-field`` fits T, φ and D as images to all exposures at once. It drops nothing, and
neighbouring pixels help each other because a derivative ties them together.

Here is the same sample, which also absorbs, by one method of each kind.
"""

# %%

import numpy as np

import xmist
from xmist import simulate

stack, experiment, truth = simulate.phantom("absorbing", shape=(128, 128), positions=8, seed=3)
few = xmist.SpeckleStack(stack.reference[:2], stack.sample[:2])
results = {
    "lcs, N = 8": xmist.retrieve(stack, experiment, method="lcs", dark_field="scalar", smoothing=1.5),
    "umpa, N = 8": xmist.retrieve(stack, experiment, method="umpa", window=5),
    "full-field, N = 8": xmist.retrieve(stack, experiment, method="full-field"),
    "full-field, N = 2": xmist.retrieve(few, experiment, method="full-field"),
}

# %%
# Rows are methods, the truth on top; a column has one scale of colours.

from xmist.view.figures import comparison

page = comparison(results, ["transmission", "phase", "dark_field"], truth)

# %%
# Numbers to go with it: the correlation with the truth, and the error over the standard deviation of the truth.


def scores(result, channel):
    """Correlation and relative error of a channel, without the mean."""
    found, right = getattr(result, channel), getattr(truth, channel)
    found, right = found - np.nanmean(found), right - right.mean()
    return f"{xmist.evaluate.metrics.correlation(found, right):.3f} ({np.nanstd(found - right) / right.std():.2f})"


print(f"{'':18} {'T':>14} {'φ':>14} {'D':>14}")
for name, result in results.items():
    print(f"{name:18}", *(f"{scores(result, item):>14}" for item in ("transmission", "phase", "dark_field")))

# %%
# The phases are close to each other. What differs: the transmission of the pixelwise and the window methods holds refraction as well: light that a lens spreads
# looks absorbed. And the dark-field, which is far harder than a phase, for it acts on second derivatives. What makes the
# difference is the subject of :doc:`plot_why_full_field`.
