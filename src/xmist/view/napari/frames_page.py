"""The page *Frames*: what to read, geometry and preprocessing, as the sections of a configuration."""

from __future__ import annotations

import html
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import napari
import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFileDialog,
    QFormLayout,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QSlider,
    QWidget,
)

from xmist.core.data import SpeckleStack
from xmist.core.errors import InputError
from xmist.io.frames.geometry import Offer
from xmist.preprocess import STEPS
from xmist.view.napari.shapes import BARE_BEAM, CROP, Box, SmallPlot, draw, last_box, make_button
from xmist.workflow.configuration import ParsedConfiguration, parse_mapping
from xmist.workflow.discovery import discover
from xmist.workflow.editing import geometry_offers, open_sections
from xmist.workflow.run import LoadedProjection

_GEOMETRY: Final = {
    "energy_kev": "Photon energy (keV)",
    "pixel_size": "Detector pixel (m)",
    "sample_to_detector": "Sample to detector (m)",
    "source_to_sample": "Source to sample (m)",
}
_NEEDED: Final = tuple(_GEOMETRY)[:3]
# Frames can be shown before the geometry is known.
_STAND_INS: Final = {"energy_kev": 17.0, "pixel_size": 1e-6, "sample_to_detector": 1.0}
_LINK: Final = "#6fb4ff"  # is read on a dark ground
_SIMPLE_STEPS: Final = tuple(name for name in STEPS if name not in ("crop", "bin"))
REFERENCE, SAMPLE, BAD = "reference frames", "sample frames", "bad pixels"
_ON_DETECTOR: Final = (REFERENCE, SAMPLE, BAD, CROP, BARE_BEAM)


