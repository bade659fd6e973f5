"""Shards and tar files in object stores and on web servers: listed, fetched into a cache on disk, and read there.

- `slap.datamodules.remote.cache.local_copy`: a file on disk with the content of a file elsewhere.
- `slap.datamodules.remote.cache.local_copies`: the same for several, the next ones fetched while one is read.

Nothing is fetched unless its address lies below one of the remote roots that the user names
(`slap.datamodules.manifests.data_root`). Credentials come from the environment alone, and no message shows any.
"""
