"""Shapes that are drawn on images, and small plots."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import napari
import numpy as np
from matplotlib.backends.backend_qtagg import FigureCanvasQTAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from qtpy.QtWidgets import QPushButton

Box = tuple[int, int, int, int]

CROP, BARE_BEAM, REGIONS = "crop", "bare beam", "regions to measure"
_GROUND, _TEXT = "#262930", "#d0d2d5"  # as napari's own dark theme
COLOURS: Final = {CROP: "yellow", BARE_BEAM: "cyan", REGIONS: "lime"}


def make_button(title: str, action: Callable[[], Any], failed: Callable[[BaseException], Any]) -> QPushButton:
    """Return a button; `failed` gets what its action raises."""

    def press(*_: Any) -> None:
        try:
            action()
        except Exception as error:
            failed(error)

    button = QPushButton(title)
    button.clicked.connect(press)
    return button


def draw(viewer: napari.Viewer, name: str, pixel: float) -> None:
    """Select the layer of shapes of this name, made if there is none, to draw in it; `pixel` in µm."""
    if name not in viewer.layers:
        placed = {"scale": (pixel, pixel), "units": ("um", "um")}
        colours = {"face_color": "transparent", "edge_color": COLOURS[name]}
        viewer.add_shapes(ndim=2, edge_width=2, name=name, **colours, **placed)
    layer = viewer.layers[name]
    viewer.layers.selection.active = layer
    layer.mode = "add_rectangle"


def has_shape(viewer: napari.Viewer, name: str) -> bool:
    """Return whether anything was drawn in a layer."""
    return name in viewer.layers and len(viewer.layers[name].data) > 0


def last_corners(viewer: napari.Viewer, name: str, image: Any = None) -> NDArray[np.float64]:
    """Return the corners of the last shape, (corner, 2), in pixels of an image or of the detector."""
    shapes = viewer.layers[name]
    corners = np.asarray(shapes.data[-1], np.float64)[:, -2:]
    if image is None:
        return corners
    world = corners * shapes.scale[-2:] + shapes.translate[-2:]
    pixels: NDArray[np.float64] = (world - image.translate[-2:]) / image.scale[-2:]
    return pixels


def last_box(viewer: napari.Viewer, name: str, image: Any = None) -> Box | None:
    """Return the box of the last shape in pixels of an image or of the detector, None without a shape."""
    if not has_shape(viewer, name):
        return None
    corners = last_corners(viewer, name, image)
    (y0, x0), (y1, x1) = np.maximum(np.rint(corners.min(0) + 0.5), 0), np.rint(corners.max(0) + 0.5)
    return int(y0), int(y1), int(x0), int(x1)


def profile(image: NDArray[Any], ends: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return distances in pixels and the values of the nearest pixels along a line."""
    start, stop = ends[0], ends[-1]
    length = float(np.hypot(*(stop - start)))
    along = np.linspace(0.0, 1.0, max(int(length) + 1, 2))
    points = np.rint(start + along[:, None] * (stop - start)).astype(int)
    y, x = (np.clip(points[:, axis], 0, image.shape[axis - 2] - 1) for axis in (0, 1))
    return along * length, image[..., y, x].reshape(-1, len(along))[0]


class SmallPlot(FigureCanvasQTAgg):
    """A plot that is hidden until it is drawn."""

    def __init__(self) -> None:
        self.axes = Figure(figsize=(3.4, 1.9), layout="constrained", facecolor=_GROUND).add_subplot()
        super().__init__(self.axes.figure)  # type: ignore[no-untyped-call]
        self.setMinimumHeight(170)
        self.setVisible(False)

    def histograms(self, values: dict[str, NDArray[Any]]) -> None:
        """Draw the histograms of frames by their names."""
        self.axes.clear()
        together = np.concatenate(list(values.values()))
        low, high = np.percentile(together, (0.01, 99.99)) if together.size else (0.0, 1.0)
        edges = np.linspace(low, high if high > low else low + 1.0, 129)
        for name, each in values.items():
            self.axes.stairs(np.histogram(each, edges)[0], edges, label=name)
        self.axes.set_yscale("log")
        self.axes.legend(fontsize=7)
        self._finish("counts", "pixels")

    def line(self, x: NDArray[Any], y: NDArray[Any], std: NDArray[Any] | None, title: str) -> None:
        """Draw a profile over the distance in µm, with its standard deviation."""
        self.axes.clear()
        self.axes.plot(x, y)
        if std is not None:
            self.axes.fill_between(x, y - std, y + std, alpha=0.3)
        self._finish("distance (µm)", title)

    def _finish(self, x: str, y: str) -> None:
        self.axes.set_facecolor(_GROUND)
        self.axes.xaxis.set_major_locator(MaxNLocator(4))
        self.axes.set_xlabel(x, fontsize=8, color=_TEXT)
        self.axes.set_ylabel(y, fontsize=8, color=_TEXT)
        self.axes.tick_params(labelsize=7, colors=_TEXT, which="both")
        self.axes.spines[:].set_color(_TEXT)
        self.setVisible(True)
        self.draw_idle()  # type: ignore[no-untyped-call]
