"""Checkpoints and saved models of damaged bytes, and what a browser asks of the web page."""

from __future__ import annotations

import json
from functools import cache
from io import BytesIO
from pathlib import Path
from tempfile import mkdtemp

import torch
from fuzz_tools import Rng, changed, damaged, odd_text, one_of, told
from safetensors.torch import save_file

from slap.core.files import digest
from slap.inference.load import read_checkpoint
from slap.inference.saved_model import CONFIG, WEIGHTS, read, recognizes
from slap.search.web.media import byte_range


@cache
def checkpoint() -> bytes:
    """A checkpoint that holds little."""
    memory = BytesIO()
    torch.save({"hyper_parameters": {"audio": "x", "lr": 1.0}, "state_dict": {"w": torch.ones(3)}, "epoch": 1}, memory)
    return memory.getvalue()


def checkpoints(rng: Rng, folder: Path) -> None:
    """A damaged checkpoint is refused with a message, or is plain data."""
    path = folder / "a.ckpt"
    path.write_bytes(damaged(checkpoint(), rng))
    try:
        content = read_checkpoint(path)
    except ValueError as error:
        told(error)
    else:
        assert isinstance(content, dict)


@cache
def model() -> tuple[dict[str, object], bytes]:
    """The config of a saved model that no plug-in fits, and its weights: reading goes as far as building it."""
    state = {"w": torch.ones(3)}
    path = Path(mkdtemp(prefix="fuzz_model")) / WEIGHTS
    save_file(state, path, {"format": "pt"})
    arguments = {"audio": {"name": "none"}, "text": {"name": "none"}, "embedding_dim": 4, "objectives": {}}
    config = {"model_type": "slap", "format": 1, "version": "0.1.0", "arguments": arguments, "max_seconds": 2.0}
    config |= {"absent": {}, "calibration": None, "checksum": digest(arguments, state)}
    return config, path.read_bytes()


def saved_models(rng: Rng, folder: Path) -> None:
    """The folder of a damaged model is refused with a message."""
    config, weights = model()
    text = json.dumps(changed(config, rng) if rng.random() < 0.7 else config).encode("utf-8", "surrogatepass")
    (folder / CONFIG).write_bytes(damaged(text, rng) if rng.random() < 0.3 else text)
    (folder / WEIGHTS).write_bytes(damaged(weights, rng) if rng.random() < 0.5 else weights)
    recognizes(folder)
    try:
        read(folder, torch.device("cpu"), trust=bool(rng.random() < 0.5))
    except ValueError as error:
        told(error)
    else:
        raise AssertionError("a model without its plug-ins was built")


def ranges(rng: Rng, folder: Path) -> None:
    """Whatever a browser asks for is a part of the file, all of it, or not there."""
    del folder
    size = int(rng.integers(1, 2**33))
    numbers = [str(int(rng.integers(0, 2 ** int(rng.integers(1, 62))))) for _ in range(2)]
    asked = one_of(
        [f"bytes={numbers[0]}-{numbers[1]}", f"bytes=-{numbers[0]}", f"bytes={numbers[0]}-", odd_text(rng)], rng
    )
    try:
        part = byte_range(asked, size)
    except IndexError:
        return
    assert part is None or 0 <= part[0] < part[1] <= size
