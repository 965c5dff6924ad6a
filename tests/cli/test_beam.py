"""A beam that changes, and exposure times that differ, as the files state them: through the command line."""

import h5py
import numpy as np
import pytest
import tifffile

import xmist
from tests.cli.scenes import GEOMETRY, call
from tests.io.frames_files import write_edf
from tests.workflow.series_scenes import frames, sections, write_toml
from xmist import simulate
from xmist.workflow import guard
from xmist.workflow.configuration import parse_configuration
from xmist.workflow.discovery import discover

SHAPE = (24, 28)
POSITIONS = 3
PROJECTIONS = 4
KEYS = [2, 1, 1, *[0] * PROJECTIONS]  # darks, references, projections: one stack a position
OFFSET = 100.0


@pytest.fixture(autouse=True)
def inline(monkeypatch):
    """Read HDF5 in this process: a child costs a second."""
    monkeypatch.setattr(guard, "call", lambda function, *arguments, **_: function(*arguments))


def write_stacks(folder, current=None, seconds=None, unit="mA"):
    """Write a stack a position, whose frames follow a current and an exposure time, one a frame."""
    reference, samples = frames(PROJECTIONS, POSITIONS, SHAPE)
    light = np.ones(len(KEYS))
    for values in (current, seconds):
        light = light if values is None else light * np.asarray(values) / values[1]
    for position in range(POSITIONS):
        beam = np.stack([0 * reference[0], *[reference[position]] * 2, *samples[:, position]])
        with h5py.File(folder / f"pos_{position}.nxs", "w") as file:
            entry = file.create_group("entry")
            entry.attrs["NX_class"] = "NXentry"
            detector = entry.create_group("instrument/detector")
            detector["data"] = (light[:, None, None] * beam + OFFSET).astype(np.float32)
            detector["image_key"] = KEYS
            entry["sample/rotation_angle"] = np.array([0.0] * 3 + [30.0 * n for n in range(PROJECTIONS)])
            entry["sample/rotation_angle"].attrs["units"] = "degree"
            if current is not None:
                control = entry.create_group("control")
                control.attrs["NX_class"] = "NXmonitor"
                control["data"] = np.asarray(current, float)
                control["data"].attrs["units"] = unit
            if seconds is not None:
                detector["count_time"] = np.asarray(seconds, float)


def configured(folder, *steps, **changes):
    """Write a configuration of the stacks; give the codes of what is noticed."""
    stack = "pos_{position}.nxs::/entry/instrument/detector/data[image_key=%s]"
    names = {"reference": stack % 1, "sample": stack % 0}
    names["dark"] = (stack % 2).replace("{position}", "*")
    preprocess = [{"step": "dark"}, *({"step": step} if isinstance(step, str) else step for step in steps)]
    series = {"angles": "rotation_angle", "reference_repeats": 2}
    data = sections(input=names | changes, preprocess=preprocess, series=series)
    path = write_toml(folder, data)
    found = discover(parse_configuration(path))
    assert not found.errors, found.errors
    return [finding.code for finding in found.findings]


def transmission(capsys, folder):
    """Retrieve; give the mean transmission of each projection."""
    done = call(capsys, "retrieve", folder / "config.toml", "--overwrite", "--method=mist-attenuating")
    assert done.code == 0, done.err
    values = np.asarray(xmist.open_result(folder / "scan.h5", chunks={})["transmission"])
    return np.median(values, axis=(1, 2))


@pytest.fixture
def steady(tmp_path_factory, capsys):
    """The transmission in a beam that does not change."""
    folder = tmp_path_factory.mktemp("steady")
    write_stacks(folder)
    configured(folder)
    return transmission(capsys, folder)


# float32 numbers of 1e4 counts on an offset of 100
EXACT = {"rtol": 1e-4}
MONITOR = {"step": "flux", "source": "monitor"}
STEADY = np.full(len(KEYS), 200.0)
FADING = np.array([200.0, 200.0, 200.0, *(200.0 * 0.97 ** np.arange(1, 1 + PROJECTIONS))])
REFILL = np.array([180.0, 180.0, 180.0, 178.0, 200.0, 199.0, 198.0])
OTHERS = np.array([190.0, 190.0, 190.0, *[150.0] * PROJECTIONS])


@pytest.mark.parametrize("current", [FADING, REFILL, OTHERS], ids=["fading", "refill", "others"])
def test_a_beam_that_changes(tmp_path, capsys, steady, current):
    write_stacks(tmp_path, current)
    assert configured(tmp_path) == ["beam-changed"]
    wrong = transmission(capsys, tmp_path)
    assert np.allclose(wrong / steady, current[3:] / current[1], **EXACT)
    assert configured(tmp_path, MONITOR) == []
    assert np.allclose(transmission(capsys, tmp_path), steady, **EXACT)
    done = call(capsys, "init", tmp_path, "--overwrite", "-o", tmp_path / "proposed.toml")
    assert done.code == 0, done.err
    proposed = parse_configuration(tmp_path / "proposed.toml")
    assert ("flux", {"source": "monitor"}) in proposed.preprocess


