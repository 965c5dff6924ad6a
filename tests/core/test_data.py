import pickle

import numpy as np
import pytest

import xmist
from tests.coded import coded
from tests.manufactured import EXPERIMENT
from xmist.core import flags as flag
from xmist.core.data import DERIVED
from xmist.core.errors import InputError, suggest

FRAMES = np.random.default_rng(0).uniform(1, 2, (2, 9, 11)).astype(np.float32)


def test_float32_frames_are_used_without_a_copy_and_read_only():
    stack = xmist.SpeckleStack(FRAMES, FRAMES)
    assert np.shares_memory(stack.reference, FRAMES)
    assert not stack.reference.flags.writeable
    assert FRAMES.flags.writeable


def test_masked_arrays_become_nan():
    masked = np.ma.masked_greater(FRAMES.astype(float), 1.9)
    stack = xmist.SpeckleStack(masked, FRAMES)
    assert np.array_equal(np.isnan(stack.reference), masked.mask)


def test_masked_weights_count_for_nothing():
    hole = FRAMES > 1.9
    for weights in (np.ma.masked_array(np.ones(FRAMES.shape), hole), np.ma.masked_array(FRAMES > 0, hole)):
        assert np.array_equal(xmist.SpeckleStack(FRAMES, FRAMES, weights).weights, ~hole)


def test_values_beyond_float32_become_bad_pixels():
    frames = FRAMES.astype(float)
    frames[0, 3, 4] = 1e300
    assert np.isinf(xmist.SpeckleStack(frames, FRAMES).reference[0, 3, 4])


@pytest.mark.parametrize(
    ("reference", "sample", "weights", "messages"),
    [
        (FRAMES[0], FRAMES, None, ["reference has shape (9, 11)", "reference[None]"]),
        (FRAMES, FRAMES[:1], None, ["2 reference frames and 1 sample frames"]),
        (FRAMES, FRAMES[:, :8], None, ["(9, 11) pixels and sample frames of (8, 11)"]),
        (FRAMES.astype(complex), FRAMES, None, ["reference has dtype complex128"]),
        (FRAMES > 1, FRAMES, None, ["reference has dtype bool"]),
        ([["a"]], FRAMES, None, ["reference has dtype"]),
        ([[1, 2], [3]], FRAMES, None, ["reference is not an array"]),
        (FRAMES[:, :3, :3], FRAMES[:, :3, :3], None, ["at least one position and 7 × 7 pixels"]),
        (FRAMES[:0], FRAMES[:0], None, ["at least one position"]),
        (FRAMES, FRAMES, FRAMES[0], ["weights has shape (9, 11)"]),
        (FRAMES, FRAMES, [[1, 2], [3]], ["weights is not an array"]),
        (FRAMES, FRAMES, FRAMES[:, 1:], ["weights has shape (2, 8, 11)", "numpy.broadcast_to"]),
        (FRAMES, FRAMES, -FRAMES, ["weights has 198 entries that are negative"]),
        (FRAMES, FRAMES, FRAMES * np.nan, ["weights has 198 entries"]),
        (FRAMES, FRAMES, FRAMES * 0, ["weights are 0 everywhere"]),
        (FRAMES * np.nan, FRAMES, None, ["reference has no finite positive pixel"]),
        (-FRAMES, FRAMES, None, ["reference has no finite positive pixel"]),
        (FRAMES, FRAMES * np.inf, None, ["sample has no finite pixel"]),
        (FRAMES[0], FRAMES > 1, -FRAMES, ["reference has shape", "sample has dtype bool"]),
    ],
)
def test_errors(reference, sample, weights, messages):
    with pytest.raises(InputError) as caught:
        xmist.SpeckleStack(reference, sample, weights)
    for message in messages:
        assert message in str(caught.value)


def test_nothing_usable_in_common():
    reference, sample = FRAMES.copy(), FRAMES.copy()
    reference[:, :5] = np.nan
    sample[:, 5:] = np.nan
    with pytest.raises(InputError, check=coded("pixels-unusable")):
        xmist.SpeckleStack(reference, sample)


def test_boolean_weights():
    weights = np.ones(FRAMES.shape, bool)
    weights[0, 1, 2] = False
    stack = xmist.SpeckleStack(FRAMES, FRAMES, weights)
    assert stack.weights.dtype == np.float32
    assert stack.weights[0, 1, 2] == 0


def _result(**channels):
    return xmist.Retrieval(
        method="mist",
        experiment=EXPERIMENT,
        flags=np.zeros((9, 11), np.uint16),
        options={"smoothing": 1.0},
        provenance={"positions": 2},
        **channels,
    )


def test_retrieval_is_frozen_and_read_only():
    result = _result(phase=np.ones((9, 11)), refraction_angle=np.ones((2, 9, 11)))
    assert result.phase.dtype == np.float32
    assert [name for name, _ in result.channels()] == ["phase", "refraction_angle"]
    with pytest.raises(ValueError, match="read-only"):
        result.phase[0, 0] = 1
    with pytest.raises(TypeError):
        result.options["smoothing"] = 2
    with pytest.raises(AttributeError):
        result.phase = None
    assert "mist" in repr(result)
    assert "9 × 11" in repr(result)


