"""`[input] sample_positions`: a list, a table, header keys; one reference or many; what is wrong."""

import numpy as np
import pytest
import tifffile

import xmist
from tests.methods.stepped_frames import REFERENCES, WHOLE, frames_at

POSITIONS = WHOLE[:3]
TABLES = """
[input]
reference = {reference}
sample = "sample_*.tif"
{positions}

[experiment]
energy_kev = 17.0
pixel_size = 5.8e-6
sample_to_detector = 1.0
source_to_sample = 30.0

[retrieve]
method = "{method}"

[options]
window = 9

[output]
files = ["field.h5"]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stepping")
    for n, frame in enumerate(frames_at(POSITIONS)):
        tifffile.imwrite(folder / f"sample_{n}.tif", frame.astype(np.float32))
        tifffile.imwrite(folder / f"reference_{n}.tif", REFERENCES[0].astype(np.float32))
    np.savetxt(folder / "positions.csv", POSITIONS, delimiter=",", header="y,x", comments="")
    (folder / "short.txt").write_text("0 0\n0 -30\n")
    (folder / "words.txt").write_text("0 0\n0 thirty\n")
    return folder


def run(folder, positions, reference='"reference_0.tif"', method="umpa", **options):
    path = folder / "config.toml"
    text = TABLES.format(reference=reference, positions=positions, method=method)
    path.write_text(text, encoding="utf-8")
    return xmist.run(path, overwrite=True, **options)


LIST = f"sample_positions = {POSITIONS.tolist()}"


@pytest.fixture(scope="module")
def expected():
    scan = xmist.SampleScan(
        REFERENCES[0].astype(np.float32), frames_at(POSITIONS).astype(np.float32), POSITIONS
    )
    experiment = xmist.Experiment(
        energy_kev=17.0, pixel_size=5.8e-6, sample_to_detector=1.0, source_to_sample=30.0
    )
    return xmist.retrieve(scan, experiment, method="umpa", window=9)


@pytest.mark.parametrize("positions", [LIST, 'sample_positions = "positions.csv"'])
@pytest.mark.parametrize("reference", ['"reference_0.tif"', '"reference_*.tif"'])
def test_a_field_from_files(folder, expected, positions, reference):
    result = run(folder, positions, reference).open()
    assert np.array_equal(result.phase, expected.phase, equal_nan=True)
    assert np.array_equal(result.diagnostics["coverage"], expected.diagnostics["coverage"])
    assert result.provenance["sample_positions"] == POSITIONS.tolist()


def test_binning_scales_the_positions(folder):
    steps = '\n[[preprocess]]\nstep = "bin"\nsize = 2\n'
    result = run(folder, LIST + steps).open()
    assert result.provenance["sample_positions"] == (POSITIONS / 2).tolist()


def test_header_keys(tmp_path):
    import h5py

    with h5py.File(tmp_path / "sample.h5", "w") as file:
        file["data"] = frames_at(POSITIONS).astype(np.float32)
        file["stage_y"], file["stage_x"] = POSITIONS.astype(float).T
    tifffile.imwrite(tmp_path / "reference_0.tif", REFERENCES[0].astype(np.float32))
    text = TABLES.format(
        reference='"reference_0.tif"', positions='sample_positions = ["stage_y", "stage_x"]', method="umpa"
    )
    path = tmp_path / "config.toml"
    path.write_text(text.replace("sample_*.tif", "sample.h5::/data"), encoding="utf-8")
    assert xmist.run(path).open().provenance["sample_positions"] == POSITIONS.tolist()


@pytest.mark.parametrize(
    ("positions", "options", "code"),
    [
        ('sample_positions = "short.txt"', {}, "sample-positions-invalid"),
        ('sample_positions = "words.txt"', {}, "sample-positions-invalid"),
        ('sample_positions = "nowhere.txt"', {}, "sample-positions-invalid"),
        ('sample_positions = ["stage_y", "stage_x"]', {}, "sample-positions-invalid"),
        ("sample_positions = [[0, 0], [0, 30], [90, 0]]", {}, "sample-positions-apart"),
        (LIST, {"reference": '["reference_0.tif", "reference_1.tif"]'}, "frames-unequal-numbers"),
        (LIST, {"method": "mist"}, "sample-positions-unsupported"),
        ("sample_positions = [1, 2]", {}, "option-invalid"),
    ],
)
def test_what_is_wrong(folder, positions, options, code):
    with pytest.raises(xmist.InputError) as caught:
        run(folder, positions, **options)
    assert code in caught.value.codes
