"""
First image
===========

On this page you retrieve transmission, phase and dark-field from two pairs of frames with a few lines of Python. The frames are simulated, so
that you need no data. The :doc:`/tutorial` does the same on the command line, with preprocessing.
"""

# %%
# Simulate grains of a scattering material in a parallel beam. For each of two positions of the diffuser there is a reference frame (without
# the sample) and a sample frame. Photon noise is included.

import matplotlib.pyplot as plt

import xmist
from xmist import simulate

stack, experiment, truth = simulate.phantom("absorbing", shape=(192, 192), positions=2, seed=4)
print(experiment)
print("frames (position, y, x):", stack.reference.shape)

# %%
# Retrieve with the default method, ``full-field``, and read the findings. A warning would mean that a channel may be wrong.

result = xmist.retrieve(stack, experiment)
for finding in result.findings:
    print(f"{finding.severity}: {finding.message}")

# %%
# The first row shows one of the two pairs of frames, the second row the three images.

IMAGES = [
    (stack.reference[0], "reference frame", 1.0, "counts / mean", "gray"),
    (stack.sample[0], "sample frame", 1.0, "counts / mean", "gray"),
    None,
    (result.transmission, "transmission T", 1.0, "", "gray"),
    (result.phase, "phase φ", 1.0, "rad", "gray"),
    (result.dark_field, "dark-field D", 1e12, "pm", "inferno"),
]
figure, axes = plt.subplots(2, 3, figsize=(9.6, 5.6), layout="constrained")
for axis, item in zip(axes.flat, IMAGES, strict=True):
    axis.set_axis_off()
    if item is not None:
        image, title, factor, unit, colours = item
        drawn = axis.imshow(image * factor, cmap=colours)
        axis.set_title(title)
        figure.colorbar(drawn, ax=axis, shrink=0.85).set_label(unit)
plt.show()

# %%
# The truth of a simulation is known. Only differences of phase are measured, so compare the phase without its mean.

print("correlation of φ:", xmist.evaluate.metrics.correlation(result.phase, truth.phase))
print("correlation of D:", xmist.evaluate.metrics.correlation(result.dark_field, truth.dark_field))

# %%
# ``result.save("result.h5")`` writes a NeXus file with all that is needed to repeat the retrieval; ``xmist.open_result`` opens it again.
#
# Next: your own frames. ``xmist init FOLDER`` writes a configuration file from the contents of a folder; the :doc:`/tutorial` goes on from
# there.
