"""Docstrings of the package for Sphinx: they are plain text with Google sections, not reStructuredText.

Two passes, before and behind napoleon: indented blocks become literal blocks, and characters that mean something in
reStructuredText are escaped. Backticks become links where they name something of the package, and code elsewhere.
"""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Iterator
from importlib.metadata import entry_points
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.domains.python import PyXRefRole
from sphinx.util.docutils import SphinxRole

SECTION = re.compile(r"(Args|Arguments|Attributes|Example|Examples|Note|Raises|Returns|Yields):$")
CODE = re.compile(r"(``.+?``|`[^`]+`)", re.DOTALL)
SPECIAL = re.compile(r"(?<!\\)[*|]|(?<=\w)_(?!\w)")
SPACE_INSIDE = re.compile(r"(?<=`)\s+|\s+(?=`)")
NAME = re.compile(r"slap(\.\w+)+")
COLON = "\ue000"
"""What stands for a colon in front of napoleon, which takes the text before it for the type of an attribute."""

BEFORE_NAPOLEON, BEHIND_NAPOLEON = 400, 600


def setup(app: Sphinx) -> dict[str, bool]:
    """Register both passes and the role of backticks."""
    app.connect("autodoc-process-docstring", mark_literal_blocks, priority=BEFORE_NAPOLEON)
    app.connect("autodoc-process-docstring", escape, priority=BEHIND_NAPOLEON)
    app.add_role("code-or-link", CodeOrLink())
    return {"parallel_read_safe": True, "parallel_write_safe": True}


class CodeOrLink(SphinxRole):
    """Text in backticks: a link to what it names in this package, or code; a name that names nothing is a warning."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Return the nodes, and the warning if there is one."""
        if not NAME.fullmatch(self.text) or self.text in entry_points().groups:
            return [nodes.literal(self.rawtext, self.text)], []
        try:
            value = pkgutil.resolve_name(self.text)
        except (ImportError, AttributeError):
            message = self.inliner.reporter.warning(f"`{self.text}` names nothing in the package", line=self.lineno)
            return [nodes.literal(self.rawtext, self.text)], [message]
        target = self.text
        if target.count(".") == 1 and hasattr(value, "__qualname__"):  # a public name of `slap` is documented at home
            target = f"{value.__module__}.{value.__qualname__}"
        text = f"{self.text} <{target}>"
        return PyXRefRole()("py:obj", f"`{text}`", text, self.lineno, self.inliner, self.options, self.content)


def mark_literal_blocks(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Put `::` before each block that is indented by four columns or more and belongs to no section."""
    if what in ("attribute", "data"):
        lines[:] = [line.replace(":", COLON) for line in lines]
    marked: list[str] = []
    previous, in_section, in_block = "", False, False
    for line in lines:
        indent = len(line) - len(line.lstrip())
        if line.strip() and indent == 0:
            in_section, in_block = bool(SECTION.fullmatch(line)), False
        begins = line.strip() and not in_section and not in_block and indent >= 4 + _indent(previous)
        if begins and not previous.lstrip().startswith("- "):
            marked += ["", "::", ""]
            in_block = True
        marked.append(line)
        previous = line if line.strip() else previous
    lines[:] = marked


def escape(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Escape what reStructuredText would take for markup, outside of code."""
    escaped: list[str] = []
    for is_code, block in _blocks(lines):
        escaped += block if is_code else _escape_text("\n".join(block)).split("\n")
    lines[:] = escaped


def _escape_text(text: str) -> str:
    parts = CODE.split(text)
    parts[::2] = [SPECIAL.sub(r"\\\g<0>", part) for part in parts[::2]]
    parts[1::2] = [SPACE_INSIDE.sub("", part) for part in parts[1::2]]
    return "".join(parts).replace(COLON, ":")


def _blocks(lines: list[str]) -> Iterator[tuple[bool, list[str]]]:
    """Yield runs of lines: literal blocks and doctests as code, everything between them as text."""
    block: list[str] = []
    code_indent: int | None = None
    for line in lines:
        ends = code_indent is not None and line.strip() and _indent(line) <= code_indent
        starts = line.lstrip().startswith(">>> ") and code_indent is None
        if ends or starts:
            yield code_indent is not None, block
            block, code_indent = [], None if ends else _indent(line) - 1
        block.append(line)
        if code_indent is None and line.strip() == "::":
            yield False, block
            block, code_indent = [], _indent(line)
    yield code_indent is not None, block


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())
