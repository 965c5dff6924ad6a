"""Projections that begin from the result of a neighbour: the same numbers, whoever does them and when."""

import numpy as np
import pytest

import xmist
from tests.coded import coded
from tests.workflow.series_scenes import (
    EXPERIMENT,
    assert_same_content,
    frames,
    run_path,
    volumes,
    write_config,
)

SHAPE = (32, 36)
STARTS = 3
PROJECTIONS = 7


def _write(folder, *, block, warm_start=STARTS):
    return write_config(
        folder,
        PROJECTIONS,
        SHAPE,
        retrieve={"method": "full-field", "threads": 1},
        options={"smoothing": None, "dark_field": "none", "transmission": False},
        series={"block": block, "warm_start": warm_start},
    )


def _scan(folder, *, workers=None, **options):
    return run_path(_write(folder, **options), workers=workers)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return _scan(tmp_path_factory.mktemp("whole"), block=PROJECTIONS)


@pytest.mark.parametrize(("block", "workers"), [(1, None), (2, None), (2, 2)])
def test_blocks_and_processes_change_nothing(tmp_path, whole, block, workers):
    """Blocks of two begin in the midst of those that share a start, whose start is then made anew."""
    assert_same_content(_scan(tmp_path, block=block, workers=workers), whole)


def test_a_block_that_is_done_again_is_the_same(tmp_path, whole):
    scan = _write(tmp_path, block=1)
    run_path(scan)
    # Neither the first of those that share a start nor the last.
    sorted((tmp_path / "scan_blocks").glob("block_*"))[4].unlink()
    assert_same_content(run_path(scan), whole)


def test_the_first_begin_from_nothing_and_the_others_do_not(tmp_path, whole):
    cold = volumes(_scan(tmp_path, block=PROJECTIONS, warm_start=None))["phase"]
    warm = volumes(whole)["phase"]
    same = [bool((one == other).all()) for one, other in zip(warm, cold, strict=True)]
    assert same == [index % STARTS == 0 for index in range(PROJECTIONS)]
    # Both are solved until what is left to gain is a hundredth of what the noise makes.
    for one, other in zip(warm, cold, strict=True):
        assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.99


def test_where_the_first_cannot_be_read_the_others_begin_from_nothing(tmp_path):
    cold = volumes(_scan(tmp_path / "cold", block=2, warm_start=None))["phase"]
    path = _write(tmp_path / "warm", block=2)
    (path.parent / "p_0003_1.tif").write_bytes(b"no picture")
    found = volumes(run_path(path))["phase"]
    assert np.isnan(found[3]).all()
    for index in (4, 5):
        assert found[index].tobytes() == cold[index].tobytes()


def test_only_methods_that_begin_from_a_result(tmp_path):
    path = write_config(tmp_path, series={"warm_start": 4})
    with pytest.raises(xmist.InputError, check=coded("value-invalid")):
        run_path(path)
    path = write_config(tmp_path, series={"warm_start": 1})
    with pytest.raises(xmist.InputError, check=coded("option-invalid", names=["warm_start"])):
        run_path(path)


def test_the_table_holds_chi_squared_and_iterations(tmp_path):
    """What a retrieval of the same frames tells in its record."""
    options = {"dark_field": "none", "transmission": False, "gain": 1.0}
    path = write_config(
        tmp_path,
        2,
        SHAPE,
        retrieve={"method": "full-field", "threads": 1},
        options={"smoothing": None, **options},
    )
    table = volumes(run_path(path))
    reference, samples = frames(2, shape=SHAPE)
    for index, sample in enumerate(samples):
        stack = xmist.SpeckleStack(reference, sample)
        record = xmist.retrieve(stack, EXPERIMENT, method="full-field", threads=1, **options).provenance
        assert table["table/misfit"][index] == record["convergence"]["reduced_chi_squared"]
        assert table["table/iterations"][index] == sum(record["convergence"]["iterations"])
        assert table["table/converged"][index] == record["convergence"]["converged"]
