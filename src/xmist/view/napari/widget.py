"""The dock widget of napari: from frames to images, by the functions of the command line.

The widget edits the sections of a configuration. `xmist.workflow` reads, checks and retrieves; layers are
those of the reader.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import napari
import numpy as np
from matplotlib.backends.backend_qtagg import FigureCanvasQTAgg
from matplotlib.figure import Figure
from napari.qt.threading import create_worker
from numpy.typing import NDArray
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFileDialog,
    QFormLayout,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QProgressBar,
    QPushButton,
    QScrollArea,
    QSlider,
    QTabWidget,
    QTextBrowser,
    QVBoxLayout,
    QWidget,
)

from xmist.core.data import Retrieval, SpeckleStack
from xmist.core.errors import InputError
from xmist.core.experiment import Experiment
from xmist.core.findings import FINDING_CODES, Finding, warnings_first
from xmist.core.progress import Progress
from xmist.io import NEXUS_ENDINGS, open_result
from xmist.io.results.atomic import write_file
from xmist.io.results.stacks import MISSING, is_stack, open_stack
from xmist.methods import METHODS, retrieve
from xmist.preprocess import STEPS
from xmist.view.napari import layers
from xmist.view.napari.options_form import make_form, read_form
from xmist.workflow.configuration import ParsedConfiguration, combine_options, parse_mapping
from xmist.workflow.discovery import discover
from xmist.workflow.editing import open_sections, sections_text
from xmist.workflow.preview import preview_projection
from xmist.workflow.run import LoadedProjection, load_projection, retrieve_projection

_GEOMETRY: Final = {
    "energy_kev": "Photon energy (keV)",
    "pixel_size": "Detector pixel (m)",
    "sample_to_detector": "Sample to detector (m)",
    "source_to_sample": "Source to sample (m)",
}
_SIMPLE_STEPS: Final = tuple(name for name in STEPS if name not in ("crop", "bin"))
_CROP, _BARE_BEAM, _VALUES = "crop", "bare beam", "regions to measure"
_NEWEST: Final = 2000  # ms between looks for new projections of a running series
_PREVIEW: Final = "preview"
_FULL: Final = 1000  # of the progress bar
_POLL: Final = 100  # ms between looks at the progress of a thread


def open_viewer(path: str | Path | None = None) -> napari.Viewer:
    """Open napari with the widget, and a folder of frames, a configuration or a result in it."""
    viewer = napari.Viewer(title="xmist")
    widget = RetrievalWidget(viewer)
    viewer.window.add_dock_widget(widget, name="xmist", area="right")
    if path is not None and Path(path).suffix.lower() in NEXUS_ENDINGS:
        widget.open_results(path)
    elif path is not None:
        widget.source.setText(str(path))
        widget.open_source()
    return viewer


class CancelledError(Exception):
    """The user asked to stop."""


class RetrievalWidget(QWidget):  # type: ignore[misc]
    """Choose frames, preprocessing and a method; preview, retrieve, judge, and save the configuration."""

    def __init__(self, viewer: napari.Viewer) -> None:
        super().__init__()
        self.viewer = viewer
        self.sections: dict[str, Any] = {}
        self.folder = Path()
        self.result: Retrieval | None = None
        self._worker: Any = None
        self._cancel = threading.Event()
        self._progress: tuple[str, float, float] | None = None
        self._timer = QTimer(self)
        self._timer.timeout.connect(self._show_progress)
        self.results: Path | None = None
        self._shown: tuple[Path, int] | None = None
        self._newest_timer = QTimer(self)
        self._newest_timer.timeout.connect(lambda: self._guarded(self.show_newest))
        tabs = QTabWidget()
        for title, page in (
            ("Frames", self._frames_page()),
            ("Method", self._method_page()),
            ("Result", self._result_page()),
        ):
            area = QScrollArea()
            area.setWidgetResizable(True)
            area.setWidget(page)
            tabs.addTab(area, title)
        self.tabs = tabs
        layout = QVBoxLayout(self)
        layout.addWidget(tabs)
        layout.addLayout(self._buttons())
        self.message = QLabel()
        self.message.setWordWrap(True)
        self.message.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        layout.addWidget(self.message)
        self._choose_method()
        self._say("Choose a folder of frames or a configuration file, or two layers.")

    # --- parts of the window ---

    def _frames_page(self) -> QWidget:
        page = QWidget()
        form = QFormLayout(page)
        form.setRowWrapPolicy(QFormLayout.RowWrapPolicy.WrapLongRows)
        self.source = QLineEdit()
        self.source.setPlaceholderText("folder of frames or config.toml")
        self.source.returnPressed.connect(self.open_source)
        row = QHBoxLayout()
        self.open_button = self._button("Open", self.open_source)
        asking = self._button("Folder…", self._ask_folder), self._button("File…", self._ask_file)
        for button in (*asking, self.open_button):
            row.addWidget(button)
        form.addRow("Frames", self.source)
        form.addRow(row)
        self.reference_layer, self.sample_layer = QComboBox(), QComboBox()
        pair = QHBoxLayout()
        pair.addWidget(self.reference_layer)
        pair.addWidget(self.sample_layer)
        form.addRow(QLabel("or layers (position, y, x): reference, sample"))
        form.addRow(pair)
        for event in (self.viewer.layers.events.inserted, self.viewer.layers.events.removed):
            event.connect(self._list_layers)
        self.found = QLabel()
        self.found.setWordWrap(True)
        form.addRow(self.found)
        self.geometry_fields = {name: QLineEdit() for name in _GEOMETRY}
        for name, field in self.geometry_fields.items():
            form.addRow(_GEOMETRY[name], field)
        self.geometry_fields["source_to_sample"].setPlaceholderText("empty: parallel beam")
        steps = QGridLayout()
        self.steps = {name: QCheckBox(name) for name in _SIMPLE_STEPS}
        for n, (name, box) in enumerate(self.steps.items()):
            box.setToolTip(STEPS[name].summary)
            steps.addWidget(box, n // 3, n % 3)
        form.addRow(QLabel("Preprocessing, in this order"))
        form.addRow(steps)
        draw = QHBoxLayout()
        self.draw_crop = self._button("Draw crop", lambda: self._draw(_CROP, "yellow"))
        self.draw_bare_beam = self._button("Draw bare beam", lambda: self._draw(_BARE_BEAM, "cyan"))
        draw.addWidget(self.draw_crop)
        draw.addWidget(self.draw_bare_beam)
        form.addRow(draw)
        self.projection = QSlider(Qt.Orientation.Horizontal)
        self.projection.setVisible(False)
        self.projection_label = QLabel()
        self.projection.valueChanged.connect(
            lambda number: self.projection_label.setText(f"Projection {number}")
        )
        form.addRow(self.projection_label, self.projection)
        self.show_frames_button = self._button("Show frames", self.show_frames)
        form.addRow(self.show_frames_button)
        self.histogram = _Plot()
        form.addRow(self.histogram)
        return page

    def _method_page(self) -> QWidget:
        page = QWidget()
        self.method_layout = QVBoxLayout(page)
        self.method = QComboBox()
        self.method.addItems(list(METHODS))
        self.method.currentTextChanged.connect(self._choose_method)
        self.about_method = QLabel()
        self.about_method.setWordWrap(True)
        self.method_layout.addWidget(self.method)
        self.method_layout.addWidget(self.about_method)
        self.form: Any = None
        return page

    def _result_page(self) -> QWidget:
        page = QWidget()
        layout = QVBoxLayout(page)
        self.finished = QSlider(Qt.Orientation.Horizontal)
        self.finished_label = QLabel()
        self.newest = QCheckBox("Show the newest projection of a running series")
        self.newest.toggled.connect(
            lambda on: self._newest_timer.start(_NEWEST) if on else self._newest_timer.stop()
        )
        self.finished.valueChanged.connect(lambda place: self._guarded(self._show_finished, place))
        for item in (self.finished_label, self.finished, self.newest):
            item.setVisible(False)
            layout.addWidget(item)
        self.findings = QTextBrowser()
        self.findings.setMinimumHeight(160)
        layout.addWidget(self.findings)
        row = QHBoxLayout()
        self.draw_region = self._button("Draw region or line", lambda: self._draw(_VALUES, "lime"))
        self.measure_button = self._button("Measure", self.measure)
        row.addWidget(self.draw_region)
        row.addWidget(self.measure_button)
        layout.addLayout(row)
        self.values = QLabel()
        self.values.setWordWrap(True)
        self.values.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        layout.addWidget(self.values)
        self.profile = _Plot()
        layout.addWidget(self.profile)
        return page

    def _buttons(self) -> QVBoxLayout:
        layout = QVBoxLayout()
        row = QHBoxLayout()
        self.preview_button = self._button("Preview", self.preview)
        self.retrieve_button = self._button("Retrieve", self.retrieve)
        self.cancel_button = self._button("Cancel", self._cancel.set)
        self.save_button = self._button("Save configuration…", self._ask_save)
        for button in (self.preview_button, self.retrieve_button, self.cancel_button, self.save_button):
            row.addWidget(button)
        self.cancel_button.setEnabled(False)
        self.bar = QProgressBar()
        self.bar.setVisible(False)
        layout.addLayout(row)
        layout.addWidget(self.bar)
        return layout

    # --- frames and configuration ---

    def _ask_folder(self) -> None:
        self._open_asked(QFileDialog.getExistingDirectory(self, "Folder of frames"))

    def _ask_file(self) -> None:
        self._open_asked(QFileDialog.getOpenFileName(self, "Configuration", "", "Configurations (*.toml)")[0])

    def _open_asked(self, path: str) -> None:
        if path:
            self.source.setText(path)
            self.open_source()

    def open_source(self) -> None:
        """Read the configuration, or propose one from the folder, and fill the form."""
        try:
            self.sections, self.folder = open_sections(self.source.text().strip())
        except InputError as error:
            self._show_errors(error)
            return
        experiment = self.sections.get("experiment", {})
        for name, field in self.geometry_fields.items():
            field.setText("" if experiment.get(name) is None else repr(experiment[name]))
        given = [table.get("step") for table in self._given_steps()]
        for name, box in self.steps.items():
            box.setChecked(name in given)
        self.method.setCurrentText(self.sections.get("retrieve", {}).get("method", next(iter(METHODS))))
        self._choose_method()
        self._describe()

    def _describe(self) -> None:
        """Show what was found: numbers of frames, shape, and what is missing."""
        parsed = self.parsed()
        found = discover(parsed)
        if found.reference is None or found.sample is None:
            self._show_errors(InputError(found.errors))
            return
        y, x = found.sample.shape
        count = found.sample.count
        self.projection.setVisible(parsed.is_series)
        self.projection_label.setVisible(parsed.is_series)
        self.projection.setRange(0, max(count - 1, 0))
        text = f"{found.sample.positions} positions, {y} × {x} pixels"
        self.found.setText(f"{text}, {count} projections" if parsed.is_series else text)
        missing = [
            _GEOMETRY[name] for name in list(_GEOMETRY)[:3] if not self.geometry_fields[name].text().strip()
        ]
        self._say(f"Fill in: {', '.join(missing)}." if missing else "Ready.")

    def edited(self) -> dict[str, Any]:
        """Return the sections with the values of the form."""
        sections = dict(self.sections)
        experiment = {name: field.text().strip() for name, field in self.geometry_fields.items()}
        sections["experiment"] = {name: _number(text) for name, text in experiment.items() if text}
        sections["preprocess"] = self._edited_steps()
        method = self.method.currentText()
        sections["retrieve"] = {**sections.get("retrieve", {}), "method": method}
        options = read_form(self.form, method)
        before = sections.get("options", {})
        others = {name: table for name, table in before.items() if name in METHODS and name != method}
        bare_beam = self._box(_BARE_BEAM)
        if bare_beam is not None:
            box = self._prepared_box(bare_beam)
            sections["regions"] = {**sections.get("regions", {}), "outside": box}
            if any(option.name == "background" for option in METHODS[method].options):
                options["background"] = box
        sections["options"] = {**options, **others}
        sections.setdefault("output", {"files": ["result.h5", "result.png"]})
        return sections

    def _edited_steps(self) -> list[dict[str, Any]]:
        """Return the tables of the steps: given ones keep options and place, new ones are put in order."""
        tables = self._given_steps()
        kept = [
            table
            for table in tables
            if table.get("step") not in self.steps or self.steps[table["step"]].isChecked()
        ]
        order = list(STEPS)
        for name, box in self.steps.items():
            if box.isChecked() and all(table.get("step") != name for table in kept):
                later = [n for n, table in enumerate(kept) if order.index(table["step"]) > order.index(name)]
                kept.insert(later[0] if later else len(kept), {"step": name})
        crop = self._box(_CROP)
        if crop is not None:
            y0, y1, x0, x1 = crop
            kept = [table for table in kept if table.get("step") != "crop"]
            place = next((n for n, table in enumerate(kept) if table.get("step") == "bin"), len(kept))
            kept.insert(place, {"step": "crop", "rows": [y0, y1], "columns": [x0, x1]})
        return kept

    def _given_steps(self) -> list[dict[str, Any]]:
        return [dict(table) for table in self.sections.get("preprocess", []) if isinstance(table, Mapping)]

    def parsed(self) -> ParsedConfiguration:
        """Return the checked configuration of the form, which is not written to a file."""
        return self._parse(self.edited())

    def _parse(self, sections: Mapping[str, Any]) -> ParsedConfiguration:
        parsed = parse_mapping(sections, folder=self.folder, source="", confined=False)
        return replace(parsed, overwrite=True)  # nothing is written

    def _prepared_box(self, box: tuple[int, int, int, int]) -> list[int]:
        """Return a box drawn on detector pixels in pixels of the prepared frames."""
        y0, y1, x0, x1 = box
        for table in self._edited_steps():
            if table["step"] == "crop":
                (top, bottom), (left, right) = table.get("rows", (0, y1)), table.get("columns", (0, x1))
                y0, y1 = max(y0 - top, 0), min(y1, bottom) - top
                x0, x1 = max(x0 - left, 0), min(x1, right) - left
            elif table["step"] == "bin":
                size = table.get("size", 2)
                y0, y1, x0, x1 = -(-y0 // size), y1 // size, -(-x0 // size), x1 // size
        return [y0, y1, x0, x1]

    def _draw(self, name: str, colour: str) -> None:
        """Select the layer of shapes of this name, made if there is none, to draw in it."""
        if name not in self.viewer.layers:
            keywords = {"face_color": "transparent", "edge_color": colour, "name": name, **self._placed()}
            self.viewer.add_shapes(ndim=2, edge_width=2, **keywords)
        layer = self.viewer.layers[name]
        self.viewer.layers.selection.active = layer
        layer.mode = "add_rectangle"

    def _placed(self) -> dict[str, Any]:
        """Return scale and unit of detector pixels: those of results if the geometry is known."""
        experiment = self.parsed().experiment if self.sections else None
        if experiment is None:
            return {}
        pixel = experiment.effective_pixel * 1e6
        return {"scale": (pixel, pixel), "units": ("um", "um")}

    def _box(self, name: str, image: Any = None) -> tuple[int, int, int, int] | None:
        """Return the last rectangle of a layer of shapes in pixels of an image or of the detector."""
        if name not in self.viewer.layers or not len(self.viewer.layers[name].data):
            return None
        corners = self._corners(name, image)
        (y0, x0), (y1, x1) = np.maximum(np.rint(corners.min(0) + 0.5), 0), np.rint(corners.max(0) + 0.5)
        return int(y0), int(y1), int(x0), int(x1)

    def _corners(self, name: str, image: Any = None) -> NDArray[np.float64]:
        """Return the corners of the last shape, (corner, 2), in pixels of an image or of the detector."""
        shapes = self.viewer.layers[name]
        corners = np.asarray(shapes.data[-1], np.float64)[:, -2:]
        if image is None:
            return corners
        world = corners * shapes.scale[-2:] + shapes.translate[-2:]
        pixels: NDArray[np.float64] = (world - image.translate[-2:]) / image.scale[-2:]
        return pixels

    # --- work in a thread ---

    def show_frames(self) -> None:
        """Load the frames of a projection as layers, prepared by the steps but not cropped or binned."""
        sections = self.edited()
        sections["preprocess"] = [
            table for table in sections["preprocess"] if table["step"] not in ("crop", "bin")
        ]
        parsed = self._parse(sections)
        number = self._number()
        self._start(lambda tell: load_projection(parsed, number, tell), self._add_frames)

    def preview(self) -> None:
        """Retrieve a small image by a fast method."""
        self._begin(lambda parsed, number, tell: preview_projection(parsed, number, tell), _PREVIEW)

    def retrieve(self) -> None:
        """Retrieve the chosen projection by the chosen method."""
        self._begin(lambda parsed, number, tell: retrieve_projection(parsed, number, tell), "")

    def _begin(self, work: Callable[..., Retrieval], name: str) -> None:
        stack = self._layer_stack()
        if stack is None:
            parsed, number = self.parsed(), self._number()
            self._start(lambda tell: work(parsed, number, tell), lambda result: self.add_result(result, name))
            return
        sections = self.edited()

        def from_layers(tell: Progress) -> Retrieval:
            experiment = Experiment(**{"source_to_sample": None, **sections["experiment"]})
            method = sections["retrieve"]["method"]
            tell(f"retrieving by {method}", 0, 1)
            options = combine_options(method, *_split(sections["options"]))
            return retrieve(stack, experiment, method=method, **options)

        self._start(from_layers, lambda result: self.add_result(result, name))

    def _layer_stack(self) -> SpeckleStack | None:
        """Return the frames of the chosen layers if no folder or file is open."""
        names = self.reference_layer.currentText(), self.sample_layer.currentText()
        if self.sections or not all(names):
            return None
        return SpeckleStack(*(np.atleast_3d(np.asarray(self.viewer.layers[name].data)) for name in names))

    def _number(self) -> int | None:
        return self.projection.value() if self.projection.isVisibleTo(self) else None

    def _start(self, work: Callable[[Progress], Any], done: Callable[[Any], None]) -> None:
        self._cancel.clear()

        def tell(label: str, finished: float, total: float) -> None:
            self._progress = (label, finished, total)
            if self._cancel.is_set():
                raise CancelledError

        def run() -> tuple[Any, Exception | None]:
            # An exception that leaves the thread would end the program.
            try:
                found = work(tell)
                tell("", 0, 0)
            except Exception as error:
                return None, error
            return found, None

        def show(given: tuple[Any, Exception | None]) -> None:
            self._finish()
            found, error = given
            self._guarded(done if error is None else self._show_errors, found if error is None else error)

        self._worker = create_worker(run)
        self._worker.returned.connect(show)
        self._set_busy(True)
        self._worker.start()

    @property
    def busy(self) -> bool:
        """Whether a thread is running."""
        return self._worker is not None

    def _set_busy(self, busy: bool) -> None:
        for button in (self.preview_button, self.retrieve_button, self.save_button, self.show_frames_button):
            button.setEnabled(not busy)
        self.cancel_button.setEnabled(busy)
        self.bar.setVisible(busy)
        self.bar.setRange(0, 0)
        if busy:
            self._timer.start(_POLL)
            self._say("Working…")
        else:
            self._timer.stop()

    def _guarded(self, action: Callable[..., Any], *given: Any) -> None:
        """Call a function, and show its errors."""
        try:
            action(*given)
        except Exception as error:
            self._show_errors(error)

    def _button(self, title: str, action: Callable[[], Any]) -> QPushButton:
        button = QPushButton(title)
        button.clicked.connect(lambda *_: self._guarded(action))
        return button

    def _finish(self) -> None:
        self._set_busy(False)
        self._worker = None

    def _show_progress(self) -> None:
        if self._progress is not None:
            label, done, total = self._progress
            known = total > 1 or isinstance(total, float)
            self.bar.setRange(0, _FULL if known else 0)
            self.bar.setValue(int(_FULL * done / total) if known else 0)
            left = f" about {max(total - done, 1.0):.0f} s left" if isinstance(total, float) else ""
            self._say(f"{label.capitalize()}…{left}")

    # --- what is shown ---

    def _add_frames(self, loaded: LoadedProjection) -> None:
        stack = loaded.stack
        pixel = loaded.experiment.effective_pixel * 1e6
        names = {"units": ("pixel", "um", "um"), "axis_labels": ("position", "y", "x")}
        placed = {"scale": (1.0, pixel, pixel), **names}
        low, high = np.nanpercentile(stack.reference, (0.5, 99.5))
        for name, frames in (("reference frames", stack.reference), ("sample frames", stack.sample)):
            limits = float(low), float(high)
            keywords = {"name": name, "colormap": "gray", "contrast_limits": limits, **placed}
            add = partial(self.viewer.add_image, frames, **keywords)
            self._replace(name, add)
        if stack.weights is not None:
            bad = (stack.weights == 0).astype(np.uint8)
            add = partial(self.viewer.add_labels, bad, name="bad pixels", opacity=0.6, **placed)
            self._replace("bad pixels", add)
        values = stack.sample[np.isfinite(stack.sample)]
        self.histogram.histogram(values, "sample frames")
        count = 0 if stack.weights is None else int((stack.weights == 0).sum())
        self._say(f"{stack.positions} pairs of frames; {count} bad pixels.")

    def add_result(self, result: Retrieval, name: str = "") -> None:
        """Show a result: its images as layers, and its findings."""
        self.result = result
        for layer in [layer for layer in self.viewer.layers if layer.name.startswith(f"{_PREVIEW}: ")]:
            self.viewer.layers.remove(layer)
        offset = self._offset(result)
        for data, keywords, kind in layers(result, name):
            keywords |= {"translate": offset}
            add = partial(getattr(self.viewer, f"add_{kind}"), data, **keywords)
            self._replace(keywords["name"], add)
        for layer in self.viewer.layers:
            if layer.name in ("reference frames", "sample frames", "bad pixels"):
                layer.visible = False
        shown = [layer for layer in self.viewer.layers if layer.visible and "xmist" in layer.metadata]
        self.viewer.layers.selection.active = shown[0] if shown else None
        self.viewer.reset_view()
        self._list_findings(result.findings)
        self.tabs.setCurrentIndex(2)
        title = f"Preview by {result.method}" if name else f"Retrieved by {result.method}"
        warnings = sum(record.severity == "warning" for record in result.findings)
        self._say(f"{title}: {warnings} warning{'s' * (warnings != 1)}.")

    def _offset(self, result: Retrieval) -> tuple[float, float]:
        """Return where the result begins in the detector's frame, (y, x) in µm."""
        size, offset = 1, np.zeros(2)
        for table in result.provenance.get("configuration", {}).get("preprocess", []):
            if table["step"] == "crop":
                offset += [
                    size * (span[0] if span else 0) for span in (table.get("rows"), table.get("columns"))
                ]
            elif table["step"] == "bin":
                size *= table.get("size", 2)
        preview = result.provenance.get("preview", {"binning": 1, "reduction": 1})
        size *= preview["binning"] * preview["reduction"]
        offset += size * np.array(result.provenance.get("grid_origin", (0, 0)))
        pixel = result.experiment.effective_pixel * 1e6 / (size * result.provenance.get("stride", 1))
        # The middle of a joined pixel is not that of its first one.
        y, x = (offset + (size - 1) / 2) * pixel
        return float(y), float(x)

    def _replace(self, name: str, add: Callable[[], Any]) -> None:
        """Add a layer in place of one of the same name."""
        if name in self.viewer.layers:
            self.viewer.layers.remove(name)
        add()

    def _list_findings(self, findings: tuple[Finding, ...]) -> None:
        lines = []
        for record in warnings_first(findings):
            code = FINDING_CODES.get(record.code)
            lines.append(f"{record.severity}: {record.message}")
            if code is not None and code.remedy:
                lines.append(f"   What to do: {code.remedy}")
            lines.append("")
        self.findings.setPlainText("\n".join(lines) or "No findings.")

    def measure(self) -> None:
        """Show the values of the active image in the last rectangle, or its profile along the last line."""
        layer = self.viewer.layers.selection.active
        images = [item for item in self.viewer.layers if item.__class__.__name__ == "Image" and item.visible]
        if layer not in images:
            layer = images[-1] if images else None
        if layer is None or _VALUES not in self.viewer.layers or not len(self.viewer.layers[_VALUES].data):
            self.values.setText("Draw a rectangle or a line on an image, then measure.")
            return
        image = np.asarray(layer.data)
        if self.viewer.layers[_VALUES].shape_type[-1] == "line":
            distance, profile = _profile(image, self._corners(_VALUES, layer))
            self.profile.line(distance * float(layer.scale[-1]), profile, layer.name)
            self.values.setText(f"Profile of {layer.name}, {len(profile)} points.")
            return
        y0, y1, x0, x1 = self._box(_VALUES, layer) or (0, 0, 0, 0)
        part = image[..., y0:y1, x0:x1]
        part = part[np.isfinite(part)]
        if not part.size:
            self.values.setText("The region holds no values.")
            return
        self.values.setText(
            f"{layer.name}: mean {part.mean():.4g}, standard deviation {part.std():.3g}, median "
            f"{np.median(part):.4g}, {part.size} pixels{self._uncertainty(layer, (y0, y1, x0, x1))}"
        )

    def _uncertainty(self, layer: Any, box: tuple[int, int, int, int]) -> str:
        """Return the mean standard deviation that the method states in a box of a channel, as text."""
        about = layer.metadata.get("xmist", {})
        std = getattr(self.result, f"{about.get('channel')}_std", None)
        if std is None:
            return ""
        y0, y1, x0, x1 = box
        mean = np.nanmean(std[..., y0:y1, x0:x1]) * about["factor"]
        return f"; standard deviation of a pixel by the method {mean:.3g}"

    def _choose_method(self) -> None:
        """Show the form of the chosen method, filled with the options of the configuration."""
        method = self.method.currentText()
        entry = METHODS[method]
        about = f"{entry.summary} N ≥ {entry.minimum_positions}. {entry.citation}, doi:{entry.doi}"
        self.about_method.setText(about)
        general, tables = _split(self.sections.get("options", {}))
        if self.form is not None:
            self.method_layout.removeWidget(self.form.native)
            self.form.native.deleteLater()
        self.form = make_form(method, combine_options(method, general, tables))
        self.method_layout.addWidget(self.form.native)

    def _list_layers(self) -> None:
        names = ["", *(layer.name for layer in self.viewer.layers if getattr(layer, "ndim", 0) == 3)]
        for box in (self.reference_layer, self.sample_layer):
            chosen = box.currentText()
            box.clear()
            box.addItems(names)
            box.setCurrentText(chosen)

    # --- finished results ---

    def open_results(self, path: str | Path) -> None:
        """Show a result, or the finished projections of a series."""
        if not is_stack(path):
            self.add_result(open_result(path))
            return
        self.results = Path(path)
        for item in (self.finished_label, self.finished, self.newest):
            item.setVisible(True)
        self.tabs.setCurrentIndex(2)
        self.show_newest()

    def show_newest(self) -> None:
        """Show the last finished projection, if it is not shown already."""
        numbers = self._finished_numbers()
        if not numbers:
            self._say(f"{self.results} holds no finished projection yet.")
            return
        self.finished.setRange(0, len(numbers) - 1)
        self.finished.setValue(len(numbers) - 1)
        self._show_finished(len(numbers) - 1)

    def _show_finished(self, place: int) -> None:
        numbers = self._finished_numbers()
        if self.results is None or place >= len(numbers) or self._shown == (self.results, numbers[place]):
            return
        self._shown = self.results, numbers[place]
        self.finished_label.setText(f"Projection {numbers[place]} ({place + 1} of {len(numbers)} finished)")
        self.add_result(open_result(self.results, projection=numbers[place]))

    def _finished_numbers(self) -> list[int]:
        if self.results is None:
            return []
        table = open_stack(self.results).table
        return [int(number) for number in table["projection"][table["status"] != MISSING]]

    # --- saving ---

    def _ask_save(self) -> None:
        proposed = str(self.folder / "config.toml")
        path = QFileDialog.getSaveFileName(self, "Save configuration", proposed, "*.toml")[0]
        if path:
            self.save_configuration(path)

    def save_configuration(self, path: str | Path) -> None:
        """Write the configuration file that reproduces the images, in the folder of the frames."""
        if not self.sections:
            self._say("Frames of layers have no files; a configuration needs a folder or a file.")
            return
        path = Path(path)
        if path.resolve().parent != self.folder.resolve():
            self._say(f"Names in the configuration are relative to {self.folder}; save it there.")
            return
        head = "# Written by the xmist widget of napari. Lengths are in metres, the energy in keV.\n\n"
        text = (head + sections_text(self.edited())).encode()
        write_file(path, lambda file: file.write(text), overwrite=True)
        self._say(f"Saved {path}.")

    def _show_errors(self, error: BaseException) -> None:
        if isinstance(error, CancelledError):
            self._say("Cancelled.")
        elif isinstance(error, InputError):
            self._say("\n".join(map(str, error.records)))
        else:
            self._say(f"{type(error).__name__}: {error}")

    def _say(self, text: str) -> None:
        self.message.setText(text)


