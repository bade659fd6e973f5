"""Errors for people: messages that say what was given, what is accepted and what is nearest to it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


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
