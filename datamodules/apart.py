"""The data module of fine-tuning: the clips that choose a checkpoint are not those that judge it."""

from __future__ import annotations

import numpy as np

from slap.datamodules.datamodule import AudioTextData


class ApartData(AudioTextData):
    """`AudioTextData` that refuses to choose on the test: no clip may be in `val` and in `test`.

    Raises:
        ValueError: validation and test share clips; raised by `setup`.
    """

    def setup(self, stage: str | None = None) -> None:
        """As the parent; then compare the ids of the two sets, whichever of them the stage needs."""
        super().setup(stage)
        if not (self.manifests["val"] and self.manifests["test"]):
            return
        val, test = self._clips("val"), self._clips("test")
        shared = np.isin(test.keys, val.keys)
        if shared.any():
            first = test.cut(int(np.flatnonzero(shared)[0]))
            raise ValueError(
                f"{int(shared.sum())} of the {len(test)} test clips are validation clips too, e.g. {first.id!r}: "
                "what chooses the checkpoint may not judge it; give val and test different clips"
            )
