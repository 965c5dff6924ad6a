"""What detectors write that is no measurement: found in raw counts through the command line."""

import json
import tomllib

import h5py
import numpy as np
import pytest
import tifffile

import xmist
from tests.cli.scenes import call
from xmist import simulate

SHAPE = (64, 72)
DARK = 100.0


class Measurement:
    """Counts of a detector: photons on an offset, with an uneven response; and what is true."""

    def __init__(self, level=8000.0, positions=5, seed=0):
        rng = np.random.default_rng(seed)
        stack, self.experiment, truth = simulate.phantom("fine", shape=SHAPE, positions=positions, seed=seed)
        self.transmission = truth.transmission
        response = 1 + 0.05 * rng.standard_normal(SHAPE)

        def counts(light):
            return np.round(rng.poisson(level * light * response) + rng.normal(DARK, 2.0, light.shape))

        self.reference, self.sample = counts(stack.reference), counts(stack.sample)
        self.dark, self.flat = (counts(np.full((3, *SHAPE), light)) for light in (0.0, 1.0))

    def write(self, folder, dtype=np.uint16, steps=("dark", "flat", "bad-pixels"), **options):
        """Write the frames as TIFF and a configuration."""
        for role in ("reference", "sample", "dark", "flat"):
            for number, frame in enumerate(getattr(self, role)):
                tifffile.imwrite(folder / f"{role}_{number}.tif", frame.astype(dtype))
        lines = ["[input]"]
        roles = ["reference", "sample", *(role for role in ("dark", "flat") if role in steps)]
        lines += [f'{role} = "{role}_*.tif"' for role in roles]
        lines += ["[experiment]"]
        lines += [f"{key} = {value}" for key, value in self.experiment.to_dict().items() if value is not None]
        for step in steps:
            lines += ["[[preprocess]]", f'step = "{step}"']
            lines += [f"{key} = {value}" for key, value in options.items() if step == "bad-pixels"]
        lines += ["[retrieve]", 'method = "mist-attenuating"', "[options]", "smoothing = 2.0"]
        lines += ["[output]", 'files = ["result.h5"]', "overwrite = true"]
        (folder / "config.toml").write_text("\n".join(lines) + "\n")


def retrieved(capsys, folder, code=0):
    """Return the result of the configuration in a folder, which ends with an exit code."""
    done = call(capsys, "retrieve", str(folder / "config.toml"))
    assert done.code == code, done.err
    return xmist.open_result(folder / "result.h5") if code != 2 else None


def error(result, made):
    """Return the error of the transmission in units of that of 1 % noise, where anything is known."""
    known = np.isfinite(result.transmission)
    assert known.mean() > 0.9
    return float(np.std((result.transmission - made.transmission)[known]))


def codes(result):
    return {finding.code for finding in result.findings}


ORDERS = [
    ("dark", "flat", "bad-pixels"),
    ("bad-pixels", "dark", "flat"),
    ("dark", "flat"),
    ("dark", "flat", "flux", "bad-pixels"),
]


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
@pytest.mark.parametrize("steps", ORDERS, ids=" ".join)
def test_saturation_in_any_order_of_steps(tmp_path, capsys, steps, dtype):
    made = Measurement(level=2700.0)
    clean = Measurement(level=2700.0)
    for stack in (made.reference, made.sample):
        np.minimum(stack, 4095, out=stack)  # 12 bits
    share = (made.reference == 4095).mean()
    assert 0.02 < share < 0.6
    folders = [tmp_path / name for name in ("clean", "clipped")]
    for folder, each in zip(folders, (clean, made), strict=True):
        folder.mkdir()
        each.write(folder, dtype, steps)
    best = error(retrieved(capsys, folders[0]), clean)
    result = retrieved(capsys, folders[1])
    assert "saturated" in codes(result)
    assert (result.flags[(made.reference == 4095).any(axis=0)] & xmist.core.flags.MASKED).all()
    # Fewer positions are left at many pixels, and the brightest of them are gone.
    assert error(result, made) < 3 * best


