"""Volumes from the results of a series: units, projections to leave out, resume, and errors."""

import signal
import subprocess
import sys

import h5py
import numpy as np
import pytest
import tifffile

import xmist
from tests.cli.scenes import call
from tests.tomography.phantom import FLAT, INSIDE, NEEDS_ASTRA
from tests.workflow.series_scenes import sections, write_config, write_toml
from tests.workflow.volume_scenes import ANGLES, EXPERIMENT, HEIGHT, projections, truth, write_series
from xmist.core.errors import InputError, OutputError
from xmist.io.results import atomic
from xmist.io.results.stacks import open_stack
from xmist.tomography.options import VolumeOptions
from xmist.tomography.sharpen import detail_contrast
from xmist.view.napari import get_reader
from xmist.workflow import volumes as driver
from xmist.workflow import volumes_prepared
from xmist.workflow.configuration import parse_configuration
from xmist.workflow.estimates import check
from xmist.workflow.volumes_prepared import prepare_volumes

FBP = {"algorithm": "fbp", "block": 2}
QUANTITIES = ("delta", "mu", "scattering")


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    return write_series(tmp_path_factory.mktemp("series") / "series.h5", projections())


@pytest.fixture(scope="module")
def volumes(series):
    return xmist.write_volumes(series, series.with_name("volumes.h5"), options=FBP)


def arrays(volumes):
    return {name: array[:] for name, array in volumes.arrays.items()}


def codes(volumes):
    return {finding.code for finding in volumes.findings}


@pytest.mark.parametrize("name", QUANTITIES)
def test_volumes_have_the_values_and_units_of_the_phantom(volumes, name):
    volume = volumes.arrays[name][:]
    assert volume.shape == (HEIGHT, 96, 96)
    values = truth(name)
    for image in volume:
        assert image[FLAT].mean() == pytest.approx(values[FLAT].mean(), rel=0.02)
        # As the slices of `reconstruct`: edges are blurred by a pixel.
        assert np.sqrt(np.mean((image - values)[INSIDE] ** 2)) < 0.06 * values.max()
    with h5py.File(volumes.path) as file:
        data = file[f"entry/{name}/data"]
        assert data.attrs["units"] == {"delta": "1", "mu": "1/m", "scattering": "rad2/m"}[name]
        assert list(file[f"entry/{name}"].attrs["axes"]) == ["y", "z", "x"]
        x = file[f"entry/{name}/x"]
        assert x[0] == pytest.approx(-47.5 * EXPERIMENT.effective_pixel)


def test_the_file_states_what_was_done(volumes):
    assert volumes.centre == pytest.approx(47.5, abs=0.02)
    assert volumes.tilt == 0
    assert not volumes.findings
    assert volumes.projections.tolist() == list(range(len(ANGLES)))
    assert volumes.options["algorithm"] == dict.fromkeys(QUANTITIES, "fbp")
    found = xmist.io.describe(volumes.path)
    assert found["kind"] == "volumes"
    assert found["complete"]


def test_they_open_in_imagej_and_napari(volumes, tmp_path):
    """ImageJ by TIFF stacks, napari by layers whose slices are read when they are shown."""
    files = volumes.write_tiff(tmp_path / "v.tif")
    layers = get_reader(str(volumes.path))(str(volumes.path))
    assert len(files) == len(layers) == len(QUANTITIES)
    micrometres = volumes.pixel * 1e6
    for name, file, (data, keywords, kind) in zip(QUANTITIES, files, layers, strict=True):
        assert file.name == f"v_{name}.tif"
        with tifffile.TiffFile(file) as opened:
            assert opened.series[0].axes == "ZYX"
            assert opened.imagej_metadata["spacing"] == pytest.approx(micrometres)
            np.testing.assert_array_equal(opened.asarray(), volumes.arrays[name][:])
        assert kind == "image"
        assert keywords["scale"] == pytest.approx(3 * (micrometres,))
        assert not isinstance(data, np.ndarray)
        np.testing.assert_array_equal(data[1], volumes.arrays[name][1])


def test_an_offset_of_the_phase_does_not_matter(tmp_path, volumes):
    channels = projections()
    channels["phase"] = channels["phase"] + np.random.default_rng(0).normal(0, 3, (len(ANGLES), 1, 1))
    path = write_series(tmp_path / "series.h5", channels)
    moved = xmist.write_volumes(path, tmp_path / "v.h5", options={**FBP, "volumes": ["delta"]})
    # float32 of a phase of a few rad.
    assert np.abs(moved.arrays["delta"][:] - volumes.arrays["delta"][:]).max() < 1e-3 * truth("delta").max()


