"""The dock widget of napari: from frames to images, by the functions of the command line.

The widget edits the sections of a configuration: those of frames on one page, of the method on another.
`xmist.workflow` reads, checks and retrieves; layers are those of the reader.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import napari
from napari.qt.threading import create_worker
from qtpy.QtCore import QSize, Qt, QTimer
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QScrollArea,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from xmist.core.data import Retrieval
from xmist.core.errors import InputError
from xmist.core.experiment import Experiment
from xmist.core.progress import Progress
from xmist.io import NEXUS_ENDINGS
from xmist.io.results.atomic import write_file
from xmist.methods import METHODS, retrieve
from xmist.methods.registry import DEFAULT_METHOD
from xmist.view.napari.frames_page import FramesPage
from xmist.view.napari.options_form import make_form, read_form
from xmist.view.napari.result_page import PREVIEW, ResultPage
from xmist.view.napari.shapes import make_button
from xmist.workflow.configuration import ParsedConfiguration, combine_options
from xmist.workflow.editing import moved_sections, sections_text
from xmist.workflow.preview import preview_loaded, preview_projection
from xmist.workflow.run import load_projection, prepare_stack, retrieve_projection

_POLL: Final = 100  # ms between looks at the progress of a thread
_FULL: Final = 1000  # of the progress bar


def open_viewer(path: str | Path | None = None) -> napari.Viewer:
    """Open napari with the widget, and a folder of frames, a configuration or a result in it."""
    viewer = napari.Viewer(title="xmist")
    widget = RetrievalWidget(viewer)
    viewer.window.add_dock_widget(widget, name="xmist", area="right")
    if path is not None:
        widget.guarded(widget.open, str(path))
    return viewer


class CancelledError(Exception):
    """The user asked to stop."""


class _PageArea(QScrollArea):  # type: ignore[misc]
    """A page that scrolls up and down, and is wide enough for all of it."""

    def __init__(self, page: QWidget) -> None:
        super().__init__()
        self.setWidgetResizable(True)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setWidget(page)

    def minimumSizeHint(self) -> QSize:
        """Return the size below which the window does not shrink the page."""
        width = self.widget().minimumSizeHint().width() + self.verticalScrollBar().sizeHint().width()
        return QSize(width + 2 * self.frameWidth(), super().minimumSizeHint().height())


class RetrievalWidget(QWidget):  # type: ignore[misc]
    """Choose frames, preprocessing and a method; preview, retrieve, judge, and save the configuration."""

    def __init__(self, viewer: napari.Viewer) -> None:
        super().__init__()
        self.viewer = viewer
        self._run: threading.Event | None = None  # set to stop the thread that is at work
        self._progress: tuple[str, float, float] | None = None
        self._timer = QTimer(self)
        self._timer.timeout.connect(self._show_progress)
        self.frames = FramesPage(viewer, self.show_frames, self.open, self._tell_missing, self._show_error)
        self.results = ResultPage(viewer, self._show_results, self._show_error)
        self.tabs = QTabWidget()
        for title, page in (
            ("Frames", self.frames),
            ("Method", self._method_page()),
            ("Result", self.results),
        ):
            self.tabs.addTab(_PageArea(page), title)
        layout = QVBoxLayout(self)
        layout.addWidget(self.tabs)
        layout.addLayout(self._buttons())
        self.message = QLabel()
        self.message.setWordWrap(True)
        self.message.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        layout.addWidget(self.message)
        self._choose_method()
        self._say("Choose a folder of frames or a configuration file, or two layers.")

    def _method_page(self) -> QWidget:
        page = QWidget()
        self.method_layout = QVBoxLayout(page)
        self.method_layout.setAlignment(Qt.AlignmentFlag.AlignTop)
        self.method = QComboBox()
        self.method.addItems(list(METHODS))
        self.method.currentTextChanged.connect(self._choose_method)
        self.about_method = QLabel()
        self.about_method.setWordWrap(True)
        self.method_layout.addWidget(self.method)
        self.method_layout.addWidget(self.about_method)
        self.form: Any = None
        return page

    def _buttons(self) -> QVBoxLayout:
        layout = QVBoxLayout()
        self.preview_button = make_button("Preview", self.preview, self._show_error)
        self.preview_button.setToolTip("A small image by a fast method, in seconds")
        self.retrieve_button = make_button("Retrieve", self.retrieve, self._show_error)
        self.cancel_button = make_button("Cancel", self.cancel, self._show_error)
        self.save_button = make_button("Save configuration…", self._ask_save, self._show_error)
        row = QHBoxLayout()
        for button in (self.preview_button, self.retrieve_button, self.cancel_button):
            row.addWidget(button)
        self.cancel_button.setEnabled(False)
        self.bar = QProgressBar()
        self.bar.setVisible(False)
        layout.addLayout(row)
        layout.addWidget(self.save_button)
        layout.addWidget(self.bar)
        return layout

    # --- opening, and what the fields say ---

    def open(self, path: str) -> None:
        """Open a folder of frames or a configuration and show its frames, or open a result."""
        if Path(path).suffix.lower() in NEXUS_ENDINGS:
            self._say(self.results.open_results(path))
            return
        self.frames.open_source(path)
        self.method.setCurrentText(self._sections.get("retrieve", {}).get("method", next(iter(METHODS))))
        self._choose_method()
        self.show_frames()

    def _tell_missing(self) -> None:
        if self._sections and not self.busy:
            self._say(self.frames.missing())

    @property
    def _sections(self) -> dict[str, Any]:
        return self.frames.sections

    @property
    def result(self) -> Retrieval | None:
        """The result that is shown."""
        return self.results.result

    def edited(self) -> dict[str, Any]:
        """Return the sections with the values of the fields."""
        sections = self.frames.edited()
        method = self.method.currentText()
        sections["retrieve"] = {**sections.get("retrieve", {}), "method": method}
        options = read_form(self.form, method)
        before = sections.get("options", {})
        others = {name: table for name, table in before.items() if name in METHODS and name != method}
        box = self.frames.bare_beam()
        if box is not None:
            sections["regions"] = {**sections.get("regions", {}), "outside": box}
            if any(option.name == "background" for option in METHODS[method].options):
                options["background"] = box
        sections["options"] = {**options, **others}
        sections.setdefault("output", {"files": ["result.h5", "result.png"]})
        return sections

    def parsed(self) -> ParsedConfiguration:
        """Return the checked configuration of the fields, which is not written to a file."""
        return replace(self.frames.parse(self.edited()), overwrite=True)

    def _choose_method(self) -> None:
        """Show the form of the chosen method, filled with the options of the configuration."""
        method = self.method.currentText()
        entry = METHODS[method]
        summary = entry.summary[:1].upper() + entry.summary[1:].rstrip(".")
        about = f"{summary}. N ≥ {entry.minimum_positions}. {entry.citation}, doi:{entry.doi}"
        self.about_method.setText(about)
        general, tables = _split(self._sections.get("options", {}))
        if self.form is not None:
            self.method_layout.removeWidget(self.form.native)
            self.form.native.hide()
            self.form.native.deleteLater()
        self.form = make_form(method, combine_options(method, general, tables))
        self.method_layout.addWidget(self.form.native)

    # --- work in a thread ---

    def show_frames(self) -> None:
        """Load the frames of a projection as layers, prepared by the steps but not cropped or binned."""
        if not self._sections:
            self._say("Open a folder of frames or a configuration file first.")
            return
        self.frames.describe()
        sections = {**self.frames.shown_sections(), "retrieve": {"method": DEFAULT_METHOD}, "options": {}}
        parsed = replace(self.frames.parse(sections), overwrite=True)
        number = self.frames.number
        self._start(
            lambda tell: load_projection(parsed, number, tell),
            lambda loaded: f"{self.frames.add_frames(loaded)} {self.frames.missing()}",
        )

    def preview(self) -> None:
        """Retrieve a small image by a fast method."""
        self._begin(preview_projection, PREVIEW)

    def retrieve(self) -> None:
        """Retrieve the chosen projection by the chosen method."""
        self._begin(retrieve_projection, "")

    def _begin(self, work: Callable[..., Retrieval], name: str) -> None:
        self.frames.rescale()

        def show(result: Retrieval) -> str:
            self.frames.hide()
            return self.results.add_result(result, name)

        stack = self.frames.layer_stack()
        if stack is None:
            parsed, number = self.parsed(), self.frames.number
            self._start(lambda tell: work(parsed, number, tell), show)
            return
        sections = self.edited()

        def from_layers(tell: Progress) -> Retrieval:
            experiment = Experiment(
                **{**dict.fromkeys(self.frames.geometry_fields), **sections["experiment"]}
            )
            loaded = prepare_stack(stack, experiment, sections["preprocess"])
            if name == PREVIEW:
                return preview_loaded(loaded, sections, None, tell)
            method = sections["retrieve"]["method"]
            tell(f"retrieving by {method}", 0, 1)
            options = combine_options(method, *_split(sections["options"]))
            result = retrieve(loaded.stack, loaded.experiment, method=method, **options)
            provenance = {**result.provenance, **loaded.provenance, "configuration": sections}
            return replace(result, provenance=provenance)

        self._start(from_layers, show)

    def _start(self, work: Callable[[Progress], Any], done: Callable[[Any], str]) -> None:
        """Work in a thread, and show in this one what it gives."""
        stop = threading.Event()

        def tell(label: str, finished: float, total: float) -> None:
            if stop.is_set():
                raise CancelledError
            self._progress = (label, finished, total)

        def run() -> tuple[Any, Exception | None]:
            # An exception that leaves the thread would end the program.
            try:
                return work(tell), None
            except Exception as error:
                return None, error

        def show(given: tuple[Any, Exception | None]) -> None:
            if self._run is not stop:
                return  # it was cancelled
            self._finish()
            found, error = given
            if error is None:
                self.guarded(lambda: self._say(done(found)))
            else:
                self._show_error(error)

        worker = create_worker(run)
        worker.returned.connect(show)
        self._run, self._progress = stop, None
        self._set_busy(True)
        worker.start()

    def cancel(self) -> None:
        """Abandon the work in progress; its thread ends at its next step."""
        if self._run is not None:
            self._run.set()
            self._finish()
            self._say("Cancelled.")

    @property
    def busy(self) -> bool:
        """Whether a thread is running."""
        return self._run is not None

    def _finish(self) -> None:
        self._run = None
        self._set_busy(False)

    def _set_busy(self, busy: bool) -> None:
        opening = (self.frames.open_button, self.frames.show_frames_button)
        for button in (self.preview_button, self.retrieve_button, self.save_button, *opening):
            button.setEnabled(not busy)
        self.cancel_button.setEnabled(busy)
        self.bar.setVisible(busy)
        self.bar.setRange(0, 0)
        if busy:
            self._timer.start(_POLL)
            self._say("Working…")
        else:
            self._timer.stop()

    def _show_progress(self) -> None:
        if self._progress is not None:
            label, done, total = self._progress
            timed = isinstance(total, float)
            known = timed or total > 1
            self.bar.setRange(0, _FULL if known else 0)
            self.bar.setValue(int(_FULL * done / total) if known else 0)
            left = f" about {max(total - done, 1.0):.0f} s left" if timed else ""
            self._say(f"{label.capitalize()}…{left}")

    # --- saving and saying ---

    def _ask_save(self) -> None:
        proposed = str(self.frames.folder / "config.toml")
        path = QFileDialog.getSaveFileName(self, "Save configuration", proposed, "*.toml")[0]
        if path:
            self.save_configuration(path)

    def save_configuration(self, path: str | Path) -> None:
        """Write the configuration file that reproduces the images."""
        if not self._sections:
            self._say("Frames of layers have no files; a configuration needs a folder or a file.")
            return
        path = Path(path)
        sections = moved_sections(self.edited(), self.frames.folder, path.parent)
        head = "# Written by the xmist widget of napari. Lengths are in metres, the energy in keV.\n\n"
        text = (head + sections_text(sections)).encode()
        write_file(path, text, overwrite=True)
        self._say(f"Saved. The same images by: xmist retrieve {path}")

    def _show_results(self) -> None:
        self.tabs.setCurrentIndex(2)

    def guarded(self, action: Callable[..., Any], *given: Any) -> None:
        """Call a function, and show its errors."""
        try:
            action(*given)
        except Exception as error:
            self._show_error(error)

    def _show_error(self, error: BaseException) -> None:
        if isinstance(error, InputError):
            self._say("\n".join(map(str, error.records)))
        else:
            self._say(f"{type(error).__name__}: {error}")

    def _say(self, text: str) -> None:
        self.message.setText(text)


def _split(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Mapping[str, Any]]]:
    """Return the general options and the tables of methods."""
    tables = {name: table for name, table in options.items() if isinstance(table, Mapping)}
    return {name: value for name, value in options.items() if name not in tables}, tables
