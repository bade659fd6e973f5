"""Places of the indexes of clips elsewhere: the folder `indexes` of the cache.

An index lies beside a small file that lists the shards, `NAME.json`, as `NAME.json.index` and `NAME.json.blocks`, see
`slap.datamodules.manifests.cut_index`. NAME is made of the addresses, sizes and versions of the shards: after a change
of any the index is made anew. It takes about 300 bytes per clip, and is never removed, so the shards themselves may be.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

from slap.core.files import atomic_write
from slap.datamodules.remote.errors import RemoteError
from slap.datamodules.remote.settings import cache_folder
from slap.datamodules.remote.store import RemoteFile


def listing_of(files: Sequence[RemoteFile]) -> Path:
    """Write the list of files elsewhere, unless it is there, and return its path.

    Raises:
        RemoteError: it cannot be written.
    """
    text = json.dumps([[str(file), file.size, file.version] for file in files], indent=0)
    path = cache_folder() / "indexes" / f"{blake2b(text.encode(), digest_size=12).hexdigest()}.json"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            with atomic_write(path) as file:
                file.write(text)
    except OSError as error:
        raise RemoteError(
            f"{files[0]}: an index of its clips cannot be kept in {path.parent}: {error}. SLAP_REMOTE_CACHE names "
            "another folder"
        ) from error
    return path
