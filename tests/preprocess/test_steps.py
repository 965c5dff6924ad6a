import dataclasses
import pickle

import numpy as np
import pytest

import xmist
from tests.coded import coded
from tests.manufactured import EXPERIMENT, phase_object
from tests.preprocess.speckles import log_normal
from xmist.preprocess import (
    STEPS,
    Frames,
    apply_steps,
    bin_frames,
    correct_drift,
    crop,
    divide_flat,
    find_bad_pixels,
    find_unlit,
    make_step_options,
    measure_drift,
    subtract_dark,
)
from xmist.preprocess.steps import prepare_frame_steps

SHAPE = (64, 80)


def _raw(positions=2, seed=0):
    """Frames as a detector gives them: uneven response, a dark signal, hot and dead pixels."""
    rng = np.random.default_rng(seed)
    speckle = np.stack([log_normal(rng, SHAPE, 3.0, 0.3) for _ in range(positions)])
    response = 1 + 0.2 * np.sin(np.arange(SHAPE[1]) / 5.0) * np.ones(SHAPE)
    dark = 100.0 + rng.uniform(0, 20, SHAPE)
    reference, sample = (1e4 * level * speckle * response + dark for level in (1.0, 0.8))
    flat = 3e4 * response + dark
    reference[:, 10, 12] = sample[:, 10, 12] = 6e4
    sample[1, 30, 40] = -8
    return Frames(reference, sample, dark=dark, flat=np.stack([flat] * 3)), speckle


def test_all_steps_in_order():
    frames, speckle = _raw()
    steps = [
        ("dark", {}),
        ("flat", {}),
        ("bad-pixels", {}),
        ("unlit", {}),
        ("flux", {"rows": [40, 60]}),
        ("drift", {}),
        ("crop", {"rows": [4, 60], "columns": [0, 76]}),
        ("bin", {"size": 2}),
    ]
    done = apply_steps(frames, steps)
    assert done.shape == (28, 38)
    assert [entry.split(":")[0] for entry in done.history] == [name for name, _ in steps]
    assert done.dark is None
    assert done.flat is None
    assert done.weights[0, 3, 6] == 0.75  # one hot pixel of four
    assert done.weights[1, 13, 20] == 0.75
    expected, _ = bin_frames(speckle[:, 4:60, :76], size=2)
    good = done.weights == 1
    for n in range(2):
        ratio = (done.sample[n] / expected[n])[good[n]]
        assert np.ptp(ratio) <= 1e-5 * ratio.mean()  # float32 rounding of a handful of operations
    assert np.allclose(done.sample[good], done.reference[good], rtol=1e-4)
    xmist.retrieve(
        done.stack(), xmist.Experiment(energy_kev=17, pixel_size=1e-6, sample_to_detector=1), method="mist"
    )


@pytest.mark.parametrize("positions", [2, 5])
def test_random_dead_pixels_of_any_value_are_found_and_change_nothing(positions):
    case = phase_object(positions, (128, 150))
    rng = np.random.default_rng(9)
    dead = rng.random(case.reference.shape) < 0.01
    broken = []
    for frames in (case.reference, case.sample):
        frames = 1e4 * frames
        frames[dead] = rng.choice([0.0, -8.0, np.nan, np.inf, 1e9], dead.sum())
        broken.append(frames)
    found = apply_steps(Frames(*broken), [("bad-pixels", {})])
    assert not found.weights[dead].any()
    assert (found.weights[~dead] == 0).mean() < 1e-3
    clean, result = (
        xmist.retrieve(stack, EXPERIMENT, method="mist")
        for stack in (xmist.SpeckleStack(case.reference, case.sample), found.stack())
    )
    good = result.flags == 0
    assert (result.phase - clean.phase)[good].std() < 0.03 * clean.phase.std()
    assert np.isfinite(result.phase).all()


