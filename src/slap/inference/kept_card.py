"""The model card of a folder that is exported again: what it says of the model beyond the model itself is kept."""

from __future__ import annotations

import re
from pathlib import Path

from slap.core.errors import UserError, printable_text
from slap.core.files import file_inside
from slap.inference.model_card import NOT_STATED, Card
from slap.inference.saved_model import README

LARGEST = 1 << 20
"""Bytes of a card, at most; a longer one is not kept."""

MADE = ("Use", "Limits", "Graphs")
"""Sections that are written anew."""


def card_of_folder(folder: Path) -> Card:
    """Collect what a folder's model card says: name, licence, steps, and sections such as training data and metrics.

    Without a card, or with one that cannot be read, the name is that of the folder.
    """
    text = _text(folder)
    title = re.search(r"^# (.+)$", text, re.MULTILINE)
    licence = re.search(r"^license: (.+)$", text.partition("\n# ")[0], re.MULTILINE)
    steps = _row(text, "training steps")
    named = _row(text, "licence of the weights") or (licence[1].strip('"') if licence else NOT_STATED)
    return Card(
        name=_unescaped(title[1]) if title else folder.resolve().name,
        licence=NOT_STATED if named == "other" else named,
        steps=int(steps) if steps and re.fullmatch(r"[0-9]{1,12}", steps) else None,
        kept={name: body for name, body in _sections(text).items() if name not in MADE},
    )


def _text(folder: Path) -> str:
    try:
        path = file_inside(folder, README)
        return printable_text(path.read_text(encoding="utf-8")) if path.stat().st_size <= LARGEST else ""
    except (UserError, OSError, UnicodeDecodeError):  # a card is no part of the model
        return ""


def _sections(text: str) -> dict[str, str]:
    """Return the bodies of the sections by their titles."""
    _, *parts = re.split(r"^## (.+)$", text, flags=re.MULTILINE)
    return {title.strip(): body.strip() for title, body in zip(parts[::2], parts[1::2], strict=True)}


def _row(text: str, name: str) -> str | None:
    """Return the value of a row of the table about the model."""
    found = re.search(rf"^\| {name} \| (.+) \|$", text, re.MULTILINE)
    return _unescaped(found[1]) if found else None


def _unescaped(text: str) -> str:
    """Undo `slap.inference.model_card.plain`."""
    return re.sub(r"\\(.)", r"\1", text)
