"""The record beside exported graphs: all that it takes to use them, in `graphs.json`.

    audio.onnx, text.onnx   the graphs
    tokenizer.model         the tokenizer (`tokenizer.json` for one of the `tokenizers` library)
    graphs.json             sample rate, limits, tokens, names of inputs and outputs, checksums of the files

These files suffice without the weights of the folder. This module needs no torch: `slap.onnx` reads what
`slap.inference.export` writes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from slap.core.calibration import Calibration
from slap.core.errors import UserError
from slap.core.files import atomic_write, file_inside, read_json, sha256_of
from slap.core.units import Seconds

RECORD = "graphs.json"
FORMAT = 1

SIDES = {"audio": "samples", "text": "tokens"}
"""The graphs, with the name of the input; that of the output is `audio_embedding` and `text_embedding`."""

TOKENIZERS = ("tokenizer.model", "tokenizer.json")
"""The file of a sentencepiece model, or of a tokenizer of the `tokenizers` library."""

GRAPHS = tuple(f"{side}.{kind}" for kind in ("onnx", "pt2") for side in SIDES)
"""The files of graphs: of ONNX, and of torch.export."""

LARGEST_RECORD = 1 << 20
"""Bytes of the record, at most."""

MOST_SAMPLES = 1 << 31
"""Samples of a window, at most."""


@dataclass(frozen=True)
class Text:
    """The way from a text to the input of its graph.

    Attributes:
        tokenizer: name of the tokenizer's file.
        bos: id of the token that begins every text.
        eos: id of the token that ends every text.
        max_tokens: tokens of a text at most, these two included; a longer text loses its end.
    """

    tokenizer: str
    bos: int
    eos: int
    max_tokens: int


@dataclass(frozen=True)
class GraphRecord:
    """The facts about exported graphs.

    Attributes:
        name: of the model, a content hash.
        sample_rate: of the audio graph's input, Hz.
        max_seconds: duration of the longest window.
        embedding_dim: E.
        text: the way from a text to tokens; None for a model without a tokenizer.
        calibration: the rule that turns cosines into probabilities.
        inputs: name of each graph's input.
        outputs: name of each graph's output.
        files: SHA-256 of each file, by its name.
        version: of slap-audio that wrote it.
    """

    name: str
    sample_rate: int
    max_seconds: Seconds
    embedding_dim: int
    text: Text | None
    calibration: Calibration | None
    inputs: Mapping[str, str] = field(default_factory=lambda: dict(SIDES))
    outputs: Mapping[str, str] = field(default_factory=lambda: {side: f"{side}_embedding" for side in SIDES})
    files: Mapping[str, str] = field(default_factory=dict)
    version: str = ""

    @property
    def window(self) -> int:
        """Samples of the longest window."""
        return round(self.max_seconds * self.sample_rate)

    def write(self, folder: Path) -> None:
        """Write the record; the checksum covers all of it, and through `files` the other files."""
        content = {"format": FORMAT, **asdict(self)}
        with atomic_write(folder / RECORD) as file:
            file.write(json.dumps({**content, "checksum": checksum(content)}, indent=2) + "\n")


def checksum(content: Mapping[str, Any]) -> str:
    """Compute the SHA-256 of a record without its checksum, in hexadecimal."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def read_record(folder: Path, trust: bool = False) -> GraphRecord:
    """Read the record of a folder that others may have made; its values are checked, the other files are not.

    Args:
        folder: the folder.
        trust: follow a link out of the folder, and take a wrong checksum.

    Raises:
        UserError: there is none, it is a link to elsewhere, too large, damaged, changed or of another format.
    """
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}; `slap export MODEL FOLDER --onnx` writes one")
    if not (folder / RECORD).is_file():
        raise UserError(f"{folder} has no {RECORD}, so it holds no graphs; write them with `slap export --onnx`")
    path = folder / RECORD if trust else file_inside(folder, RECORD)
    if path.stat().st_size > LARGEST_RECORD:
        raise UserError(f"{path} has {path.stat().st_size} bytes; a record has {LARGEST_RECORD} at most")
    content = read_json(path)
    if content.get("format") != FORMAT:
        raise UserError(f"{path} has format {content.get('format')!r}; this version reads {FORMAT}: update the package")
    if content.pop("checksum", None) != checksum(content) and not trust:
        raise UserError(f"{path} is not what was written: its checksum is wrong; get it again (trust=True reads it)")
    try:
        return _record(content)
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:
        raise UserError(f"{path} is damaged: {error}") from error


def _record(content: Mapping[str, Any]) -> GraphRecord:
    values = {one.name: content[one.name] for one in fields(GraphRecord)}
    text, rule = values["text"], values["calibration"]
    record = GraphRecord(
        **{
            **values,
            "text": None if text is None else Text(**text),
            "calibration": None if rule is None else Calibration.from_plain(rule),
        }
    )
    whole = {"sample_rate": (100, 768_000), "embedding_dim": (1, 1_000_000)}
    for name, (low, high) in whole.items():
        _check_whole(name, getattr(record, name), low, high)
    if not isinstance(record.max_seconds, float | int) or not 1 <= record.window <= MOST_SAMPLES:
        raise ValueError(f"max_seconds is {record.max_seconds!r}")
    if record.text is not None:
        _check_text(record.text)
    for names in (record.inputs, record.outputs, record.files):
        if not isinstance(names, Mapping) or not all(isinstance(value, str) for value in names.values()):
            raise ValueError(f"inputs, outputs and files must map names to texts, got {names!r:.80}")
    return record


def _check_text(text: Text) -> None:
    if text.tokenizer not in TOKENIZERS:
        raise ValueError(f"the tokenizer's file must be {' or '.join(TOKENIZERS)}, got {text.tokenizer!r:.80}")
    _check_whole("max_tokens", text.max_tokens, 3, 1_000_000)
    for name in ("bos", "eos"):
        _check_whole(name, getattr(text, name), 0, (1 << 31) - 1)


def _check_whole(name: str, value: Any, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"{name} must be a whole number of {low} to {high}, got {value!r:.80}")


def checksums(folder: Path, *others: str) -> dict[str, str]:
    """Compute the SHA-256 of the graphs of a folder, and of other files, by name."""
    names = [name for name in GRAPHS if (folder / name).exists()]
    return {name: sha256_of(folder / name) for name in (*names, *others)}


def remove_graphs(folder: Path) -> None:
    """Remove the graphs of a folder with their record, as they are those of a model that is replaced."""
    for name in (RECORD, *GRAPHS):
        (folder / name).unlink(missing_ok=True)
