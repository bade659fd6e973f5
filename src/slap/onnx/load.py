"""`slap.onnx.load`: from a folder of exported graphs to a model in use. Nothing here runs code that a file brings."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path

from slap.core.errors import MissingDependencyError, UserError
from slap.core.files import file_inside
from slap.inference.graph_record import RECORD, TOKENIZERS, GraphRecord, Text, read_record
from slap.nn.tokenizer import SentencePieceTokenizer, Tokenizer
from slap.onnx.model import OnnxModel

try:
    import onnxruntime
except ImportError as error:
    raise MissingDependencyError("slap.onnx needs onnxruntime: pip install 'slap-audio[onnx]'") from error

LARGEST_TOKENIZER = 1 << 26
"""Bytes of a tokenizer's file, at most."""

LARGEST_GRAPH = 1 << 31
"""Bytes of a graph, at most; protobuf allows no more."""

OTHER_FILE = re.compile(rb"\x0a(\x08|\x88\x80*\x00)location")
"""The beginning of the entry by which a graph names another file that holds its weights."""


def load(
    folder: str | Path,
    providers: Sequence[str] = ("CPUExecutionProvider",),
    threads: int | None = None,
    trust: bool = False,
) -> OnnxModel:
    """Load the graphs of a folder that `slap export --onnx` wrote.

    Args:
        folder: the folder; of its files, `graphs.json`, the graphs and the tokenizer are read.
        providers: of onnxruntime, the preferred one first.
        threads: threads of onnxruntime for one graph. Default: as many as there are cores.
        trust: follow links out of the folder, and take wrong checksums.

    Raises:
        UserError: a file is missing, a link to elsewhere, too large, damaged or was changed; a graph is no graph of
            ONNX, names other files, or has other inputs and outputs than the record says; or no such provider.
    """
    folder = Path(folder)
    record = read_record(folder, trust)
    unknown = sorted(set(providers) - set(onnxruntime.get_available_providers()))
    if unknown:
        there = ", ".join(onnxruntime.get_available_providers())
        raise UserError(f"onnxruntime has no provider {', '.join(unknown)} here; it has {there}")
    audio, text = (_session(folder, side, record, providers, threads, trust) for side in ("audio", "text"))
    return OnnxModel(record, audio, text, _tokenizer(folder, record, trust))


def _content(folder: Path, name: str, record: GraphRecord, most: int, trust: bool) -> bytes:
    """Return the bytes of a file, after its size, its place and its checksum were checked."""
    path = folder / name if trust else file_inside(folder, name)
    if not path.is_file():
        raise UserError(f"{folder} has no {name}; write it again with `slap export --onnx`")
    if path.stat().st_size > most:
        raise UserError(f"{path} has {path.stat().st_size} bytes; {most} are read at most")
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != record.files.get(name) and not trust:
        raise UserError(
            f"{path} is not what was exported with {folder / RECORD}: its checksum is wrong, so it was damaged or "
            "changed, or belongs to another model; get it again (trust=True loads it anyway)"
        )
    return content


def _session(
    folder: Path, side: str, record: GraphRecord, providers: Sequence[str], threads: int | None, trust: bool
) -> onnxruntime.InferenceSession:
    name = f"{side}.onnx"
    content = _content(folder, name, record, LARGEST_GRAPH, trust)
    if OTHER_FILE.search(content):
        raise UserError(f"{folder / name} names other files for its weights, which are not read; export it in one file")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(content, options, providers=list(providers))
    except Exception as error:  # onnxruntime's errors have no common base
        raise UserError(f"{folder / name} cannot be run by onnxruntime {onnxruntime.__version__}: {error}") from error
    wanted = ([record.inputs.get(side)], [record.outputs.get(side)])
    found = tuple([one.name for one in ends] for ends in (session.get_inputs(), session.get_outputs()))
    if found != wanted:
        raise UserError(f"{folder / name} has inputs and outputs {found}, the record says {wanted}")
    return session


def _tokenizer(folder: Path, record: GraphRecord, trust: bool) -> Tokenizer | None:
    if record.text is None:
        return None
    content = _content(folder, record.text.tokenizer, record, LARGEST_TOKENIZER, trust)
    if record.text.tokenizer == TOKENIZERS[0]:
        found: Tokenizer = SentencePieceTokenizer(content)
    else:
        found = _of_json(content, record.text, folder)
    if (found.bos, found.eos) != (record.text.bos, record.text.eos):
        raise UserError(f"{folder}: the tokenizer begins and ends texts with other tokens than the record says")
    return found


def _of_json(content: bytes, text: Text, folder: Path) -> Tokenizer:
    try:
        import tokenizers  # noqa: F401  # what HFTokenizer needs
    except ImportError as error:
        raise MissingDependencyError(
            f"the tokenizer of {folder} needs the package tokenizers: pip install 'slap-onnx[tokenizers]'"
        ) from error
    from slap.nn.json_tokenizer import HFTokenizer

    try:
        parts = json.loads(content)
        own = parts.get("tokenizer", parts)  # a folder of transformers has it alone
        return HFTokenizer(json.dumps({"tokenizer": own, "bos": text.bos, "eos": text.eos}).encode())
    except Exception as error:  # tokenizers raises plain Exception
        raise UserError(f"{folder / TOKENIZERS[1]} is no tokenizer: {error}") from error
