"""Questions with their own candidates: several captions of which one is true of the clip, for each task of a clip.

In a manifest the column `choices` {task: [right caption, wrong caption, ...]}, in a cut the custom field of that name.
The first candidate is the right one, and the order has no other meaning.
"""

from __future__ import annotations

import json
from typing import Any

from slap.core.errors import UserError

Choices = dict[str, tuple[str, ...]]
"""Candidate captions by task, the right one first."""

WANTED = "must map tasks to at least two different captions each, the right one first"


def checked_choices(value: Any) -> Choices:
    """Return the questions of a clip after a check.

    Args:
        value: {task: [caption, ...]}, or the same as JSON, as a cell of a CSV holds it.

    Raises:
        UserError: the value has another form; says which question.

    Example:
        >>> checked_choices({"order": ["a dog barks, then rain", "rain, then a dog barks"]})
        {'order': ('a dog barks, then rain', 'rain, then a dog barks')}
    """
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise UserError(f"`choices` {WANTED}, as JSON; got {value[:80]!r}") from error
    if not isinstance(value, dict):
        raise UserError(f"`choices` {WANTED}; got {repr(value)[:80]}")
    return {task: _candidates(task, captions) for task, captions in value.items()}


def are_choices(value: Any) -> bool:
    """Return True for the questions of a clip as a custom field of a cut holds them."""
    try:
        return not isinstance(value, str) and bool(checked_choices(value) or value == {})
    except UserError:
        return False


def _candidates(task: Any, captions: Any) -> tuple[str, ...]:
    if not isinstance(task, str) or not task.strip() or "/" in task:
        raise UserError(f"`choices` {WANTED}; a task is a name without a slash, got {task!r}")
    listed = captions if isinstance(captions, list | tuple) else [captions]
    texts = tuple(text.strip() if isinstance(text, str) else "" for text in listed)
    if not all(texts):
        raise UserError(f"`choices` {WANTED}; {task!r} has a candidate that is no text or empty: {captions!r}")
    if len(texts) < 2 or len(set(texts)) < len(texts):
        raise UserError(f"`choices` {WANTED}; {task!r} has {captions!r}")
    return texts