@pytest.mark.parametrize("name", STEPS)
def test_steps_modify_nothing_and_add_to_the_history(name):
    frames, _ = _raw()
    if name == "flat":
        frames = apply_steps(frames, [("dark", {})])
    names = ("reference", "sample", "weights", "dark", "flat")
    before = {key: None if getattr(frames, key) is None else getattr(frames, key).copy() for key in names}
    done = apply_steps(frames, [(name, {})])
    assert done is not frames
    assert done.history[:-1] == frames.history
    assert done.history[-1].startswith(f"{name}: ")
    for key, array in before.items():
        assert array is None or np.array_equal(getattr(frames, key), array)
    assert STEPS[name].summary
    assert dataclasses.is_dataclass(STEPS[name].options)
    with pytest.raises(dataclasses.FrozenInstanceError):
        STEPS[name].options().anything = 1


def test_the_history_holds_what_was_done():
    frames, _ = _raw()
    steps = [("dark", {}), ("flat", {}), ("bad-pixels", {}), ("flux", {})]
    history = apply_steps(frames, steps).history
    assert "one frame, mean 109." in history[0]
    assert "the median of 3 frames" in history[1]
    assert "1 pixel of them at all positions" in history[2]
    assert "hot 1" in history[2]
    assert "dead 1" in history[2]
    assert "sample frames × 1.2" in history[3]


@pytest.mark.parametrize(
    ("first", "last"),
    [(["dark", "flat", "crop"], ["bad-pixels"]), (["dark"], ["bad-pixels", "flat", "crop"])],
    ids=["all first", "flat and crop after bad-pixels"],
)
def test_steps_of_single_frames_are_the_same_prepared_once(first, last):
    frames, _ = _raw()
    options = {"crop": {"rows": (4, 60), "columns": (0, 76)}}
    steps = [(name, options.get(name, {})) for name in (*first, *last)]
    expected = apply_steps(frames, steps)
    prepared = pickle.loads(pickle.dumps(prepare_frame_steps(steps, frames.dark, frames.flat)))
    assert [name for name, _ in prepared.rest] == last
    given = Frames(
        prepared(frames.reference), prepared(frames.sample), dark=prepared.dark, flat=prepared.flat
    )
    done = apply_steps(given, prepared.rest)
    for name in ("reference", "sample", "weights"):
        assert np.array_equal(getattr(done, name), getattr(expected, name), equal_nan=True)
    assert (*prepared.history, *done.history) == expected.history


def test_all_errors_of_all_steps_at_once():
    frames, _ = _raw()
    steps = [
        ("bad-pixel", {}),
        ("flux", {"row": [0, 5]}),
        ("bin", {"size": 2.5, "least": 2}),
        ("unlit", {"size": 4, "margin": True, "threshold": 0}),
        ("crop", {"rows": [5, 2], "columns": "all"}),
        ("bad-pixels", {"saturation": -1, "grow": -1, "loss": 1}),
        ("drift", {"max_shift": "far"}),
    ]
    with pytest.raises(xmist.InputError) as caught:
        apply_steps(frames, steps)
    assert caught.value.codes == ("step-unknown", "option-unknown", *["option-invalid"] * 11)
    numbers = [record.message.split(" ")[1] for record in caught.value.records]
    assert numbers == list("1233444556667")
    assert "did you mean 'bad-pixels'?" in str(caught.value)


@pytest.mark.parametrize(
    ("steps", "code", "number"),
    [
        ([("flat", {})], "step-order", 1),
        ([("dark", {}), ("dark", {})], "frames-missing", 2),
        ([("dark", {}), ("flat", {}), ("flat", {})], "frames-missing", 3),
        ([("crop", {"rows": [0, 100]})], "box-outside", 1),
        ([("crop", {"rows": [0, 3]})], "frames-too-small", 1),
        ([("bin", {"size": 20})], "frames-too-small", 1),
        ([("flux", {"columns": [70, 90]})], "box-outside", 1),
    ],
)
def test_steps_that_cannot_be_done(steps, code, number):
    with pytest.raises(xmist.InputError) as caught:
        apply_steps(_raw()[0], steps)
    assert caught.value.codes == (code,)
    assert str(caught.value).startswith(f"step {number} ({steps[-1][0]}): ")


def test_frames_report_all_errors_at_once():
    good = np.ones((2, 16, 20))
    with pytest.raises(xmist.InputError) as caught:
        Frames(good, good[:1], dark=good[0, 1:], flat=good > 0, weights=-good)
    assert len(caught.value.messages) == 4
    assert "sample (1, 16, 20)" in str(caught.value)
    assert "dark has (15, 20) pixels" in str(caught.value)
    with pytest.raises(dataclasses.FrozenInstanceError):
        Frames(good, good).reference = good
    assert (
        np.shares_memory(Frames(good.astype(np.float32), good).reference, Frames(good, good).sample) is False
    )


