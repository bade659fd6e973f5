"""Errors for people: messages that say what was given, what is accepted and what is nearest to it.

The command line prints the message of a `UserError` and exits; any other exception is a bug and keeps its traceback.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterable
from pathlib import PurePath

TEXTS = (str, PurePath, BaseException)
"""Arguments of log messages that may hold what a file brought."""


class UserError(ValueError):
    """Something that the user gave and can mend; the message says what was seen and what is accepted."""


class MissingDependencyError(UserError, ImportError):
    """An optional package or program that is not installed; the message says how to install it."""


def suggest(wrong: str, valid: Iterable[str]) -> str:
    """Write the end of a message about a name that does not exist: the nearest valid one, then all of them.

    Example:
        >>> suggest("contrastiv", ["captioning", "contrastive"])
        "did you mean 'contrastive'? valid are: captioning, contrastive"
    """
    valid = list(valid)
    near = difflib.get_close_matches(wrong, valid, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}valid are: {', '.join(valid) or 'none'}"


def printable(text: str) -> str:
    r"""Escape the characters that could steer a terminal or end a line: controls, line ends, bidirectional marks.

    Example:
        >>> print(printable("rain\x1b[2J"), printable("two\nlines"), printable("\u202egpj.wav"))
        rain\x1b[2J two\nlines \u202egpj.wav
    """
    return text if text.isprintable() else "".join(map(_escaped, text))


def printable_text(text: str) -> str:
    r"""Escape each line of a text of several lines, such as a table.

    Example:
        >>> print(printable_text("one\ntwo\x1b[2J"))
        one
        two\x1b[2J
    """
    return "\n".join(map(printable, text.split("\n")))


def printable_lines(text: str) -> str:
    r"""Escape a message that may have several lines; lines after the first are indented.

    What a file name smuggles in can so not look like a line of its own.

    Example:
        >>> print(printable_lines("there is no file a\nslap: all is well\x1b[2J"))
        there is no file a
          slap: all is well\x1b[2J
    """
    first, *others = text.split("\n")
    return "\n".join([printable(first), *(f"  {printable(line)}" if line else "" for line in others)])


class PrintableFormatter(logging.Formatter):
    """Formatter of log messages that escapes what the arguments of a message, such as file names, bring along."""

    def format(self, record: logging.LogRecord) -> str:
        """Write the message, its arguments on one line each, and the traceback if there is one."""
        plain = logging.makeLogRecord(record.__dict__)
        if isinstance(record.args, tuple):
            plain.args = tuple(printable(str(part)) if isinstance(part, TEXTS) else part for part in record.args)
        plain.msg, plain.args = printable_lines(plain.getMessage()), None
        return super().format(plain)


def _escaped(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode()
