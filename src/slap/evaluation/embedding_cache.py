"""Embeddings of clips on disk, so that an interrupted evaluation goes on and another task need not compute them again.

E shared dimension. A folder holds for one model `embeddings.f32`, rows of E float32, and `clips.jsonl`, a line per row
with the clip and its condition, its file's size and time, and its duration; or why it cannot be used, with a row of
zeros. Both grow at their ends; after an interruption what the shorter one has counts. A file that changed is embedded
anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

Key = tuple[str, str, str]
"""The clip's audio, in words, its id, and the condition under which it is embedded; "" is none."""

Known = tuple[float, Tensor] | str
"""Duration and embedding, or why there is none."""

HELD = 256
"""Rows per write."""


class EmbeddingCache:
    """Embeddings of clips, or why they have none, on disk.

    Args:
        folder: made if it is not there.
        model: the name of the model, a hash of its content; each model has a folder of its own within.
        width: E.
    """

    def __init__(self, folder: Path, model: str, width: int) -> None:
        self.folder = folder / model
        self.width = width
        self._waiting: list[tuple[str, Tensor]] = []
        self._rows: dict[str, tuple[int, dict[str, Any]]] | None = None

    @property
    def _vectors(self) -> Path:
        return self.folder / "embeddings.f32"

    @property
    def _lines(self) -> Path:
        return self.folder / "clips.jsonl"

    def read(self, keys: Iterable[Key]) -> dict[Key, Known]:
        """Read what is known of some clips, but for those whose files changed."""
        rows = self._index()
        wanted = {}
        for key in keys:
            found = rows.get(_name(key))
            if found is not None and found[1]["stamp"] == stamp(key[0]):
                wanted[key] = found
        if not wanted:
            return {}
        vectors = np.memmap(self._vectors, np.float32, "r").reshape(-1, self.width)
        return {
            key: about["error"] if "error" in about else (about["seconds"], torch.from_numpy(vectors[row].copy()))
            for key, (row, about) in wanted.items()
        }

    def add(self, key: Key, known: Known) -> None:
        """Keep the embedding of a clip, or why it has none."""
        about: dict[str, Any] = {"clip": _name(key), "stamp": stamp(key[0])}
        if isinstance(known, str):
            vector, about["error"] = torch.zeros(self.width), known
        else:
            about["seconds"], vector = known
        self._waiting.append((json.dumps(about, ensure_ascii=True), vector))
        if len(self._waiting) >= HELD:
            self.flush()

    def flush(self) -> None:
        """Write the rows that wait."""
        if not self._waiting:
            return
        self._index()  # cuts what an interruption left behind
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._vectors.open("ab") as file:
            file.write(torch.stack([vector for _, vector in self._waiting]).numpy().astype(np.float32).tobytes())
        with self._lines.open("a", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line, _ in self._waiting)
        self._waiting.clear()
        self._rows = None

    def _index(self) -> dict[str, tuple[int, dict[str, Any]]]:
        """Index the last row of each clip; files are cut to what both have."""
        if self._rows is not None:
            return self._rows
        self._rows = {}
        if not self._lines.exists() or not self._vectors.exists():
            for path in (self._lines, self._vectors):
                path.unlink(missing_ok=True)
            return self._rows
        raw = self._lines.read_bytes()
        lines = raw[: raw.rfind(b"\n") + 1].splitlines()
        size = 4 * self.width
        count = min(len(lines), self._vectors.stat().st_size // size)
        with self._vectors.open("r+b") as file:
            file.truncate(count * size)
        kept = b"".join(line + b"\n" for line in lines[:count])
        if kept != raw:
            self._lines.write_bytes(kept)
        for row, line in enumerate(lines[:count]):
            about = json.loads(line)
            self._rows[about["clip"]] = row, about
        return self._rows


def _name(key: Key) -> str:
    return "\n".join(key)


def stamp(audio: str) -> list[int]:
    """Return size and time of a clip's file, to see whether it changed; nothing for what is on no disk.

    Of a clip in shards or in a mix, those of the folder or the manifest that it is from.

    Args:
        audio: a path; a path with `#start-end`, as `slap.audio.sources.Segment` writes itself; or a manifest's path,
            `: ` and an id.
    """
    for path in (Path(audio), Path(audio.rpartition("#")[0] or " "), Path(audio.partition(": ")[0])):
        if path.exists():
            about = path.stat()
            return [about.st_size, about.st_mtime_ns]
    return []
