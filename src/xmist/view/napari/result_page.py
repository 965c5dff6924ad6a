"""The page *Result*: images as layers, findings, values of regions, and finished projections."""

from __future__ import annotations

import html
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import napari
import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QCheckBox, QHBoxLayout, QLabel, QSlider, QTextBrowser, QVBoxLayout, QWidget

from xmist.core.data import Retrieval
from xmist.core.findings import FINDING_CODES, Finding, warnings_first
from xmist.io import open_result
from xmist.io.results.stacks import MISSING, is_stack, open_stack
from xmist.view.napari import layers
from xmist.view.napari.frames_page import replace_layer
from xmist.view.napari.shapes import (
    REGIONS,
    Box,
    SmallPlot,
    draw,
    has_shape,
    last_box,
    last_corners,
    make_button,
    profile,
)

PREVIEW: Final = "preview"
_NOTHING: Final = "None is needed."
_NEWEST: Final = 2000  # ms between looks for new projections of a running series


class ResultPage(QWidget):  # type: ignore[misc]
    """A result: layers, findings and measured values; `failed` is called with what goes wrong."""

    def __init__(
        self, viewer: napari.Viewer, shown: Callable[[], Any], failed: Callable[[BaseException], Any]
    ) -> None:
        super().__init__()
        self.viewer = viewer
        self.result: Retrieval | None = None
        self.path: Path | None = None
        self._shown, self._failed = shown, failed
        self._seen: tuple[Path, int] | None = None
        self._timer = QTimer(self)
        self._timer.timeout.connect(lambda: self._guarded(self.show_newest))
        layout = QVBoxLayout(self)
        self.finished = QSlider(Qt.Orientation.Horizontal)
        self.finished_label = QLabel()
        self.newest = QCheckBox("Show the newest projection of a running series")
        self.newest.toggled.connect(lambda on: self._timer.start(_NEWEST) if on else self._timer.stop())
        self.finished.valueChanged.connect(lambda place: self._guarded(self._show_finished, place))
        for item in (self.finished_label, self.finished, self.newest):
            item.setVisible(False)
            layout.addWidget(item)
        self.findings = QTextBrowser()
        self.findings.setMinimumHeight(160)
        layout.addWidget(self.findings)
        row = QHBoxLayout()
        self.draw_region = make_button("Draw region or line", self._draw, failed)
        self.measure_button = make_button("Measure", self.measure, failed)
        row.addWidget(self.draw_region)
        row.addWidget(self.measure_button)
        layout.addLayout(row)
        self.values = QLabel()
        self.values.setWordWrap(True)
        self.values.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        layout.addWidget(self.values)
        self.profile = SmallPlot()
        layout.addWidget(self.profile)

    def _guarded(self, action: Callable[..., Any], *given: Any) -> None:
        try:
            action(*given)
        except Exception as error:
            self._failed(error)

    # --- a result ---

    def add_result(self, result: Retrieval, name: str = "") -> str:
        """Show a result: its images as layers, and its findings; return a sentence about it."""
        self.result = result
        for layer in [layer for layer in self.viewer.layers if layer.name.startswith(f"{PREVIEW}: ")]:
            self.viewer.layers.remove(layer)
        offset = _offset(result)
        for data, keywords, kind in layers(result, name):
            keywords |= {"translate": offset}
            add = partial(getattr(self.viewer, f"add_{kind}"), data, **keywords)
            replace_layer(self.viewer, keywords["name"], add)
        shown = [layer for layer in self.viewer.layers if layer.visible and "xmist" in layer.metadata]
        self.viewer.layers.selection.active = shown[0] if shown else None
        self.viewer.reset_view()
        self.findings.setHtml(_findings_html(result.findings))
        self._shown()
        title = f"Preview by {result.method}" if name else f"Retrieved by {result.method}"
        warnings = sum(record.severity == "warning" for record in result.findings)
        return f"{title}: {warnings or 'no'} warning{'s' * (warnings != 1)}."

    # --- values ---

    def _draw(self) -> None:
        layer = self._measured()
        draw(self.viewer, REGIONS, 1.0 if layer is None else float(layer.scale[-1]))

    def _measured(self) -> Any:
        """Return the image that is measured: the active one, or the topmost that is seen."""
        images = [
            layer for layer in self.viewer.layers if isinstance(layer, napari.layers.Image) and layer.visible
        ]
        active = self.viewer.layers.selection.active
        return active if active in images else images[-1] if images else None

    def measure(self) -> None:
        """Show the values of the active image in the last rectangle, or its profile along the last line."""
        layer = self._measured()
        if layer is None or not has_shape(self.viewer, REGIONS):
            self.values.setText("Draw a rectangle or a line on an image, then measure.")
            return
        image, std = np.asarray(layer.data), self._std(layer)
        if self.viewer.layers[REGIONS].shape_type[-1] == "line":
            ends = last_corners(self.viewer, REGIONS, layer)
            distance, values = profile(image, ends)
            spread = None if std is None else profile(std, ends)[1]
            self.profile.line(distance * float(layer.scale[-1]), values, spread, layer.name)
            band = "" if spread is None else "; band: standard deviation by the method"
            self.values.setText(f"Profile of {layer.name}, {len(values)} points{band}.")
            return
        box = last_box(self.viewer, REGIONS, layer) or (0, 0, 0, 0)
        y0, y1, x0, x1 = box
        part = image[..., y0:y1, x0:x1]
        part = part[np.isfinite(part)]
        if not part.size:
            self.values.setText("The region holds no values.")
            return
        self.values.setText(
            f"{layer.name}: mean {part.mean():.4g}, standard deviation {part.std():.3g}, median "
            f"{np.median(part):.4g}, {part.size} pixels{_uncertainty(std, box)}"
        )

    def _std(self, layer: Any) -> NDArray[Any] | None:
        """Return the standard deviation that the method states of a layer's channel, in its unit."""
        about = layer.metadata.get("xmist", {})
        std = getattr(self.result, f"{about.get('channel')}_std", None)
        return None if std is None or np.ndim(layer.data) != 2 else std * np.float32(about["factor"])

    # --- finished results ---

    def open_results(self, path: str | Path) -> str:
        """Show a result, or the finished projections of a series; return a sentence about it."""
        if not is_stack(path):
            return self.add_result(open_result(path))
        self.path = Path(path)
        for item in (self.finished_label, self.finished, self.newest):
            item.setVisible(True)
        self._shown()
        return self.show_newest()

    def show_newest(self) -> str:
        """Show the last finished projection, if it is not shown already."""
        numbers = self._finished_numbers()
        if not numbers:
            return f"{self.path} holds no finished projection yet."
        self.finished.setRange(0, len(numbers) - 1)
        self.finished.setValue(len(numbers) - 1)
        return self._show_finished(len(numbers) - 1)

    def _show_finished(self, place: int) -> str:
        numbers = self._finished_numbers()
        if self.path is None or place >= len(numbers) or self._seen == (self.path, numbers[place]):
            return ""
        self._seen = self.path, numbers[place]
        self.finished_label.setText(f"Projection {numbers[place]} ({place + 1} of {len(numbers)} finished)")
        return self.add_result(open_result(self.path, projection=numbers[place]))

    def _finished_numbers(self) -> list[int]:
        if self.path is None:
            return []
        table = open_stack(self.path).table
        return [int(number) for number in table["projection"][table["status"] != MISSING]]


