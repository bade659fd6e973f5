"""The web page: one document with everything inline, and the policy that lets it load nothing else."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files

_PAGE = files("slap.search.web") / "page"
_STYLE = (_PAGE / "style.css").read_text(encoding="utf-8")
_SCRIPT = (_PAGE / "script.js").read_text(encoding="utf-8")


def _hash(source: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(source.encode()).digest()).decode() + "'"


DOCUMENT = (
    (_PAGE / "index.html")
    .read_text(encoding="utf-8")
    .replace("/* style.css */", _STYLE)
    .replace("/* script.js */", _SCRIPT)
    .encode()
)

POLICY = "; ".join(
    [
        "default-src 'none'",
        f"style-src {_hash(_STYLE)}",
        f"script-src {_hash(_SCRIPT)}",
        "img-src 'self' data:",
        "media-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)
"""Only the inline style and script run, by their hashes; nothing comes from elsewhere."""
