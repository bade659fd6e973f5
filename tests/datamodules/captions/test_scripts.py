"""Captions as people write them, and as files damage them, through both tokenizers' training batch.

What is no caption at all is in test_validate.
"""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from slap.core.bad_clip import BadClip
from slap.core.batch import Batch
from slap.datamodules import AudioTextData, ManifestError, read_manifest
from slap.datamodules.captions.validate import LONGEST
from slap.model.contracts import TextEncoder
from slap.model.specs import build_encoder

RATE = 16000
STRANGE = {
    "long": "rain " * 2000,  # 10,000 characters
    "longest": "x" * LONGEST,
    "emoji": "a dog 🐶 barks 👩‍👩‍👧 🔊",
    "right to left": "كلب ينبح ثم מטר יורד",
    "marks": "\u200f\u200e marks that hint at a direction, and\ta tab",
    "lines": "first line\nsecond line\r\nthird",
    "cjk": "狗在叫,然后下雨",
    "combining": "Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢LGO",
    "quotes": 'he said "hello, world", twice',
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("captions")
    soundfile.write(folder / "a.wav", np.random.default_rng(0).uniform(-0.5, 0.5, 4000), RATE)
    return folder


@pytest.fixture(scope="module")
def text() -> TextEncoder:
    encoder = build_encoder(TextEncoder, {"name": "transformer", "size": "nano", "vocab_size": 400, "max_tokens": 64})
    encoder.prepare(iter(["a dog barks", *STRANGE.values()]))
    return encoder


def opened(path: Path, text: TextEncoder, **options) -> AudioTextData:
    data = AudioTextData(path, path, **{"max_duration": 60.0, "num_buckets": 1, **options})
    data.connect(RATE, text.tokenize)
    data.setup("fit")
    return data


def table(path: Path, captions: dict[str, str]) -> Path:
    rows = [{"id": name, "audio": "a.wav", "caption": text} for name, text in captions.items()]
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    return path


def test_strange_captions_are_trained_as_they_are(folder: Path, text: TextEncoder) -> None:
    data = opened(table(folder / "strange.jsonl", STRANGE), text)
    batches = [*data.train_dataloader(), *data.val_dataloader()]
    assert not [clip for batch in batches for clip in batch.bad]
    seen = {name: text for batch in batches for name, text in zip(batch.ids, batch.captions, strict=True)}
    assert seen == {name: text.strip() for name, text in STRANGE.items()}
    sizes = {name: size for batch in batches for name, size in zip(batch.ids, batch.text.sizes, strict=True)}
    assert sizes["long"] == sizes["longest"] == 64  # cut at the text encoder's maximum
    assert all(2 < size <= 64 for size in sizes.values())
    for batch in batches:
        with torch.no_grad():
            assert text(batch.text).values.isfinite().all()


def test_the_same_from_csv(folder: Path) -> None:
    with (folder / "strange.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "audio", "caption"])
        writer.writerows([name, "a.wav", text] for name, text in STRANGE.items())
    cuts = {cut.id: cut.supervisions[0].text for cut in read_manifest(folder / "strange.csv")}
    assert cuts == {name: text.strip() for name, text in STRANGE.items()}


@pytest.mark.parametrize(
    ("line", "detail"),
    [
        (b'{"id": "bad", "audio": "a.wav", "caption": "caf\xe9"}', "manifests are UTF-8 text, this line is not"),
        (b'{"id": "bad", "audio": "a.wav", "caption": "half \\ud83d"}', "manifests are UTF-8 text"),
        (b'{"id": "bad", "audio": "a.wav", "caption": ""}', "must be text that is not empty, got ''"),
        (b'{"id": "bad", "audio": "a.wav", "caption": " \\u2003\\n"}', "must be text that is not empty"),
        (b'{"id": "bad", "audio": "a.wav"}', "the caption is empty; each row needs one"),
        (b'{"id": "bad", "audio": "a.wav", "caption": ["good", ""]}', "must be text that is not empty"),
    ],
)
def test_captions_that_are_none_are_left_out_with_their_row(folder: Path, line: bytes, detail: str) -> None:
    good = [json.dumps({"id": str(i), "audio": "a.wav", "caption": f"sound {i}"}).encode() for i in range(30)]
    (folder / "some.jsonl").write_bytes(b"\n".join([*good[:7], line, *good[7:]]))
    bad: list[BadClip] = []
    assert len(read_manifest(folder / "some.jsonl", bad=bad)) == 30
    assert [(clip.id, clip.reason, clip.where) for clip in bad] == [
        ("bad", "caption", f"{folder / 'some.jsonl'}, line 8")
    ]
    assert detail in bad[0].detail
    json.dumps([bad[0].detail]).encode()  # it can be written
    with pytest.raises(ManifestError, match=r"some\.jsonl: 1 of 31 clips are bad \(1 caption\)"):
        read_manifest(folder / "some.jsonl", max_bad=0.01)


def test_captions_of_cuts_are_looked_at_when_they_are_drawn(folder: Path, text: TextEncoder) -> None:
    """Read a manifest by Lhotse, which may hold half a character, which no tokenizer takes."""
    plain = read_manifest(table(folder / "plain.jsonl", {str(i): f"sound {i}" for i in range(4)}))
    records = [cut.to_dict() for cut in plain]
    records[2]["supervisions"][0]["text"] = "half \ud83d"
    (folder / "cuts.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    data = opened(folder / "cuts.jsonl", text, max_bad=1.0)
    for batches in (list(data.train_dataloader()), list(data.val_dataloader())):
        assert [(clip.id, clip.reason) for batch in batches for clip in batch.bad] == [("2", "caption")]
        assert {name for batch in batches for name in batch.ids} == {"0", "1", "3"}
        assert all(isinstance(batch, Batch) for batch in batches)