def test_projections_without_a_result_are_left_out(tmp_path):
    channels = projections()
    lost = (3, 20, 41)  # 5 % of 60
    channels["phase"][30, :, 40:60] = np.nan  # a fifth of the projection
    channels["transmission"][7, 2, 10:12] = np.nan  # two pixels
    path = write_series(tmp_path / "series.h5", channels, failed=lost)
    found = xmist.write_volumes(path, tmp_path / "v.h5", options={**FBP, "exclude": [50]})
    assert codes(found) == {"projections-left-out"}
    assert set(range(len(ANGLES))) - set(found.projections.tolist()) == {*lost, 30, 50}
    for name in QUANTITIES:
        assert found.arrays[name][2][FLAT].mean() == pytest.approx(truth(name)[FLAT].mean(), rel=0.02)


@NEEDS_ASTRA
def test_standard_deviations_weight_the_projections(tmp_path):
    channels = projections()
    random = np.random.default_rng(1)
    deviation = np.full(channels["phase"].shape, 0.02)
    deviation[random.choice(len(ANGLES), 4, replace=False)] = 3.0
    channels["phase"] = channels["phase"] + random.normal(0, 1, deviation.shape) * deviation
    path = write_series(tmp_path / "series.h5", channels, extra={"phase_std": deviation})
    errors = {}
    for name, options in {"weighted": {}, "fbp": FBP}.items():
        found = xmist.write_volumes(path, tmp_path / f"{name}.h5", options={**options, "volumes": "delta"})
        assert found.options["algorithm"] == {"delta": "fbp" if options else "cgls"}
        errors[name] = np.sqrt(np.mean((found.arrays["delta"][2] - truth("delta"))[INSIDE] ** 2))
    assert errors["weighted"] < 0.5 * errors["fbp"]


@pytest.mark.parametrize(
    ("volume", "strength", "expected"),
    [
        ("scattering", "auto", True),
        ("scattering", 0.2, False),
        ("delta", "auto", False),
    ],
)
def test_a_prior_for_single_projections_gives_a_warning(tmp_path, volume, strength, expected):
    path = write_series(tmp_path / "series.h5", projections(height=1), options={"regularisation": strength})
    found = prepare_volumes(path, VolumeOptions(volumes=[volume], centre=47.5))
    assert ("scattering-lowered" in {finding.code for finding in found.findings}) is expected


def test_details_lost_through_the_detector_are_restored(tmp_path, volumes):
    pixel = EXPERIMENT.effective_pixel
    sigma, speckles = float(np.hypot(1.0, 12**-0.5)), 0.64
    channels = projections()
    dark = channels["dark_field"]
    wave = 2.0 * np.pi * np.fft.rfftfreq(2 * dark.shape[2])
    mirrored = np.concatenate([dark, dark[:, :, ::-1]], axis=2)
    contrast = detail_contrast(wave, speckles, sigma)
    channels["dark_field"] = np.fft.irfft(np.fft.rfft(mirrored) * contrast)[:, :, : dark.shape[2]]
    channels["dark_field"][3, 2, 40:44] = np.nan
    master = write_series(tmp_path / "s.h5", channels, speckles=speckles / pixel)
    found = {}
    for name, more in {"lost": {}, "restored": {"psf_sigma": pixel}, "alone": {"psf_sigma": pixel}}.items():
        options = {**FBP, "volumes": ["scattering"], **more, "block": 1 if name == "alone" else 2}
        volume = xmist.write_volumes(master, tmp_path / f"{name}.h5", options=options)
        found[name] = volume.arrays["scattering"][:]
    right = volumes.arrays["scattering"][1]
    lost, restored = (
        np.polyfit(right[INSIDE].ravel(), found[name][1][INSIDE].ravel(), 1)[0]
        for name in ("lost", "restored")
    )
    # Waves of 20 pixels have a contrast of 0.83 before and 0.96 after, those of 10 pixels 0.58 and 0.86.
    assert lost < 0.92
    assert abs(restored - 1.0) < 0.4 * (1.0 - lost)
    np.testing.assert_array_equal(found["alone"], found["restored"])
    plain, more = (
        driver.estimate_volumes(
            VolumeOptions(**FBP, **given),
            angles=ANGLES,
            shape=(HEIGHT, 96),
            algorithms={"scattering": "fbp"},
            centre=47.5,
        )
        for given in ({}, {"psf_sigma": pixel})
    )
    assert more.memory > plain.memory  # rows beside a block


