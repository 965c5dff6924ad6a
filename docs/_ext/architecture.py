"""Drawings made from the source: packages, levels and imports; and the path of a frame through them."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path
from xml.sax.saxutils import escape

from sphinx.application import Sphinx

_WIDTH, _TOP, _LEFT = 980, 84, 560
_ROW, _CELL = 34, 36


def _levels(tests: Path) -> list[list[str]]:
    """Return the packages of each level, lowest first, as `tests/test_architecture.py` enforces them."""
    tree = ast.parse((tests / "test_architecture.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "LEVELS":
            levels: list[list[str]] = ast.literal_eval(node.value)
            return levels
    raise ValueError("tests/test_architecture.py has no LEVELS")


def _summary(source: Path, package: str) -> str:
    """Return the first sentence of the docstring of a package."""
    text = ast.get_docstring(ast.parse((source / package / "__init__.py").read_text(encoding="utf-8"))) or ""
    return " ".join(text.split("\n\n")[0].split())


def _imports(source: Path) -> Counter[tuple[str, str]]:
    """Count the imports from one package to another, those inside functions included."""
    found: Counter[tuple[str, str]] = Counter()
    for path in source.rglob("*.py"):
        parts = path.relative_to(source).parts
        if len(parts) == 1:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
                if node.module == "xmist":
                    names = [f"xmist.{alias.name}" for alias in node.names]
            for name in names:
                target = name.split(".")
                if target[0] == "xmist" and len(target) > 1 and target[1] != parts[0]:
                    found[parts[0], target[1]] += 1
    return found


def _text(x: float, y: float, words: str, size: float = 13, **style: str) -> str:
    more = "".join(f' {key.replace("_", "-")}="{value}"' for key, value in style.items())
    return f'<text x="{x:g}" y="{y:g}" font-size="{size}"{more}>{escape(words)}</text>'


def drawing(source: Path, tests: Path) -> str:
    """Return the SVG: one row per package, highest level first, and how often it imports from each other."""
    levels = [[name for name in row if (source / name).is_dir()] for row in _levels(tests)]
    order = [(number, name) for number, row in reversed(list(enumerate(levels, 1))) for name in row]
    imports = _imports(source)
    height = _TOP + len(order) * _ROW + 12
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        'font-family="system-ui, sans-serif">',
        f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>',
        _text(14, _TOP - 14, "level, package", 12, fill="#666"),
        _text(_LEFT - 8, _TOP - 14, "imports from →", 12, text_anchor="end", fill="#666"),
    ]
    for column, (_, name) in enumerate(order):
        x = _LEFT + (column + 0.6) * _CELL
        turned = f"rotate(-50 {x:g} {_TOP - 10})"
        parts.append(_text(x, _TOP - 10, name, 12, transform=turned, fill="#222"))
    for row, (level, name) in enumerate(order):
        y = _TOP + row * _ROW
        fill = "#f7f7f7" if level % 2 else "#eef3fa"
        parts.append(f'<rect x="8" y="{y}" width="{_WIDTH - 16}" height="{_ROW - 2}" fill="{fill}"/>')
        parts.append(_text(14, y + 21, str(level), 13, fill="#888"))
        parts.append(_text(36, y + 21, name, 13, font_weight="bold", fill="#222"))
        parts.append(_text(130, y + 21, _summary(source, name), 11.5, fill="#444"))
        for column, (_, lower) in enumerate(order):
            if count := imports[name, lower]:
                x = _LEFT + column * _CELL
                shade = min(0.15 + count / 60, 0.85)
                parts.append(
                    f'<rect x="{x}" y="{y}" width="{_CELL - 2}" height="{_ROW - 2}" '
                    f'fill="#3b6ea8" fill-opacity="{shade:.2f}"/>'
                )
                colour = "#fff" if shade > 0.5 else "#222"
                middle = x + _CELL / 2 - 1
                parts.append(_text(middle, y + 20, str(count), 11, text_anchor="middle", fill=colour))
    return "\n".join([*parts, "</svg>"])


# The functions that a frame goes through, in order, each with the module that calls it.
_PATH = [
    ("workflow/configuration", "parse_configuration", "workflow/run"),
    ("workflow/discovery", "discover", "workflow/run"),
    ("workflow/setup", "read_setup", "workflow/run"),
    ("workflow/frames", "FrameReader.read", "workflow/processor"),
    ("workflow/processor", "ProjectionProcessor.prepare", "workflow/driver"),
    ("preprocess/steps", "apply_steps", "workflow/processor"),
    ("workflow/processor", "ProjectionProcessor.finish", "workflow/driver"),
    ("methods/registry", "prepare", "workflow/processor"),
    ("core/data", "Retrieval.save", "workflow/run"),
    ("workflow/storage", "write_block", "workflow/driver"),
    ("workflow/series_file", "write_series_file", "workflow/series"),
]


def _function(source: Path, module: str, name: str) -> ast.FunctionDef:
    """Return the syntax tree of a function or method; an error if there is none of that name."""
    nodes = ast.parse((source / f"{module}.py").read_text(encoding="utf-8")).body
    for part in name.split("."):
        found = next(
            node for node in nodes if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name == part
        )
        nodes = found.body
    assert isinstance(found, ast.FunctionDef)
    return found


def frame_path(source: Path) -> str:
    """Return the SVG: what a frame goes through, what each step returns, and which module calls it."""
    height = 20 + 62 * len(_PATH)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        'font-family="system-ui, sans-serif">',
        f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>',
    ]
    for number, (module, name, caller) in enumerate(_PATH):
        function = _function(source, module, name)
        text = (source / f"{caller}.py").read_text(encoding="utf-8")
        if f"{name.rpartition('.')[2]}(" not in text:
            raise ValueError(f"{caller} does not call {name}")
        returned = ast.unparse(function.returns) if function.returns else ""
        summary = (ast.get_docstring(function) or "").splitlines()[0]
        y = 10 + 62 * number
        parts += [
            f'<rect x="8" y="{y}" width="{_WIDTH - 16}" height="48" rx="5" fill="#eef3fa"/>',
            _text(18, y + 20, f"{module.replace('/', '.')}.{name}", 13, font_weight="bold", fill="#222"),
            _text(_WIDTH - 18, y + 20, f"→ {returned}", 13, text_anchor="end", fill="#3b6ea8"),
            _text(18, y + 38, summary, 11.5, fill="#444"),
            _text(_WIDTH - 18, y + 38, f"called by {caller}", 11, text_anchor="end", fill="#888"),
        ]
        if number:
            parts.append(f'<path d="M{_WIDTH / 2} {y - 13} v9 m-4 -4 l4 5 l4 -5" stroke="#666" fill="none"/>')
    return "\n".join([*parts, "</svg>"])


def write_drawing(app: Sphinx) -> None:
    """Write the drawings where the pages find them."""
    root = Path(app.srcdir).parent
    source = root / "src" / "xmist"
    made = {"architecture.svg": drawing(source, root / "tests"), "frame-path.svg": frame_path(source)}
    for name, text in made.items():
        target = Path(app.srcdir) / "_made" / name
        target.parent.mkdir(exist_ok=True)
        if not target.exists() or target.read_text(encoding="utf-8") != text:
            target.write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("builder-inited", write_drawing)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