def test_a_beam_that_does_not_change(tmp_path, capsys):
    write_stacks(tmp_path, STEADY)
    assert configured(tmp_path) == []
    done = call(capsys, "init", tmp_path, "--overwrite", "-o", tmp_path / "proposed.toml")
    assert done.code == 0, done.err
    assert all(name != "flux" for name, _ in parse_configuration(tmp_path / "proposed.toml").preprocess)


SECONDS = {
    "sample": [0.1, 0.1, 0.1, *[0.2] * PROJECTIONS],
    "each": [0.1, 0.1, 0.1, 0.1, 0.2, 0.3, 0.4],
    "dark": [0.5, *[0.1] * (len(KEYS) - 1)],
}


@pytest.mark.parametrize(
    ("kind", "code"), [("sample", "exposure-times-differ"), ("each", "exposure-times-differ")]
)
def test_exposure_times_that_differ_are_scaled(tmp_path, capsys, steady, kind, code):
    seconds = SECONDS[kind]
    write_stacks(tmp_path, seconds=seconds)
    assert code in configured(tmp_path)
    assert np.allclose(transmission(capsys, tmp_path), steady, **EXACT)
    # A step flux does it alone; the ring current is a rate, and counts with the time.
    write_stacks(tmp_path, FADING, seconds)
    assert code not in configured(tmp_path, MONITOR)
    assert np.allclose(transmission(capsys, tmp_path), steady, **EXACT)


def test_an_integrating_monitor_counts_the_time_itself(tmp_path, capsys, steady):
    seconds = np.array(SECONDS["each"])
    write_stacks(tmp_path, 1e5 * seconds, unit="counts")
    with h5py.File(tmp_path / "pos_0.nxs") as file:
        assert file["entry/instrument/detector/data"][-1].max() > 2e4  # four times the light
    for position in range(POSITIONS):
        with h5py.File(tmp_path / f"pos_{position}.nxs", "r+") as file:
            file["entry/instrument/detector/count_time"] = seconds
    configured(tmp_path, MONITOR)
    assert np.allclose(transmission(capsys, tmp_path), steady, **EXACT)


@pytest.mark.parametrize("stored", ["integral", "no class", "link", "virtual"])
def test_a_monitor_of_a_single_projection(tmp_path, capsys, stored):
    reference, samples = frames(1, POSITIONS, SHAPE)
    found = []
    for light in (1.0, 0.75):
        for name, stack, factor in (("reference", reference, 1.0), ("sample", samples[0], light)):
            current = np.full(POSITIONS, 200.0 * factor)
            with h5py.File(tmp_path / f"{name}_raw.hdf", "w") as file:
                file["data"], file["current"] = factor * stack, current
            with h5py.File(tmp_path / f"{name}.h5", "w") as file:
                raw = [h5py.ExternalLink(f"{name}_raw.hdf", f"/{part}") for part in ("data", "current")]
                file["entry/instrument/detector/data"] = raw[0] if stored == "link" else factor * stack
                control = file.create_group("entry/control")
                if stored == "virtual":
                    layout = h5py.VirtualLayout(current.shape, current.dtype)
                    layout[:] = h5py.VirtualSource(f"{name}_raw.hdf", "current", current.shape)
                    control.create_virtual_dataset("data", layout)
                else:
                    control["integral" if stored == "integral" else "data"] = (
                        raw[1] if stored == "link" else current
                    )
        if stored != "virtual":
            for path in tmp_path.glob("*_raw.hdf") if stored != "link" else ():
                path.unlink()
        given = [f"--{key.replace('_', '-')}={value}" for key, value in GEOMETRY.items()]
        method = "--method=mist-attenuating"
        done = call(capsys, "init", tmp_path, *given, method, "-o", tmp_path / "config.toml", "--overwrite")
        assert done.code == 0, done.err
        steps = parse_configuration(tmp_path / "config.toml").preprocess
        assert (("flux", {"source": "monitor"}) in steps) == (light < 1)
        assert call(capsys, "retrieve", tmp_path / "config.toml", "--overwrite").code == 0
        found.append(xmist.open_result(tmp_path / "result.h5").transmission)
    np.testing.assert_allclose(found[1], found[0], **EXACT)