def _offset(result: Retrieval) -> tuple[float, float]:
    """Return where the result begins in the detector's frame, (y, x) in µm."""
    size, offset = 1, np.zeros(2)
    for table in result.provenance.get("configuration", {}).get("preprocess", []):
        if table["step"] == "crop":
            offset += [size * (span[0] if span else 0) for span in (table.get("rows"), table.get("columns"))]
        elif table["step"] == "bin":
            size *= table.get("size", 2)
    preview = result.provenance.get("preview", {"binning": 1, "reduction": 1})
    size *= preview["binning"] * preview["reduction"]
    # The middle of a joined pixel is not that of its first one.
    y, x = (offset + (size - 1) / 2) * result.experiment.effective_pixel * 1e6 / size
    return float(y), float(x)


def _findings_html(findings: tuple[Finding, ...]) -> str:
    """Return findings with what to do, warnings first and bold."""
    lines = []
    for record in warnings_first(findings):
        code = FINDING_CODES.get(record.code)
        remedy = "" if code is None or code.remedy == _NOTHING else html.escape(code.remedy)
        remedy = f"<br><i>What to do: {remedy}</i>" if remedy else ""
        head = f"<b>{record.severity}</b>" if record.severity == "warning" else record.severity
        lines.append(f"<p>{head}: {html.escape(record.message)}{remedy}</p>")
    return "".join(lines) or "No findings."


def _uncertainty(std: NDArray[Any] | None, box: Box) -> str:
    """Return the mean standard deviation that the method states in a box, as text."""
    y0, y1, x0, x1 = box
    part = None if std is None else std[y0:y1, x0:x1]
    if part is None or not np.isfinite(part).any():
        return ""
    return f"; standard deviation of a pixel by the method {np.nanmean(part):.3g}"
