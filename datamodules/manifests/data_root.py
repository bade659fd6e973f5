"""Places that audio may be read from: folders of this machine, and remote roots.

A manifest may name any file that its reader can read: `slap prepare` itself writes absolute paths, since corpora and
their manifests lie in different places. To limit this, name the folders that may hold audio: `data_root` of the data
module and of `read_manifest`, or for all commands the environment variable `SLAP_DATA_ROOT`, several folders with a
colon between them (as in PATH). Symbolic links are resolved before the check. The variable holds for every file that is
opened as audio, whatever names it (`slap.core.data_root`), `data_root` for what manifests name.

From other machines nothing is read by default. Remote roots, such as `s3://bucket/prefix` and `https://host/path`, are
the places below which shards may be read: `remote_roots` of the data module and of `read_manifest`, or for all commands
the environment variable `SLAP_REMOTE_ROOTS`, several with spaces between them. Another bucket, another host, another
port, `..` in an address and redirections that lead elsewhere are refused, and a manifest can name no root.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from slap.core.data_root import VARIABLE, Folders, lies_elsewhere, resolved_roots
from slap.core.errors import UserError
from slap.datamodules.manifests.clip import ManifestError
from slap.datamodules.remote.address import address, lies_below, masked

__all__ = [
    "VARIABLE",
    "Folders",
    "refuse_elsewhere",
    "refuse_other_machines",
    "resolved_remote_roots",
    "resolved_roots",
]

REMOTE_VARIABLE = "SLAP_REMOTE_ROOTS"


def refuse_elsewhere(path: str, roots: Sequence[str], where: str) -> None:
    """Refuse a file that does not lie below one of the folders.

    Args:
        path: path of the file.
        roots: folders, as `resolved_roots` returns them; without any, nothing is refused.
        where: file and line, for the message.

    Raises:
        ManifestError: the file lies elsewhere.
    """
    if lies_elsewhere(path, roots):
        raise ManifestError(f"{where}: {path} is refused: audio must lie below {' or '.join(roots)} (data_root)")


# -- other machines ---------------------------------------------------------------------------------------------------

RemoteRoots = Sequence[str] | str
"""One remote root or several; the command line takes a list for text where text comes first."""


def resolved_remote_roots(roots: RemoteRoots | None = None) -> tuple[str, ...]:
    """Return the addresses below which shards may be read; none if nothing may be read from other machines.

    Args:
        roots: one or several addresses; None stands for those of the environment variable.

    Raises:
        UserError: one is no address, or holds credentials or a query.
    """
    if roots is None:
        roots = os.environ.get(REMOTE_VARIABLE, "")
    named = roots.split() if isinstance(roots, str) else list(roots)
    for root in named:
        if "?" in root or "#" in root:
            raise UserError(
                f"the remote root {masked(root)} must have no query and no fragment: it is a place, not a file"
            )
    return tuple(address(root) for root in named)


def refuse_other_machines(url: str, roots: Sequence[str], where: str = "") -> None:
    """Refuse an address that does not lie below a remote root.

    Args:
        url: the address, as `slap.datamodules.remote.address.address` returns it.
        roots: remote roots, as `resolved_remote_roots` returns them; without any, everything is refused.
        where: begin of the message, if another address led to this one.

    Raises:
        ManifestError: the address lies elsewhere.
    """
    if any(lies_below(url, root) for root in roots):
        return
    allowed = f"only what lies below {' or '.join(roots)}" if roots else "nothing"
    raise ManifestError(
        f"{where}{': ' if where else ''}{masked(url)} is refused: {allowed} is read from other machines. If you trust "
        f"that place, name it, or a folder above it, with --data.remote_roots or in the environment variable "
        f"{REMOTE_VARIABLE}"
    )
