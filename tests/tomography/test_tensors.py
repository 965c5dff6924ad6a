"""Tensor projections for mumott: values, geometry, and what is undetermined."""

import h5py
import numpy as np
import pytest

import xmist
from tests.workflow.volume_scenes import write_series
from xmist.core.errors import InputError
from xmist.tomography import export_mumott

EXPERIMENT = xmist.Experiment(energy_kev=17.0, pixel_size=2e-6, sample_to_detector=0.8)
ANGLES = np.arange(0, 180, 30.0)
SIZE = 24
CENTRE = 10.0


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    """Series of a rod along the axis, with the tensor diag(3, 1) and xy = 1 in m, at three tilts."""
    folder = tmp_path_factory.mktemp("tensors")
    rod = np.exp(-((np.arange(SIZE) - CENTRE) ** 2) / 2) * np.ones((len(ANGLES), SIZE, 1))
    tensor = np.stack([3.0 * rod, rod, rod], axis=1) * 1e-12
    tensor[1, :, 2, 9] = np.nan
    paths = []
    for tilt in (None, 30.0, -30.0):
        channels = {"transmission": np.exp(-0.1 * rod), "dark_field_tensor": tensor}
        path = folder / f"{tilt}.h5"
        paths.append(
            write_series(
                path, channels, ANGLES, experiment=EXPERIMENT, failed=(2,) * (tilt is None), tilt=tilt
            )
        )
    return paths


def test_the_file_holds_line_integrals_along_directions_and_their_geometry(series, tmp_path):
    with h5py.File(export_mumott(series, tmp_path / "t.h5")) as file:
        each = [file["projections"][str(number)] for number in range(len(file["projections"]))]
        assert len(each) == 3 * len(ANGLES) - 1  # without the one that failed
        turns = np.deg2rad([*np.delete(ANGLES, 2), *ANGLES, *ANGLES])
        assert [one["inner_angle"][()] for one in each] == pytest.approx(turns)
        tilts = np.deg2rad([0.0] * 5 + [30.0] * 6 + [-30.0] * 6)
        assert [one["outer_angle"][()] for one in each] == pytest.approx(tilts)
        # The Gaussian is 0 at the border.
        assert each[0]["j_offset"][()] == pytest.approx(0.5 * (SIZE - 1) - CENTRE, abs=1e-3)
        # The trace over directions, and the value along x: xx, less what its sector of π/8 takes off.
        scale = 2.0 / 0.8 / 2e-6 * 1e-12
        data = each[0]["data"][int(CENTRE), 3]
        assert data.mean() == pytest.approx(2.0 * scale)
        share = np.sin(np.pi / 8) / (np.pi / 8)
        assert data[0] == pytest.approx((2.0 + share) * scale)
        assert data[2] == pytest.approx((2.0 + share) * scale)  # at 45 degrees, by xy
        assert each[1]["weights"][9, 2] == 0
        assert each[1]["data"][9, 2].tolist() == [0.0] * 8
        assert np.count_nonzero(each[0]["weights"][()] != 1) == 0


def test_fewer_than_three_tilts_give_a_warning(series, tmp_path):
    with pytest.warns(UserWarning, match="tilts"):
        export_mumott(series[:2], tmp_path / "t.h5", centres=[10.0, 10.0])


def test_what_is_missing_is_named(series, tmp_path):
    without = write_series(tmp_path / "s.h5", {"transmission": np.ones((6, SIZE, SIZE))}, ANGLES)
    for results, centres, code in (
        ([*series, without], None, "channel-missing"),
        (series, [10.0], "shape-mismatch"),
        ([], None, "option-missing"),
    ):
        with pytest.raises(InputError) as caught:
            export_mumott(results, tmp_path / "t.h5", centres=centres)
        assert caught.value.codes == (code,)
    assert not (tmp_path / "t.h5").exists()
