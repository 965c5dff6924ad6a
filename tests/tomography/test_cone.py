"""Cone-beam geometry against points that are projected independently, and what the engine is given.

No GPU is needed: the engine's algorithms themselves are not run.
"""

import numpy as np
import pytest

from tests.tomography.phantom import NEEDS_ASTRA
from xmist.tomography import cone

SHAPE, CENTRE, TILT = (14, 20), 8.2, 3.0
PIXEL, SOURCE, DETECTOR = 2e-6, 3e-3, 6e-3  # effective pixel, distances from the axis, in m
ANGLES = np.array([0.0, 25.0, 100.0, 260.0])


def projected(point, angle):
    """Return row and column of a point (x, y, z) of the volume in pixels: rays in the laboratory, in m."""
    magnification = (SOURCE + DETECTOR) / SOURCE
    pixel = PIXEL * magnification
    c, s = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    x, y, z = PIXEL * point
    x, z = c * x - s * z, s * x + c * z  # the sample turns from +x towards +z
    # The axis of the beam meets the middle of the detector; the axis of rotation passes beside it, and the
    # detector is turned in its plane so that its columns are tilted against the axis.
    tilt = np.deg2rad(TILT)
    beside = (0.5 * (SHAPE[1] - 1) - CENTRE) * np.cos(tilt) * PIXEL
    reach = (SOURCE + DETECTOR) / (SOURCE + z)
    right, down = (x - beside) * reach, y * reach
    column = np.cos(tilt) * right + np.sin(tilt) * down
    row = np.cos(tilt) * down - np.sin(tilt) * right
    return row / pixel + 0.5 * (SHAPE[0] - 1), column / pixel + 0.5 * (SHAPE[1] - 1)


def test_the_vectors_project_a_point_where_it_belongs():
    vectors = cone.cone_vectors(ANGLES, source=SOURCE / PIXEL, centre=CENTRE, tilt=TILT, shape=SHAPE)
    points = np.random.default_rng(0).uniform(-8, 8, (6, 3))
    for row, angle in zip(vectors.reshape(-1, 4, 3), ANGLES, strict=True):
        source, middle, across, down = row
        for point in points:
            ray = point[[0, 2, 1]] - source  # axes (x, z, y)
            # middle + a across + b down = source + t ray
            found = np.linalg.solve(np.stack([across, down, -ray], axis=1), source - middle)
            place = found[[1, 0]] + 0.5 * (np.array(SHAPE) - 1)
            assert place == pytest.approx(projected(point, angle), abs=1e-9)
        # The point of the axis that falls on the middle row is at the stated column, at every angle.
        height = (CENTRE - 0.5 * (SHAPE[1] - 1)) * np.sin(np.deg2rad(TILT))
        place = 0.5 * (SHAPE[0] - 1), CENTRE
        assert projected(np.array([0.0, height, 0.0]), angle) == pytest.approx(place)


@NEEDS_ASTRA
def test_the_vectors_are_those_of_the_engine_for_a_plain_object():
    import astra

    plain = astra.create_proj_geom("cone", 1.0, 1.0, *SHAPE, np.deg2rad(-ANGLES), 500.0, 0.0)
    ours = cone.cone_vectors(ANGLES, source=500.0, centre=0.5 * (SHAPE[1] - 1), tilt=0.0, shape=SHAPE)
    assert ours == pytest.approx(astra.geom_2vec(plain)["Vectors"], abs=1e-9)


@NEEDS_ASTRA
@pytest.mark.parametrize(
    ("algorithm", "angles", "engine", "options"),
    [
        ("fbp", np.arange(0, 360, 30.0), "FDK_CUDA", {"ShortScan": False}),
        ("fbp", np.arange(0, 200, 20.0), "FDK_CUDA", {"ShortScan": True}),
        ("cgls", np.arange(0, 360, 30.0), "CGLS3D_CUDA", None),
        ("sirt", np.arange(0, 360, 30.0), "SIRT3D_CUDA", None),
    ],
)
def test_the_engine_gets_data_and_geometry(monkeypatch, algorithm, angles, engine, options):
    import astra

    data = np.random.default_rng(1).normal(size=(angles.size, *SHAPE)).astype(np.float32)
    volume = np.random.default_rng(2).normal(size=(SHAPE[0], SHAPE[1], SHAPE[1])).astype(np.float32)
    given = []

    def run(config, iterations):
        sinogram = astra.data3d.get(config["ProjectionDataId"])
        assert np.array_equal(sinogram, data.transpose(1, 0, 2))
        vectors = astra.data3d.get_geometry(config["ProjectionDataId"])["Vectors"]
        assert vectors[:, 0] @ vectors[:, 0] + vectors[:, 1] @ vectors[:, 1] == pytest.approx(
            angles.size * 100.0**2
        )
        astra.data3d.store(config["ReconstructionDataId"], volume)
        given.append((config["type"], config.get("option"), iterations))

    monkeypatch.setattr(astra.algorithm, "create", lambda config: config)
    monkeypatch.setattr(astra.algorithm, "run", run)
    monkeypatch.setattr(astra.algorithm, "delete", lambda config: None)
    found = cone.reconstruct_cone(
        data,
        angles,
        pixel=0.5,
        source=50.0,
        centre=0.5 * (SHAPE[1] - 1),
        tilt=0.0,
        algorithm=algorithm,
        iterations=7,
    )
    assert given == [(engine, options, 7)]
    assert np.array_equal(found, volume / np.float32(0.5))