@pytest.mark.parametrize(("speckles", "code"), [(np.nan, "channel-missing"), (1.2, "option-invalid")])
def test_a_point_spread_that_cannot_be_corrected(tmp_path, speckles, code):
    pixel = EXPERIMENT.effective_pixel
    master = write_series(tmp_path / "s.h5", projections(), speckles=speckles / pixel)
    with pytest.raises(InputError) as error:
        prepare_volumes(master, VolumeOptions(psf_sigma=pixel))
    assert error.value.codes == (code,)


def test_without_standard_deviations_auto_is_fbp(series, tmp_path):
    found = xmist.write_volumes(series, tmp_path / "v.h5", options={"volumes": ["mu"]})
    assert found.options["algorithm"] == {"mu": "fbp"}


def test_an_object_that_leaves_the_frame_comes_from_refraction_angles(tmp_path):
    angles = np.linspace(0, 180, 61)
    channels = projections(angles, columns=slice(24, 72), height=2)
    slope = np.gradient(channels["phase"], EXPERIMENT.effective_pixel, axis=2) / EXPERIMENT.wavenumber
    channels["refraction_angle"] = np.stack([slope, np.zeros_like(slope)], axis=1)
    path = write_series(tmp_path / "series.h5", channels, angles)
    found = xmist.write_volumes(path, tmp_path / "v.h5", options={"volumes": ["delta"]})
    assert codes(found) == {"object-leaves-frame"}
    assert found.centre == pytest.approx(23.5, abs=0.1)
    image, values = found.arrays["delta"][0][8:40, 8:40], truth("delta")[32:64, 32:64]
    assert np.corrcoef(image.ravel(), values.ravel())[0, 1] > 0.95


def test_a_half_acquisition_gives_whole_slices(tmp_path):
    angles = np.arange(0, 360, 3.0)
    path = write_series(
        tmp_path / "series.h5", projections(angles, columns=slice(36, None), height=4), angles
    )
    options = {**FBP, "volumes": ["mu"], "air": [0, 2, 56, 60]}
    found = xmist.write_volumes(path, tmp_path / "v.h5", options=options)
    assert found.centre == pytest.approx(11.5, abs=0.1)
    assert found.arrays["mu"].shape == (4, 96, 96)
    assert found.arrays["mu"][1][FLAT].mean() == pytest.approx(truth("mu")[FLAT].mean(), rel=0.02)


def test_a_tilted_axis_gives_a_warning_and_is_followed(tmp_path):
    path = write_series(tmp_path / "series.h5", projections(tilt=0.5, height=64))
    options = {**FBP, "volumes": ["mu"], "block": 64}
    found = xmist.write_volumes(path, tmp_path / "v.h5", options=options)
    assert codes(found) == {"axis-tilted"}
    assert found.tilt == pytest.approx(0.5, abs=0.02)
    for place in (0, 63):
        assert np.sqrt(np.mean((found.arrays["mu"][place] - truth("mu"))[INSIDE] ** 2)) < 0.06 * 20


def test_blocks_and_workers_change_no_bit(series, tmp_path, volumes):
    for workers, block in ((1, 5), (2, 3)):
        path = tmp_path / f"v{block}.h5"
        found = xmist.write_volumes(series, path, options={**FBP, "block": block}, workers=workers)
        for name, array in arrays(volumes).items():
            assert np.array_equal(array, found.arrays[name][:])


