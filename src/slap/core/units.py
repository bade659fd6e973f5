"""Types that name units and number types in signatures."""

from typing import Literal

Seconds = float

EmbeddingType = Literal["float32", "int8"]
"""Number type of embeddings; see `slap.core.compact.to_int8`."""