def test_saturation_of_one_position_and_in_counts_of_the_camera(tmp_path, capsys):
    made = Measurement()
    made.sample[2] = np.minimum(2.5 * made.sample[2], 16383)
    made.write(tmp_path)
    assert {"saturated", "pixels-saturated"} & codes(retrieved(capsys, tmp_path))
    made = Measurement()
    where = made.reference >= 12000
    assert where.any()
    made.write(tmp_path, saturation=12000.0)  # after dark and flat no pixel reaches the count as it was
    result = retrieved(capsys, tmp_path)
    assert (result.flags[where.any(axis=0)] & xmist.core.flags.MASKED).all()


@pytest.mark.parametrize(
    ("dtype", "mark"), [(np.uint16, 65535), (np.uint32, 2**32 - 1), (np.int32, -1), (np.float32, -2)]
)
@pytest.mark.parametrize("steps", [(), ("dark", "flat")], ids=["no steps", "dark and flat"])
def test_marks_of_gaps_do_not_matter(tmp_path, capsys, dtype, mark, steps):
    made = Measurement()
    made.write(tmp_path, dtype, steps)
    clean = retrieved(capsys, tmp_path)
    for stack in (made.reference, made.sample):
        stack[:, 30:33] = mark
        stack[1, 10, 20] = mark
    made.write(tmp_path, dtype, steps)
    result = retrieved(capsys, tmp_path)  # exit code 0: the gap is masked, not lost
    assert "pixels-marked" in codes(result)
    away = np.ones(SHAPE, bool)
    away[20:43] = away[4:17, 14:27] = False
    np.testing.assert_allclose(result.transmission[away], clean.transmission[away], atol=0.02)
    assert (result.flags[30:33] & xmist.core.flags.MASKED).all()


def test_stuck_pixels(tmp_path, capsys):
    made = Measurement()
    for stack in (made.reference, made.sample):
        stack[:, 20, 30] = 6000
    made.write(tmp_path, steps=("dark", "flat"))
    result = retrieved(capsys, tmp_path)
    assert "pixels-stuck" in codes(result)
    assert result.flags[20, 30] & xmist.core.flags.MASKED


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32, np.float32])
@pytest.mark.parametrize("role", ["reference", "sample", "dark", "flat"])
def test_counts_that_wrapped_around(tmp_path, capsys, role, dtype):
    made = Measurement(level=150.0)
    rng = np.random.default_rng(1)
    stack = getattr(made, role)
    wrapped = (stack[1] - rng.normal(DARK, 100.0, SHAPE).round()).astype(np.int64)
    stack[1] = wrapped.astype(np.uint16 if dtype == np.float32 else dtype)  # one frame only
    made.write(tmp_path, dtype)
    done = call(capsys, "retrieve", str(tmp_path / "config.toml"))
    assert done.code == 2
    assert f"{role}_1.tif" in done.err
    with pytest.raises(xmist.InputError) as caught:
        xmist.run(tmp_path / "config.toml")
    assert caught.value.codes == ("counts-wrapped",)
    assert not (tmp_path / "result.h5").exists()


def test_counts_of_8_bits_that_wrapped_around(tmp_path, capsys):
    """Speckles lie between what wrapped and 0: it has dark neighbours, as no bright speckle has."""
    made = Measurement(level=60.0)
    made.write(tmp_path, steps=())
    assert retrieved(capsys, tmp_path).transmission is not None
    rng = np.random.default_rng(1)
    for role in ("reference", "sample"):
        stack = getattr(made, role)
        wrapped = np.clip(stack, 0, 255 + DARK) - rng.normal(DARK, 40.0, stack.shape).round()
        setattr(made, role, wrapped.astype(np.int64).astype(np.uint8))
    made.write(tmp_path, np.uint8, steps=())
    done = call(capsys, "retrieve", str(tmp_path / "config.toml"))
    assert done.code == 2
    assert "reference_0.tif" in done.err