@pytest.mark.parametrize(
    "header",
    [
        {"counter_mne": "sec mon", "counter_pos": "{} 5"},
        {"ExposureTime": "{}e3 ms"},
        {"integration_time": "{}"},
    ],
)
def test_exposure_times_in_headers(tmp_path, header):
    reference, samples = frames(1)
    for role, stack, seconds in (("ref", reference, 0.1), ("sample", samples[0], 0.2)):
        for number, frame in enumerate(stack):
            texts = {key: text.format(seconds) for key, text in header.items()}
            write_edf(tmp_path / f"{role}_{number}.edf", [frame], [texts])
            lines = "".join(f"# {key} {text}\n" for key, text in texts.items())  # as Pilatus detectors do
            tags = [(33434, "2I", 1, (int(10 * seconds), 10))] if "counter_mne" in header else []
            tifffile.imwrite(tmp_path / f"{role}_{number}.tif", frame, description=lines, extratags=tags)
    for ending in ("edf", "tif"):
        data = sections(input={"reference": f"ref_*.{ending}", "sample": f"sample_*.{ending}"})
        del data["series"]
        found = discover(parse_configuration(write_toml(tmp_path, data)))
        assert [finding.code for finding in found.findings] == ["exposure-times-differ"]


def test_darks_of_another_exposure_time(tmp_path):
    write_stacks(tmp_path, seconds=SECONDS["dark"])
    assert configured(tmp_path) == ["dark-exposure-time"]


def test_a_monitor_that_is_missing_or_0(tmp_path, capsys):
    write_stacks(tmp_path)
    configured(tmp_path, MONITOR)
    done = call(capsys, "check", tmp_path / "config.toml")
    assert done.code == 2
    assert "monitor" in done.err
    write_stacks(tmp_path, [200.0] * 5 + [0.0, 200.0])
    configured(tmp_path, MONITOR)
    done = call(capsys, "retrieve", tmp_path / "config.toml")
    assert done.code == 3, done.err  # one projection
    table = xmist.open_result(tmp_path / "scan.h5", chunks={})
    lost = np.isnan(np.asarray(table["phase"])).all(axis=(1, 2))
    assert lost.tolist() == [False, False, True, False]


@pytest.mark.parametrize("ending", ["edf", "tif"])
def test_headers_of_single_frames(tmp_path, capsys, ending):
    """A single projection; the current in EDF counters, or in the description of TIFF pages."""
    stack, experiment, _ = simulate.phantom("fine", shape=(48, 48), positions=POSITIONS, seed=1)
    for role, current, seconds in (("ref", 200.0, 0.1), ("sample", 150.0, 0.2)):
        counts = 1e4 * getattr(stack, {"ref": "reference"}.get(role, role)) * current * seconds / 20.0
        for number, frame in enumerate(counts.astype(np.float32)):
            path = tmp_path / f"{role}_{number}.{ending}"
            if ending == "edf":
                header = {
                    "counter_mne": "sec srcur",
                    "counter_pos": f"9 {current}",
                    "count_time": str(seconds),
                }
                write_edf(path, [frame], [header])
            else:
                tifffile.imwrite(
                    path, frame, description=f"ring_current = {current}\ncount_time = {seconds} s"
                )
    found = {}
    for name, preprocess in (("frames", []), ("monitor", [MONITOR])):
        data = sections(
            input={"reference": f"ref_*.{ending}", "sample": f"sample_*.{ending}"},
            experiment=experiment.to_dict(),
            preprocess=preprocess,
            output={"files": ["result.h5"]},
        )
        del data["series"]
        done = call(
            capsys, "retrieve", write_toml(tmp_path, data), "--overwrite", "--method=mist-attenuating"
        )
        assert done.code == 0, done.err
        result = xmist.open_result(tmp_path / "result.h5")
        found[name] = {finding.code for finding in result.findings}, float(np.nanmedian(result.transmission))
    assert {"beam-changed", "exposure-times-differ"} <= found["frames"][0]
    assert found["frames"][1] == pytest.approx(0.75 * found["monitor"][1], rel=1e-3)
    assert not {"beam-changed", "exposure-times-differ"} & found["monitor"][0]


def test_an_exposure_time_that_only_one_states(tmp_path):
    reference, samples = frames(1)
    for number, (one, other) in enumerate(zip(reference, samples[0], strict=True)):
        write_edf(tmp_path / f"ref_{number}.edf", [one], [{"ExposureTime": "0.1"}])
        write_edf(tmp_path / f"sample_{number}.edf", [other])
    data = sections(input={"reference": "ref_*.edf", "sample": "sample_*.edf"}, experiment=GEOMETRY)
    del data["series"]
    found = discover(parse_configuration(write_toml(tmp_path, data)))
    assert [finding.code for finding in found.findings] == ["exposure-time-unknown"]
