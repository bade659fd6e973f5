"""Check before training that some objective learns from every kind of clip, and finds the clips that it needs.

n clips.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slap.core.errors import UserError
from slap.datamodules.manifests.sequence import Clips
from slap.model.contracts import Objective

AUDIO_ALONE = "masked_distillation"
"""The objective that an error recommends for clips without captions."""


def check_learnable(clips: Clips, model: Any) -> None:
    """Refuse clips without captions where no objective learns from audio alone, and objectives without their captions.

    Args:
        clips: the training clips.
        model: the model that is trained, with `objectives` by name; without any, nothing is checked.

    Raises:
        ValueError: an objective and the clips do not fit; names the objectives and the number of clips.
    """
    objectives: Mapping[str, Objective] = getattr(model, "objectives", {})
    needy = [name for name, objective in objectives.items() if objective.uses_text]
    count = len(clips.uncaptioned)
    if not objectives or not count or not needy:
        return
    names = ", ".join(needy)
    if len(needy) == len(objectives):
        raise UserError(
            f"unlabelled clips, but no objective that learns from audio alone: {count} of {len(clips)} training clips "
            f"have no caption, and {names} learn from captions. Add such an objective, e.g. {AUDIO_ALONE}, or leave "
            "out `unlabelled` and `empty_captions`"
        )
    if count == len(clips):
        raise UserError(
            f"none of the {count} training clips has a caption, from which {names} learn; give captioned clips as "
            f"`train`, or train with {AUDIO_ALONE} alone"
        )
