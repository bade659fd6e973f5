"""Addresses of shards: `s3://bucket/key`, `gs://bucket/key`, `https://host/path` and `http://host/path`.

Manifests are handed around as paths, and `pathlib` makes one slash of two: `Path("s3://bucket/train")` is written
`s3:/bucket/train`. `address` gives the address back.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from slap.core.errors import UserError

OBJECT_STORES = ("s3", "gs")
WEB = ("https", "http")
SCHEMES = (*OBJECT_STORES, *WEB)
_BEGIN = re.compile(rf"({'|'.join(SCHEMES)}):/+", re.IGNORECASE)
_USER = re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^/?#\s@]+@", re.IGNORECASE)
_QUERY = re.compile(r"(\b[a-z][a-z0-9+.-]*:/[^\s?#'\"]*)\?(?:[^\s#'\")>]*[^\s#'\")>:;,.])?", re.IGNORECASE)
_PORTS = {"http": 80, "https": 443}


def is_remote(path: str | Path) -> bool:
    """Return True if a manifest is named by an address, not by a path of this machine.

    Example:
        >>> is_remote("s3://bucket/train"), is_remote(Path("https://host/train")), is_remote("data/train")
        (True, True, False)
    """
    return _BEGIN.match(str(path)) is not None


def address(path: str | Path) -> str:
    """Return the address in its usual form: without a slash at the end, with scheme and host in lower case.

    Raises:
        UserError: it is no address of a known kind, holds credentials, or leads out of its folder by `..`.

    Example:
        >>> address(Path("HTTPS://Host:443/train/"))
        'https://host/train'
    """
    text = str(path)
    begin = _BEGIN.match(text)
    if begin is None:
        raise UserError(
            f"{masked(text)} is no address that is read; they begin with {', '.join(f'{s}://' for s in SCHEMES)}"
        )
    scheme = begin[1].lower()
    parts = urlsplit(f"{scheme}://{text[begin.end() :]}")
    if "@" in parts.netloc:
        raise UserError(
            f"{masked(text)}: an address must not hold a user or a password, since it is logged and kept; "
            "credentials come from the environment (AWS_PROFILE, ~/.netrc, ...)"
        )
    steps = unquote(parts.path).split("/")
    if not parts.netloc or ".." in steps or "." in steps or "\\" in parts.path or not text.isprintable():
        raise UserError(f"{masked(text)} is refused: an address names a host or bucket, and has no `.` or `..` in it")
    return urlunsplit((scheme, _host(scheme, parts.netloc), parts.path.rstrip("/"), parts.query, parts.fragment))


def _host(scheme: str, netloc: str) -> str:
    """Return host and port as they are compared: the names of buckets keep their case."""
    return netloc if scheme in OBJECT_STORES else netloc.lower().removesuffix(f":{_PORTS[scheme]}")


def masked(text: str) -> str:
    """Return a text without the secrets of the addresses in it: users with passwords, and queries, which may be signed.

    Example:
        >>> masked("no answer from https://me:secret@host/a.tar?signature=1234 after 3 tries")
        'no answer from https://***@host/a.tar?*** after 3 tries'
    """
    return _QUERY.sub(r"\1?***", _USER.sub(r"\1***@", text))


def lies_below(url: str, root: str) -> bool:
    """Return True if an address is another one, or lies below it; both as `address` returns them.

    Example:
        >>> [lies_below(url, "s3://a/b") for url in ("s3://a/b", "s3://a/b/c", "s3://a/bc", "s3://other/b/c")]
        [True, True, False, False]
    """
    one, other = urlsplit(url), urlsplit(root)
    below = one.path == other.path or one.path.startswith(f"{other.path}/")
    return (one.scheme, one.netloc) == (other.scheme, other.netloc) and below


def joined(folder: str, name: str) -> str:
    """Return the address of a file in a folder."""
    return f"{folder.rstrip('/')}/{name}"
