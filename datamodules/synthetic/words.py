"""Words for the kinds of sound, and captions of single sounds."""

from __future__ import annotations

import random

from slap.datamodules.captions.grammar import Length, Named, Words, describe

WORDS: dict[str, Words] = {
    "beep": Words(("a beep", "a steady tone"), ("a machine beeps",), "beeps"),
    "rising": Words(("a rising whistle", "an upward sweep"), ("a pitch climbs",), "rising whistles"),
    "falling": Words(("a falling whistle", "a downward sweep"), ("a pitch drops",), "falling whistles"),
    "hiss": Words(("a hiss", "a jet of steam"), ("steam hisses",), "hisses"),
    "bell": Words(("a bell", "a chime"), ("a bell rings",), "bells"),
    "buzz": Words(("a buzz", "a droning bee"), ("a bee buzzes",), "buzzes"),
    "rumble": Words(("a rumble", "a roll of thunder"), ("thunder rumbles",), lasting=True),
    "ticking": Words(("a ticking clock", "a run of clicks"), ("a clock ticks",), lasting=True),
    "siren": Words(("a siren", "a wailing alarm"), ("a siren wails",), lasting=True),
    "bird": Words(("a bird", "a chirping call"), ("a bird chirps",), lasting=True),
    "knock": Words(("knocking", "raps on wood"), ("somebody knocks",), lasting=True),
    "bubbles": Words(("a gurgle", "a stream of bubbles"), ("water bubbles",), lasting=True),
}
"""Words for each kind of sound. The first six are counted, the others last and may be cut."""

TASK = "event"
"""The zero-shot task of single sounds; the labels are the first nouns."""

PROMPT = "the sound of {label}"

MENTION = 0.75
"""Share of the captions of single training clips that name the length of a short or long sound."""


def scene_words() -> dict[str, Words]:
    """Return the words by task and label, as `slap.datamodules.augment.scenes` takes them."""
    return {f"{TASK}: {words.text}": words for words in WORDS.values()}


def training_captions(kind: str, length: Length, rng: random.Random) -> list[str]:
    """Draw captions of a single sound: the prompt, and up to two others, which may name its length.

    Example:
        >>> training_captions("bell", "long", random.Random(2))
        ['the sound of a bell', 'a bell']
    """
    words = WORDS[kind]
    said = [length if rng.random() < MENTION else "plain" for _ in range(2)]
    others = [describe([(Named(words, one),)], rng) for one in said]
    return list(dict.fromkeys([PROMPT.format(label=words.text), *others]))
