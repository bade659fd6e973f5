"""Default sizes of heads: they follow the width of the audio encoder, as the paper's do for a width of 768.

All of this is our choice: the paper states the sizes of one model only.
"""

from __future__ import annotations

HEAD_WIDTH = 64
"""Width of an attention head, and the unit of default widths."""


def width_of(encoder_width: int, ratio: float) -> int:
    """Return the multiple of 64 that is nearest to `ratio` times the width of the encoder, at least 64.

    Example:
        >>> [width_of(width, 2 / 3) for width in (768, 384, 192, 128)]
        [512, 256, 128, 64]
    """
    return max(round(encoder_width * ratio / HEAD_WIDTH), 1) * HEAD_WIDTH


def heads_of(width: int) -> int:
    """Return the number of attention heads for a width: heads are at least 64 wide and of equal, even width.

    Example:
        >>> [heads_of(width) for width in (512, 200, 32)]
        [8, 2, 1]
    """
    return max((heads for heads in range(1, width // HEAD_WIDTH + 1) if width % (2 * heads) == 0), default=1)