KILLED = """
import os, signal, sys
import xmist
from xmist.workflow import volumes

real = volumes.write_slices

def kill(folder, block, *rest):
    if block.start >= 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(folder, block, *rest)

volumes.write_slices = kill
xmist.write_volumes(sys.argv[1], sys.argv[2], options={"algorithm": "fbp", "block": 2})
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs signals")
def test_killed_they_go_on_bit_for_bit(series, tmp_path, volumes, monkeypatch):
    target = tmp_path / "v.h5"
    done = subprocess.run([sys.executable, "-c", KILLED, series, target], check=False)
    assert done.returncode == -signal.SIGKILL
    # What is there is right, and what is not reads as NaN.
    before = xmist.open_volumes(target)
    assert not xmist.io.describe(target)["complete"]
    assert np.array_equal(before.arrays["mu"][:2], volumes.arrays["mu"][:2])
    assert np.isnan(before.arrays["mu"][2:]).all()
    started = []
    real = driver.reconstruct_block
    monkeypatch.setattr(
        driver, "reconstruct_block", lambda prepared, block: started.append(block) or real(prepared, block)
    )
    found = xmist.write_volumes(series, target, options=FBP)
    assert [block.start for block in started] == [2, 4]
    for name, array in arrays(volumes).items():
        assert array.tobytes() == found.arrays[name][:].tobytes()
    with h5py.File(target) as one, h5py.File(volumes.path) as other:
        assert one["entry/process/options"][()] == other["entry/process/options"][()]
    started.clear()
    xmist.write_volumes(series, target, options=FBP)
    assert not started


def test_a_full_disk_keeps_what_was_done(series, tmp_path, volumes, monkeypatch):
    def refuse(*_):
        raise OSError(28, "No space left on device")

    real = driver.write_slices

    def write(folder, block, *rest):
        with monkeypatch.context() as patch:
            if block.start >= 2:
                patch.setattr(atomic, "_sync", refuse)
            return real(folder, block, *rest)

    monkeypatch.setattr(driver, "write_slices", write)
    with pytest.raises(OutputError):
        xmist.write_volumes(series, tmp_path / "v.h5", options=FBP)
    monkeypatch.setattr(driver, "write_slices", real)
    found = xmist.write_volumes(series, tmp_path / "v.h5", options=FBP)
    assert np.array_equal(found.arrays["mu"][:], volumes.arrays["mu"][:])


def test_other_options_are_refused_without_overwrite(series, tmp_path):
    target = tmp_path / "v.h5"
    options = {**FBP, "volumes": ["mu"]}
    xmist.write_volumes(series, target, options=options)
    other = {**options, "filter": "hann"}
    with pytest.raises(InputError) as caught:
        xmist.write_volumes(series, target, options=other)
    assert caught.value.codes == ("series-changed",)
    assert xmist.write_volumes(series, target, options=other, overwrite=True).options["filter"] == "hann"


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"volumes": ["density"]}, "option-invalid"),
        ({"centre": 200.0}, "option-invalid"),
        ({"air": [0, 200, 0, 4]}, "box-outside"),
        ({"centr": 3}, "option-unknown"),
        ({"delta_from": "refraction"}, "channel-missing"),
        ({"exclude": list(range(60))}, "projections-too-few"),
    ],
)
def test_wrong_options(series, tmp_path, options, code):
    with pytest.raises(InputError) as caught:
        xmist.write_volumes(series, tmp_path / "v.h5", options=options)
    assert caught.value.codes == (code,)
    assert not list(tmp_path.iterdir())


def test_wrong_names(series, tmp_path):
    for path, code in ((tmp_path / "v.png", "ending-unknown"), (series, "output-is-input")):
        with pytest.raises(InputError) as caught:
            xmist.write_volumes(series, path)
        assert caught.value.codes == (code,)


def cone_series(folder, source, channels=None):
    """Write the phantom as the results of a series in a cone beam; without a source in a parallel one."""
    experiment = xmist.Experiment(
        energy_kev=17.0, pixel_size=2e-6, sample_to_detector=1e-4, source_to_sample=source
    )
    return write_series(folder / f"{source}.h5", channels or projections(height=2), experiment=experiment)


def test_a_wide_cone_needs_a_gpu(tmp_path, monkeypatch):
    monkeypatch.setattr(volumes_prepared, "has_gpu", lambda: False)
    # A ray at the border, 48 pixels off the axis, moves by 48 · 48 pixels · 2 µm/source over half the width.
    narrow = cone_series(tmp_path, 1.0)
    found = xmist.write_volumes(narrow, tmp_path / "v.h5", options={**FBP, "volumes": ["mu"]})
    assert not codes(found)
    with pytest.raises(InputError) as caught:
        xmist.write_volumes(cone_series(tmp_path, 1e-3), tmp_path / "w.h5")
    assert caught.value.codes == ("cone-beam-wide",)


def test_a_wide_cone_is_reconstructed_by_the_gpu(tmp_path, monkeypatch):
    given = []

    def engine(sinograms, angles, **geometry):
        given.append((sinograms, angles, geometry))
        return np.full((2, 96, 96), len(given), np.float32)

    monkeypatch.setattr(volumes_prepared, "has_gpu", lambda: True)
    monkeypatch.setattr(volumes_prepared, "reconstruct_cone", engine)
    channels = projections(height=2)
    channels["transmission"][7, 1, 10:12] = np.nan
    path = cone_series(tmp_path, 1e-3, channels)
    options = {"volumes": ["mu"], "centre": 47.0, "block": 1, "algorithm": "sirt", "iterations": 9}
    found = xmist.write_volumes(path, tmp_path / "v.h5", options=options)
    assert codes(found) == {"cone-beam"}
    assert (found.arrays["mu"][:] == 1).all()
    ((sinograms, angles, geometry),) = given
    assert np.isfinite(sinograms).all()
    assert np.array_equal(angles, ANGLES)
    assert geometry == {
        "pixel": pytest.approx(2e-6 / 1.1),
        "source": 1e-3,
        "centre": 47.0,
        "tilt": 0.0,
        "algorithm": "sirt",
        "iterations": 9,
    }
    with pytest.raises(InputError) as caught:
        xmist.write_volumes(path, tmp_path / "w.h5", options={"acquisition": "half", "volumes": ["mu"]})
    assert caught.value.codes == ("cone-beam-wide",)


def test_the_command(series, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = ["tomography", str(series), "-o", "v.h5", "--volumes", "mu,delta", "--workers", "1"]
    done = call(capsys, *arguments, "--algorithm", "fbp", "--block", "5")
    assert done.code == 0, done.err
    assert "Wrote v.h5" in done.out
    assert xmist.open_volumes("v.h5").arrays.keys() == {"mu", "delta"}
    done = call(capsys, "tomography", series, "--check", "--centre", "47.5")
    assert done.code == 0, done.err
    assert {line.split()[0] for line in done.out.splitlines()} >= {"rotation", "volumes", "disk"}
    done = call(capsys, "tomography", series, "--algorithm", "magic", "--iterations", "0")
    assert done.code == 2
    assert "--algorithm" in done.err
    assert "--iterations" in done.err
    assert "-o" in done.err


SERIES = {"order": None, "angles": {"start": 0.0, "step": 3.0}, "block": 30, "tilt": 5.0}


def test_a_series_goes_on_to_its_volumes(tmp_path, capsys):
    table = {"algorithm": "fbp", "volumes": ["delta"], "centre": 13.5}
    config = write_config(tmp_path, 60, series=SERIES, tomography=table)
    done = xmist.run(config)
    assert [path.name for path in done.files] == ["scan.h5", "scan_volumes.h5"]
    assert open_stack(tmp_path / "scan.h5").tilt == 5.0
    found = xmist.open_volumes(tmp_path / "scan_volumes.h5")
    assert found.arrays.keys() == {"delta"}
    assert np.isfinite(found.arrays["delta"][:]).all()
    # Another table changes no result of the series.
    write_toml(tmp_path, sections(series=SERIES, tomography={**table, "file": "other.h5"}))
    again = xmist.run(config)
    assert again.done_before == 60
    assert xmist.open_volumes(tmp_path / "other.h5").options == found.options
    checked = check(parse_configuration(config)).volumes
    assert checked.shape == found.arrays["delta"].shape
    assert checked.algorithms == {"delta": "fbp"}
    assert min(checked.memory, checked.seconds) > 0
    assert checked.disk == found.arrays["delta"][:].nbytes
    shown = call(capsys, "retrieve", config)  # nothing is left to do
    assert "13.50" in shown.err  # the rotation axis


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"tomography": {"algorithm": "magic"}}, "option-invalid"),
        ({"tomography": {"file": "v.png"}}, "ending-unknown"),
        ({"tomography": {"file": "../v.h5"}}, "output-outside"),
        ({"tomography": {"file": "scan.h5"}}, "output-is-input"),
        ({"tomography": {"rings": "none"}, "series": {"angles": None}}, "angles-missing"),
    ],
)
def test_errors_of_the_table_come_before_the_series(tmp_path, changes, code):
    config = write_config(tmp_path, 2, **changes)
    with pytest.raises(InputError) as caught:
        xmist.run(config)
    assert caught.value.codes == (code,)
    assert not (tmp_path / "scan.h5").exists()


def test_an_engine_that_is_missing_is_named_before_the_series(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "algotom.rec.reconstruction", None)
    config = write_config(tmp_path, 2, tomography={"algorithm": "fbp"})
    with pytest.raises(InputError) as caught:
        xmist.run(config)
    assert caught.value.codes == ("extra-missing",)
    assert not (tmp_path / "scan.h5").exists()
