"""Augmentation of the captions that training draws: any function of a text and random numbers.

Registered, like other plug-ins, and used from the command line by its name,

    from slap import register
    from slap.datamodules.captions.augment import TextAugment

    @register("shout")
    class Shout(TextAugment):
        def __call__(self, text, rng):
            return text.upper() if rng.random() < 0.5 else text

or a function, by its dotted path, e.g. `my_module.my_function`.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

from slap.core.errors import UserError
from slap.core.registry import add_kind, build, load_module, plugins, register

Augment = Callable[[str, random.Random], str]
"""Function of a caption, and of random numbers that depend on the clip and the epoch alone, to an augmented caption."""

AugmentSpec = str | Mapping[str, Any] | Augment
"""A registered name, `{"name": ..., argument: value}`, the dotted path of a function, or the function."""

KIND = "text augmentation"


class TextAugment(ABC):
    """Random augmentation of captions; it runs in the data loader's workers, so it must pickle."""

    @abstractmethod
    def __call__(self, text: str, rng: random.Random) -> str:
        """Return the caption as training shall see it, not empty; all that is random comes from `rng`."""


add_kind(KIND, TextAugment, reserved=("name",))


@register("drop_words")
class DropWords(TextAugment):
    """Random deletion of words, never of all of them (EDA, arXiv 1901.11196).

    Args:
        share: the probability of each word to be left out.

    Example:
        >>> DropWords(0.5)("a dog barks while rain falls", random.Random(0))
        'a dog rain'
    """

    def __init__(self, share: float = 0.1) -> None:
        if not 0 <= share < 1:
            raise UserError(f"share must be from 0 to below 1, got {share}")
        self.share = share

    def __call__(self, text: str, rng: random.Random) -> str:
        """Return the words that are left, with a space between them."""
        words = text.split()
        kept = [word for word in words if rng.random() >= self.share]
        return " ".join(kept or [rng.choice(words)])


def text_augmentation(spec: AugmentSpec | None) -> Augment | None:
    """Build the augmentation of a specification.

    Raises:
        ValueError: an unknown name or argument, or a path that leads to no function; lists the valid names.
        ModuleNotFoundError: a path into a module that does not exist.
    """
    if spec is None or callable(spec):
        return spec
    options = {"name": spec} if isinstance(spec, str) else dict(spec)
    name = options.pop("name", None)
    if not isinstance(name, str):
        raise UserError(f'a text augmentation is given by a name or by {{"name": ..., argument: value}}; got {spec!r}')
    module, _, function = name.rpartition(".")
    if not module:
        made = build(KIND, name, options)
        assert callable(made)
        return made
    if options:
        raise UserError(f"{name} is a function, so it takes no {', '.join(options)}; register a class instead")
    found = getattr(load_module(module), function, None)
    if not callable(found):
        known = ", ".join(plugins(KIND))
        raise UserError(f"there is no function {function!r} in {module}; registered augmentations are: {known}")
    return found() if isinstance(found, type) else found
