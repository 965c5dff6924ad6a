"""A quick image: small, by a fast method, and close to the whole retrieval."""

from dataclasses import replace

import numpy as np
import pytest

import xmist
from xmist import InputError, simulate
from xmist.workflow.configuration import parse_mapping
from xmist.workflow.preview import preview_binning, preview_projection, write_preview


def saved(folder, stack, experiment):
    for name in ("reference", "sample"):
        np.save(folder / f"{name}.npy", getattr(stack, name))
    sections = {
        "input": {"reference": "reference.npy", "sample": "sample.npy"},
        "experiment": {name: value for name, value in experiment.to_dict().items() if value is not None},
        "retrieve": {"method": "full-field"},
        "output": {"files": ["result.h5"]},
    }
    return parse_mapping(sections, folder=folder, source="")


@pytest.mark.parametrize("positions", [1, 2])
def test_small_frames_are_not_binned(tmp_path, positions):
    stack, experiment, truth = simulate.phantom("fine", shape=(96, 128), positions=positions)
    result = preview_projection(saved(tmp_path, stack, experiment))
    assert result.phase.shape == (96, 128)
    assert "preview" in {record.code for record in result.findings}
    assert xmist.evaluate.metrics.correlation(result.phase, truth.phase) > 0.9


@pytest.mark.parametrize(("width", "expected"), [(3.0, 1), (6.5, 2), (10.0, 3), (30.0, 3)])
def test_speckles_keep_three_pixels(width, expected):
    # Noise smoothed by a Gaussian of σ has a speckle of 4 √ln2 σ; widths are half a pixel from the limits.
    import scipy.ndimage

    noise = np.random.default_rng(1).normal(size=(1, 256, 1400))
    frames = 1 + 0.05 * scipy.ndimage.gaussian_filter(noise, (0, *[width / 3.33] * 2), mode="wrap") * width
    assert preview_binning(xmist.SpeckleStack(frames, frames)) == expected


def test_unbinned_frames_give_a_small_image(tmp_path):
    stack, experiment, _ = simulate.phantom(
        "fine", shape=(32, 1100), positions=2, speckle=4.0, physics="model"
    )
    parsed = saved(tmp_path, stack, experiment)
    result = preview_projection(parsed)
    whole = xmist.retrieve(stack, experiment, method="lcs", window=7)
    assert result.phase.shape == (10, 366)
    assert result.experiment.pixel_size == pytest.approx(3 * experiment.pixel_size)
    np.testing.assert_allclose(result.phase[0, 0], whole.phase[:3, :3].mean(), rtol=1e-5, atol=1e-6)
    assert result.flags[0, 0] == np.bitwise_or.reduce(whole.flags[:3, :3], axis=None)


@pytest.fixture(scope="module")
def preview(tmp_path_factory):
    folder = tmp_path_factory.mktemp("preview")
    stack, experiment, _ = simulate.phantom("fine", shape=(32, 40), positions=2)
    return folder, saved(folder, stack, experiment)


@pytest.mark.parametrize("name", ["a.h5", "b.png", "c.pdf", "d.svg", "e.tif"])
def test_a_preview_replaces_previews_alone(preview, name):
    folder, parsed = preview
    result, files = write_preview(parsed, [folder / name])
    assert files == (folder / name.replace(".", ".preview."),)
    written = [path for path in folder.iterdir() if path.name.startswith(f"{name[0]}.preview")]
    assert len(written) == (len([*result.channels(), *result.derived()]) + 1 if name == "e.tif" else 1)
    write_preview(parsed, [folder / name])
    plain = replace(result, provenance={})
    plain.save(files[0], overwrite=True)
    before = {path: path.read_bytes() for path in written}
    with pytest.raises(InputError) as caught:
        write_preview(parsed, [folder / name])
    assert set(caught.value.codes) == {"output-exists"}
    assert {path: path.read_bytes() for path in written} == before


def test_an_existing_result_is_no_obstacle_and_no_preview_is_an_input(preview):
    folder, parsed = preview
    (folder / "result.h5").write_text("stays")
    (folder / "reference.preview.npy").write_text("stays")
    write_preview(parsed, [folder / "result.h5"])
    assert (folder / "result.h5").read_text() == "stays"
    missing = replace(parsed, input=replace(parsed.input, sample=("nothing_*.npy",)))
    with pytest.raises(InputError):
        write_preview(missing, [folder / "result.h5"])