class FramesPage(QWidget):  # type: ignore[misc]
    """Fields for the frames, their geometry and their preprocessing.

    `opened` shows the frames, `open_file` opens a path, `changed` follows a change of the geometry, `failed`
    shows an error.
    """

    def __init__(
        self,
        viewer: napari.Viewer,
        opened: Callable[[], Any],
        open_file: Callable[[str], Any],
        changed: Callable[[], Any],
        failed: Callable[[BaseException], Any],
    ) -> None:
        super().__init__()
        self.viewer = viewer
        self.sections: dict[str, Any] = {}
        self.folder = Path()
        self._opened, self._open_file, self._changed, self._failed = opened, open_file, changed, failed
        self._numbers: list[int] = []
        self.form = QFormLayout(self)
        self.form.setRowWrapPolicy(QFormLayout.RowWrapPolicy.WrapLongRows)
        self._add_source()
        self._add_geometry()
        self._add_steps()
        self._add_view()

    # --- fields ---

    def _button(self, title: str, action: Callable[[], Any]) -> QPushButton:
        return make_button(title, action, self._failed)

    def _row(self, *parts: QWidget) -> None:
        row = QHBoxLayout()
        for part in parts:
            row.addWidget(part)
        self.form.addRow(row)

    def _add_source(self) -> None:
        self.source = QLineEdit()
        self.source.setPlaceholderText("folder of frames, config.toml or result.h5")
        self.open_button = self._button("Open", lambda: self._open_file(self.source.text().strip()))
        self.source.returnPressed.connect(self.open_button.click)
        self.form.addRow("Frames", self.source)
        self._row(
            self._button("Folder…", self._ask_folder), self._button("File…", self._ask_file), self.open_button
        )
        self.reference_layer, self.sample_layer = QComboBox(), QComboBox()
        for box in (self.reference_layer, self.sample_layer):
            box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
            box.setMinimumContentsLength(8)
            box.setToolTip("An image layer with axes position, y and x")
        self.form.addRow(QLabel("or layers: reference, sample"))
        self._row(self.reference_layer, self.sample_layer)
        for event in (self.viewer.layers.events.inserted, self.viewer.layers.events.removed):
            event.connect(self._list_layers)
        self._list_layers()
        self.found = QLabel()
        self.found.setWordWrap(True)
        self.form.addRow(self.found)

    def _add_geometry(self) -> None:
        self.geometry_fields = {name: QLineEdit() for name in _GEOMETRY}
        self.geometry_sources = {name: QLabel() for name in _GEOMETRY}
        for name, field in self.geometry_fields.items():
            field.setMinimumWidth(90)
            field.textChanged.connect(lambda *_: self._changed())
            about = self.geometry_sources[name]
            about.setWordWrap(True)
            about.setStyleSheet("font-size: 10px; color: #a0a4a8")
            about.setVisible(False)
            about.linkActivated.connect(field.setText)
            self.form.addRow(_GEOMETRY[name], field)
            self.form.addRow(about)
        self.geometry_fields["source_to_sample"].setPlaceholderText("empty: parallel beam")

    def _add_steps(self) -> None:
        steps = QGridLayout()
        self.steps = {name: QCheckBox(name) for name in _SIMPLE_STEPS}
        for n, (name, box) in enumerate(self.steps.items()):
            box.setToolTip(STEPS[name].summary)
            steps.addWidget(box, n // 2, n % 2)
        self.form.addRow(QLabel("Preprocessing, in this order"))
        self.form.addRow(steps)
        self.draw_crop = self._button("Draw crop", lambda: draw(self.viewer, CROP, self.pixel))
        self.draw_bare_beam = self._button("Draw bare beam", lambda: draw(self.viewer, BARE_BEAM, self.pixel))
        self._row(self.draw_crop, self.draw_bare_beam)

    def _add_view(self) -> None:
        self.projection = QSlider(Qt.Orientation.Horizontal)
        self.projection_label = QLabel()
        self.projection.valueChanged.connect(
            lambda place: self.projection_label.setText(f"Projection {self._numbers[place]}")
        )
        for part in (self.projection, self.projection_label):
            part.setVisible(False)
        self.form.addRow(self.projection_label, self.projection)
        self.show_frames_button = self._button("Show frames", self._opened)
        self.show_frames_button.setToolTip("Load the frames again, after the steps that are ticked")
        self.form.addRow(self.show_frames_button)
        self.histogram = SmallPlot()
        self.form.addRow(self.histogram)

    # --- what is opened ---

    def _ask_folder(self) -> None:
        self._open_asked(QFileDialog.getExistingDirectory(self, "Folder of frames"))

    def _ask_file(self) -> None:
        kinds = "Configurations and results (*.toml *.h5 *.hdf5 *.nxs)"
        self._open_asked(QFileDialog.getOpenFileName(self, "Configuration or result", "", kinds)[0])

    def _open_asked(self, path: str) -> None:
        if path:
            self.source.setText(path)
            self._open_file(path)

    def open_source(self, path: str) -> None:
        """Read a configuration, or propose one from a folder, and fill the fields."""
        self.sections, self.folder = open_sections(path)
        self.source.setText(path)
        experiment = self.sections.get("experiment", {})
        offers = geometry_offers(self.sections, self.folder)
        for name, field in self.geometry_fields.items():
            value = experiment.get(name)
            field.setText("" if value is None else repr(value))
            self._tell_source(name, [offer for offer in offers if offer.name == name])
        given = [table.get("step") for table in self._given_steps()]
        for name, box in self.steps.items():
            box.setChecked(name in given)

    def _tell_source(self, name: str, offers: list[Offer]) -> None:
        """Show where a value comes from; of several possible values a click takes one."""
        about = self.geometry_sources[name]
        about.setVisible(bool(offers))
        lines = []
        for offer in offers:
            value = repr(float(f"{offer.value:.9g}"))
            link = f'<a style="color:{_LINK}" href="{value}">{value}</a>: ' if len(offers) > 1 else ""
            source = offer.source.replace(f"{self.folder}{os.sep}", "")
            lines.append(f"{link}{html.escape(source)}")
        about.setText("<br>".join(lines))
        about.setToolTip("\n".join(offer.note for offer in offers if offer.note))
        about.setMinimumHeight(about.sizeHint().height())

    def describe(self) -> None:
        """Show numbers and shape of the frames."""
        parsed = self.parse(self.shown_sections())
        found = discover(parsed)
        if found.reference is None or found.sample is None:
            raise InputError(found.errors)
        y, x = found.sample.shape
        self._numbers = found.sample.numbers.tolist()
        for part in (self.projection, self.projection_label):
            part.setVisible(parsed.is_series)
        self.projection.setRange(0, max(len(self._numbers) - 1, 0))
        self.projection_label.setText(f"Projection {self._numbers[self.projection.value()]}")
        text = f"{found.sample.positions} positions, {y} × {x} pixels"
        self.found.setText(f"{text}, {len(self._numbers)} projections" if parsed.is_series else text)

    def missing(self) -> str:
        """Return a sentence that names missing values of the geometry, or what comes next."""
        missing = [_GEOMETRY[name] for name in _NEEDED if not self.geometry_fields[name].text().strip()]
        return f"Fill in: {', '.join(missing)}." if missing else "Ready: press Preview or Retrieve."

    @property
    def number(self) -> int | None:
        """The chosen projection of a series, None for a single one."""
        return self._numbers[self.projection.value()] if self.projection.isVisibleTo(self) else None

    def layer_stack(self) -> SpeckleStack | None:
        """Return the frames of the chosen layers, None if two are not chosen."""
        names = self.reference_layer.currentText(), self.sample_layer.currentText()
        if not all(names):
            return None
        data = (np.asarray(self.viewer.layers[name].data) for name in names)
        return SpeckleStack(*(frames if frames.ndim == 3 else frames[None] for frames in data))

    def _list_layers(self) -> None:
        images = [layer for layer in self.viewer.layers if isinstance(layer, napari.layers.Image)]
        usable = [layer for layer in images if layer.ndim in (2, 3) and "xmist" not in layer.metadata]
        names = ["", *(layer.name for layer in usable if layer.name not in (REFERENCE, SAMPLE))]
        for box in (self.reference_layer, self.sample_layer):
            chosen = box.currentText()
            box.clear()
            box.addItems(names)
            box.setCurrentText(chosen)

    # --- the sections ---

    def edited(self) -> dict[str, Any]:
        """Return the sections with frames, geometry and steps of the fields."""
        sections = dict(self.sections)
        experiment = {name: field.text().strip() for name, field in self.geometry_fields.items()}
        sections["experiment"] = {name: _number(text) for name, text in experiment.items() if text}
        sections["preprocess"] = self.edited_steps()
        return sections

    def edited_steps(self) -> list[dict[str, Any]]:
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
        crop = last_box(self.viewer, CROP)
        if crop is not None:
            y0, y1, x0, x1 = crop
            kept = [table for table in kept if table.get("step") != "crop"]
            place = next((n for n, table in enumerate(kept) if table.get("step") == "bin"), len(kept))
            kept.insert(place, {"step": "crop", "rows": [y0, y1], "columns": [x0, x1]})
        return kept

    def _given_steps(self) -> list[dict[str, Any]]:
        return [dict(table) for table in self.sections.get("preprocess", []) if isinstance(table, Mapping)]

    def bare_beam(self) -> list[int] | None:
        """Return the bare beam that was drawn, in pixels of the prepared frames."""
        box = last_box(self.viewer, BARE_BEAM)
        return None if box is None else self._prepared_box(box)

    def _prepared_box(self, box: Box) -> list[int]:
        y0, y1, x0, x1 = box
        for table in self.edited_steps():
            if table["step"] == "crop":
                (top, bottom), (left, right) = table.get("rows", (0, y1)), table.get("columns", (0, x1))
                y0, y1 = max(y0 - top, 0), min(y1, bottom) - top
                x0, x1 = max(x0 - left, 0), min(x1, right) - left
            elif table["step"] == "bin":
                size = table.get("size", 2)
                y0, y1, x0, x1 = -(-y0 // size), y1 // size, -(-x0 // size), x1 // size
        return [y0, y1, x0, x1]

    def parse(self, sections: Mapping[str, Any]) -> ParsedConfiguration:
        """Return the checked configuration of sections."""
        return parse_mapping(sections, folder=self.folder, source="", confined=False)

    # --- frames as layers ---

    @property
    def pixel(self) -> float:
        """The effective pixel in µm; 1 if the geometry is not known yet."""
        experiment = self.parse(self.edited()).experiment if self.sections else None
        return 1.0 if experiment is None else experiment.effective_pixel * 1e6

    def rescale(self) -> None:
        """Update the scale of frames and shapes: the geometry may have changed."""
        pixel = self.pixel
        for layer in self.viewer.layers:
            if layer.name in _ON_DETECTOR:
                layer.scale = (*layer.scale[:-2], pixel, pixel)

    def shown_sections(self) -> dict[str, Any]:
        """Return the sections with which frames are shown: neither cropped nor binned."""
        sections = self.edited()
        sections["preprocess"] = [
            table for table in sections["preprocess"] if table["step"] not in ("crop", "bin")
        ]
        sections["experiment"] = {**_STAND_INS, **sections["experiment"]}
        return sections

    def add_frames(self, loaded: LoadedProjection) -> str:
        """Show frames with bad pixels and a histogram; return how many there are."""
        stack, pixel = loaded.stack, self.pixel
        names = {"units": ("pixel", "um", "um"), "axis_labels": ("position", "y", "x")}
        placed = {"scale": (1.0, pixel, pixel), **names}
        values = {}
        for name, frames in ((REFERENCE, stack.reference), (SAMPLE, stack.sample)):
            used = np.isfinite(frames) if stack.weights is None else np.isfinite(frames) & (stack.weights > 0)
            values[name] = frames[used]
        low, high = np.percentile(values[REFERENCE], (0.5, 99.5)) if values[REFERENCE].size else (0.0, 1.0)
        for name, frames in ((REFERENCE, stack.reference), (SAMPLE, stack.sample)):
            keywords = {"name": name, "colormap": "gray", "contrast_limits": (float(low), float(high))}
            replace_layer(self.viewer, name, partial(self.viewer.add_image, frames, **keywords, **placed))
        bad = 0
        if stack.weights is not None:
            marks = (stack.weights == 0).astype(np.uint8)
            bad = int(marks.sum())
            add = partial(self.viewer.add_labels, marks, name=BAD, opacity=0.6, **placed)
            replace_layer(self.viewer, BAD, add)
        elif BAD in self.viewer.layers:
            self.viewer.layers.remove(BAD)
        self.histogram.histograms(values)
        self.viewer.reset_view()
        share = 100 * bad / stack.reference.size
        return f"{stack.positions} pairs of frames, {share:.2g} % of the pixels are bad."

    def hide(self) -> None:
        """Hide the frames, so that images are seen."""
        for layer in self.viewer.layers:
            if layer.name in (REFERENCE, SAMPLE, BAD):
                layer.visible = False


def replace_layer(viewer: napari.Viewer, name: str, add: Callable[[], Any]) -> None:
    """Add a layer in place of one of the same name."""
    if name in viewer.layers:
        viewer.layers.remove(name)
    add()


def _number(text: str) -> float | str:
    """Return a number; other text is kept, and the check of the configuration rejects it."""
    try:
        return float(text)
    except ValueError:
        return text