def test_signed_frames_after_a_dark(tmp_path, capsys):
    made = Measurement(level=150.0)
    rng = np.random.default_rng(1)
    for stack in (made.reference, made.sample):
        stack -= rng.normal(DARK, 100.0, stack.shape).round()
    assert made.sample.min() < -2
    made.write(tmp_path, np.int16, ())
    assert not {"pixels-marked", "saturated"} & codes(retrieved(capsys, tmp_path))


def test_a_dark_with_beam_and_a_flat_without(tmp_path, capsys):
    made = Measurement()
    made.write(tmp_path)
    clean = retrieved(capsys, tmp_path)
    made.dark[1], made.flat[2] = made.flat[0].copy(), made.dark[0].copy()
    made.write(tmp_path)
    result = retrieved(capsys, tmp_path)
    assert {"dark-with-beam", "flat-without-beam"} <= codes(result)
    assert error(result, made) < 1.2 * error(clean, made)
    assert json.dumps(result.provenance["preprocessing"])
    made.dark[:] = made.flat  # given as each other
    made.write(tmp_path, steps=("dark",))
    done = call(capsys, "retrieve", str(tmp_path / "config.toml"))
    assert "dark" in done.err + done.out
    assert done.code in (0, 2, 3)


def test_a_series_is_treated_like_a_single_projection(tmp_path, capsys):
    made = Measurement()
    for stack in (made.reference, made.sample):
        stack[:, 30:32] = 65535
        np.minimum(stack[2], 12000, out=stack[2], where=stack[2] < 65535)
    made.write(tmp_path)
    alone = retrieved(capsys, tmp_path)
    text = (tmp_path / "config.toml").read_text()
    for number, frame in enumerate(made.sample):
        for projection in range(2):
            tifffile.imwrite(tmp_path / f"p{projection}_{number}.tif", frame.astype(np.uint16))
    text = text.replace('"sample_*.tif"', '"p{projection}_{position}.tif"').replace("result.h5", "series.h5")
    (tmp_path / "series.toml").write_text(text)
    done = call(capsys, "retrieve", str(tmp_path / "series.toml"))
    assert done.code == 0, done.err
    result = xmist.open_result(tmp_path / "series.h5", projection=1)
    np.testing.assert_array_equal(result.transmission, alone.transmission)
    np.testing.assert_array_equal(result.flags, alone.flags)


def test_masters_of_detectors(tmp_path, capsys):
    made = Measurement()
    gap = np.zeros(SHAPE, np.uint32)
    gap[30:32] = 1
    for role in ("reference", "sample"):
        stack = getattr(made, role).astype(np.uint32)
        stack[:, gap == 1] = 2**32 - 1
        with h5py.File(tmp_path / f"{role}_data_000001.h5", "w") as file:
            file["entry/data/data"] = stack
        with h5py.File(tmp_path / f"{role}_master.h5", "w") as file:
            file["entry/data/data_000001"] = h5py.ExternalLink(f"{role}_data_000001.h5", "/entry/data/data")
            specific = file.create_group("entry/instrument/detector/detectorSpecific")
            specific["pixel_mask"], specific["flatfield"] = gap, np.ones(SHAPE, np.float32)
    made.write(tmp_path, steps=())
    text = (tmp_path / "config.toml").read_text()
    for role in ("reference", "sample"):
        text = text.replace(f'"{role}_*.tif"', f'"{role}_master.h5"')
    (tmp_path / "config.toml").write_text(text)
    result = retrieved(capsys, tmp_path)
    assert (result.flags[30:32] & xmist.core.flags.MASKED).all()
    assert "pixels-marked" in codes(result)
    for name in tmp_path.glob("*.tif"):
        name.unlink()
    done = call(capsys, "init", tmp_path, "-o", tmp_path / "proposed.toml")
    assert done.code == 0, done.err
    names = tomllib.loads((tmp_path / "proposed.toml").read_text())["input"]
    assert names["reference"] == "reference_master.h5::/entry/data/data_000001"  # once, not its raw file too
    assert "reference_data_000001.h5" in done.err
