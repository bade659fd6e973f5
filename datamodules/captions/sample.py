"""Sampling of the captions of training clips, and augmentation of their text."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from lhotse import SupervisionSegment
from lhotse.cut import Cut

from slap.core.bad_clip import BadClip
from slap.core.errors import UserError, suggest
from slap.datamodules.bad_clips import ClipError
from slap.datamodules.captions.augment import Augment
from slap.datamodules.manifests.tables import FIELD

TEMPLATE = "template"
"""Field of captions that were made of labels."""

LOOKED_AT = 1_000_000
"""Clips of a manifest among which a field is looked for: a minute for cuts, whose index does not hold fields."""

ORIGINAL, AUGMENTED = "original_text", "augmented_text"
"""Custom fields of a caption whose text was augmented."""


@dataclass(frozen=True)
class CaptionSampler:
    """Sampler of one caption per training clip.

    Args:
        fields: probability of each field. Where a clip lacks some, the others keep their proportions; within a field,
            its captions are equally probable. None: all captions of a clip are.
        augment: augmentation of the text that was drawn.

    Raises:
        ValueError: probabilities that are not above 0.
    """

    fields: Mapping[str, float] | None = None
    augment: Augment | None = None

    def __post_init__(self) -> None:
        if self.fields is not None and (not self.fields or not all(p > 0 for p in self.fields.values())):
            raise UserError(f"caption_fields must give fields probabilities above 0, got {dict(self.fields)}")

    def draw(self, cut: Cut, rng: random.Random) -> SupervisionSegment:
        """Draw one of a clip's captions.

        Raises:
            ClipError: the clip has none of the fields.
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

    def augmented(self, caption: SupervisionSegment, draw: str) -> tuple[str, dict[str, str]]:
        """Return the text of a caption as training sees it, and its custom fields.

        Args:
            caption: the caption that was drawn.
            draw: a text that is different for each clip and epoch; it seeds the augmentation.

        Raises:
            ValueError: the augmentation gives no text.
        """
        custom = {"field": field_of(caption)}
        if self.augment is None:
            return caption.text, custom
        text = self.augment(caption.text, random.Random(f"text {draw}"))
        if not isinstance(text, str) or not text.strip():
            raise UserError(f"text_augment made {text!r} of the caption {caption.text!r}; it must give text")
        return text, {**custom, ORIGINAL: caption.text, AUGMENTED: text}


def check_fields(parts: Sequence[Iterable[Cut]], fields: Iterable[str]) -> None:
    """Refuse a field of which no clip has a caption, as far as the first million clips of each manifest say.

    Args:
        parts: clips of each manifest.
        fields: names of fields.

    Raises:
        ValueError: no clip has a caption of a field; lists the fields that there are.
    """
    missing, there, looked_at = set(fields), dict[str, None](), 0
    for clips in parts:
        for cut in islice(clips, LOOKED_AT):
            if not missing:
                return
            own = [field_of(supervision) for supervision in cut.supervisions]
            missing.difference_update(own)
            there |= dict.fromkeys(own)
            looked_at += 1
    if missing:
        wrong = min(missing)
        raise UserError(
            f"caption_fields names {wrong!r}, but none of the {looked_at} clips that were looked at has such a "
            f"caption; {suggest(wrong, there)}"
        )


def field_of(caption: SupervisionSegment) -> str:
    """Return the field that a caption is from."""
    field: str = (caption.custom or {}).get("field", FIELD)
    return field


def captions_to_evaluate(cut: Cut) -> list[SupervisionSegment]:
    """Return the captions that a clip is evaluated with; those that were made of labels only where it has no others."""
    own = [caption for caption in cut.supervisions if field_of(caption) != TEMPLATE]
    return own or list(cut.supervisions)


def original_text(caption: SupervisionSegment) -> str:
    """Return the text of a caption as it stands in the manifest, before augmentation; it identifies the caption.

    A transform that writes a text of its own makes another caption.
    """
    custom = caption.custom or {}
    unchanged = custom.get(AUGMENTED) == caption.text and ORIGINAL in custom
    text: str = custom[ORIGINAL] if unchanged else caption.text
    return text
