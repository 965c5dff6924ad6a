"""
The physics in one equation
===========================

After reading this page you will know how a sample changes speckles. A random diffuser puts speckles into the beam. A sample attenuates,
shifts and blurs them. One equation relates a sample frame I_S to the reference frame I_R::

    I_S = T I_R − (∆/k) ∇·(T I_R ∇φ) + ∆ Σ_ij ∂_i∂_j (D_ij T I_R)                                    (M)

It is the Fokker–Planck equation of paraxial X-ray optics (Pavlov et al. 2020, https://doi.org/10.1088/2040-8986/abc313, for
T = 1 and a scalar D): T attenuates, the gradient of the phase φ refracts, and D diffuses the light. ∆ is the effective
distance from sample to detector, and k the wavenumber.

This page shows each term alone.
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
# The upper row shows the frame with each disc, the lower row the change. Attenuation scales the speckles. Refraction moves them and focuses or
# defocuses the light (a lens of matter defocuses: φ is negative, and its Laplacian is the power of the lens). Scattering blurs them.

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
# Units
# -----
# Speckles move by u = (∆/k)∇φ: φ is a phase in rad, and ∇φ/k is the angle of refraction. They are blurred with the variance σ² = 2∆D
# along each axis: D is a length in metres. See :doc:`plot_dark_field_in_units`.
#
# The three terms are proportional to three patterns: I_R, its gradient and its Laplacian. One frame cannot distinguish them at a pixel,
# because it gives one number for three unknowns. Several positions of the diffuser can, because their speckles differ. The next page,
# :doc:`plot_the_methods`, shows how methods use them.
#
# In a cone beam, the equation holds in the plane of the sample: ``Experiment`` divides pixel and distance by the magnification M.
