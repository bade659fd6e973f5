"""Errors for people: messages that say what was given, what is accepted and what is nearest to it.

The command line prints the message of a `UserError` and exits; any other exception is a bug and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


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
