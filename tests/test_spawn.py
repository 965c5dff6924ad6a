"""Work in processes that are spawned, as on Windows and macOS: nothing is inherited, everything is sent."""

import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest

import xmist
from tests.manufactured import phase_object

EXPERIMENT = xmist.Experiment(energy_kev=17.0, pixel_size=5.8e-6, sample_to_detector=1.0)
OPTIONS = {
    name: {"delta_over_beta": 100.0} if entry.delta_over_beta == "required" else {}
    for name, entry in xmist.METHODS.items()
}


def same(one, other):
    return [name for name, _ in one.channels()] == [name for name, _ in other.channels()] and all(
        np.array_equal(image, getattr(other, name), equal_nan=True) for name, image in one.channels()
    )


@pytest.mark.parametrize("method", OPTIONS)
def test_a_plan_is_sent_whole(method):
    case = phase_object(6, (24, 32), strength=0.3)
    plan = xmist.prepare(case.reference, EXPERIMENT, method=method, threads=1, **OPTIONS[method])
    again = pickle.loads(pickle.dumps(plan))
    assert same(plan(case.sample), again(case.sample))


def test_a_spawned_process_gives_the_same_bits():
    case = phase_object(4, (24, 32), strength=0.3)
    stack = xmist.SpeckleStack(case.reference, case.sample)
    plan = xmist.prepare(case.reference, EXPERIMENT, method="full-field", threads=1)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        results = [
            pool.submit(plan, case.sample),
            pool.submit(xmist.retrieve, stack, EXPERIMENT, method="full-field", threads=1),
        ]
        there = [future.result() for future in results]
    here = plan(case.sample)
    assert all(same(here, result) for result in there)
