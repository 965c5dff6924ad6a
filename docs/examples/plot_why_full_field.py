"""
Why the full field
==================

After reading this page you will know why ``full-field`` needs fewer positions of the diffuser than other methods. Pixelwise methods neglect
the terms of equation (M) (:doc:`plot_the_equation`) that connect a pixel with its neighbours. These terms make the problem well posed: a
value of the dark-field changes a whole neighbourhood of the frame, whereas a pixelwise method must determine it from N noisy numbers.

This page measures the errors for 2 to 10 positions.
"""

# %%

import matplotlib.pyplot as plt
import numpy as np

import xmist
from xmist import simulate

stack, experiment, truth = simulate.phantom("fine", shape=(128, 128), positions=10, seed=3)
METHODS = {
    "mist-attenuating, smoothing 2": ("mist-attenuating", {"smoothing": 2.0}),
    "lcs, smoothing 2": ("lcs", {"dark_field": "scalar", "smoothing": 2.0}),
    "umpa, window 5": ("umpa", {"window": 5}),
    "full-field": ("full-field", {}),
}


def error(result, channel):
    """Error of a channel over the standard deviation of the truth; without the mean for φ."""
    if getattr(result, channel) is None:
        return np.nan
    difference = getattr(result, channel) - getattr(truth, channel)
    if channel == "phase":
        difference = difference - difference.mean()
    return float(np.sqrt(np.nanmean(difference**2)) / getattr(truth, channel).std())


positions = (2, 4, 6, 10)
errors = {}
for label, (method, options) in METHODS.items():
    for number in positions:
        if number < xmist.METHODS[method].minimum_positions + ("dark_field" in options):
            continue
        part = xmist.SpeckleStack(stack.reference[:number], stack.sample[:number])
        result = xmist.retrieve(part, experiment, method=method, **options)
        errors[label, number] = [error(result, channel) for channel in ("phase", "dark_field")]

# %%
# Errors relative to the contrast of the sample; an empty image would have an error of 1.

figure, axes = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained", sharex=True)
for column, title in enumerate(("phase φ", "dark-field D")):
    for colour, (label, marker) in enumerate(zip(METHODS, "sD^o", strict=True)):
        numbers = [number for number in positions if (label, number) in errors]
        values = [errors[label, number][column] for number in numbers]
        if np.isfinite(values).any():
            axes[column].loglog(numbers, values, f"C{colour}{marker}-", label=label)
    axes[column].axhline(1.0, color="0.7", lw=0.8)
    axes[column].set(title=title, xlabel="positions N", xticks=positions, xticklabels=positions)
    axes[column].minorticks_off()
axes[0].set_ylabel("error / contrast of the truth")
axes[1].legend(fontsize=8)
plt.show()

assert errors["full-field", 2][1] < min(errors[label, 10][1] for label in METHODS if label != "full-field")

# %%
# ``full-field`` with two positions has a smaller error of the dark-field than the other methods with ten, for three reasons:
#
# - it keeps all terms, so that a neighbourhood of the frame determines a pixel;
# - it models the finite shift and blur, so that the second order of a shift is not interpreted as scattering;
# - it accounts for the noise of reference and sample frames, and estimates the strength of its prior from the data.
#
# It takes seconds where a pixelwise method takes tenths of a second. :doc:`plot_what_limits_accuracy` and :doc:`/full-field` describe its
# limits, and :doc:`/benchmarks` has results for other samples, doses and speckles.
