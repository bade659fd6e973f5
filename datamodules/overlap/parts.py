"""`slap overlap` in parts: each compares some of the training clips with all evaluation clips.

A part keeps the fingerprints of the evaluation clips, and after every `CHUNK` training clips what it found; after
an interruption it goes on behind the last such file. The merge joins what all parts found.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from slap.core.files import atomic_write
from slap.core.parts import Part, Parts
from slap.datamodules.manifests.columns import Columns
from slap.datamodules.manifests.sequence import plan_of
from slap.datamodules.overlap.fingerprint import Fingerprint
from slap.datamodules.overlap.fingerprint_index import FingerprintMatch
from slap.datamodules.overlap.search import AUDIO, KnownAudio, Overlap, add_names, evaluated, fingerprints, opened

CHUNK = 1024  # training clips

KNOWN = "evaluation.npz"


@dataclass(frozen=True)
class Comparison:
    """A comparison of manifests that is done in parts.

    Args:
        train: path of the training manifest.
        evaluation: paths of the evaluation manifests.
        ways: ways to compare, of `slap.datamodules.overlap.WAYS`.
        out: the file beside which the parts lie.
        columns: columns of tables whose names are not the known ones.
    """

    train: Path
    evaluation: Sequence[Path]
    ways: set[str]
    out: Path
    columns: Columns | None = None

    def open(self) -> tuple[Overlap, Parts]:
        """Open the manifests, and the parts."""
        found = opened(self.train, self.evaluation, self.columns)
        clips = [found.train, *found.evaluation.sources]
        manifests = [plan_of(path, part) for path, part in zip(found.paths, clips, strict=True)]
        return found, Parts(self.out, {"manifests": manifests, "by": sorted(self.ways)})


def search_part(asked: Comparison, part: Part, workers: int, show: bool = False) -> bool:
    """Compare one part of the training clips, for `merge_search`.

    Args:
        asked: the comparison.
        part: the part.
        workers: number of processes that decode audio; 0 decodes in this one.
        show: show a progress bar.

    Returns:
        False if the part was complete before.

    Raises:
        ManifestError: a manifest cannot be used.
        ValueError: the parts have another plan, see `slap.core.parts`.
    """
    found, parts = asked.open()
    with parts.work(part) as folder:
        if folder is None:
            return False
        span = part.range_of(len(found.train), CHUNK)
        names = _empty(found)
        add_names(names, asked.ways, span)
        unread: list[str] = []
        if asked.ways & AUDIO:
            unread = _compare(found, asked.ways, span, folder, workers, show)
        parts.finish(part, {"names": _record(names), "unread": unread})
    return True


def _compare(found: Overlap, ways: set[str], span: range, folder: Path, workers: int, show: bool) -> list[str]:
    """Compare the audio of training clips; return messages about the evaluation clips that cannot be read."""
    known = _kept(folder / KNOWN)
    if known is None:
        known = evaluated(found, workers, show)
        _keep(folder / KNOWN, known)
    audio = KnownAudio(known, ways)
    first = next((start for start in span[::CHUNK] if not _chunk(folder, start).exists()), span.stop)
    chunk = _empty(found)
    for number, one in fingerprints(found.train, range(first, span.stop), workers, show, "training"):
        audio.compare(chunk, number, one)
        if (number + 1) % CHUNK == 0 or number + 1 == span.stop:
            _write(_chunk(folder, number // CHUNK * CHUNK), _record(chunk))
            chunk = _empty(found)
    return [one for one in known if isinstance(one, str)]


def merge_search(asked: Comparison) -> tuple[Overlap, Parts]:
    """Join what all parts found, as `search` does; the caller removes the parts.

    Raises:
        ManifestError: a manifest cannot be used.
        ValueError: a part is missing or has another plan; names it.
    """
    found, parts = asked.open()
    done = parts.complete()
    found.unread += done[0].result["unread"]
    records = [part.result["names"] for part in done]
    for part in done:
        starts = part.part.range_of(len(found.train), CHUNK)[::CHUNK] if asked.ways & AUDIO else ()
        records += [json.loads(_chunk(part.folder, start).read_text(encoding="utf-8")) for start in starts]
    for record in records:
        found.unread += record["unread"]
        for train, evaluation, ways, match in record["pairs"]:
            for way in ways:
                found.add(train, evaluation, way, FingerprintMatch(**match) if match else None)
    return found, parts


def _empty(found: Overlap) -> Overlap:
    return Overlap(found.train, found.evaluation, found.paths)


def _record(found: Overlap) -> dict[str, Any]:
    pairs = [[*key, pair.by, pair.match and asdict(pair.match)] for key, pair in found.pairs.items()]
    return {"pairs": pairs, "unread": found.unread}


def _chunk(folder: Path, start: int) -> Path:
    return folder / f"found-{start:012}.json"


def _write(path: Path, value: dict[str, Any]) -> None:
    with atomic_write(path) as file:
        json.dump(value, file, ensure_ascii=False)


def _keep(path: Path, known: Sequence[Fingerprint | str]) -> None:
    """Write fingerprints, and the messages among them, to a file."""
    read = {number: one for number, one in enumerate(known) if isinstance(one, Fingerprint)}
    lost = {str(number): one for number, one in enumerate(known) if isinstance(one, str)}
    about = {"count": len(known), "lost": lost, "contents": [one.content.hex() for one in read.values()]}
    with atomic_write(path, "wb") as file:
        np.savez(
            file,
            about=np.frombuffer(json.dumps(about).encode(), np.uint8),
            sizes=np.array([len(one.frames) for one in read.values()], np.int64),
            frames=np.concatenate([np.zeros(0, np.uint32), *(one.frames for one in read.values())]),
            sound=np.concatenate([np.zeros(0, bool), *(one.sound for one in read.values())]),
        )


def _kept(path: Path) -> list[Fingerprint | str] | None:
    """Return the fingerprints and messages that `_keep` wrote; None if there are none."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return list(_each(dict(arrays)))
    except (FileNotFoundError, BadZipFile):
        return None


def _each(arrays: dict[str, np.ndarray]) -> Iterator[Fingerprint | str]:
    about = json.loads(arrays["about"].tobytes())
    ends = np.cumsum(arrays["sizes"])[:-1]
    frames, sound = (iter(np.split(arrays[name], ends)) for name in ("frames", "sound"))
    contents = map(bytes.fromhex, about["contents"])
    for number in range(about["count"]):
        lost = about["lost"].get(str(number))
        yield lost if lost is not None else Fingerprint(next(frames), next(sound), next(contents))
