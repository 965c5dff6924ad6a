"""
From the equation to the methods
================================

All methods solve equation (M) of :doc:`plot_the_equation`; they differ in the terms that they neglect.

*One pixel at a time.* Without the derivatives of the unknowns, which connect pixels, N positions give N linear equations at each pixel.

- ``mist``: no attenuation; unknowns ∇²φ and D.
- ``mist-directional``: the same with the tensor D_xx, D_xy, D_yy.
- ``mist-attenuating``: D varies slowly; unknowns a transmission with refraction folded in, and T·D.
- ``mist-rapid``: D may vary rapidly; unknowns D and its gradient.
- ``lcs``: unknowns 1/T and the shift, and D on request.

*One window at a time.* ``umpa`` and ``xsvt`` compare a small window of the sample frame with the reference moved by every shift, and
take the best. They do not expand in the shift, so that it may be large, but lose resolution.

*The whole image, one unknown.* ``optical-flow`` interprets all changes as refraction, ``single-material`` relates φ to T by a known δ/β,
and ``single-exposure`` interprets the remainder as D. One position is enough.

*The whole image, all unknowns.* ``full-field`` fits T, φ and D as images to all frames at once. It neglects no term.

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
# A row for each method below the truth; each column has one colour scale.

from xmist.view.figures import comparison

page = comparison(results, ["transmission", "phase", "dark_field"], truth)

# %%
# Correlation with the truth, and error over the standard deviation of the truth:


def scores(result, channel):
    """Correlation and relative error of a channel, without the mean."""
    found, right = getattr(result, channel), getattr(truth, channel)
    found, right = found - np.nanmean(found), right - right.mean()
    return f"{xmist.evaluate.metrics.correlation(found, right):.3f} ({np.nanstd(found - right) / right.std():.2f})"


print(f"{'':18} {'T':>14} {'φ':>14} {'D':>14}")
for name, result in results.items():
    print(f"{name:18}", *(f"{scores(result, item):>14}" for item in ("transmission", "phase", "dark_field")))

# %%
# The phases are similar. The transmission of pixelwise and window methods contains refraction: light that a lens spreads looks absorbed.
# The dark-field is harder than the phase, since it acts on second derivatives. The reason for the difference is the subject of
# :doc:`plot_why_full_field`.
