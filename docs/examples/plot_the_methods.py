"""
From the equation to the methods
================================

After reading this page you will know what each method assumes. All methods solve equation (M) of :doc:`plot_the_equation`; they differ in
the terms that they neglect.

*One pixel at a time.* Derivatives of the unknowns connect a pixel with its neighbours. If they are neglected or taken as unknowns of their
own, N positions give N linear equations at each pixel.

- ``mist``: no attenuation; unknowns ∇²φ and D.
- ``mist-directional``: the same with the tensor D_xx, D_xy, D_yy.
- ``mist-attenuating``: D varies slowly; unknowns a transmission with refraction folded in, and T·D.
- ``mist-rapid``: D may vary rapidly; unknowns D and its gradient.
- ``lcs``: unknowns 1/T and the shift, and D on request.

*One window at a time.* ``umpa`` and ``xsvt`` compare a small window of the sample frame with the reference frame, moved by every possible
shift, and take the best shift. It may be large, but the resolution is that of the window.

*The whole image, one unknown.* ``optical-flow`` interprets all changes as refraction, ``single-material`` relates φ to T by a known δ/β,
and ``single-exposure`` interprets the remainder as D. One position is enough.

*The whole image, all unknowns.* ``full-field`` fits T, φ and D as images to all frames at once. It neglects no term.

The example shows one sample, which also absorbs, by one method of each kind except the third.
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
# The truth is in the first row, and each method in a row below it. Each column has one colour scale.

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
# The phases are similar. The transmission of pixelwise and window methods contains refraction: where the sample spreads light like a lens,
# light seems to be absorbed. The dark-field is more difficult than the phase, because it acts on second derivatives of the speckles.
# :doc:`plot_why_full_field` explains why the methods differ.
