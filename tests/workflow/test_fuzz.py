"""Damaged input ends in a message or in flagged projections; long_fuzz.py tries thousands of cases."""

import os

import pytest

from tests.workflow.fuzzing import run_case, warm, wrong

CASES = 24


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_damaged_input_never_hangs_or_crashes(tmp_path):
    warm(tmp_path)
    found = [(seed, *run_case(tmp_path, seed)) for seed in range(CASES)]
    bad = [case for case in found if wrong(case[3], case[4])]
    assert not bad
    codes = {code for _, _, _, code, _ in found}
    assert codes == {0, 2, 3}  # the cases are as varied as they should be
