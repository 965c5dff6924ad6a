"""
Choose N, the distance and the dose
===================================

On this page you choose the distance from sample to detector, the size of the speckles, the number N of positions and the dose.
``evaluate.expected_errors`` estimates the errors for each choice: it runs a method on frames that follow the transport equation, with random
noise. These frames contain neither diffraction nor the granular contrast of the sample, so the numbers are a lower bound.

On the command line::

    xmist simulate fibres --plan --distance 0.5 --distance 1 --positions 2 --positions 10 -o plan
"""

# %%
# Bodies and materials describe the sample (``simulate.find_recipe`` has ready-made ones). Here it is a ball that scatters.

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
# Each row is one choice. Errors are root mean squares over pixels and runs; NRMSE is the error divided by the contrast of the truth.

page = plan_figure(table)  # page.savefig("plan.png") writes it

# %%
# How to read it
# --------------
# - *Distance.* The signal grows with ∆, because shift and blur are ∆ times an angle. Choose ∆ so that the speckles move by less than
#   about half their size. For larger shifts, methods that assume small shifts fail, and diffraction matters.
# - *N.* The error by photon noise is proportional to 1/√(N · photons). If ten positions are hardly better than two, as for D at 2 m here,
#   photon noise is not the limit.
# - *Speckles.* Repeat with ``speckles=[3 * pixel, 6 * pixel]``. Fine speckles are better for the dark-field.
#
# ``row.dose`` is the number of photons in all frames. Use it to compare choices of equal dose.