def test_retrieval_checks_shapes():
    with pytest.raises(InputError) as caught:
        _result(phase=np.ones((9, 10)), dark_field_tensor=np.ones((2, 9, 11)))
    assert len(caught.value.messages) == 2
    with pytest.raises(InputError, check=coded("array-invalid")):
        xmist.Retrieval(method="mist", experiment=EXPERIMENT, flags=np.zeros((9, 11)))


def test_retrieval_takes_numbers_alone():
    flags = np.zeros((8, 9), np.uint16)
    diagnostics = {"residual": "text", 5: flags, "a/b": flags, "map": flags[:3]}
    with pytest.raises(InputError) as caught:
        xmist.Retrieval(
            method="x", experiment=EXPERIMENT, flags=flags, phase=flags * 1j, diagnostics=diagnostics
        )
    assert caught.value.messages == (
        "phase has dtype complex128; expected real numbers",
        "diagnostics['residual'] has dtype <U4; expected real numbers",
        "diagnostics have '5'; expected names of letters, digits and _",
        "diagnostics have 'a/b'; expected names of letters, digits and _",
        "diagnostics['map'] has shape (3, 9); expected (8, 9)",
    )
    with pytest.raises(InputError, check=coded("value-invalid", names=["diagnostics"])):
        xmist.Retrieval(method="x", experiment=EXPERIMENT, flags=flags, diagnostics=[flags])


def test_retrieval_travels_between_processes():
    result = _result(phase=np.ones((9, 11)))
    other = pickle.loads(pickle.dumps(result))
    assert np.array_equal(other.phase, result.phase)
    assert dict(other.options) == dict(result.options)
    assert other.experiment == result.experiment
    assert not other.phase.flags.writeable


def test_to_xarray():
    result = _result(phase=np.ones((9, 11)), dark_field_tensor=np.ones((3, 9, 11)))
    data = result.to_xarray()
    assert data["phase"].dims == ("y", "x")
    assert data["phase"].attrs["units"] == "rad"
    assert data["dark_field_tensor"].sel(tensor="xy").shape == (9, 11)
    assert np.allclose(np.diff(data["x"]), EXPERIMENT.effective_pixel, atol=0)
    assert data["x"].attrs["units"] == "m"


def test_flag_registry():
    bits = [item.bit for item in xmist.FLAGS]
    assert bits == [1 << n for n in range(len(bits))]
    assert len({item.name for item in xmist.FLAGS}) == len(bits)
    flags = np.array([[0, flag.FILLED | flag.MASKED]], np.uint16)
    assert flag.count_flags(flags) == {"masked": 1, "filled": 1}


def test_input_error_lists_all_errors():
    error = InputError(["first", "second"])
    assert str(error) == "- first\n- second"
    assert error.messages == ("first", "second")
    assert isinstance(error, ValueError)


def test_suggest_without_a_near_name():
    assert suggest("zzz", ["ridge"]) == "Known: ridge"


def test_derived_channels_follow_from_dark_field():
    # ∆ = 1 m, κ_s = 1e5 rad/m: D = 1e-10 m gives √(2e-10) rad and ∆ D κ_s² = 1, so V = 1/2.
    dark_field = np.full((9, 11), 1e-10)
    dark_field[0], dark_field[1, 0] = -0.5e-10, np.nan
    result = xmist.Retrieval(
        method="mist",
        experiment=xmist.Experiment(energy_kev=17.0, pixel_size=5.8e-6, sample_to_detector=1.0),
        flags=np.zeros((9, 11), np.uint16),
        provenance={"speckle_wavenumber": 1e5},
        dark_field=dark_field,
    )
    derived = dict(result.derived())
    assert list(derived) == ["scattering_angle", "visibility_reduction"] == list(DERIVED)
    assert np.allclose(derived["scattering_angle"][2:], np.sqrt(2e-10), rtol=1e-6)
    assert np.allclose(derived["scattering_angle"][0], -np.sqrt(1e-10), rtol=1e-6)
    assert np.allclose(derived["visibility_reduction"][2:], 0.5, rtol=1e-6)
    # −1/2 over 1 − 1/2: not clipped
    assert np.allclose(derived["visibility_reduction"][0], -1.0, rtol=1e-6)
    assert all(np.isnan(image[1, 0]) and image.dtype == np.float32 for image in derived.values())


def test_derived_channels_without_what_they_need():
    assert dict(_result(phase=np.ones((9, 11))).derived()) == {}
    assert list(dict(_result(dark_field=np.ones((9, 11))).derived())) == ["scattering_angle"]
    measured = _result(visibility=np.full((9, 11), 0.75))
    assert np.allclose(measured.visibility_reduction, 0.25, rtol=1e-6)
