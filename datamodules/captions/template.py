"""Captions of clips that have labels only."""

from __future__ import annotations

from collections.abc import Sequence


def templated(template: str, labels: str | Sequence[str]) -> str:
    """Return a caption for a clip that has labels only, from a template with the place `{label}`.

    Example:
        >>> templated("the sound of {label}", ["dog", "rain", "wind"])
        'the sound of dog, rain and wind'
    """
    labels = [labels] if isinstance(labels, str) else list(labels)
    listed = " and ".join(filter(None, [", ".join(labels[:-1]), labels[-1]]))
    return template.format(label=listed)
