"""A new method needs a module and an entry in the registry, and is then known everywhere."""

import numpy as np
import pytest
from click.testing import CliRunner

import xmist
from tests.manufactured import EXPERIMENT, speckle
from xmist.cli import xmist as command
from xmist.methods import Method, make_options, register_method, registry
from xmist.view.report import write_report

TOY = Method(
    name="toy",
    module="tests.toy_method",
    summary="transmission as a ratio",
    minimum_positions=1,
    gives=("transmission",),
    attenuation="yes",
    cost=0.1,
    citation="none",
    doi="none",
)
CONFIGURATION = """
[input]
reference = "reference.npy"
sample = "sample.npy"

[experiment]
energy_kev = 17.0
pixel_size = 5.8e-6
sample_to_detector = 1.0

[retrieve]
method = "mist"

[options]
blur = 2.0

[output]
files = ["result.h5"]
"""


@pytest.fixture(autouse=True)
def toy():
    register_method(TOY)
    yield
    del registry._METHODS["toy"]


@pytest.fixture
def stack():
    reference = speckle(np.random.default_rng(1), 2, (40, 48))
    sample = reference.copy()
    sample[:, 10:30, 12:36] *= 0.8
    return xmist.SpeckleStack(reference, sample)


def test_python_knows_it(stack):
    assert "toy" in xmist.METHODS
    assert make_options("toy", {}).blur == 1.0
    with pytest.raises(xmist.InputError) as caught:
        xmist.retrieve(stack, EXPERIMENT, method="toy", blurr=1.0, blur=-1)
    assert sorted(caught.value.codes) == ["option-invalid", "option-unknown"]
    result = xmist.retrieve(stack, EXPERIMENT, method="toy", blur=0.0)
    # The frames differ by the factor alone, to the precision of float32.
    assert np.allclose(result.transmission[12:28, 14:34], 0.8, atol=1e-6)


def test_the_command_line_lists_it():
    run = CliRunner().invoke(command, ["methods", "toy"])
    assert run.exit_code == 0
    assert "blur = 1.0" in run.output
    assert "Gaussian σ in pixels." in run.output


def test_a_configuration_retrieves_with_it(stack, tmp_path):
    np.save(tmp_path / "reference.npy", stack.reference)
    np.save(tmp_path / "sample.npy", stack.sample)
    (tmp_path / "config.toml").write_text(CONFIGURATION, encoding="utf-8")
    run = xmist.run(tmp_path / "config.toml", overrides={"retrieve": {"method": "toy"}})
    result = run.open()
    assert result.method == "toy"
    assert result.options["blur"] == 2.0


def test_comparison_and_report_show_it(stack, tmp_path):
    found = xmist.compare(stack, EXPERIMENT, methods=["toy", "mist"], positions=[2], resolution=False)
    assert {method for method, _ in found.results} == {"toy", "mist"}
    page = write_report(tmp_path / "report.html", [("a", found.results["toy", 2])])
    assert '"toy"' in page.read_text(encoding="utf-8")
