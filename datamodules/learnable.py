"""Check before training that some objective learns from every kind of clip, and finds the clips that it needs.

n clips.
"""

from __future__ import annotations

from collections.abc import Mapping

from slap.core.errors import UserError
from slap.datamodules.manifests.sequence import Clips
from slap.model.contracts import Objective

AUDIO_ALONE = "masked_distillation"
"""The objective that an error recommends for clips without captions."""


def check_learnable(clips: Clips, objectives: Mapping[str, Objective]) -> None:
    """Refuse clips without captions where no objective learns from audio alone, and objectives without their captions.

    Args:
        clips: the training clips.
        objectives: the objectives of the model by name; none checks nothing.

    Raises:
        ValueError: an objective and the clips do not fit; names the objectives and the number of clips.
    """
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
