"""Reference and sample brought together by the mask's position, or by their order."""

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.coded import coded
from tests.io.frames_files import make_frames, write_edf
from xmist import InputError
from xmist.io.frames.frames import group_repeats, load_frames, open_frames, pair_frames


def write(folder, name, positions, key="mask_x", shape=(9, 11), seed=0, **header):
    """Write one EDF file a position; the frame's numbers are made from the seed and its place."""
    frames = make_frames(len(positions), shape, np.float32, seed)
    for number, (frame, position) in enumerate(zip(frames, positions, strict=True)):
        write_edf(folder / f"{name}_{number}.edf", [frame], [{key: str(position), **header}])
    return frames


def opened(folder, name, **options):
    return open_frames(f"{name}_*.edf", name=f"input.{name}", folder=folder, **options)


@settings(max_examples=20)
@given(
    order=st.permutations(range(5)),
    repeats=st.integers(1, 2),
    step=st.sampled_from([0.05, -3.0]),
    start=st.sampled_from([0, 7, -2000]),
    noise=st.floats(0, 4e-4),
)
def test_pairing_undoes_any_order(tmp_path_factory, order, repeats, step, start, noise):
    """Frames of the sample in any order, with the motor's noise, come back in that of the reference."""
    folder = tmp_path_factory.mktemp("pairing")
    places = [step * number + start for number in range(5)]
    reference = write(folder, "reference", np.repeat(places, repeats))
    shuffled = np.repeat([places[index] + 4 * step * noise for index in order], repeats)  # span: 4 steps
    sample = write(folder, "sample", shuffled, seed=1)
    pairing = pair_frames(opened(folder, "reference"), opened(folder, "sample"), repeats=repeats)
    assert len(pairing) == 5
    np.testing.assert_allclose([position[0] for position in pairing.positions], places)
    inverse = np.argsort(order)
    first = load_frames(opened(folder, "reference"), groups=pairing.reference, dtype=float)
    second = load_frames(opened(folder, "sample"), groups=pairing.sample, dtype=float)
    # Means of one or two float32 numbers near 1e3: exact but for the last bit of float64.
    np.testing.assert_allclose(first.frames, _means(reference, repeats), rtol=1e-15)
    np.testing.assert_allclose(second.frames, _means(sample, repeats)[inverse], rtol=1e-15)
    assert first.positions == pairing.positions


def _means(frames, repeats):
    return frames.reshape(5, repeats, *frames.shape[1:]).astype(float).mean(axis=1)


def test_without_positions_the_order_counts(tmp_path):
    write(tmp_path, "reference", range(4), key="other")
    write(tmp_path, "sample", range(9, 13), key="other")
    pairing = pair_frames(opened(tmp_path, "reference"), opened(tmp_path, "sample"), repeats=2)
    assert pairing.reference == pairing.sample == ((0, 1), (2, 3))
    assert pairing.positions is None


def test_positions_that_only_one_has_are_named_with_their_files(tmp_path):
    write(tmp_path, "reference", [0, 1, 2])
    write(tmp_path, "sample", [0, 1.5, 2])
    with pytest.raises(InputError) as caught:
        pair_frames(opened(tmp_path, "reference"), opened(tmp_path, "sample"))
    (fault,) = caught.value.messages
    assert "only input.reference has" in fault
    assert "reference_1.edf (mask_x = 1)" in fault
    assert "only input.sample has" in fault
    assert "sample_1.edf (mask_x = 1.5)" in fault


def test_two_coordinates_named_by_the_user(tmp_path):
    for name, row in (("reference", ((0, 0), (0, 1), (1, 0))), ("sample", ((1, 0), (0, 0), (0, 1)))):
        for number, (x, y) in enumerate(row):
            header = {"motor_mne": "px py", "motor_pos": f"{x} {y}"}
            write_edf(tmp_path / f"{name}_{number}.edf", make_frames(1, dtype=np.float32), [header])
    series = [opened(tmp_path, name, position_key=["px", "py"]) for name in ("reference", "sample")]
    assert series[0].positions == ((0, 0), (0, 1), (1, 0))
    assert pair_frames(*series).sample == ((1,), (2,), (0,))


def test_a_position_key_that_headers_lack(tmp_path):
    write(tmp_path, "reference", [0, 1], key="sample_x")
    write_edf(tmp_path / "reference_1.edf", make_frames(1, (9, 11), np.float32))
    with pytest.raises(
        InputError, check=coded("positions-missing", names=["position_key", "sampl_x", "sample_x"])
    ):
        opened(tmp_path, "reference", position_key="sampl_x")
    with pytest.raises(
        InputError, check=coded("positions-missing", names=["position_key", "sample_x", "reference_1.edf"])
    ):
        opened(tmp_path, "reference", position_key="sample_x")


def test_positions_from_nexus_by_path_or_name(tmp_path):
    frames = make_frames(3)
    for name, places in (("reference", [3.0, 1.0, 2.0]), ("sample", [1.0, 2.0, 3.0])):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file["entry/data"] = frames
            file["entry/instrument/diffuser/x/value"] = places
            file["entry/instrument/stage/x"] = 7.0
    series = [open_frames(f"{n}.h5", name=n, folder=tmp_path) for n in ("reference", "sample")]
    assert pair_frames(*series).sample == ((2,), (0,), (1,))
    for key in ("/entry/instrument/diffuser/x/value", "diffuser/x/value", "Diffuser/X/value"):
        asked = open_frames("sample.h5", name="sample", folder=tmp_path, position_key=key)
        assert asked.positions == series[1].positions
    with pytest.raises(InputError, check=coded("positions-missing", names=["position_key", "mask/x"])):
        open_frames("sample.h5", name="sample", folder=tmp_path, position_key="mask/x")


