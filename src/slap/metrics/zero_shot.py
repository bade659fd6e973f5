"""Prompts of zero-shot classification: a clip is of the class whose prompts lie nearest to it.

K classes, E shared dimension.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from slap.core.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor


def class_prompts(classes: Sequence[str], templates: Sequence[str]) -> list[list[str]]:
    """Write the prompts of each class, one per template; underscores in names become spaces.

    Raises:
        ValueError: a template without `{label}`.
    """
    for template in templates:
        if "{label}" not in template:
            raise UserError(f"the prompt {template!r} must hold {{label}}, e.g. 'This is a sound of {{label}}.'")
    return [[template.replace("{label}", name.replace("_", " ")) for template in templates] for name in classes]


def class_embeddings(prompts: Sequence[Sequence[str]], embed: Callable[[list[str]], Tensor]) -> Tensor:
    """Compute the mean direction of each class's prompts.

    Args:
        prompts: for each class at least one prompt.
        embed: prompts to embeddings, (number of prompts, E).

    Returns:
        (K, E), each row of length 1.
    """
    import torch
    from torch.nn.functional import normalize

    flat = embed([prompt for group in prompts for prompt in group])
    return torch.stack([normalize(part.mean(0), dim=0) for part in flat.split([len(group) for group in prompts])])
