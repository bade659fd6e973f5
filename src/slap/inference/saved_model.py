"""A saved model: a folder that can be given to others, and is read without running code that it brings.

    config.json         arguments of the network as plain data, the trained maximum, a checksum
    model.safetensors   weights
    tokenizer.model     the text encoder's tokenizer as its bytes (`tokenizer.json` for one of the `tokenizers` library)
    README.md           the model card
    modules.json, config_sentence_transformers.json    what the sentence-transformers library looks for

The checksum covers arguments, weights and tokenizer; it is verified when the folder is read. Weights may be stored in
half precision, which halves the file; the model that is loaded computes in float32 all the same.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from slap.core.calibration import Calibration
from slap.core.errors import UserError, suggest
from slap.core.files import atomic_write, digest, read_json
from slap.inference.backend import AudioTextModel
from slap.inference.graph_record import TOKENIZERS, remove_graphs
from slap.inference.model_card import Card, write_card
from slap.inference.network_backend import NetworkBackend
from slap.inference.rebuild import build, for_use

FORMAT = 1
CONFIG, WEIGHTS, README = "config.json", "model.safetensors", "README.md"
TOKENIZER_STATE = "text._extra_state"
"""The key under which a text encoder keeps its tokenizer's bytes."""

Precision = Literal["bfloat16", "float16"]
"""Precision in which weights may be stored. In float16 they are nearer to what they were, and in bfloat16 none is too
large."""

HALVES: dict[str, torch.dtype] = {"bfloat16": torch.bfloat16, "float16": torch.float16}

FOR_SENTENCE_TRANSFORMERS: dict[str, Any] = {
    "modules.json": [{"idx": 0, "name": "0", "path": "", "type": "slap.inference.sentence_transformer.AudioText"}],
    "config_sentence_transformers.json": {"model_type": "SentenceTransformer", "similarity_fn_name": "cosine"},
}
"""Files by which sentence-transformers knows the class that reads a folder, see `slap.inference.sentence_transformer`;
`slap.load` reads none of them."""

KIND = "slap"
"""`model_type` in config.json, by which folders of different libraries are told apart."""


def save(
    backend: AudioTextModel,
    calibration: Calibration | None,
    folder: str | Path,
    card: Card | None = None,
    precision: Precision | None = None,
    without: Sequence[str] = (),
) -> None:
    """Write a model into a folder; files of an older model in it are replaced, and its graphs removed.

    Args:
        backend: SLAP's own network.
        calibration: the rule that turns cosines into probabilities, which may differ from the backend's.
        folder: the folder; made if it is not there.
        card: the facts that the model card states beyond the model itself.
        precision: in which the weights are stored; None is as they are. Single numbers, such as the scale of cosines,
            stay as they are.
        without: objectives to leave out, e.g. `captioning`: the model then writes no captions.

    Raises:
        TypeError: a model of another library.
        ValueError: an unknown precision, weights that are too large for it, or an objective that the model lacks.
    """
    folder = Path(folder)
    if not isinstance(backend, NetworkBackend):
        raise TypeError(f"only SLAP's own models are saved in this format, not a {type(backend).__name__}")
    arguments = _without(backend.arguments, without)
    unused = tuple(f"objectives.{name}." for name in without)
    state = {
        name: _stored(name, value.detach().cpu(), precision)
        for name, value in backend.state_in_use().items()
        if not name.startswith(unused)
    }
    folder.mkdir(parents=True, exist_ok=True)
    if not state.get(TOKENIZER_STATE, torch.ones(1)).numel():  # an encoder that has no tokenizer yet
        del state[TOKENIZER_STATE]
    own = calibration == backend.calibration and not without  # else what is left out may be what learned it
    config = {
        "model_type": KIND,
        "format": FORMAT,
        "version": version("slap-audio"),
        "arguments": arguments,
        "max_seconds": backend.max_seconds,
        "absent": {**backend.absent, **dict.fromkeys(without, "it was left out when the model was exported")},
        "weights": backend.weights,
        "calibration": None if calibration is None or own else calibration.plain(),
        "checksum": digest(arguments, state),
    }
    remove_graphs(folder)
    for name in (*TOKENIZERS, CONFIG):  # without a config, a folder that is half written is no model
        (folder / name).unlink(missing_ok=True)
    tokenizer = state.pop(TOKENIZER_STATE, torch.empty(0))
    if tokenizer.numel():
        proto = tokenizer.numpy().tobytes()
        with atomic_write(folder / TOKENIZERS[proto.startswith(b"{")], "wb") as file:
            file.write(proto)
    with atomic_write(folder / WEIGHTS, "wb") as file:
        save_file(state, file.name, {"format": "pt"})
        # safetensors puts a file in its place that only its owner may read.
        Path(file.name).chmod(os.fstat(file.fileno()).st_mode)
    with atomic_write(folder / README) as file:
        file.write(write_card(backend, replace(card or Card(), stored_in=precision), arguments))
    for name, content in FOR_SENTENCE_TRANSFORMERS.items():
        with atomic_write(folder / name) as file:
            file.write(json.dumps(content, indent=2) + "\n")
    with atomic_write(folder / CONFIG) as file:
        file.write(json.dumps(config, indent=2) + "\n")


