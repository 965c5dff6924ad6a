"""
Directional dark-field
======================

On this page you retrieve the direction and the anisotropy of scattering. Fibres scatter perpendicular to their axis. A tensor D_xx, D_xy,
D_yy instead of the scalar D describes this.
"""

# %%
# Six bundles of fibres in resin, in six directions:

import matplotlib.pyplot as plt
import numpy as np

import xmist
from xmist import simulate
from xmist.view.figures import direction_colours

stack, experiment, truth = simulate.fibres(shape=(128, 128), positions=10, seed=0)
result = xmist.retrieve(
    stack,
    experiment,
    method="full-field",
    dark_field="tensor",
)

# %%
# In the images the hue is the direction of the scattering over 180°, the saturation is its anisotropy, and the brightness is its strength:

figure, axes = plt.subplots(1, 3, figsize=(11, 3.8), layout="constrained")
for axis, (name, item) in zip(axes, {"truth": truth, "full-field, N = 10": result}.items(), strict=False):
    axis.imshow(direction_colours(item.dark_field_tensor, brightest=float(truth.dark_field.max())))
    axis.set(title=name, xticks=[], yticks=[])

angle = xmist.evaluate.metrics.direction(
    result.dark_field_tensor
)  # degrees from +x towards +y, the axis of the strongest scatter
strong = truth.dark_field > 0.5 * truth.dark_field.max()
right = xmist.evaluate.metrics.direction(truth.dark_field_tensor)
difference = (angle - right + 90) % 180 - 90
axes[2].hist(difference[strong], bins=60, range=(-30, 30), color="0.4")
axes[2].set(title="error of the direction", xlabel="degrees", yticks=[])
plt.show()
print(f"median error of the direction where scatter is strong: {np.median(np.abs(difference[strong])):.1f}°")
print(
    f"median anisotropy there: {np.median(xmist.evaluate.metrics.anisotropy(result.dark_field_tensor)[strong]):.2f}"
)

# %%
# - ``xmist.evaluate.metrics.direction`` and ``anisotropy`` come from the eigenvectors and eigenvalues of the tensor.
# - The direction is that of the *scatter*. Fibres run across it.
# - A result saved with ``result.save("fibres.h5")`` opens in napari with the directions as lines.
# - The tensor needs more data than the scalar: use four positions or more.
