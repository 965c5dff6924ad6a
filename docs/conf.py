"""The documentation: `python -m sphinx -W --keep-going -b html docs build/docs`."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))

os.environ.setdefault("MPLBACKEND", "agg")

from xmist.core.version import __version__

project = "xmist"
author = "The xmist developers"
copyright = "The xmist developers, BSD-3-Clause"  # noqa: A001
version = release = __version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "myst_parser",
    "sphinx_gallery.gen_gallery",
    "sphinx_click",
    "live",
    "tables",
    "architecture",
]
exclude_patterns = [
    "examples/**",
    "_made/**",
    "gallery/**/*.py",
    "gallery/**/*.ipynb",
    "gallery/**/*.md5",
]
suppress_warnings = ["config.cache"]
nitpicky = False
templates_path = ["_templates"]

# Text
smartquotes = False  # options have two dashes
myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 3
default_role = "code"

# Reference
autosummary_generate = True
autosummary_ignore_module_all = False
autosummary_imported_members = True
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # numpydoc's parameters say it
numpydoc_show_class_members = False
numpydoc_xref_param_type = False  # examples of docstrings are run by tests/test_doctests.py

# Examples: run, drawn, and failing with the build
sphinx_gallery_conf = {
    "examples_dirs": ["examples"],
    "gallery_dirs": ["gallery"],
    "filename_pattern": r"/plot_",
    "abort_on_example_error": False,
    "only_warn_on_example_error": True,  # -W makes it an error, after all have run
    "download_all_examples": False,
    "show_memory": False,
    "show_signature": False,
    "min_reported_time": 1e6,
    "write_computation_times": False,
    "within_subsection_order": "FileNameSortKey",
    "image_scrapers": ("matplotlib", "scrapers.pages"),
    "matplotlib_animations": False,
    "nested_sections": False,
    "remove_config_comments": True,
    "reset_modules": ("matplotlib",),
}
warnings.filterwarnings("ignore", message=".*FigureCanvasAgg is non-interactive.*")

# Pages
html_theme = "pydata_sphinx_theme"
html_title = f"xmist {release}"
html_static_path = ["_static"]
html_css_files = ["xmist.css"]
html_theme_options = {
    "show_toc_level": 2,
    "navigation_with_keys": True,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "navbar_end": ["theme-switcher"],
    "header_links_before_dropdown": 7,
}
html_sidebars = {"index": [], "tutorial": [], "benchmarks": []}
html_show_sourcelink = False
html_copy_source = False

# `python -m sphinx -b linkcheck docs build/links`: needs the network, so it is a command of its own.
linkcheck_timeout = 20
linkcheck_retries = 2
linkcheck_workers = 4
linkcheck_anchors = False
# Publishers turn programs away; the resolver's answer, a redirect, is what says that a DOI exists.
linkcheck_allowed_redirects = {r"https://doi\.org/.*": r"https?://.*"}
linkcheck_ignore = [r"https://doi\.org/10\.1364/.*", r"https://doi\.org/10\.1103/.*"]
