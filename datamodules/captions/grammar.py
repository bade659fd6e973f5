"""A small grammar of sounds in English: words for a sound, its length, its loudness, and its place in time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Length = Literal["short", "plain", "long"]

ADJECTIVES: dict[Length, tuple[str, ...]] = {"short": ("short", "brief"), "plain": ("",), "long": ("long", "lengthy")}
ADVERBS: dict[Length, str] = {"short": " briefly", "plain": "", "long": " for a long time"}

SEQUENCES: dict[int, tuple[str, ...]] = {
    2: ("{0}, then {1}", "{0} followed by {1}", "first {0}, then {1}", "{0} before {1}", "{1} after {0}"),
    3: ("{0}, then {1}, then {2}", "first {0}, then {1} and finally {2}", "{0} followed by {1}, then {2}"),
    4: ("{0}, then {1}, then {2}, then {3}", "first {0}, then {1}, then {2} and finally {3}"),
}
"""Templates for a number of steps in order. In `{1} after {0}` the second step is named first, so that a model must
read the conjunctions to know the order."""


@dataclass(frozen=True)
class Words:
    """Words for a kind of sound.

    Attributes:
        nouns: noun phrases with their articles: "a dog bark", "rain". At least one.
        clauses: short sentences: "a dog barks".
        plural: the first noun for several of them, "dog barks"; "" for a sound that nobody counts, such as rain.
    """

    nouns: tuple[str, ...]
    clauses: tuple[str, ...] = ()
    plural: str = ""


def with_article(words: str) -> str:
    """Return words after the article "a" or "an".

    Example:
        >>> with_article("old bell")
        'an old bell'
    """
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def qualified(noun: str, adjective: str) -> str:
    """Return a noun phrase with an adjective after its article, if it has one.

    Example:
        >>> qualified("an engine", "loud"), qualified("rain", "soft"), qualified("the word yes", "short")
        ('a loud engine', 'soft rain', 'the short word yes')
    """
    if not adjective:
        return noun
    article, _, rest = noun.partition(" ")
    if article in ("a", "an"):
        return with_article(f"{adjective} {rest}")
    return f"the {adjective} {rest}" if article == "the" else f"{adjective} {noun}"
