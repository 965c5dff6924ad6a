"""Results of a series of a turning phantom as a file, without frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import xmist
from tests.tomography.phantom import TRUTH, sinogram
from xmist.core.flags import UNDETERMINED
from xmist.io.results.atomic import make_folder
from xmist.io.results.stacks import FAILED, GOOD, VALUELESS
from xmist.workflow.outputs import blocks_folder
from xmist.workflow.quality import Row
from xmist.workflow.series_file import Piece, SeriesMetadata, write_series_file
from xmist.workflow.storage import Block, BlockSchema, KeptResult, write_block

EXPERIMENT = xmist.Experiment(energy_kev=17.0, pixel_size=2e-6, sample_to_detector=0.8)
ANGLES = np.arange(0, 180, 3.0)
HEIGHT = 5
# Of the phantom's value 1: δ, μ in 1/m, ε in rad²/m.
VALUES = {"delta": 1e-7, "mu": 20.0, "scattering": 1e-7}
CHANNELS = {"delta": "phase", "mu": "transmission", "scattering": "dark_field"}


def projections(angles=ANGLES, centre=47.5, columns=slice(None), tilt=0.0, height=HEIGHT):
    """Return the channels (projection, y, x) of the phantom; rows scale it."""
    rows = np.arange(height) - 0.5 * (height - 1)
    integral = np.stack([sinogram(angles, centre + np.tan(np.deg2rad(tilt)) * row) for row in rows], axis=1)
    integral = integral[:, :, columns] * EXPERIMENT.effective_pixel
    phase = -EXPERIMENT.wavenumber * VALUES["delta"] * integral
    return {
        "phase": phase,
        "transmission": np.exp(-VALUES["mu"] * integral),
        "dark_field": 0.5 * EXPERIMENT.effective_distance * VALUES["scattering"] * integral,
    }


def write_series(
    path,
    channels,
    angles=ANGLES,
    *,
    experiment=EXPERIMENT,
    failed=(),
    extra=None,
    tilt=None,
    options=None,
    speckles=np.nan,
):
    """Write channels as the results of a series; `failed` projections have none, `speckles` in rad/m."""
    path = Path(path)
    channels = {name: np.asarray(array, np.float32) for name, array in {**channels, **(extra or {})}.items()}
    count, *shape = channels["transmission"].shape
    schema = BlockSchema(identity="made", channels=tuple(channels), shape=tuple(shape))
    folder = blocks_folder(path)
    make_folder(folder)
    rows, results = [], []
    for number in range(count):
        images = {name: array[number] for name, array in channels.items()}
        lost = np.any([~np.isfinite(image).reshape(-1, *shape).all(0) for image in images.values()], axis=0)
        status = FAILED if number in failed else VALUELESS if lost.any() else GOOD
        rows.append(
            Row(
                projection=number,
                status=status,
                angle=float(angles[number]),
                valueless=int(lost.sum()),
                speckle_wavenumber=speckles,
            )
        )
        flags = (UNDETERMINED * lost).astype(np.uint16)
        results.append(
            KeptResult(
                row=rows[-1],
                channels={} if number in failed else images,
                flags=None if number in failed else flags,
            )
        )
    block = Block(tuple(range(count)))
    write_block(folder, block, schema, results)
    metadata = SeriesMetadata(
        method="made",
        options=options or {},
        experiment=experiment,
        configuration={},
        projections=np.arange(count),
        positions=1,
        angles=np.asarray(angles, float),
        tilt=tilt,
    )
    pieces = [Piece(block, 0, count, 0)]
    return write_series_file(path, folder, pieces, schema, metadata, rows=rows)


def truth(name):
    """Return the slice (z, x) of a volume."""
    return VALUES[name] * TRUTH
