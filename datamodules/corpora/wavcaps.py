"""WavCaps: captions that a language model made from the descriptions of 400,000 recordings."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from slap.core.registry import register
from slap.datamodules.corpora.base import Corpus
from slap.datamodules.corpora.csv_lists import first_of
from slap.datamodules.manifests.clip import Clip, ManifestError

COUNTS = {"AudioSet_SL": 108_317, "BBC_Sound_Effects": 31_201, "FreeSound": 262_300, "SoundBible": 1_232}

FILES = {"AudioSet_SL": "as", "BBC_Sound_Effects": "bbc", "FreeSound": "fsd", "SoundBible": "sb"}
"""The beginning of the name of each source's list."""

BLACKLISTED = {"AudioSet_SL": "AudioSet", "FreeSound": "FreeSound"}
"""The names of sources in the blacklists, which do not cover the other two."""

ORIGINS = {"AudioSet_SL": "youtube", "BBC_Sound_Effects": "bbc", "FreeSound": "freesound", "SoundBible": "soundbible"}

UNPACKED = "Zip_files/{source}/mnt/fast/nobackup/scratch4weeks/xm00178/WavCaps/data/waveforms/{source}_flac"
"""The folder that the published archives create when they are unpacked in place."""

PLACES = ("{source}", "{source}_flac", "Audio/{source}", "waveforms/{source}_flac", UNPACKED)


@register("wavcaps")
class WavCaps(Corpus):
    """Weakly labeled captions of 1 s to hours of audio from four sources, each of which is a split here.

    X. Mei et al., "WavCaps: A ChatGPT-Assisted Weakly-Labeled Audio Captioning Dataset for Audio-Language Multimodal
    Research", IEEE/ACM TASLP 2024, arXiv 2303.17395. For academic use only. Get it from
    huggingface.co/datasets/cvssp/WavCaps: `json_files/<Source>/*_final.json`, and the archives, joined and unpacked to
    32 kHz FLAC files; they are found in `<Source>/`, `<Source>_flac/`, `Audio/<Source>/`, `waveforms/<Source>_flac/`
    and the path within the archives.

    Leakage: it holds clips of AudioCaps, Clotho, ESC-50, UrbanSound8K and VGGSound. The blacklists that come with it
    (`json_files/blacklist/*.json`) name clips of AudioSet and Freesound; those clips are left out and counted.

    Args:
        root: folder with `json_files`.
        audio: folder with the sources' folders; None is ROOT.
        blacklists: paths of blacklists in the published form, `{"AudioSet": [ids], "FreeSound": [ids]}`.
    """

    SPLITS: ClassVar[tuple[str, ...]] = tuple(COUNTS)

    def __init__(self, root: Path, audio: Path | None = None, blacklists: Sequence[Path] = ()) -> None:
        super().__init__(root)
        self.audio = self.root if audio is None else Path(audio)
        self.blacklists = {str(path): _blacklist(Path(path)) for path in blacklists}

    def clips(self, split: str) -> Iterator[Clip]:
        """Yield the clips of a source, in the order of its list."""
        folder = self._folder(split)
        for name, caption in self._items(split):
            # Ids of AudioSet end in .wav, though the files are FLAC; blacklists have the ids of the list.
            stem = name.removesuffix(".wav")
            listing = [path for path, ids in self.blacklists.items() if name in ids.get(BLACKLISTED.get(split, ""), ())]
            if listing:
                self.leave_out(f"on the blacklist {Path(listing[0]).name}", name)
                continue
            if not caption.strip():
                self.leave_out("no caption", name)
                continue
            yield Clip(
                id=f"wavcaps/{split}/{stem}",
                audio=folder / f"{stem}.flac",
                captions=[caption.strip()],
                fields=["caption"],
                corpus="wavcaps",
                split=split,
                origin={ORIGINS[split]: stem[1:] if split == "AudioSet_SL" else stem},  # Y, then YouTube's id
            )

    def official(self, split: str) -> int:
        """Return 108,317, 31,201, 262,300 or 1,232 clips, without blacklists."""
        return COUNTS[split]

    def _folder(self, source: str) -> Path:
        places = [self.audio / place.format(source=source) for place in PLACES]
        return next((place for place in places if place.is_dir()), places[0])

    def _items(self, source: str) -> Iterator[tuple[str, str]]:
        """Yield id and caption of each item of a source's list."""
        name = f"{FILES[source]}_final.json"
        path = first_of(self.root, f"json_files/{source}/{name}", f"{source}/{name}", name)
        content = _json(path)
        items = content.get("data") if isinstance(content, dict) else content  # early SoundBible lists are bare
        if not isinstance(items, list):
            raise ManifestError(f"{path}: there is no list `data` in it")
        for number, item in enumerate(items):
            if not isinstance(item, dict) or not str(item.get("id") or "").strip():
                raise ManifestError(f"{path}, item {number}: each item needs an `id`, this is {str(item)[:80]}")
            yield str(item["id"]).strip(), str(item.get("caption") or "")


def _blacklist(path: Path) -> dict[str, set[str]]:
    content = _json(path)
    valid = set(BLACKLISTED.values())
    if not isinstance(content, dict) or not content.keys() <= valid:
        raise ManifestError(f'{path}: a blacklist is {{"AudioSet": [ids], "FreeSound": [ids]}}, as published')
    return {source: {str(name) for name in ids} for source, ids in content.items()}


def _json(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}, which is part of the corpus")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ManifestError(f"{path}: this is not JSON: {error}") from error
