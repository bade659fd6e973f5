"""Published models that `slap.load` does not read, known by their folders, with the reasons and what to do instead.

The table of docs/howto/encoders.md says the same.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slap.core.errors import UserError
from slap.core.files import read_json

PE_AV = (
    "its scores are products of embeddings of any length with a learned scale and bias, and everything here compares "
    "directions; use `PeAudioModel` of transformers"
)

REASONS = {
    "pe_audio": PE_AV,
    "pe_audio_video": PE_AV,
    "pe_audio_encoder": "it embeds no texts; use `PeAudioEncoder` of transformers",
    "glap": "no release of transformers has its layers, and the code that its folder brings is not run",
}
"""By `model_type` in config.json."""

OPEN_CLIP = "open_clip_config.json"
"""A file of every folder of open_clip."""


def why_not(folder: Path) -> str:
    """Return the reason why the model of a folder is not read, as far as its files say; "" if they say nothing."""
    if (folder / OPEN_CLIP).is_file():
        return "it is a model of open_clip, whose layers are in no package that is read here; use open_clip"
    config = _config(folder)
    kind = config.get("model_type")
    if kind in REASONS:
        return f"it is a {kind} model: {REASONS[kind]}"
    if "auto_map" in config:
        return "its config.json names code of its own (`auto_map`), which is never run here"
    if isinstance(kind, str):
        return f"its config.json says model_type {kind!r}; read are `slap`, `clap` and those of installed readers"
    files = sorted(path.name for path in folder.iterdir() if path.suffix in (".pt", ".pth", ".bin"))
    if files:
        return (
            f"{files[0]} is a pickle, which can run code; `slap convert` reads those of LAION's package laion_clap. "
            "Those of msclap and of M2D-CLAP are used by their own packages"
        )
    return ""


def _config(folder: Path) -> dict[str, Any]:
    try:
        return read_json(folder / "config.json") if (folder / "config.json").is_file() else {}
    except (OSError, UserError):
        return {}
