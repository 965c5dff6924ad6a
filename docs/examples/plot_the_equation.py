"""
The physics in one equation
===========================

A random diffuser puts speckles into the beam. A sample behind it dims them, shifts them and blurs them. All three are in
one equation for a sample frame I_S, given the reference frame I_R::

    I_S = T I_R − (∆/k) ∇·(T I_R ∇φ) + ∆ Σ_ij ∂_i∂_j (D_ij T I_R)                                    (M)

It is the Fokker–Planck equation of paraxial X-ray optics (Pavlov et al. 2020, https://doi.org/10.1088/2040-8986/abc313, for
T = 1 and a scalar D): light is attenuated by T, carried along by the gradient of the phase φ, and diffused by D. ∆ is the effective
distance from sample to detector, and k the wavenumber.

This page looks at each term alone.
"""

# %%
# A reference frame with speckles of about four pixels, and a disc as the sample:

import matplotlib.pyplot as plt
import numpy as np

from xmist import simulate

stack, experiment, _ = simulate.phantom("fine", shape=(96, 96), positions=1, seed=3)
reference = stack.reference[0]

y, x = np.mgrid[:96, :96] - 47.5
disc = np.clip(1 - (x**2 + y**2) / 36**2, 0, None) ** 2  # thickness of a lens, 1 in its middle
pixel, distance, k = experiment.effective_pixel, experiment.effective_distance, experiment.wavenumber
geometry = {"wavenumber": k, "distance": distance, "pixel": pixel}

terms = {
    "attenuation: T": {"transmission": np.exp(-0.7 * disc)},
    "refraction: φ": {"phase": -40.0 * k * pixel**2 / distance * disc},
    "scatter: D": {"dark_field": 0.6 * pixel**2 / distance * disc},
}

# %%
# The upper row shows the frame behind each disc, the lower row what the disc changed. Attenuation scales the speckles. Refraction
# moves them, and gathers or spreads light (a lens of matter spreads it: φ is negative, and its Laplacian is the
# lens's power). Scatter takes from every speckle and gives to its neighbours.

figure, axes = plt.subplots(2, 4, figsize=(10, 5.2), layout="constrained")
options = {"cmap": "gray", "vmin": 0.3, "vmax": 1.7}
axes[0, 0].imshow(reference, **options)
axes[0, 0].set_title("reference $I_R$")
axes[1, 0].axis("off")
for column, (title, images) in enumerate(terms.items(), 1):
    sample = simulate.transported(reference, **geometry, **images)
    axes[0, column].imshow(sample, **options)
    axes[0, column].set_title(title)
    change = axes[1, column].imshow(sample - reference, cmap="RdBu", vmin=-0.5, vmax=0.5)
    axes[1, column].set_title("change")
figure.colorbar(change, ax=axes[1, 0], location="left", label="$I_S - I_R$", shrink=0.9)
for axis in axes.flat:
    axis.set(xticks=[], yticks=[])
plt.show()

# %%
# How far, how wide
# -----------------
# Equation (M) fixes what the numbers mean. Speckles move by u = (∆/k)∇φ, so that φ is a phase in rad and ∇φ/k the angle of
# refraction. They are blurred with the variance σ² = 2∆D along each axis, so that D is a length in metres: see
# :doc:`plot_dark_field_in_units`.
#
# The three terms write three different patterns on the *same* speckles: I_R itself, its gradient and its Laplacian. One frame cannot
# tell them apart at a pixel, for there are three unknowns and one number. Several positions of the diffuser can, because
# speckles differ. How a method uses them is the next page, :doc:`plot_the_methods`.
#
# In a cone beam everything happens in the plane of the sample: pixel and distance are divided by the magnification M, which
# ``Experiment`` does.
