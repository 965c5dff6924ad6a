"""Results in napari: calibrated layers, and the directions of a dark-field tensor as lines.

napari finds `get_reader` and `make_widget` by the manifest `napari.json` beside this file. Nothing here needs
napari before it runs: a reader gives plain data, from which napari makes its layers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xmist.core.data import Retrieval, channel_of
from xmist.core.errors import InputError
from xmist.core.findings import warnings_first
from xmist.core.flags import FLAGS, count_flags
from xmist.io.results.nexus_reader import read_nexus, read_version
from xmist.io.results.volumes import QUANTITIES, Volumes, is_volumes, open_volumes
from xmist.numerics.images.tensors import anisotropy, direction
from xmist.view.figures.panels import PREFIXES, Image, Panel, block_means, common_scales, panels

__all__ = ["Layer", "get_reader", "layers", "lines", "make_widget"]

# Data, what the constructor of the layer is given, and the kind of layer.
Layer = tuple[NDArray[Any], dict[str, Any], str]

_MOST_LINES: Final = 64  # along the longer side
_FAINTEST: Final = 0.05  # of the brightest scatter; weaker scatter has no direction worth a line


def get_reader(path: str | Sequence[str]) -> Callable[[str | Sequence[str]], list[Layer]] | None:
    """Return napari a reader for results and volumes of xmist.

    Parameters
    ----------
    path : str or sequence of str
        What was dropped onto napari.

    Returns
    -------
    callable or None
        Takes the path and gives the layers; None if there is any file that holds no result of xmist.

    Examples
    --------
    >>> get_reader("image.png") is None
    True
    """
    paths = [path] if isinstance(path, str) else list(path)
    try:
        if not paths or any(not is_volumes(item) and read_version(item) is None for item in paths):
            return None
    except InputError:  # missing, or damaged: another reader may know what to do
        return None
    return _read


def make_widget(napari_viewer: Any) -> Any:
    """Return the widget that retrieves images, for a viewer of napari.

    Parameters
    ----------
    napari_viewer : napari.Viewer
        The viewer that it adds layers to; napari gives it by this name.

    Returns
    -------
    QWidget
        The widget.
    """
    from xmist.view.napari.widget import RetrievalWidget

    return RetrievalWidget(napari_viewer)


def layers(result: Retrieval, name: str = "") -> list[Layer]:
    """Return the layers of a result.

    Parameters
    ----------
    result : Retrieval
        The result.
    name : str
        What the layers' names begin with, such as that of the file.

    Returns
    -------
    list of tuple
        Data, keywords and kind of each layer: an image per channel or component, also of derived channels, in
        the unit at the end of its name; the diagnostics; the flags as labels; for a dark-field tensor the
        directions of the scatter as vectors. All are scaled in micrometres in the plane of the sample. The
        contrast of an image is the middle 99 % of its unflagged pixels, common to the elements of a tensor.

    Examples
    --------
    >>> import numpy as np, xmist
    >>> experiment = xmist.Experiment(energy_kev=17.0, pixel_size=5.8e-6, sample_to_detector=1.0)
    >>> flags = np.zeros((8, 9), np.uint16)
    >>> result = Retrieval(method="mist", experiment=experiment, flags=flags, phase=np.ones((8, 9)))
    >>> [(keywords["name"], kind) for _, keywords, kind in layers(result)]
    [('phase φ (rad)', 'image'), ('flags', 'labels')]
    """
    pixel = result.experiment.effective_pixel * 1e6
    placed = {"scale": (pixel, pixel), "units": ("um", "um"), "axis_labels": ("y", "x")}
    head = f"{name}: " if name else ""
    shown = panels(channel for channel, _ in (*result.channels(), *result.derived()))
    images = [panel.pick(result) for panel in shown]
    scales = common_scales(shown, [[Image.of(image, result.flags)] for image in images])
    found: list[Layer] = []
    for panel, image in zip(shown, images, strict=True):
        assert image is not None  # the result has the channel
        scale = scales[panel.scale]
        low, high = scale.low, scale.high
        if _is_signed(panel):  # the middle colour is 0
            high = max(abs(low), abs(high))
            low = -high
        keywords = {
            "name": head + _title(panel, scale.exponent),
            "colormap": "PiYG" if _is_signed(panel) else panel.colours,
            "contrast_limits": (low, high),
            "visible": not found,
            "metadata": {
                "xmist": _about(result) | {"channel": panel.name, "unit": panel.unit, "factor": scale.factor}
            },
            **placed,
        }
        with np.errstate(over="ignore"):  # an extreme value becomes infinite
            found.append((np.asarray(image * np.float32(scale.factor)), keywords, "image"))
    for title, image in result.diagnostics.items():
        values = Image.of(image, result.flags).values
        low, high = np.percentile(values, (0.5, 99.5)) if values.size else (0.0, 1.0)
        limits = (float(low), float(high) if high > low else float(low) + 1.0)
        keywords = {"name": f"{head}{title.replace('_', ' ')}", "contrast_limits": limits, "visible": False}
        found.append((np.asarray(image), keywords | placed, "image"))
    about = {flag.name: {"bit": flag.bit, "meaning": flag.meaning} for flag in FLAGS}
    keywords = {"name": f"{head}flags", "visible": False, "opacity": 0.5, "metadata": {"xmist": about}}
    found.append((result.flags.astype(np.int32), keywords | placed, "labels"))
    if result.dark_field_tensor is not None:
        vectors, features = lines(result.dark_field_tensor)
        keywords = {
            "name": f"{head}directions of the scatter",
            "features": features,
            "edge_color": "direction",
            "edge_colormap": "hsv",
            "edge_contrast_limits": (0.0, 180.0),
            "edge_width": 0.3,
            "vector_style": "line",
            **placed,
        }
        found.append((vectors, keywords, "vectors"))
    return found


def lines(tensor: ArrayLike) -> tuple[NDArray[np.float32], Mapping[str, NDArray[Any]]]:
    """Return the directions of a tensor image as lines, one per block of pixels.

    Parameters
    ----------
    tensor : (3, y, x) array_like
        D_xx, D_xy, D_yy; NaN does not count.

    Returns
    -------
    (line, 2, 2) float32 array
        Where each line begins and what leads to its end, (y, x) in pixels. Its middle is that of the block,
        its length the anisotropy times the size of a block. Blocks that scatter least have none.
    dict of str to (line,) array
        `direction` in degrees from +x towards +y, `anisotropy`, and `dark_field` (trace/2, in the unit of the
        tensor).

    Examples
    --------
    >>> vectors, features = lines(np.ones((3, 1, 1)) * [[[2.0]], [[0.0]], [[0.0]]])
    >>> vectors.tolist(), features["direction"].tolist()
    ([[[0.0, -0.5], [0.0, 1.0]]], [0.0])
    """
    given = np.asarray(tensor, np.float64)
    step = max(1, -(-max(given.shape[1:]) // _MOST_LINES))
    blocks = np.stack([block_means(part, np.isfinite(part), step) for part in given])
    strength = (blocks[0] + blocks[2]) / 2
    brightest = np.nanmax(strength, initial=0.0)
    chosen = (strength > _FAINTEST * brightest) & (strength > 0)
    round_, angle = anisotropy(blocks)[chosen], direction(blocks)[chosen]
    # The last block of a row or column may be narrower than the others.
    middles = [
        (np.arange(0, size, step) + np.minimum(np.arange(0, size, step) + step, size) - 1) / 2
        for size in given.shape[1:]
    ]
    middle = np.stack(np.meshgrid(*middles, indexing="ij"), axis=-1)[chosen]
    radians = np.radians(angle)
    way = np.stack([np.sin(radians), np.cos(radians)], axis=-1) * (round_ * step)[:, None]
    vectors = np.stack([middle - way / 2, way], axis=1).astype(np.float32)
    return vectors, {"direction": angle, "anisotropy": round_, "dark_field": strength[chosen]}


def _read(path: str | Sequence[str]) -> list[Layer]:
    paths = [path] if isinstance(path, str) else list(path)
    found = []
    for item in paths:
        if is_volumes(item):
            found += _volume_layers(open_volumes(item), Path(item).stem)
        else:
            found += layers(read_nexus(item), Path(item).stem)
    return found


def _volume_layers(volumes: Volumes, name: str) -> list[Layer]:
    """Return a layer of slices for each volume, read when they are shown; limits are those of the middle."""
    pixel = volumes.pixel * 1e6
    found: list[Layer] = []
    for key, array in volumes.arrays.items():
        low, high = np.percentile(array[array.shape[0] // 2], (0.5, 99.5))
        quantity = QUANTITIES[key]
        unit = "" if quantity.unit == "1" else f" ({quantity.unit})"
        keywords = {
            "name": f"{name}: {quantity.title} {quantity.symbol}{unit}",
            "colormap": "gray",
            "contrast_limits": (float(low), float(high) if high > low else float(low) + 1.0),
            "visible": not found,
            "scale": 3 * (pixel,),
            "units": 3 * ("um",),
            "axis_labels": ("y", "z", "x"),
        }
        found.append((array, keywords, "image"))  # type: ignore[arg-type]  # sliced like an array
    return found


def _title(panel: Panel, exponent: int) -> str:
    """Return the name of a layer, in the plain text of napari."""
    channel = channel_of(panel.name)
    symbol = channel.symbol.removesuffix("_ij")
    part = f"_{panel.component}" if panel.component and panel.component != "mean" else ""
    unit = "" if panel.unit == "1" else f" ({PREFIXES[exponent]}{panel.unit})"
    return f"{channel.title} {symbol}{part}{unit}"


def _is_signed(panel: Panel) -> bool:
    """Return whether the sign of the values matters, so that the colours diverge from 0."""
    return panel.signed or panel.name in ("refraction_angle", "shift")


def _about(result: Retrieval) -> dict[str, Any]:
    return {
        "method": result.method,
        "options": dict(result.options),
        "experiment": result.experiment.to_dict(),
        "findings": [record.to_dict() for record in warnings_first(result.findings)],
        "flagged": count_flags(result.flags),
    }
