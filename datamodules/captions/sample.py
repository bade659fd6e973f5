"""Which of a clip's captions training draws, and what becomes of its text."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

from lhotse import SupervisionSegment
from lhotse.cut import Cut

from slap.core.bad_clip import BadClip
from slap.datamodules.bad_clips import ClipError
from slap.datamodules.captions.augment import Augment
from slap.datamodules.manifests.tables import FIELD

TEMPLATE = "template"
"""Field of captions that were made of labels."""

DRAWN, SHOWN = "drawn", "shown"
"""Custom fields of a caption whose text was changed: the text as it was drawn, and what became of it."""


@dataclass(frozen=True)
class CaptionSampler:
    """Draws captions.

    Args:
        fields: how probable each field is. Where a clip lacks some, the others keep their proportions; within a field,
            its captions are equally probable. Empty: all captions of a clip are.
        augment: changes the text that was drawn.

    Raises:
        ValueError: probabilities that are not above 0.
    """

    fields: Mapping[str, float] | None = None
    augment: Augment | None = None

    def __post_init__(self) -> None:
        if self.fields is not None and (not self.fields or not all(p > 0 for p in self.fields.values())):
            raise ValueError(f"caption_fields must give fields probabilities above 0, got {dict(self.fields)}")

    def draw(self, cut: Cut, rng: random.Random) -> SupervisionSegment:
        """One of a clip's captions.

        Raises:
            ClipError: it has none of the fields.
        """
        if self.fields is None:
            return rng.choice(cut.supervisions)
        found: dict[str, list[SupervisionSegment]] = {}
        for supervision in cut.supervisions:
            found.setdefault(field_of(supervision), []).append(supervision)
        names = [name for name in self.fields if name in found]
        if not names:
            detail = f"caption_fields are {', '.join(self.fields)}, but the clip has captions of {', '.join(found)}"
            where = (cut.custom or {}).get("where", "")
            raise ClipError(BadClip(cut.id, "caption", detail, "", where))
        (name,) = rng.choices(names, [self.fields[name] for name in names])
        return rng.choice(found[name])

    def spoken(self, caption: SupervisionSegment, draw: str) -> tuple[str, dict[str, str]]:
        """The text of a caption as training sees it, and what goes into its custom fields.

        Args:
            caption: that was drawn.
            draw: a text that is different for each clip and epoch.

        Raises:
            ValueError: the augmentation gives no text.
        """
        custom = {"field": field_of(caption)}
        if self.augment is None:
            return caption.text, custom
        text = self.augment(caption.text, random.Random(f"text {draw}"))
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"text_augment made {text!r} of the caption {caption.text!r}; it must give text")
        return text, {**custom, DRAWN: caption.text, SHOWN: text}


def field_of(caption: SupervisionSegment) -> str:
    """The field that a caption is from."""
    field: str = (caption.custom or {}).get("field", FIELD)
    return field


def captions_to_evaluate(cut: Cut) -> list[SupervisionSegment]:
    """Return the captions that a clip is evaluated with; those that were made of labels only where it has no others."""
    own = [caption for caption in cut.supervisions if field_of(caption) != TEMPLATE]
    return own or list(cut.supervisions)


def original_text(caption: SupervisionSegment) -> str:
    """The caption as it stands in the manifest, by which its clips are known, whatever augmentation made of it.

    A transform that writes a text of its own makes another caption.
    """
    custom = caption.custom or {}
    text: str = custom[DRAWN] if custom.get(SHOWN) == caption.text and DRAWN in custom else caption.text
    return text
