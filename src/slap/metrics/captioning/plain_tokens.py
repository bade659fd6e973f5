"""Captions to tokens without Java: what the PTB tokenizer does to ordinary English captions.

To compare scores with published ones, the PTB tokenizer itself is needed
(`slap.metrics.captioning.ptb`); this one
parts from it on abbreviations ("mr."), on quotes that are apostrophes too, and on symbols that captions rarely hold.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from slap.metrics.captioning.ptb import PUNCTUATION

BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}

SIGNS = "\"'`-.\u2018\u2019\u201c\u201d\u2013\u2014\u2026"
"""Quotes, dashes and dots."""

TWO_WORDS = re.compile(r"\b(can)(not)\b|\b(gon|wan)(na)\b|\b(got)(ta)\b|\b(gim|lem)(me)\b")
NOT = re.compile(r"(?<=\w)n't\b")
CLITIC = re.compile(r"(?<=\w)'(s|m|d|re|ve|ll)\b")

TOKEN = re.compile(
    r"n't\b|'(?:s|m|d|re|ve|ll)\b"  # split off by now
    r"|[^\W_]+(?:(?:[-/_']|\.(?=[^\W_])|[,:](?=\d))[^\W_]+)*"  # words with hyphens, numbers with points
    r"|\.\.+|--+|[!?]{2,}|[^\s\w]|_"  # "!!!" is one token, and none that the field leaves out
)


def plain_tokenize(captions: Sequence[str]) -> list[str]:
    """Captions in lower case as tokens separated by spaces, without punctuation.

    Example:
        >>> plain_tokenize(["A dog barks, and it's loud!", "Rain on a (metal) high-pitched roof."])
        ["a dog barks and it 's loud", 'rain on a -lrb- metal -rrb- high-pitched roof']
    """
    return [" ".join(_tokens(caption)) for caption in captions]


def _tokens(caption: str) -> list[str]:
    text = caption.replace("\0", " ").replace("\u2019", "'").lower()
    text = TWO_WORDS.sub(lambda found: " ".join(part for part in found.groups() if part), text)
    text = CLITIC.sub(r" '\1", NOT.sub(" n't", text))
    found = (BRACKETS.get(token, token) for token in TOKEN.findall(text))
    return [token for token in found if token not in PUNCTUATION and not _no_word(token)]


def _no_word(token: str) -> bool:
    """Quotes, dashes and dots of any length and kind, all of which the field leaves out."""
    return all(sign in SIGNS for sign in token)
