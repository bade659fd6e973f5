"""Both encoders as graphs that run without this library: ONNX, and the programs of torch.export.

`audio`: one waveform, (samples,) float32 at the model's rate, to its embedding, (E,), the log-mel spectrogram inside.
`text`: the token ids of one text, (tokens,) int64, with those that begin and end it, to its embedding, (E,).
Both take any length from 1 on.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx.experimental import _config

from slap.core.errors import MissingDependencyError
from slap.core.files import atomic_write
from slap.inference.graph_card import described
from slap.inference.graph_record import SIDES, TOKENIZERS, GraphRecord, Text, checksums
from slap.inference.model import Model
from slap.inference.network_backend import NetworkBackend
from slap.inference.saved_model import README
from slap.model.contracts import AudioEncoder
from slap.nn.json_tokenizer import HFTokenizer
from slap.nn.pooling import Pooling
from slap.nn.tokenizer import SentencePieceTokenizer

OPSET = 20
"""Of ONNX; the first whose DFT takes any axis."""

ONE = re.compile(r"expression Ne\(.*, 1\) on node")
"""The message of an assertion that something is not 1."""


class Side(nn.Module):
    """An encoder and its pooling head on one item."""

    def __init__(self, encoder: nn.Module, pool: Pooling) -> None:
        super().__init__()
        self.encoder = encoder
        self.pool = pool

    def forward(self, item: Tensor) -> Tensor:
        """Embed one item, (E,)."""
        return self.pool.single(self.encoder(item))


def graphs(model: Model, sides: Iterable[str] = tuple(SIDES)) -> dict[str, ExportedProgram]:
    """Export sides of a model as programs of torch.export, by default both.

    Raises:
        TypeError: a model of another library.
        NotImplementedError: an encoder that cannot be traced.
    """
    backend = model.backend
    if not isinstance(backend, NetworkBackend):
        raise TypeError(f"only SLAP's own models are exported, not a {type(backend).__name__}")
    network = backend.network
    examples = {
        "audio": (network.audio, network.audio_pool, torch.zeros(_samples(network.audio, model.sample_rate))),
        "text": (network.text, network.text_pool, torch.arange(12) % network.text.vocab_size),
    }
    programs = {}
    for side in sides:
        encoder, pool, example = examples[side]
        module = Side(encoder.graph(), pool).cpu().eval()
        # Lengths of 1 are lengths like others, and what holds of all lengths need not be proved beforehand.
        with _config.patch(backed_size_oblivious=True):  # type: ignore[attr-defined]  # torch adds it at import
            programs[side] = torch.export.export(
                module,
                (example,),
                dynamic_shapes=({0: Dim(SIDES[side], min=1)},),
                strict=False,
                prefer_deferred_runtime_asserts_over_guards=True,
            )
        _allow_one(programs[side])
    return programs


def _samples(encoder: AudioEncoder, rate: int) -> int:
    """Return the length of an example that has several of all that a clip may have several of, windows among them."""
    longest: int | None = getattr(encoder, "longest", None)
    return 2 * rate if longest is None else 5 * longest // 2


def _allow_one(program: ExportedProgram) -> None:
    """Remove the assertions that there are several of something, as of windows in the example.

    torch adds them where it chose between equal ways to compute a thing. Tests run clips of one window.
    """
    graph = program.graph_module.graph
    for node in list(graph.nodes):
        if node.target is torch.ops.aten._assert_scalar.default and ONE.search(str(node.args[1])):
            graph.erase_node(node)
    graph.eliminate_dead_code()
    program.graph_module.recompile()


def write_programs(programs: Mapping[str, ExportedProgram], folder: Path) -> None:
    """Write audio.pt2 and text.pt2, for `torch.export.load`, from `graphs`."""
    for side, program in programs.items():
        torch.export.save(program, folder / f"{side}.pt2")


def write_onnx(programs: Mapping[str, ExportedProgram], folder: Path) -> None:
    """Write audio.onnx and text.onnx, weights inside, from `graphs`.

    Raises:
        ImportError: onnx or onnxscript is missing.
    """
    try:
        import onnxscript  # noqa: F401 - what torch's exporter is made of
    except ImportError as error:
        raise MissingDependencyError("ONNX needs onnx and onnxscript: pip install 'slap-audio[onnx]'") from error
    for side, program in programs.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's exporter on its own deprecations
            torch.onnx.export(
                program,
                f=str(folder / f"{side}.onnx"),
                input_names=[SIDES[side]],
                output_names=[f"{side}_embedding"],
                opset_version=OPSET,
                external_data=False,
                dynamo=True,
                verbose=False,
            )


def write_record(model: Model, folder: Path) -> GraphRecord:
    """Write `graphs.json` beside the graphs of a folder, and a section about them into its model card.

    A folder without the tokenizer gets it.

    Args:
        model: the model that the graphs were made of.
        folder: the folder, see `slap.inference.graph_record`.
    """
    backend = model.backend
    assert isinstance(backend, NetworkBackend)
    text = _text(backend, folder)
    record = GraphRecord(
        name=model.name,
        sample_rate=model.sample_rate,
        max_seconds=model.max_seconds,
        embedding_dim=model.embedding_dim,
        text=text,
        calibration=model.calibration,
        files=checksums(folder, *([] if text is None else [text.tokenizer])),
        version=version("slap-audio"),
    )
    record.write(folder)
    if (folder / README).is_file():
        card = (folder / README).read_text(encoding="utf-8")
        with atomic_write(folder / README) as file:
            file.write(card.replace("\n## Use\n", f"\n## Graphs\n\n{described(record)}\n\n## Use\n", 1))
    return record


def _text(backend: NetworkBackend, folder: Path) -> Text | None:
    """Return the way from a text to tokens; None if the text encoder has no tokenizer that works without torch."""
    encoder = backend.network.text
    tokenizer, most = getattr(encoder, "tokenizer", None), getattr(encoder, "max_tokens", None)
    if not isinstance(tokenizer, SentencePieceTokenizer | HFTokenizer) or not isinstance(most, int):
        return None
    name = TOKENIZERS[isinstance(tokenizer, HFTokenizer)]
    if not (folder / name).exists():
        with atomic_write(folder / name, "wb") as file:
            file.write(tokenizer.proto)
    return Text(name, tokenizer.bos, tokenizer.eos, most)
