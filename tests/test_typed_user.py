"""What a user's type checker sees: pytest runs it, and mypy fails where a type is wrong or lost."""

from collections.abc import Mapping
from pathlib import Path
from typing import assert_type

import numpy as np
from numpy.typing import NDArray

import xmist
from xmist import evaluate, io, preprocess, simulate, view
from xmist.core.arrays import Image
from xmist.core.data import Channel
from xmist.core.flags import Flag
from xmist.evaluate import metrics
from xmist.methods import Method, Plan
from xmist.view import figures

REFERENCE: NDArray[np.float64] = np.random.default_rng(1).uniform(1, 2, (2, 32, 40))
EXPERIMENT = xmist.Experiment(energy_kev=17.0, pixel_size=5.8e-6, sample_to_detector=1.0)


def test_retrieval(tmp_path: Path) -> None:
    assert_type(EXPERIMENT.wavenumber, float)
    stack = xmist.SpeckleStack(REFERENCE, REFERENCE)
    assert_type(stack.shape, tuple[int, int])
    plan = xmist.prepare(REFERENCE, EXPERIMENT, method="mist", smoothing=2.0)
    assert_type(plan, Plan)
    result = plan(REFERENCE)
    assert_type(result, xmist.Retrieval)
    assert_type(xmist.retrieve(stack, EXPERIMENT, method="mist"), xmist.Retrieval)
    assert_type(result.phase, Image | None)
    assert_type(result.flags, NDArray[np.uint16])
    assert_type(result.findings, tuple[xmist.Finding, ...])
    assert_type(result.findings[0].message, str)
    assert_type(result.save(tmp_path / "a.h5"), Path)
    assert_type(xmist.open_result(tmp_path / "a.h5"), xmist.Retrieval)
    assert_type(xmist.count_flags(result.flags), dict[str, int])
    assert result.phase is not None


def test_tables_and_errors() -> None:
    assert_type(xmist.METHODS, Mapping[str, Method])
    assert_type(xmist.METHODS["mist"].minimum_positions, int)
    assert_type(xmist.METHODS["mist"].gives, tuple[str, ...])
    assert_type(xmist.CHANNELS, Mapping[str, Channel])
    assert_type(xmist.FLAGS, tuple[Flag, ...])
    assert_type(xmist.__version__, str)
    error = xmist.InputError("wrong", "value-invalid")
    assert_type(error.codes, tuple[str, ...])
    assert isinstance(error, xmist.XmistError)
    assert issubclass(xmist.OutputError, OSError)
    assert_type(xmist.Material.of("water").delta_over_beta(17.0), float)


def test_packages(tmp_path: Path) -> None:
    made = simulate.phantom("fine", shape=(48, 56), positions=2)
    stack, experiment = made.stack, made.experiment
    assert_type(stack, xmist.SpeckleStack)
    assert_type(experiment, xmist.Experiment)
    with xmist.progress_bars() as progress:
        found = xmist.compare(
            stack, experiment, methods=["mist"], positions=[2], resolution=False, progress=progress
        )
    assert_type(found, xmist.Comparison)
    result = xmist.retrieve(stack, experiment, method="mist")
    assert_type(metrics.correlation(REFERENCE[0], REFERENCE[0]), float)
    assert_type(metrics.visibility(REFERENCE), float)
    assert preprocess.subtract_dark(REFERENCE, REFERENCE[:1]).shape == REFERENCE.shape
    assert figures.figure(result).axes
    assert_type(io.save_result(result, tmp_path / "b.h5"), Path)
    assert callable(evaluate.expected_errors)
    assert view.__doc__


def test_configuration(tmp_path: Path) -> None:
    np.save(tmp_path / "reference.npy", REFERENCE)
    np.save(tmp_path / "sample.npy", 0.9 * REFERENCE)
    run = xmist.run(
        {
            "input": {"reference": str(tmp_path / "reference.npy"), "sample": str(tmp_path / "sample.npy")},
            "experiment": EXPERIMENT.to_dict(),
            "retrieve": {"method": "mist"},
            "options": {"smoothing": 1.0},
            "output": {"files": [str(tmp_path / "result.h5")]},
        }
    )
    assert_type(run, xmist.Run)
    assert_type(run.path, Path)
    assert_type(run.findings, tuple[xmist.Finding, ...])
    assert callable(xmist.export_tomography)
    assert callable(xmist.write_simulation)