def test_frames_share_memory_with_what_they_were_given():
    given = np.ones((2, 16, 20), np.float32)
    frames = Frames(given, given)
    assert np.shares_memory(frames.reference, given)
    assert frames.weights.strides == (0, 0, 0)  # no memory for weights that are all 1
    assert frames.stack().weights.shape == given.shape


def test_options_by_name():
    assert make_step_options("crop", {"rows": (np.int64(2), 9)}).rows == (2, 9)
    with pytest.raises(xmist.InputError) as caught:
        make_step_options("bin", {"siez": 3, "least": -1})
    assert caught.value.codes == ("option-unknown", "option-invalid")
    assert "did you mean 'size'" in str(caught.value)


@pytest.mark.parametrize(
    ("call", "codes"),
    [
        (lambda frames: find_bad_pixels(frames, size=4, grow=-1), ["option-invalid"] * 2),
        (lambda frames: find_bad_pixels(frames, loss=0), ["option-invalid"]),
        (lambda frames: find_unlit(frames, size=2.5, margin=-1), ["option-invalid"] * 2),
        (lambda frames: bin_frames(frames, size=0), ["option-invalid"]),
        (lambda frames: bin_frames(frames, size=2, least=2), ["option-invalid"]),
        (lambda frames: measure_drift(frames, frames, max_shift=1e9), ["option-invalid"]),
        (lambda frames: measure_drift(frames, frames, rows=(3, 2)), ["option-invalid"]),
    ],
)
def test_functions_check_options_as_steps_do(call, codes):
    with pytest.raises(xmist.InputError) as caught:
        call(_raw()[0].reference)
    assert list(caught.value.codes) == codes


@pytest.mark.parametrize(
    ("call", "code", "name"),
    [
        (lambda frames: correct_drift(frames, "ab"), "shape-mismatch", "shift"),
        (lambda frames: correct_drift(frames, [[1], [1, 2]]), "array-invalid", "shift"),
        (lambda frames: subtract_dark(frames, [[1], [1, 2]]), "array-invalid", "dark"),
    ],
)
def test_arguments_that_are_no_arrays_are_named(call, code, name):
    with pytest.raises(xmist.InputError, check=coded(code, names=[name])):
        call(_raw()[0].reference)


def test_dark_and_flat():
    rng = np.random.default_rng(1)
    frames = rng.uniform(1e3, 2e3, (2, 16, 20))
    dark = np.stack([np.full((16, 20), value) for value in (10.0, 11.0, 5e4)])
    assert np.allclose(subtract_dark(frames, dark), frames - 11, rtol=1e-6)  # one hit does not matter
    assert np.allclose(subtract_dark(frames, dark[:2]), frames - 10.5, rtol=1e-6)
    flat = rng.uniform(1, 2, (16, 20))
    even = divide_flat(7 * flat[None], flat)
    assert np.allclose(even, 7 * flat.mean(), rtol=1e-6)
    flat[3, 4], flat[5, 6], flat[7, 8] = 0, np.nan, -1
    lost = np.isnan(divide_flat(frames, flat))
    assert np.argwhere(lost[0]).tolist() == [[3, 4], [5, 6], [7, 8]]
    with pytest.raises(xmist.InputError) as caught:
        divide_flat(frames, -np.abs(np.nan_to_num(flat)))
    assert caught.value.codes == ("flat-invalid",)
    with pytest.raises(xmist.InputError) as caught:
        subtract_dark(frames, np.ones((20, 16)))
    assert caught.value.codes == ("shape-mismatch",)


def _saturating(bits=14, seed=5):
    """Raw frames (offset, uneven response) of which some per cent saturate, and where these are."""
    frames, _ = _raw(4, seed)
    top = 2**bits - 1
    scale = 0.5 * top / np.median(frames.reference)
    arrays = [
        np.minimum(np.round(scale * np.asarray(array)), top) for array in (frames.reference, frames.sample)
    ]
    dark, flat = (scale * np.asarray(array) for array in (frames.dark, frames.flat))
    over = (arrays[0] == top) | (arrays[1] == top)
    assert 0.01 < over.mean() < 0.3
    return Frames(*arrays, dark=dark, flat=flat), over


