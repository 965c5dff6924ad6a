"""
Read the uncertainties
======================

After reading this page you will know what a standard deviation of ``full-field`` contains, and how well it agrees with the true error. With
``uncertainty=True``, the method solves for perturbed data and estimates a standard deviation for every pixel of every channel.
"""

# %%

import matplotlib.pyplot as plt
import numpy as np

import xmist
from xmist import simulate

stack, experiment, truth = simulate.phantom("fine", shape=(96, 96), positions=4, seed=4, photons=1e4)
result = xmist.retrieve(stack, experiment, method="full-field", uncertainty=True, draws=16, seed=1)

# %%
# The standard deviation is a channel, in the unit of its image.

unit = 1e12
figure, axes = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained")
limit = float(np.percentile(truth.dark_field, 99.5)) * unit
for axis, image, title in zip(
    axes,
    (result.dark_field, result.dark_field_std, np.abs(result.dark_field - truth.dark_field)),
    ("D", "its standard deviation", "its true error"),
    strict=True,
):
    shown = axis.imshow(image * unit, cmap="magma", vmin=0, vmax=limit if axis is axes[0] else limit / 2)
    axis.set(title=title, xticks=[], yticks=[])
    figure.colorbar(shown, ax=axis, label="pm")
plt.show()

# %%
# Errors divided by their standard deviations. The rms would be 1 if the standard deviations were exact:

for name in ("phase", "dark_field", "transmission"):
    difference = getattr(result, name) - getattr(truth, name)
    if name == "phase":
        difference = difference - difference.mean()
    ratio = difference / getattr(result, f"{name}_std")
    print(
        f"{name:13} rms of error/std {np.sqrt(np.mean(ratio**2)):5.2f}, within 2 std: {np.mean(np.abs(ratio) < 2):.0%}"
    )

# %%
# What they contain
# -----------------
# - They contain the noise of the frames, estimated from the residual, and the variation that the prior allows.
# - They contain an estimate of the model's error: the granular contrast of the sample's structure is the same at every position, and
#   amplitudes are wrong by some per cent. This estimate was calibrated on simulated samples and is right to a factor of about two.
# - ``result.diagnostics["dark_field_std_noise"]`` and ``["dark_field_std_model"]`` are the two parts, whose squares add up.
# - With few draws the variances are smoothed. ``seed`` makes them repeatable.
#
# The mean over a box has a smaller error than its pixels, but not by the root of their number, because errors of neighbours are correlated. To
# measure this error, retrieve from each half of the positions and compare the means.
