"""Tables and reference sections that are made from the code, so that they never lag behind it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from xmist.core.options import Option


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a list table in reStructuredText."""
    lines = [".. list-table::", "   :header-rows: 1", "   :width: 100%", ""]
    for row in (head, *rows):
        lines += [f"   {'*' if not number else ' '} - {cell}" for number, cell in enumerate(row)]
    return "\n".join(lines) + "\n"


class _Made(SphinxDirective):
    """A directive whose content is reStructuredText made from the code."""

    def text(self) -> str:
        raise NotImplementedError

    def run(self) -> list[nodes.Node]:
        return self.parse_text_to_nodes(self.text(), allow_section_headings=True)


class Methods(_Made):
    """What each method needs and gives."""

    def text(self) -> str:
        from xmist import METHODS

        return _table(
            ["method", "for", "N ≥", "δ/β", "gives", "paper"],
            (
                [
                    f":doc:`{method.name} </reference/generated/method-{method.name}>`",
                    method.summary,
                    str(method.minimum_positions),
                    "needed" if method.delta_over_beta == "required" else "",
                    ", ".join(name.replace("_", " ") for name in method.gives),
                    f"`{method.citation} <https://doi.org/{method.doi}>`__",
                ]
                for method in METHODS.values()
            ),
        )


class Channels(_Made):
    """The channels of a result."""

    def text(self) -> str:
        from xmist.core.data import CHANNELS, DERIVED

        return _table(
            ["name", "symbol", "unit", "what it is", "components"],
            (
                [f"``{name}``", channel.symbol, channel.unit, channel.title, ", ".join(channel.components)]
                for name, channel in {**CHANNELS, **DERIVED}.items()
            ),
        )


class Flags(_Made):
    """The bits of the flags."""

    def text(self) -> str:
        from xmist import FLAGS

        return _table(
            ["bit", "name", "meaning"], ([str(flag.bit), f"``{flag.name}``", flag.meaning] for flag in FLAGS)
        )


class Findings(_Made):
    """The codes of findings: severity, meaning and what to do."""

    def text(self) -> str:
        from xmist.core.findings import FINDING_CODES

        return _table(
            ["code", "severity", "meaning", "what to do"],
            (
                [f"``{entry.code}``", entry.severity, entry.meaning, entry.remedy]
                for _, entry in sorted(FINDING_CODES.items())
            ),
        )


class Errors(_Made):
    """The codes of errors."""

    def text(self) -> str:
        from xmist.core.errors import ERROR_CODES

        return _table(
            ["code", "meaning"], ([f"``{code}``", meaning] for code, meaning in sorted(ERROR_CODES.items()))
        )


class Presets(_Made):
    """The ready-made simulated experiments."""

    def text(self) -> str:
        from xmist import simulate

        return _table(
            ["preset", "what it is"],
            (
                [f"``{name}``", _first_line(getattr(simulate, name.replace("-", "_")))]
                for name in simulate.RECIPES
            ),
        )


class Steps(_Made):
    """The options of every step of the preprocessing."""

    def text(self) -> str:
        from xmist.preprocess import STEPS

        return "\n".join(
            f"``{name}``\n\n.. autoclass:: {step.options.__module__}.{step.options.__qualname__}\n   :noindex:\n"
            for name, step in STEPS.items()
        )


class Configuration(_Made):
    """The keys of every table of a configuration."""

    def text(self) -> str:
        from xmist.core.options import describe
        from xmist.workflow.schema import SECTIONS

        parts = []
        for name, kind in SECTIONS.items():
            rows = (
                [f"``{key.name}``", "required" if key.required else "", key.expected]
                for key in describe(kind)
            )
            parts.append(f"``[{name}]``\n\n{_table(['key', '', 'what it is'], rows)}")
        return "\n".join(parts)


def _first_line(thing: object) -> str:
    return (thing.__doc__ or "").strip().splitlines()[0]


def _options(options: Sequence[Option]) -> str:
    """Return the options of a method as a definition list."""
    parts = []
    for option in options:
        state = "required" if option.required else f"default ``{option.default!r}``"
        parts.append(f"``{option.name}`` : {option.expected}; {state}\n    {option.about}\n")
    return "\n".join(parts)


def write_pages(app: Sphinx) -> None:
    """Write a page of reference for each method; only where its text changed, so that nothing is built twice."""
    from pathlib import Path

    from xmist import METHODS

    folder = Path(app.srcdir) / "reference" / "generated"
    folder.mkdir(parents=True, exist_ok=True)
    for method in METHODS.values():
        needs = [f"at least {method.minimum_positions} position{'s' * (method.minimum_positions > 1)}"]
        if method.delta_over_beta == "required":
            needs.append("δ/β")
        text = f"""{method.name}
{"=" * len(method.name)}

{method.summary[0].upper()}{method.summary[1:]}.

| Needs {" and ".join(needs)}; gives {", ".join(f"``{name}``" for name in method.gives)}.
| `{method.citation} <https://doi.org/{method.doi}>`__

.. automodule:: {method.module}

Options
-------
{_options(method.options)}"""
        page = folder / f"method-{method.name}.rst"
        if not page.exists() or page.read_text(encoding="utf-8") != text:
            page.write_text(text, encoding="utf-8")


def as_typed(app: Sphinx, context: object, lines: list[str]) -> None:
    """Show what stands in a help page as it is, such as examples, as it is: sphinx-click makes lines of it."""
    made: list[str] = []
    for line in lines:
        plain = line[2:] if line.startswith("| ") else None
        if plain is None:
            made.append(line)
        elif made and (made[-1].startswith("    ") or made[-1] == "::"):
            made.append(f"    {plain}".rstrip())
        else:
            made += ["", "::", "", f"    {plain}".rstrip()]
    lines[:] = [*made, ""]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    for name, directive in (
        ("xmist-methods", Methods),
        ("xmist-channels", Channels),
        ("xmist-flags", Flags),
        ("xmist-findings", Findings),
        ("xmist-errors", Errors),
        ("xmist-presets", Presets),
        ("xmist-steps", Steps),
        ("xmist-configuration", Configuration),
    ):
        app.add_directive(name, directive)
    app.connect("builder-inited", write_pages)
    app.connect("sphinx-click-process-description", as_typed)
    app.connect("sphinx-click-process-epilog", as_typed)
    return {"parallel_read_safe": False, "parallel_write_safe": True}
