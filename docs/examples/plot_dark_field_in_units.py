"""
What D means, in metres and as an angle
=======================================

After reading this page you will know what a value of the dark-field means, and how to state it in a paper.

The dark-field of xmist is D, the effective diffusion coefficient of equation (M) (:doc:`plot_the_equation`), a length in metres. It blurs
speckles by a Gaussian of variance σ² = 2∆D along each axis, where ∆ is the effective distance.

D depends on the distance as well as on the sample. Structure that deflects rays by a random angle with the rms θ along an axis blurs
speckles by σ = ∆θ. Therefore::

    D = ∆ θ²/2        θ = √(2D/∆)

D grows with the distance. The property of the sample is θ, or θ² per metre of material, which adds along the beam. This page measures
D and θ at four distances.
"""

# %%
# A ball of a material whose structure below the pixel scatters, at four distances:

import matplotlib.pyplot as plt
import numpy as np

import xmist
from xmist import simulate

POWER = 2.0e-8  # rad² per metre of material
RADIUS = 180e-6


def measure(distance):
    """Retrieve the dark-field of the ball with the detector at a distance."""
    experiment = xmist.Experiment(energy_kev=17.0, pixel_size=5.8e-6, sample_to_detector=distance)
    simulation = simulate.acquire(
        experiment,
        shape=(96, 96),
        sample=[
            simulate.Part(
                body=simulate.sphere(radius=RADIUS),
                material=xmist.Material(delta=2e-8, beta=2e-12, energy_kev=17.0),
                scatter=simulate.Scatter(power=POWER, correlation_length=3.5e-6),
            )
        ],
        diffuser=simulate.RandomScreen(
            wavelength=experiment.wavelength, grain_size=40e-6, rms_phase=3.0, seed=1
        ),
        diffuser_to_sample=0.5,
        positions=simulate.raster_positions(8, step=2e-4),
        detector=simulate.Detector(
            pixel_size=5.8e-6,
            oversampling=4,
            psf_sigma=4e-6,
            photons=1e5,
            gain=1.0,
            read_noise=0.0,
            offset=0.0,
        ),
        edge_sigma=8e-6,
        seed=2,
    )
    result = xmist.retrieve(simulation.stack, experiment, method="full-field")
    return result.dark_field, simulation.truth.dark_field


distances = np.array([0.35, 0.5, 0.65, 0.8])
results = [measure(float(distance)) for distance in distances]

# %%
# Mean over the middle of the ball, where the thickness of the material is known:

y, x = (np.mgrid[:96, :96] - 47.5) * 5.8e-6
middle = np.hypot(x, y) < 0.5 * RADIUS
thickness = 2 * np.sqrt(RADIUS**2 - np.hypot(x, y)[middle] ** 2).mean()
found = np.array([image[middle].mean() for image, _ in results])
angle = np.sqrt(2 * np.clip(found, 0, None) / distances)
expected = np.sqrt(POWER * thickness)

figure, axes = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained")
shown = axes[0].imshow(results[-1][0] * 1e12, cmap="magma", vmin=0)
axes[0].set(title=f"D at ∆ = {distances[-1]:g} m", xticks=[], yticks=[])
figure.colorbar(shown, ax=axes[0], label="D (pm)")
axes[1].plot(distances, found * 1e12, "o", label="retrieved")
axes[1].plot(distances, distances * expected**2 / 2 * 1e12, "k-", lw=1, label="∆θ²/2")
axes[1].set(title="D grows with the distance", xlabel="∆ (m)", ylabel="D (pm)", ylim=(0, None))
axes[1].legend()
axes[2].plot(distances, angle * 1e6, "o", label="√(2D/∆)")
axes[2].axhline(expected * 1e6, color="k", lw=1, label="the material")
axes[2].set(title="the angle does not", xlabel="∆ (m)", ylabel="rms angle per axis (µrad)", ylim=(0, None))
axes[2].legend()
plt.show()

for distance, d, theta in zip(distances, found, angle, strict=True):
    print(
        f"∆ = {distance:4.2f} m: D = {d * 1e12:5.3f} pm, θ = {theta * 1e6:.3f} µrad (material {expected * 1e6:.3f})"
    )

# %%
# D grows with the distance, and the angle hardly changes. At short distances the blur is a fraction of a pixel, and the prior removes a part of
# it as if it were noise. At long distances the blur begins to saturate (:doc:`/simulate` has the formula).
#
# In a publication state θ, or θ² divided by the thickness; with a value of D state ∆ and the energy.
#
# Related quantities:
#
# - *visibility* V, the contrast of the speckles with the sample over that without: to first order 1 − ∆Dκ², where κ is the
#   frequency of the speckles. It depends on the diffuser; D does not. Matching methods retrieve both.
# - *−ln V*, or *visibility reduction*: proportional to D for one diffuser and one distance.
# - *tensor* D_xx, D_xy, D_yy: for oriented scattering. The blur then has the matrix 2∆D as its covariance, and the scalar D is
#   half of the trace. See :doc:`plot_directions`.
#
# Where nothing scatters, noise makes half of the pixels negative. xmist keeps these values, because clipping biases means.
