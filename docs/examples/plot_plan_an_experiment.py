"""
Choose N, the distance and the dose
===================================

``evaluate.expected_errors`` estimates the errors to expect over the distance from sample to detector, the size of the speckles, the number N
of positions and the photons, by Monte-Carlo runs of a method on frames of the transport model. They contain neither diffraction nor the
granular contrast of the sample: the numbers are a lower bound.

On the command line::

    xmist simulate fibres --plan --distance 0.5 --distance 1 --positions 2 --positions 10 -o plan
"""

# %%
# The sample is described by bodies and materials (``simulate.find_recipe`` has ready-made ones), here a ball that scatters.

import xmist
from xmist import evaluate, simulate
from xmist.view.figures.expectations import plan_figure

experiment = xmist.Experiment(energy_kev=17.0, pixel_size=5.8e-6, sample_to_detector=1.0)
pixel = experiment.effective_pixel
ball = simulate.Part(
    body=simulate.sphere(radius=130e-6),
    material=xmist.Material(delta=5e-8, beta=2e-12, energy_kev=17.0),
    scatter=simulate.Scatter(power=3e-8, correlation_length=3e-6),
)
table = evaluate.expected_errors(
    [ball],
    experiment,
    shape=(64, 64),
    detector=simulate.Detector(
        pixel_size=5.8e-6, oversampling=4, psf_sigma=4e-6, photons=1e4, gain=1.0, read_noise=0.0, offset=0.0
    ),
    distances=[0.25, 0.5, 1.0, 2.0],
    speckles=[4 * pixel],
    visibility=0.3,
    positions=[2, 10],
    photons=[1e4],
    draws=2,
    seed=1,
    method="full-field",
    edge_sigma=12e-6,
)
print(table)

# %%
# Each row is one choice. Errors are root mean squares over pixels and draws; NRMSE divides by the contrast of the truth.

page = plan_figure(table)  # page.savefig("plan.png") writes it

# %%
# How to read it
# --------------
# - *Distance.* Signal grows with ∆: shift and blur are both ∆ times an angle. Choose it such that the speckles move by less than
#   about half their size; beyond, methods that expand in the shift fail, and diffraction matters.
# - *N.* Photon noise decreases with the root of N times photons. Where ten positions are hardly better than two, as for D at 2 m here,
#   photons do not limit.
# - *Speckles.* Repeat with ``speckles=[3 * pixel, 6 * pixel]``. Fine speckles are better for the dark-field.
#
# ``row.dose`` is the number of photons in all frames, so that choices of equal dose can be compared.
