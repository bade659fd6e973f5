"""Data for SLAP on Lhotse: from a corpus to manifests, and from manifests to packed batches.

- `AudioTextData`: the data module; train, val and test manifests in, `slap.core.batch.Batch` out.
- `read_manifest`, `captions_of`: a CSV, JSON-lines or CutSet manifest as cuts, and its captions.
- `Clip`, `write_manifest`: for corpora that write their own manifest; `write_cuts`: the same for cuts, of any number.
- `Corpus`: a corpus of the field in its official layout, for `slap prepare`; `slap.datamodules.corpora` has them.
- `slap.datamodules.augment.basic`: augmentation of training clips.

Names load on first use, so that a command's help does not wait for Lhotse.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from slap.datamodules.corpora.base import Corpus as Corpus
    from slap.datamodules.datamodule import AudioTextData as AudioTextData
    from slap.datamodules.manifests.clip import Clip as Clip
    from slap.datamodules.manifests.clip import ManifestError as ManifestError
    from slap.datamodules.manifests.clip import write_manifest as write_manifest
    from slap.datamodules.manifests.cuts import write_cuts as write_cuts
    from slap.datamodules.manifests.read import captions_of as captions_of
    from slap.datamodules.manifests.read import read_manifest as read_manifest

_HOMES = {
    "AudioTextData": "slap.datamodules.datamodule",
    "Clip": "slap.datamodules.manifests.clip",
    "Corpus": "slap.datamodules.corpora.base",
    "ManifestError": "slap.datamodules.manifests.clip",
    "captions_of": "slap.datamodules.manifests.read",
    "read_manifest": "slap.datamodules.manifests.read",
    "write_cuts": "slap.datamodules.manifests.cuts",
    "write_manifest": "slap.datamodules.manifests.clip",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'slap.datamodules' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value  # the next look-up does not come here
    return value


def __dir__() -> list[str]:
    return __all__
