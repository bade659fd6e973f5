"""Search in one's own sounds, by text or by sound: an index of a folder, and what asks it.

`slap index` makes and updates the index, `slap search` and `slap serve` ask it; from Python it is

    from slap.search.query import Index
    Index.open("sounds.index").text(["dog barking, then rain"])

Vectors are kept and searched by LanceDB (extra `search`): in one folder, without a server.
"""
