"""A small grammar of sounds in English: words for a sound, its length, its loudness, its count, its place in time."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

Length = Literal["short", "plain", "long"]

ADJECTIVES: dict[Length, tuple[str, ...]] = {"short": ("short", "brief"), "plain": ("",), "long": ("long", "lengthy")}
ADVERBS: dict[Length, str] = {"short": " briefly", "plain": "", "long": " for a long time"}

NUMBERS = {1: ("a single", "one"), 2: ("two",), 3: ("three",)}
TIMES = {1: "once", 2: "twice", 3: "three times"}

SEQUENCES: dict[int, tuple[str, ...]] = {
    2: ("{0}, then {1}", "{0} followed by {1}", "first {0}, then {1}", "{0} before {1}", "{1} after {0}"),
    3: ("{0}, then {1}, then {2}", "first {0}, then {1} and finally {2}", "{0} followed by {1}, then {2}"),
    4: ("{0}, then {1}, then {2}, then {3}", "first {0}, then {1}, then {2} and finally {3}"),
}
"""Templates for a number of steps in order. In `{1} after {0}` the second step is named first, so that a model must
read the conjunctions to know the order."""

TOGETHER = ("{1} over {0}", "{0} together with {1}", "{1} together with {0}")
"""Templates for two nouns that sound together: `{1}` lies within `{0}`."""

AT_ONCE = ("{0} while {1}", "{0} and at the same time {1}")
"""Templates for two sounds together, of which `{1}` is a sentence if there is one."""

FOLLOWED = " followed by "
"""Words of templates that need nouns."""


@dataclass(frozen=True)
class Words:
    """Words for a kind of sound.

    Attributes:
        nouns: noun phrases with their articles: "a dog bark", "rain".
        clauses: short sentences: "a dog barks". At least one noun or clause.
        plural: the first noun for several of them, "dog barks"; "" if nobody counts them.
        whole: True for a sound that is counted as a whole and has no plural, such as a word: "somebody says yes twice".
        lasting: True for a sound without an end of its own, such as rain, of which any segment is the same sound.
    """

    nouns: tuple[str, ...]
    clauses: tuple[str, ...] = ()
    plural: str = ""
    whole: bool = False
    lasting: bool = False

    @property
    def text(self) -> str:
        """The first noun, or clause if there is none: the same text for all sounds of the kind."""
        return (*self.nouns, *self.clauses)[0]


@dataclass(frozen=True)
class Named:
    """One sound of a scene, as a caption names it.

    Attributes:
        words: words for its kind.
        length: its length, if the caption says it; sounds that are counted have none.
        count: the number of times that it is heard, 1 to 3; None if the caption does not say it.
        loudness: "loud" or "soft", beside another sound of the scene; "" if the caption does not say it.
    """

    words: Words
    length: Length = "plain"
    count: int | None = None
    loudness: str = ""

    def nouns(self) -> list[str]:
        """Return the noun phrases that it may have.

        Example:
            >>> bark = Words(("a dog bark",), ("a dog barks",), "dog barks")
            >>> Named(bark, count=2).nouns(), Named(bark, "long").nouns(), Named(bark, loudness="soft").nouns()
            (['two dog barks'], ['a long dog bark', 'a lengthy dog bark'], ['a soft dog bark'])
        """
        words = self.words
        if self.count is not None and not words.plural:
            return [f"{noun} {TIMES[self.count]}" for noun in words.nouns]
        if self.count is not None:
            one = words.nouns[0].partition(" ")[2]
            return [f"{number} {one if self.count == 1 else words.plural}" for number in NUMBERS[self.count]]
        loud = [qualified(noun, self.loudness) for noun in words.nouns]
        return [with_length(noun, adjective) for adjective in ADJECTIVES[self.length] for noun in loud]

    def clauses(self) -> list[str]:
        """Return the sentences that it may have; none say how loud it is.

        Example:
            >>> bark = Words(("a dog bark",), ("a dog barks",), "dog barks")
            >>> Named(bark, count=3).clauses(), Named(bark, "short").clauses()
            (['a dog barks three times'], ['a dog barks briefly'])
        """
        if self.loudness:
            return []
        after = ADVERBS[self.length] if self.count is None else f" {TIMES[self.count]}"
        return [f"{clause}{after}" for clause in self.words.clauses]

    def forms(self) -> list[str]:
        """Return noun phrases and sentences; at least one."""
        return self.nouns() + self.clauses()


Step = tuple[Named, ...]
"""One sound, or two together: the second lies within the first."""


def describe(steps: Sequence[Step], rng: random.Random) -> str:
    """Draw one of the captions of a scene.

    Args:
        steps: one to four, in order.
        rng: generator for the choice of words.

    Example:
        >>> bark, rain = Words(("a dog bark",), ("a dog barks",), "dog barks"), Words(("rain",), ("it rains",))
        >>> describe([(Named(bark, count=2),), (Named(rain),)], random.Random(1))
        'two dog barks followed by rain'
    """
    if len(steps) == 1:
        return _step(steps[0], rng)
    nouns = all(named.nouns() for step in steps for named in step)
    template = rng.choice([text for text in SEQUENCES[len(steps)] if nouns or FOLLOWED not in text])
    return template.format(*(_step(step, rng, FOLLOWED in template) for step in steps))


def random_captions(words: Sequence[Words], count: int, rng: random.Random) -> Iterator[str]:
    """Yield captions of random scenes of one to four sounds, with lengths, counts, levels and overlaps.

    Args:
        words: of the sounds.
        count: the number of captions.
        rng: generator of all that is drawn.
    """
    for _ in range(count):
        named = [_random(one, rng) for one in rng.sample(words, rng.randint(1, min(4, len(words))))]
        steps: list[Step] = [(one,) for one in named]
        if len(steps) > 1 and rng.random() < 0.3:
            steps[:2] = [(named[0], named[1])]
        yield describe(steps, rng)


def _random(words: Words, rng: random.Random) -> Named:
    if words.plural and rng.random() < 0.35:
        return Named(words, count=rng.choice(list(NUMBERS)))
    return Named(words, rng.choice(list(ADJECTIVES)), loudness=rng.choice(("", "", "", "loud", "soft")))


def together(step: Step, rng: random.Random, nouns: bool = False) -> str:
    """Draw a description of two sounds that are heard at once.

    Args:
        step: the sounds.
        rng: generator for the choice of words.
        nouns: True for a noun phrase.
    """
    base, inner = step
    ways = TOGETHER if base.nouns() and inner.nouns() else ()
    template = rng.choice(ways if nouns and ways else [*ways, *AT_ONCE])
    if template in TOGETHER:
        return template.format(rng.choice(base.nouns()), rng.choice(inner.nouns()))
    return template.format(rng.choice(base.forms()), rng.choice(inner.clauses() or inner.nouns()))


def _step(step: Step, rng: random.Random, nouns: bool = False) -> str:
    if len(step) == 2:
        return together(step, rng, nouns)
    return rng.choice(step[0].nouns() if nouns else step[0].forms())


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


def with_length(noun: str, adjective: str) -> str:
    """Return a noun phrase with an adjective of length.

    Example:
        >>> with_length("an engine", "long"), with_length("rain", "long")
        ('a long engine', 'a long sound of rain')
    """
    countable = noun.partition(" ")[0] in ("a", "an", "the")
    return qualified(noun, adjective) if countable or not adjective else f"a {adjective} sound of {noun}"
