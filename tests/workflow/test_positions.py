"""References and projections brought together by the positions of the diffuser in their headers."""

from pathlib import Path

import fabio
import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.coded import coded
from tests.workflow.series_scenes import SHAPE, frames, open_setup, read_all, sections, write_toml
from xmist.core.errors import InputError
from xmist.workflow.frames import FrameReader
from xmist.workflow.placement import FrameRequest, place_frames
from xmist.workflow.search import pair_positions

PLACES = (3.0, 1.0, 2.0)


def write_edf(path, frame, place):
    """Write a frame with two motors."""
    header = {"motor_mne": "sx mask", "motor_pos": f"0.5 {place}"}
    fabio.edfimage.EdfImage(frame, header=header).write(str(path))


def layouts(folder, repeats=1):
    place = {"folder": Path(folder), "repeats": repeats}
    reference = place_frames(
        FrameRequest(
            spec=["ref.h5::entry/data"], name="input.reference", outer="set", axes=None, count=1, **place
        )
    )
    known = place | {"axes": ("projection", "position", "y", "x")} | {"positions": reference.positions}
    return reference, place_frames(
        FrameRequest(spec=["all.h5::entry/data"], name="input.sample", outer="projection", **known)
    )


def write_stack(path, values, places):
    """Write frames that hold a value, with the mask's place of each."""
    with h5py.File(path, "w") as file:
        file["entry/data"] = np.broadcast_to(np.array(values, np.float32)[:, None, None], (len(values), 8, 9))
        file["entry/mask/x"] = np.array(places)


@settings(max_examples=15)  # files take the time that the disk takes
@given(data=st.data(), count=st.integers(1, 3), repeats=st.integers(1, 2), noise=st.floats(0, 4e-4))
def test_any_order_of_positions_is_undone(tmp_path_factory, data, count, repeats, noise):
    folder = tmp_path_factory.mktemp("places")
    order = list(range(3)) * repeats
    orders = [data.draw(st.permutations(order)) for _ in range(count + 1)]
    write_stack(folder / "ref.h5", orders[0], [PLACES[n] for n in orders[0]])
    # Frames hold their position and, a hundred times that, their projection.
    values = [100 * p + n for p, found in enumerate(orders[1:]) for n in found]
    # Half of what counts as the same, 1e-3 of the span of 2.
    places = [PLACES[n] + noise for found in orders[1:] for n in found]
    write_stack(folder / "all.h5", values, places)
    reference, sample = pair_positions(*layouts(folder, repeats), ["mask/x"])
    first = list(dict.fromkeys(orders[0]))
    assert not sample.missing
    assert read_all(reference).tolist() == [first]
    assert read_all(sample).tolist() == [[100 * p + n for n in first] for p in range(count)]


def test_a_series_is_paired_by_the_motors_of_edf_files(tmp_path):
    reference, samples = frames(3)
    for n, frame in enumerate(reference):
        write_edf(tmp_path / f"ref_{n}.edf", frame, PLACES[n])
    # The mask goes there and back again.
    for p, projection in enumerate(samples):
        for k, n in enumerate((0, 1, 2) if p % 2 == 0 else (2, 1, 0)):
            write_edf(tmp_path / f"p_{p}_{k}.edf", projection[n], PLACES[n])
    names = {"reference": "ref_*.edf", "sample": "p_{projection}_{position}.edf"}
    for key, expected in ((None, samples[1, ::-1]), ("mask", samples[1])):
        data = sections(input=names | {"position_key": key})
        found = open_setup(write_toml(tmp_path, data))
        with FrameReader(found.table) as reader:
            assert np.array_equal(reader.read(1).frames, expected)
            assert np.array_equal(reader.read(2).frames, samples[2])
        assert np.array_equal(found.references.sets[0], reference)
    write_edf(tmp_path / "p_2_1.edf", samples[2, 1], 7.0)
    (tmp_path / "p_0_0.edf").write_bytes(b"{ rubbish")
    found = open_setup(write_toml(tmp_path, data))
    assert sorted(found.table.missing) == [0, 2]
    assert "0 frames at mask = 1, as the references have it; expected 1" in found.table.missing[2]
    assert found.shape == SHAPE


def test_positions_that_cannot_be_paired_are_told(tmp_path):
    write_stack(tmp_path / "ref.h5", range(3), PLACES)
    write_stack(tmp_path / "all.h5", range(3), [9.0, 8.0, 7.0])
    for key, names in (
        ("mask/x", ["input.sample", "mask/x = 3"]),
        ("mask/y", ["input.reference", "mask/y", "ref.h5"]),
    ):
        with pytest.raises(InputError, check=coded("positions-mismatch", names=names)):
            pair_positions(*layouts(tmp_path), [key])
    write_stack(tmp_path / "ref.h5", range(3), [1.0, 1.0, 2.0])
    with pytest.raises(InputError, check=coded("positions-mismatch", names=["series.reference_rep"])):
        pair_positions(*layouts(tmp_path), ["mask/x"])
