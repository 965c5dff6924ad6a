"""
What limits the accuracy
========================

After reading this page you will know what limits the accuracy of φ and D, and how to choose an experiment. There are five limits. The first
two depend on how you measure.

1. *Photons.* The errors of φ and D are proportional to 1/√dose, unless another limit is reached.
2. *Speckles*: their size and their visibility. Fine speckles determine D better, because D acts on their Laplacian.
3. *Granular contrast of the sample.* Unresolved structure also has a granular contrast of a few per cent, the same at every position of the
   diffuser. More positions do not average it.
4. *The model.* Equation (M) contains neither shifts that vary within one speckle nor diffraction.
5. *The prior.* Where the data determine D poorly, ``full-field`` smooths it, which damps fine structure: see :doc:`/full-field`.

This page measures the first three.
"""

# %%
# Photons and speckles
# --------------------
# These frames follow equation (M) exactly, with random noise. Only noise and speckles limit the result, so the errors are a lower bound for a
# real experiment:

import matplotlib.pyplot as plt
import numpy as np

import xmist
from xmist import evaluate, simulate

experiment = xmist.Experiment(energy_kev=17.0, pixel_size=5.8e-6, sample_to_detector=1.0)
ball = simulate.Part(
    body=simulate.sphere(radius=130e-6),
    material=xmist.Material(delta=5e-8, beta=2e-12, energy_kev=17.0),
    scatter=simulate.Scatter(power=3e-8, correlation_length=3e-6),
)
detector = simulate.Detector(
    pixel_size=5.8e-6, oversampling=4, psf_sigma=4e-6, photons=4e4, gain=1.0, read_noise=0.0, offset=0.0
)
speckles = [3.0, 8.0]  # pixels
figure, axis = plt.subplots(figsize=(8.5, 4), layout="constrained")
for method, options, marker in (("mist-attenuating", {"smoothing": 2.0}, "s--"), ("full-field", {}, "o-")):
    table = evaluate.expected_errors(
        [ball],
        experiment,
        shape=(64, 64),
        detector=detector,
        distances=[1.0],
        speckles=[speckle * experiment.effective_pixel for speckle in speckles],
        visibility=0.3,
        positions=[4],
        photons=[1e3, 8e3, 6e4],
        draws=2,
        seed=1,
        method=method,
        options=options,
        edge_sigma=12e-6,
    )
    for number, speckle in enumerate(speckles):
        rows = [row for row in table if np.isclose(row.speckle, speckle * experiment.effective_pixel)]
        errors = [row.dark_field_nrmse for row in rows]
        axis.loglog(
            [row.photons for row in rows], errors, f"C{number}{marker}", label=f"{method}, {speckle:g} pixels"
        )
axis.set(xlabel="photons per pixel and frame", ylabel="error of D / its contrast", title="N = 4")
axis.legend(title="method, size of the speckles", fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
plt.show()

# %%
# Fine speckles are better, most of all at low dose. With many photons the curves level off, because neglected terms or the prior then limit
# the accuracy.
#
# Granular contrast of the sample
# -------------------------------
# This phantom is simulated by wave optics. If there were only photon noise, the error would fall by √5 = 2.2 from 2 to 10 positions. The
# granular contrast of the sample, and the prior that suppresses it, prevent this.

stack, experiment, truth = simulate.phantom("fine", shape=(128, 128), positions=10, seed=5)
for number in (2, 10):
    part = xmist.SpeckleStack(stack.reference[:number], stack.sample[:number])
    result = xmist.retrieve(part, experiment, method="full-field")
    difference = result.dark_field - truth.dark_field
    print(f"N = {number:2}: error of D {difference.std() / truth.dark_field.std():.2f} of its contrast")

# %%
# Recommendations
# ---------------
# - Use speckles of 3 to 5 pixels with high visibility.
# - From two positions on, prefer longer exposure times to more positions; more positions help against bad pixels and drift.
# - Choose a distance at which speckles move by at most about half their size.
# - Retrieve with ``uncertainty=True`` and look at the standard deviations: :doc:`plot_uncertainties`.
#
# ``xmist simulate PRESET --plan`` makes such tables for a similar sample: :doc:`plot_plan_an_experiment`.
