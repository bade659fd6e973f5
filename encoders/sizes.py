"""The sizes of the encoders named `transformer`."""

from __future__ import annotations

from dataclasses import dataclass

from slap.core.errors import UserError


@dataclass(frozen=True)
class Size:
    """The shape of a transformer.

    Attributes:
        layers: number of blocks.
        width: width of the dense features.
        heads: number of attention heads.
        hidden: width of the feed-forward layers.
    """

    layers: int
    width: int
    heads: int
    hidden: int

    @classmethod
    def of(cls, name: str) -> Size:
        """Return the size with a name.

        Raises:
            ValueError: there is no such size; the message lists the valid names.
        """
        if name not in SIZES:
            raise UserError(f"there is no size {name!r}; valid are: {', '.join(SIZES)}")
        return SIZES[name]


SIZES = {
    "nano": Size(layers=3, width=128, heads=2, hidden=384),
    "tiny": Size(layers=6, width=192, heads=3, hidden=512),
    "small": Size(layers=12, width=384, heads=6, hidden=1536),
    "base": Size(layers=12, width=768, heads=12, hidden=3072),
}
"""`base` is the paper's audio encoder. The others are ours, with heads of the same width, 64."""