def test_another_number_or_shape_of_frames(tmp_path):
    write(tmp_path, "reference", range(3), key="other")
    write(tmp_path, "sample", range(4), key="other", shape=(9, 12))
    with pytest.raises(InputError) as caught:
        pair_frames(opened(tmp_path, "reference"), opened(tmp_path, "sample"))
    shape, count = caught.value.messages
    assert "input.reference has frames of 9 × 11 pixels" in shape
    assert "input.sample of 9 × 12" in shape
    assert "input.reference has 3 frames and input.sample 4; expected equal numbers" in count
    assert "sample_3.edf" in count


def test_headers_of_another_set_up(tmp_path):
    write(tmp_path, "reference", [0], SampleDistance="0.8", Wavelength="1.5e-10")
    write(tmp_path, "sample", [0], SampleDistance="0.9", Wavelength="1.50001e-10")
    with pytest.raises(InputError) as caught:
        pair_frames(opened(tmp_path, "reference"), opened(tmp_path, "sample"))
    (fault,) = caught.value.messages
    assert "reference_0.edf: SampleDistance = 0.8, but 0.9 m by " in fault
    assert "sample_0.edf: SampleDistance = 0.9;" in fault


def test_repeats_by_position_and_against_it(tmp_path):
    write(tmp_path, "reference", [0, 1, 0, 1, 0, 1])  # three passes over two positions
    series = opened(tmp_path, "reference")
    assert group_repeats(series) == group_repeats(series, 3) == ((0, 2, 4), (1, 3, 5))
    with pytest.raises(InputError) as caught:
        group_repeats(series, 2)
    assert len(caught.value.messages) == 2
    assert "the headers give 3 frames at mask_x = 0" in caught.value.messages[0]
    assert group_repeats(series, "all") == (tuple(range(6)),)


def test_a_motor_that_did_not_move_tells_nothing(tmp_path):
    write(tmp_path, "reference", [4] * 4)
    write(tmp_path, "sample", [4] * 4)
    series = [opened(tmp_path, name) for name in ("reference", "sample")]
    assert len(pair_frames(*series)) == 4
    assert pair_frames(*series, repeats=2).positions is None
    # Named by the user, it does: all four frames are of one position.
    asked = [opened(tmp_path, name, position_key="mask_x") for name in ("reference", "sample")]
    assert pair_frames(*asked).reference == ((0, 1, 2, 3),)


def test_text_is_no_position_unless_asked_for(tmp_path):
    write(tmp_path, "reference", ["left", "right"])
    assert opened(tmp_path, "reference").positions is None
    asked = opened(tmp_path, "reference", position_key="mask_x")
    assert asked.positions == (("left",), ("right",))
    assert len(group_repeats(asked)) == 2


def test_one_pair_is_held_together_by_its_size(tmp_path):
    for place, fits in ((5.001, True), (5.02, False)):
        write(tmp_path, "reference", [5.0])
        write(tmp_path, "sample", [place])
        series = [opened(tmp_path, name) for name in ("reference", "sample")]
        if fits:
            assert len(pair_frames(*series)) == 1
        else:
            with pytest.raises(InputError, check=coded("positions-mismatch")):
                pair_frames(*series)
    order = [opened(tmp_path, name, position_key=[]) for name in ("reference", "sample")]
    assert pair_frames(*order).positions is None


def test_headers_that_name_other_coordinates_and_repeats_that_do_not_fit(tmp_path):
    write(tmp_path, "reference", [0, 1, 2], mask_y="3")
    write(tmp_path, "sample", [0, 1, 2])
    with pytest.raises(InputError, check=coded("positions-mismatch", names=["position_key"])):
        pair_frames(opened(tmp_path, "reference"), opened(tmp_path, "sample"))
    series = [opened(tmp_path, name, position_key=[]) for name in ("reference", "sample")]
    with pytest.raises(InputError) as caught:
        pair_frames(*series, repeats=2)
    assert [fault.split(":")[0] for fault in caught.value.messages] == ["input.reference", "input.sample"]


def test_a_motor_that_did_not_move_leaves_the_count(tmp_path):
    write(tmp_path, "reference", [4] * 4)
    write(tmp_path, "sample", [4] * 3)
    with pytest.raises(
        InputError, check=coded("frames-unequal-numbers", names=["input.reference", "4", "input.sample", "3"])
    ):
        pair_frames(opened(tmp_path, "reference"), opened(tmp_path, "sample"))


@pytest.mark.parametrize("moved", [0, 1])
def test_a_coordinate_that_only_scatters_is_ignored(tmp_path, moved):
    """The motor that stands still never returns to the same number twice."""
    rng = np.random.default_rng(3)
    for name, order in (("reference", [0, 1, 2, 3]), ("sample", [2, 0, 3, 1])):
        for number, place in enumerate(order):
            values = [7.0 + 4e-4 * rng.uniform(-1, 1), 0.1 * place][:: 1 if moved else -1]
            header = {"mask_x": str(values[0]), "mask_y": str(values[1])}
            write_edf(tmp_path / f"{name}_{number}.edf", make_frames(1, (9, 11), np.float32), [header])
    pairing = pair_frames(opened(tmp_path, "reference"), opened(tmp_path, "sample"))
    assert pairing.reference == ((0,), (1,), (2,), (3,))
    assert pairing.sample == ((1,), (3,), (0,), (2,))
    asked = [opened(tmp_path, name, position_key=["mask_x", "mask_y"]) for name in ("reference", "sample")]
    assert pair_frames(*asked).sample == pairing.sample
