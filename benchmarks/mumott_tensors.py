"""Reconstruct the tensor field of three crossed bundles of fibres by mumott, and compare their directions.

Run: python benchmarks/mumott_tensors.py tensors.h5 [iterations], in an environment with xmist, mumott and
matplotlib < 3.9 (for mumott 2.3). `python benchmarks/tomography.py tensors` writes the file.
"""

from __future__ import annotations

import sys
import time

import numpy as np
from mumott.data_handling import DataContainer
from mumott.methods.basis_sets import SphericalHarmonics
from mumott.methods.projectors import SAXSProjector
from mumott.methods.residual_calculators import GradientResidualCalculator
from mumott.optimization.loss_functions import SquaredLoss
from mumott.optimization.optimizers import LBFGS
from mumott.optimization.regularizers import Laplacian

from tomography import BUNDLES


def main(path: str, iterations: int = 30, smoothness: float = 1e-5) -> None:
    """Print for each bundle how far its direction is off."""
    data = DataContainer(path)
    scale = max(float(projection.data.max()) for projection in data.projections)
    for projection in data.projections:
        projection.data = projection.data / scale
    begin = time.process_time()
    basis = SphericalHarmonics(ell_max=2)
    loss = SquaredLoss(
        GradientResidualCalculator(data, basis, SAXSProjector(data.geometry)), use_weights=True
    )
    loss.add_regularizer(name="smooth", regularizer=Laplacian(), regularization_weight=smoothness)
    found = LBFGS(loss, maxiter=iterations, maxfun=2 * iterations, ftol=1e-6).optimize()["x"]
    field = found.reshape(*data.geometry.volume_shape, -1)
    print(
        f"{len(data.projections)} projections, {field.shape[:3]} voxels: {time.process_time() - begin:.0f} s"
    )
    side = field.shape[0]
    for fibres, place in BUNDLES:
        along = np.array(fibres) / np.linalg.norm(fibres)
        radius = 0.42 * side
        away = np.indices(field.shape[:3]) - 0.5 * (side - 1) - radius * np.array(place)[:, None, None, None]
        down = np.einsum("i,ixyz->xyz", along, away)
        off = np.sqrt(np.maximum((away**2).sum(0) - down**2, 0.0))
        core = (np.abs(down) < 0.35 * radius) & (off < 0.12 * radius)
        # Fibres scatter least along themselves: the eigenvector of the least eigenvalue.
        mean = basis.get_output(field[core].mean(0)[None, None, None]).eigenvector_1[0, 0, 0]
        each = basis.get_output(field[core][:, None, None]).eigenvector_1[:, 0, 0]
        errors = np.degrees(np.arccos(np.clip(np.abs(np.vstack([mean, each]) @ along), 0.0, 1.0)))
        print(
            f"bundle along {along.round(2)}: mean tensor {errors[0]:.1f}° off; voxels, median "
            f"{np.median(errors[1:]):.1f}°, 90 % {np.quantile(errors[1:], 0.9):.1f}°"
        )


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