class _Plot(FigureCanvasQTAgg):
    """A small plot."""

    def __init__(self) -> None:
        self.axes = Figure(figsize=(3.4, 1.8), layout="constrained").add_subplot()
        super().__init__(self.axes.figure)  # type: ignore[no-untyped-call]
        self.setMinimumHeight(150)
        self.setVisible(False)

    def histogram(self, values: NDArray[Any], title: str) -> None:
        """Draw the histogram of values."""
        self.axes.clear()
        low, high = np.percentile(values, (0.01, 99.99)) if values.size else (0.0, 1.0)
        self.axes.hist(values, bins=128, range=(low, high if high > low else low + 1.0), log=True)
        self._finish(title)

    def line(self, x: NDArray[Any], y: NDArray[Any], title: str) -> None:
        """Draw a profile over the distance in µm."""
        self.axes.clear()
        self.axes.plot(x, y)
        self.axes.set_xlabel("µm", fontsize=8)
        self._finish(title)

    def _finish(self, title: str) -> None:
        self.axes.set_title(title, fontsize=8)
        self.axes.tick_params(labelsize=7)
        self.setVisible(True)
        self.draw_idle()  # type: ignore[no-untyped-call]


def _number(text: str) -> float | str:
    """Return a number; other text is kept, and the check of the configuration rejects it."""
    try:
        return float(text)
    except ValueError:
        return text


def _split(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Mapping[str, Any]]]:
    """Return the general options and the tables of methods."""
    tables = {name: table for name, table in options.items() if isinstance(table, Mapping)}
    return {name: value for name, value in options.items() if name not in tables}, tables


def _profile(image: NDArray[Any], ends: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return distances in pixels and the values of the nearest pixels along a line."""
    start, stop = ends[0], ends[-1]
    length = float(np.hypot(*(stop - start)))
    along = np.linspace(0.0, 1.0, max(int(length) + 1, 2))
    points = np.rint(start + along[:, None] * (stop - start)).astype(int)
    y, x = (np.clip(points[:, axis], 0, image.shape[axis - 2] - 1) for axis in (0, 1))
    return along * length, image[..., y, x].reshape(-1, len(along))[0]