def _without(arguments: dict[str, Any], objectives: Sequence[str]) -> dict[str, Any]:
    known = arguments["objectives"]
    for name in objectives:
        if name not in known:
            raise UserError(f"the model has no objective {name!r} to leave out; {suggest(name, known)}")
    return {**arguments, "objectives": {name: spec for name, spec in known.items() if name not in objectives}}


def _stored(name: str, value: Tensor, precision: Precision | None) -> Tensor:
    """Return a copy of a tensor as it is stored."""
    if precision is None or not value.is_floating_point() or not value.dim():
        return value.contiguous().clone()
    if precision not in HALVES:
        raise UserError(f"weights are stored in one of {', '.join(HALVES)}; got {precision!r}")
    half = value.to(HALVES[precision]).contiguous()
    if bool((half.isinf() & ~value.isinf()).any()):
        raise UserError(f"{name} has values that are too large for {precision}: store it in bfloat16")
    return half


def recognizes(folder: Path) -> bool:
    """Return True if a folder holds a saved model of SLAP."""
    try:
        return (folder / CONFIG).is_file() and read_json(folder / CONFIG).get("model_type") == KIND
    except (OSError, UserError):
        return False


def read(
    folder: Path, device: torch.device, trust: bool = False, root: Path | None = None
) -> tuple[NetworkBackend, Calibration | None]:
    """Read a model from a folder, and the calibration that was saved with it, if it differs from the backend's.

    Args:
        folder: what `save` wrote.
        device: the device that it computes on.
        trust: take files that are links to elsewhere, and weights whose checksum is wrong or that are not finite.
        root: links may lead anywhere below; default: the folder.

    Raises:
        ValueError: a file is missing, leads elsewhere, is damaged, or was changed; or a plug-in is missing.
    """
    allowed = None if trust else (root or folder)
    config = _config(_inside(folder, CONFIG, allowed))
    state = _weights(_inside(folder, WEIGHTS, allowed))
    for name in TOKENIZERS:
        if (folder / name).exists():
            proto = _inside(folder, name, allowed).read_bytes()
            state[TOKENIZER_STATE] = torch.frombuffer(bytearray(proto), dtype=torch.uint8)
    if not trust and digest(config["arguments"], state) != config["checksum"]:
        raise UserError(
            f"{folder} is not what was saved: its checksum is wrong, so weights, tokenizer or arguments were damaged "
            "or changed; get it again (trust=True loads it anyway)"
        )
    state.setdefault(TOKENIZER_STATE, torch.empty(0, dtype=torch.uint8))
    arguments, absent = for_use(config["arguments"])
    network = build(arguments, state, take=True, trust=trust)
    absent, weights = {**config["absent"], **absent}, config.get("weights", "raw")
    backend = NetworkBackend(network.to(device), arguments, config["max_seconds"], absent, weights=weights)
    return backend, None if config["calibration"] is None else Calibration.from_plain(config["calibration"])


def _inside(folder: Path, name: str, root: Path | None) -> Path:
    path = folder / name
    if not path.is_file():
        there = ", ".join(sorted(other.name for other in folder.iterdir())) or "nothing"
        raise UserError(f"{folder} has no {name}; it has {there}. Weights are read from safetensors only")
    if root is not None and not path.resolve().is_relative_to(root.resolve()):
        raise UserError(f"{path} is a link out of its folder, to {path.resolve()}; trust=True follows it")
    return path


def _config(path: Path) -> dict[str, Any]:
    config = read_json(path)
    if config.get("model_type") != KIND:
        raise UserError(f"{path} describes no model of SLAP")
    if config.get("format") != FORMAT:
        raise UserError(f"{path} has format {config.get('format')!r}; this version reads {FORMAT}: update slap-audio")
    missing = {"arguments", "max_seconds", "absent", "calibration", "checksum"} - set(config)
    if missing:
        raise UserError(f"{path} lacks {', '.join(sorted(missing))}")
    return config


def _weights(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is damaged or no safetensors file: {error}") from error
