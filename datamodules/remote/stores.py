"""The place that an address names: a web server, or an object store, whose library is imported only for one."""

from __future__ import annotations

from slap.datamodules.remote.address import WEB
from slap.datamodules.remote.store import Store


def store_of(url: str) -> Store:
    """Return the place in which a file or folder lies.

    Raises:
        MissingDependencyError: the library that reads from it is not installed.
    """
    if url.startswith(tuple(f"{scheme}:" for scheme in WEB)):
        from slap.datamodules.remote.web import WebServer

        return WebServer()
    from slap.datamodules.remote.objects import ObjectStore

    return ObjectStore()
