"""The drawing of the architecture, made from the floors that `tests/test_architecture.py` enforces."""

from __future__ import annotations

import ast
from pathlib import Path
from xml.sax.saxutils import escape

from sphinx.application import Sphinx

_FLOW = (
    ("frames", "TIFF, EDF, HDF5"),
    ("io", "reads, pairs"),
    ("preprocess", "steps, weights"),
    ("prepare", "once: a plan"),
    ("plan", "a projection"),
    ("Retrieval", "pictures, flags"),
    ("save, report", "NeXus, TIFF, PNG"),
)
_WIDTH, _FLOOR, _TOP = 860, 36, 122


def _floors(tests: Path) -> list[list[str]]:
    tree = ast.parse((tests / "test_architecture.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "FLOORS":
            floors: list[list[str]] = ast.literal_eval(node.value)
            return floors
    raise ValueError("tests/test_architecture.py has no FLOORS")


def _about(source: Path, room: str) -> str | None:
    """Give the first sentence of a room's docstring; None where there is no such room."""
    for path in (source / room / "__init__.py", source / f"{room}.py"):
        if path.exists():
            text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
            return " ".join(text.split("\n\n")[0].split())
    return None


def _text(x: float, y: float, words: str, size: float = 13, **style: str) -> str:
    more = "".join(f' {key.replace("_", "-")}="{value}"' for key, value in style.items())
    return f'<text x="{x:g}" y="{y:g}" font-size="{size}"{more}>{escape(words)}</text>'


def drawing(source: Path, tests: Path) -> str:
    """Give the SVG: the way of the data on top, the floors below."""
    rows = []
    for floor in _floors(tests):
        rooms = {room: about for room in floor if (about := _about(source, room)) is not None}
        if rooms and "__init__" not in rooms and "__main__" not in rooms:
            rows += [{room: about} for room, about in rooms.items()]
    rows = [{"xmist": "the public names, imported when first used"}, *rows]
    height = _TOP + _FLOOR * len(rows) + 14
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif">',
        '<defs><marker id="a" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto"><path d="M0 0 8 4 0 8z" fill="#444"/></marker></defs>',
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
    ]
    step = (_WIDTH - 20) / len(_FLOW)
    for number, (name, about) in enumerate(_FLOW):
        x = 10 + number * step
        parts.append(
            f'<rect x="{x + 4:g}" y="14" width="{step - 22:g}" height="60" rx="5" fill="#eef3fa" stroke="#5a7fb5"/>'
        )
        middle = x + 4 + (step - 22) / 2
        parts.append(_text(middle, 38, name, 11.5, text_anchor="middle", font_weight="bold", fill="#222"))
        parts.append(_text(middle, 58, about, 9.5, text_anchor="middle", fill="#444"))
        if number:
            parts.append(f'<path d="M{x - 17:g} 44H{x + 3:g}" stroke="#444" marker-end="url(#a)"/>')
    parts.append(_text(14, _TOP - 14, "A floor imports only what stands below it.", 13, fill="#222"))
    parts.append(
        f'<path d="M24 {_TOP + 4}V{height - 16}" stroke="#444" stroke-width="1.5" marker-end="url(#a)"/>'
    )
    for number, rooms in enumerate(rows):
        y = _TOP + number * _FLOOR
        parts.append(
            f'<rect x="44" y="{y}" width="{_WIDTH - 54}" height="{_FLOOR - 5}" rx="4" '
            f'fill="{"#f7f7f7" if number % 2 else "#efefef"}" stroke="#bbb"/>'
        )
        parts.append(_text(54, y + 21, ", ".join(rooms), 13, font_weight="bold", fill="#222"))
        words = next(iter(rooms.values()))
        words = words if len(words) <= 106 else words[:105].rsplit(" ", 1)[0] + " …"
        parts.append(_text(186, y + 21, words, 13, fill="#333"))
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
