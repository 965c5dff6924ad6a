"""Figures, report page, notebook display, napari."""
