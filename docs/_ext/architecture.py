"""Drawing of the packages on their levels and of the imports between them, made from the source."""

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


def write_drawing(app: Sphinx) -> None:
    """Write the drawing where the pages find it."""
    root = Path(app.srcdir).parent
    target = Path(app.srcdir) / "_made" / "architecture.svg"
    target.parent.mkdir(exist_ok=True)
    text = drawing(root / "src" / "xmist", root / "tests")
    if not target.exists() or target.read_text(encoding="utf-8") != text:
        target.write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("builder-inited", write_drawing)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
