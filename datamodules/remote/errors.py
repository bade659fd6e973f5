"""Errors of what lies elsewhere; messages name addresses without their secrets."""

from __future__ import annotations

from slap.core.bad_clip import Reason
from slap.datamodules.manifests.clip import ManifestError
from slap.datamodules.remote.address import masked


class RemoteError(ManifestError, OSError):
    """A file elsewhere that cannot be had; the message says why, and what to do."""

    reason: Reason = "unreadable"
    """The reason for which the clips in it are bad."""

    def __init__(self, message: str) -> None:
        super().__init__(masked(message))


class RemoteMissingError(RemoteError):
    """A file, or bucket, that does not exist."""

    reason: Reason = "absent"


class RemoteChangedError(RemoteError):
    """A file that is no longer what it was when it was looked at, or has another size than its server says."""

    reason: Reason = "truncated"


class TransientError(Exception):
    """A fault that may pass: trying again makes sense."""
