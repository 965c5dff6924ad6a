"""Options of every method: whatever is given, one message that names the option and what would be right."""

import dataclasses
from importlib import import_module

import numpy as np
import pytest

import xmist
from tests.coded import coded
from xmist import METHODS, InputError
from xmist.methods import make_options

# Nothing that any option takes; the whole numbers are beyond every float, and beyond what Python writes.
NEVER = [
    np.array([1.0, 2.0]),
    np.array(["a", "b"]),
    np.ones((300, 300)),
    [1.0, [2.0]],
    {"a": 1},
    1j,
    object(),
    -(10**400),
    -(10**5000),
    "\n",
]


@pytest.mark.parametrize("method", list(METHODS))
def test_what_no_option_takes(method):
    needed = {"delta_over_beta": 1000.0} if METHODS[method].delta_over_beta == "required" else {}
    for item in dataclasses.fields(import_module(METHODS[method].module).OPTIONS):
        if item.name == "initial":
            continue  # an image, which is checked with the frames
        for value in NEVER:
            with pytest.raises(InputError) as caught:
                make_options(method, {**needed, item.name: value})
            (record,) = caught.value.records
            assert record.message.startswith(f"option {item.name} ")
            assert "; expected " in record.message or "Known: " in record.message
            assert "\n" not in record.message
            assert len(record.message) < 300


def test_a_number_beyond_every_float_is_no_geometry():
    with pytest.raises(
        InputError, check=coded("experiment-invalid", names=["energy_kev", "inf", "1000 keV"])
    ):
        xmist.Experiment(energy_kev=10**400, pixel_size=1e-6, sample_to_detector=1.0)
