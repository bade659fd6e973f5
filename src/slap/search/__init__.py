"""Search in a folder of sounds, by text or by sound: the index, its updates, queries and the web page.

`slap index` makes and updates an index, `slap search` and `slap serve` query it; from Python it is

    from slap.search import Index
    Index.open("sounds.index").text(["dog barking, then rain"])

Vectors are kept and searched by LanceDB (extra `search`): in one folder, without a server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from slap.search.query import Index as Index

__all__ = ["Index"]


def __getattr__(name: str) -> Any:
    if name != "Index":
        raise AttributeError(f"module 'slap.search' has no attribute {name!r}")
    from slap.search.query import Index  # LanceDB is an extra

    return Index
