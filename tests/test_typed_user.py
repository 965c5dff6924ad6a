"""What a user's type checker sees: pytest runs it, and mypy fails where a type is wrong or lost."""

from pathlib import Path
from typing import assert_type

import numpy as np
from numpy.typing import NDArray

import xmist
from xmist import preprocess, simulate
from xmist.core.arrays import Image
from xmist.core.findings import Finding
from xmist.evaluate import metrics
from xmist.methods import Plan
from xmist.view import figures as plotting


def test_public_names_have_types(tmp_path: Path) -> None:
    experiment = xmist.Experiment(energy_kev=17.0, pixel_size=5.8e-6, sample_to_detector=1.0)
    assert_type(experiment.wavenumber, float)
    reference: NDArray[np.float64] = np.random.default_rng(1).uniform(1, 2, (2, 16, 20))
    stack = xmist.SpeckleStack(reference, reference)
    assert_type(stack.shape, tuple[int, int])
    plan = xmist.prepare(reference, experiment, method="mist", smoothing=2.0)
    assert_type(plan, Plan)
    result = plan(reference)
    assert_type(result, xmist.Retrieval)
    assert_type(xmist.retrieve(stack, experiment, method="mist"), xmist.Retrieval)
    assert_type(result.phase, Image | None)
    assert_type(result.findings, tuple[Finding, ...])
    assert_type(result.save(tmp_path / "a.h5"), Path)
    assert result.phase is not None
    assert_type(metrics.correlation(reference[0], reference[0]), float)
    assert_type(metrics.visibility(reference), float)
    assert preprocess.subtract_dark(reference, reference[:1]).shape == reference.shape
    assert plotting.figure(result).axes
    assert "phase" in xmist.METHODS["mist"].gives
    assert_type(xmist.METHODS["mist"].minimum_positions, int)
    assert_type(xmist.CHANNELS["phase"].unit, str)
    assert callable(simulate.currant)
