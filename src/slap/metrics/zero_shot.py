"""Zero-shot classification: the class whose prompts lie nearest to the clip.

B clips, K classes, E shared dimension.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize


def class_prompts(classes: Sequence[str], templates: Sequence[str]) -> list[list[str]]:
    """For each class its prompts, one a template; underscores in names become spaces.

    Raises:
        ValueError: a template without `{label}`.
    """
    for template in templates:
        if "{label}" not in template:
            raise ValueError(f"the prompt {template!r} must hold {{label}}, e.g. 'This is a sound of {{label}}.'")
    return [[template.replace("{label}", name.replace("_", " ")) for template in templates] for name in classes]


def class_embeddings(prompts: Sequence[Sequence[str]], embed: Callable[[list[str]], Tensor]) -> Tensor:
    """The mean direction of each class's prompts.

    Args:
        prompts: for each class at least one prompt.
        embed: prompts to embeddings, (number of prompts, E).

    Returns:
        (K, E), each row of length 1.
    """
    flat = embed([prompt for group in prompts for prompt in group])
    return torch.stack([normalize(part.mean(0), dim=0) for part in flat.split([len(group) for group in prompts])])


def predict(audio: Tensor, classes: Tensor) -> Tensor:
    """The nearest class of each clip: (B, E) and (K, E) -> (B,) int64."""
    return (audio @ classes.T).argmax(1)