@pytest.mark.parametrize("given", [{}, {"saturation": 16383}], ids=["found", "given"])
@pytest.mark.parametrize(
    "before",
    [[], ["dark"], ["dark", "flat"], ["dark", "flat", "flux"], ["dark", "bin"], ["crop", "dark", "flat"]],
    ids=" ".join,
)
def test_saturation_is_found_in_any_order(before, given):
    frames, over = _saturating()
    options = {"crop": {"rows": (4, 60)}}
    steps = [(name, options.get(name, {})) for name in before]
    done = apply_steps(frames, [*steps, ("bad-pixels", given)])
    if "bin" in before:
        over = over.reshape(4, 32, 2, 40, 2).mean(axis=(2, 4)) > 0.5
    elif "crop" in before:
        over = over[:, 4:60]
    assert (done.weights[over] == 0).all()
    # Few others: the limit of counts is not that of frames after the dark.
    assert (done.weights[~over] == 0).mean() < 0.01


def test_darks_with_beam_and_flats_without_are_left_out():
    frames, _ = _raw()
    dark, flat = frames.dark[0], frames.flat[0]
    clean = Frames(frames.reference, frames.sample, dark=[dark, dark], flat=[flat, flat])
    given = Frames(clean.reference, clean.sample, dark=[dark, flat, dark], flat=[flat, dark, flat])
    steps = [("dark", {}), ("flat", {})]
    done, expected = apply_steps(given, steps), apply_steps(clean, steps)
    assert [record.code for record in done.findings] == ["dark-with-beam", "flat-without-beam"]
    assert expected.findings == ()
    assert np.array_equal(done.sample, expected.sample, equal_nan=True)
    level = float(np.median(given.reference))
    prepared = prepare_frame_steps(steps, given.dark, given.flat, level)
    assert prepared.findings == done.findings
    assert np.array_equal(prepared(given.sample), done.sample, equal_nan=True)


def test_darks_that_are_as_bright_as_the_frames():
    frames, _ = _raw()
    swapped = Frames(frames.reference, frames.sample, dark=frames.flat)
    assert [record.code for record in apply_steps(swapped, [("dark", {})]).findings] == ["dark-bright"]


def test_binning_is_the_weighted_mean_of_good_pixels():
    rng = np.random.default_rng(2)
    frames = rng.uniform(1, 2, (2, 30, 34)).astype(np.float32)
    weights = rng.uniform(0.5, 1, frames.shape).astype(np.float32)
    weights[rng.random(frames.shape) < 0.3] = 0
    frames[weights == 0] = np.nan
    joined, new = bin_frames(frames, weights, size=3, least=0.5)
    assert joined.shape == (2, 10, 11)
    for n, y, x in [(0, 0, 0), (1, 4, 7), (0, 9, 10)]:
        part = np.s_[n, 3 * y : 3 * y + 3, 3 * x : 3 * x + 3]
        good = weights[part] > 0
        mean = np.average(frames[part][good], weights=weights[part][good])
        assert np.isclose(joined[n, y, x], mean, rtol=1e-6)
        expected = weights[part].mean() if good.sum() >= 4.5 else 0
        assert np.isclose(new[n, y, x], expected, rtol=1e-6)
    count = np.add.reduceat(
        np.add.reduceat(weights[:, :, :33] > 0, range(0, 30, 3), 1, int), range(0, 33, 3), 2
    )
    assert np.array_equal(new > 0, count >= 5)
    assert (count < 5).any()
    assert np.isfinite(joined).all()
    plain, ones = bin_frames(np.nan_to_num(frames), size=1)
    assert np.array_equal(plain, np.nan_to_num(frames))
    assert (ones == 1).all()


def test_crop_copies():
    frames = np.arange(2 * 20 * 30.0).reshape(2, 20, 30)
    part = crop(frames, rows=(3, 13), columns=(5, 25))
    assert np.array_equal(part, frames[:, 3:13, 5:25])
    assert part.flags.c_contiguous
