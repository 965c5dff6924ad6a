"""Run every example of a page while the page is built; an example that fails is a warning, so an error under -W.

A page has its own folder and its own Python namespace. In the order of the page:

- a block of `python` runs in that namespace;
- the directive `command` runs lines such as `xmist check config.toml` in that folder and shows each with its output. `:figure: NAME` shows
  an image that the command wrote, `:exit: 3` states the exit code of the last command if it is not 0, `:quiet:` hides the output, `:lines: 9`
  shows only its first lines;
- the directive `file` writes its content to a file and shows it;
- the directive `made-image` shows an image that an earlier block wrote;
- a line of a `console` or `sh` block that begins with `xmist` is parsed, not run: every command and option in it exists;
- a complete configuration file in `toml` is checked for errors.
"""

from __future__ import annotations

import contextlib
import io
import shlex
import shutil
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

logger = logging.getLogger(__name__)

MADE = "_made"


class Command(SphinxDirective):
    """Commands to run, shown with their output."""

    has_content = True
    option_spec = {  # noqa: RUF012 - docutils' way
        "exit": directives.nonnegative_int,
        "figure": directives.unchanged_required,
        "alt": directives.unchanged_required,
        "quiet": directives.flag,
        "lines": directives.positive_int,
    }

    def run(self) -> list[nodes.Node]:
        text = "\n".join(self.content)
        block = nodes.literal_block(text, text, language="console", classes=["live-output"])
        block["live"] = dict(self.options)
        self.set_source_info(block)
        return [block]


class File(SphinxDirective):
    """A file that later commands find."""

    has_content = True
    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        text = "\n".join(self.content)
        name = self.arguments[0]
        block = nodes.literal_block(text, text, language=Path(name).suffix.lstrip(".") or "text")
        block["live_file"] = name
        self.set_source_info(block)
        return [block]


class MadeImage(SphinxDirective):
    """An image that an earlier example wrote."""

    required_arguments = 1
    option_spec = {"alt": directives.unchanged_required}  # noqa: RUF012 - docutils' way

    def run(self) -> list[nodes.Node]:
        image = nodes.image(uri="", alt=self.options.get("alt", self.arguments[0]))
        image["live_image"] = self.arguments[0]
        self.set_source_info(image)
        return [image]


class Page:
    """Folder and namespace in which the examples of one page run."""

    def __init__(self, app: Sphinx, folder: Path, docname: str) -> None:
        self.app, self.folder, self.docname = app, folder, docname
        self.names: dict[str, Any] = {"__name__": "__main__"}
        self.images = 0

    def python(self, block: nodes.literal_block) -> None:
        code = compile(block.astext(), f"{self.docname} line {block.line}", "exec")
        output = io.StringIO()
        with contextlib.chdir(self.folder), contextlib.redirect_stdout(output):
            exec(code, self.names)
        printed = output.getvalue().rstrip()
        if printed:
            shown = nodes.literal_block(printed, printed, language="text", classes=["live-output"])
            block.parent.insert(block.parent.index(block) + 1, shown)

    def command(self, block: nodes.literal_block) -> None:
        from xmist.cli import main

        options = block["live"]
        shown, codes = [], []
        for line in block.astext().replace("\\\n", "").splitlines():
            name, *arguments = shlex.split(line, comments=True)
            if name != "xmist":
                raise ValueError(f"{line!r} is not a command of xmist")
            output = io.StringIO()
            with (
                contextlib.chdir(self.folder),
                contextlib.redirect_stdout(output),
                contextlib.redirect_stderr(output),
            ):
                codes.append(main(arguments))
            printed = output.getvalue().replace(f"{self.folder}/", "").rstrip().splitlines()
            most = options.get("lines", len(printed))
            shown.append("\n".join([*printed[:most], *(["…"] if most < len(printed) else [])]))
        expected = [0] * (len(codes) - 1) + [options.get("exit", 0)]
        if codes != expected:
            raise ValueError(f"exit codes {codes}, expected {expected}:\n" + "\n".join(shown))
        typed = block.astext().split("\n")
        if "quiet" in options:
            text = "\n".join(f"$ {line}" if not line.startswith(" ") else f"  {line}" for line in typed)
        else:
            commands = block.astext().replace("\\\n", "\0").splitlines()
            text = "\n".join(
                f"$ {line.replace(chr(0), chr(92) + chr(10))}\n{out}".rstrip()
                for line, out in zip(commands, shown, strict=True)
            )
        block[:] = [nodes.Text(text)]
        block.rawsource = text
        if "figure" in options:
            uri = self.image(options["figure"])
            image = nodes.image(uri=uri, alt=options.get("alt", options["figure"]))
            block.parent.insert(block.parent.index(block) + 1, image)

    def image(self, path: str) -> str:
        """Copy an image that an example wrote to where Sphinx looks for images; return its address."""
        source = self.folder / path
        self.images += 1
        name = f"{self.docname.replace('/', '-')}-{self.images}{source.suffix}"
        target = Path(self.app.srcdir) / MADE / name
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(source, target)
        return f"/{MADE}/{name}"

    def file(self, block: nodes.literal_block) -> None:
        target = self.folder / block["live_file"]
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(block.astext() + "\n", encoding="utf-8")

    def configuration_file(self, block: nodes.literal_block) -> None:
        from xmist.workflow.configuration import parse_mapping

        data = tomllib.loads(block.astext())
        if {"input", "experiment", "retrieve"} <= set(data):
            errors = parse_mapping(data, folder=".", source="").messages
            if errors:
                raise ValueError("; ".join(errors))

    def parsed(self, block: nodes.literal_block) -> None:
        """Parse every line that begins with xmist, without running it; --log begins its file at once."""
        import click

        from xmist.cli import xmist
        from xmist.cli.console import Settings

        for line in block.astext().replace("\\\n", " ").splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            if not words or words[0] != "xmist":
                continue
            with (
                contextlib.chdir(self.folder),
                xmist.make_context("xmist", words[1:], obj=Settings(), resilient_parsing=False) as context,
            ):
                rest = [*context._protected_args, *context.args]
                if not rest:
                    continue
                name, command, arguments = xmist.resolve_command(context, rest)
                if command is None:
                    raise click.UsageError(f"no command {name}")
                command.make_context(name, arguments, parent=context, obj=Settings()).close()


def run_page(app: Sphinx, doctree: nodes.document) -> None:
    """Run the examples of a page in their order."""
    docname = app.env.docname
    if docname.startswith(("gallery/", "reference/generated/")):
        return
    kinds = (nodes.literal_block, nodes.image)
    blocks = list(doctree.findall(lambda node: isinstance(node, kinds)))
    with tempfile.TemporaryDirectory() as folder:
        page = Page(app, Path(folder), docname)
        for block in blocks:
            language = block.get("language", "")
            try:
                if "live" in block:
                    page.command(block)
                elif "live_file" in block:
                    page.file(block)
                elif "live_image" in block:
                    block["uri"] = page.image(block["live_image"])
                elif language == "python":
                    page.python(block)
                elif language == "toml":
                    page.configuration_file(block)
                elif language in ("console", "sh", "bash"):
                    page.parsed(block)
            except Exception as error:
                logger.warning(
                    "example fails: %s: %s", type(error).__name__, error, location=block, type="live"
                )


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.add_directive("command", Command)
    app.add_directive("file", File)
    app.add_directive("made-image", MadeImage)
    app.connect("doctree-read", run_page, priority=100)  # before images are collected
    return {"parallel_read_safe": False, "parallel_write_safe": True}
