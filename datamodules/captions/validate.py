"""Validation of captions: text that cannot be text, or that was made to deceive or to exhaust.

Bytes that are not UTF-8 come here as half characters (Python's surrogates). NUL and other control characters come from
broken exports, and end strings early in what is written in C. Bidirectional controls that embed or override make a
reader see another text than a tokenizer (Unicode TR36); marks that only hint, as texts in Arabic and Hebrew have them,
are left alone.
"""

from __future__ import annotations

import re
from typing import Any

LONGEST = 20_000
"""Characters of a caption. Written captions have some ten to some thousand; encoders cut off what is beyond a few
hundred tokens, but tokenizing a million characters holds up a whole batch."""

NO_TEXT = re.compile("[\ud800-\udfff]")
"""What is left of bytes that are not UTF-8, and of halves of characters in JSON."""

MISSING = frozenset(("nan", "null", "none", "n/a", "na", "<na>", "#n/a", "#na"))
"""Words, in any case, that databases, pandas and spreadsheets write where there is no caption."""

_CONTROLS = re.compile("[\x00-\x08\x0e-\x1f\x7f]")
_BIDIRECTIONAL = re.compile("[\u202a-\u202e\u2066-\u2069]")
SHOWN = 80  # characters of a text in a message


def text_error(text: str) -> str | None:
    r"""Describe the error of a caption; None if there is none.

    Example:
        >>> text_error("a dog barks") is None
        True
        >>> text_error("a dog\x00barks")
        "a control character, U+0000, in 'a dog\\x00barks'"
    """
    if not text.strip():
        return "it is empty"
    if says_missing(text):
        return f"{quoted(text)} stands for a missing caption"
    if len(text) > LONGEST:
        return f"it has {len(text)} characters, and at most {LONGEST} are taken: {quoted(text)}"
    if NO_TEXT.search(text):
        return f"it is no text: {quoted(text)}"
    for what, pattern in (("a control character", _CONTROLS), ("a bidirectional control", _BIDIRECTIONAL)):
        found = pattern.search(text)
        if found:
            return f"{what}, U+{ord(found[0]):04X}, in {quoted(text[max(found.start() - SHOWN // 2, 0) :])}"
    return None


def says_missing(caption: Any) -> bool:
    """Return True if a caption is a word, or the number, that stands for a missing value.

    Example:
        >>> says_missing("NaN"), says_missing(float("nan")), says_missing("none of the dogs barks")
        (True, True, False)
    """
    if isinstance(caption, str):
        return caption.strip().casefold() in MISSING
    return isinstance(caption, float) and caption != caption


def quoted(text: str) -> str:
    """Return the beginning of a text in quotes, with escapes, so that it can be printed and shows its characters."""
    return ascii(text[:SHOWN]) if NO_TEXT.search(text) or _BIDIRECTIONAL.search(text) else repr(text[:SHOWN])
