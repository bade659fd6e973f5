"""`slap.load`: from a path to a model in use. Nothing here runs code that a file brings."""

from __future__ import annotations

import logging
import re
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import torch
from torch import nn

from slap.core.checkpoint_file import read
from slap.core.errors import UserError, suggest
from slap.inference import collapse, saved_model
from slap.inference.adapters import LORA, merged
from slap.inference.backend import AudioTextModel
from slap.inference.calibration_file import beside, read_calibration
from slap.inference.model import Model
from slap.inference.network_backend import DEFAULT_MAX_SECONDS, NetworkBackend
from slap.inference.published import why_not
from slap.inference.rebuild import build, cast, for_use
from slap.inference.shipped import STARTER, located
from slap.model.finite_weights import require_finite
from slap.model.network import MAX_SECONDS, Weights, chosen_state

READERS = "slap.models"
"""Entry-point group of readers of third-party folders: modules with `recognizes(folder)` and `load(folder, device)`,
which gives an `AudioTextModel`."""

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
"""The values that `load` takes as `dtype`."""

log = logging.getLogger(__name__)


def load(
    path: str | Path,
    device: str | torch.device | None = None,
    trust: bool = False,
    dtype: str | torch.dtype | None = None,
    weights: Weights = "raw",
) -> Model:
    """Load a trained model, ready for use. A collapsed one, which gives nearly the same embedding to all, is warned of.

    These three lines work right after installing:

        import slap

        model = slap.load("starter")  # the small model that comes with the package
        print(model.classify("clip.wav", ["dog", "rain"])[0][0].label)

    Args:
        path: a checkpoint that training wrote (`.ckpt`), a folder that `slap export` wrote, a folder of another library
            for which a reader is installed, or the name `starter`. `./starter` is a file or folder of that name.
        device: the device that it computes on; default: the first GPU if there is one, else the CPU.
        trust: take files from places and with endings, and weights that are not finite, which are refused otherwise.
            Nothing is unpickled all the same.
        dtype: the precision of weights and encoders: "float32" or "bfloat16"; default: as they were
            saved. Processors with bfloat16 instructions (AMX, AVX-512 BF16) and GPUs are several times faster in it.
            Embeddings differ by about a hundredth of their length, so the model has another name.
        weights: the weights of a checkpoint: "raw" as they were trained, or "ema", their exponential moving averages
            over the last part of the training. A folder of `slap export` holds one of them.

    Raises:
        UserError: there is nothing, an address on the net, a file of another kind, a model that cannot be rebuilt,
            another `dtype`, or a model without the averages that `weights` asks for; says why.
    """
    wanted = _dtype(dtype)
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", str(path)):
        raise UserError(f"{path} is an address; models are loaded from files and folders: download it first")
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    found = located(path)
    if not found.exists():
        raise UserError(_absent(path))
    if found.is_dir() and weights != "raw":
        raise UserError(f"{path} is a folder with one set of weights; `weights` selects those of a checkpoint (.ckpt)")
    model = _from_folder(found, place, trust) if found.is_dir() else _from_file(found, place, trust, weights)
    _calibrate(model, beside(found))
    if _quick(model):
        collapse.warn(model, path)  # before it changes its precision, which may be slow on this processor
    model = model if wanted is None else _in(wanted, model)
    half = isinstance(model.backend, NetworkBackend) and model.backend.dtype == torch.bfloat16
    if half and place.type == "cpu" and not computes_bfloat16():
        log.warning("this processor has no bfloat16 instructions, so float32 is faster, maybe a hundred times")
    return model


def _calibrate(model: Model, path: Path) -> None:
    """Take the calibration beside a model, if there is one and it was fitted for this model."""
    if path.is_file():
        try:
            model.calibration = read_calibration(path, model.name)
        except UserError as error:
            log.warning("the model has no calibrated probabilities: %s", error)


def _absent(path: str | Path) -> str:
    """Return the message about a model that is not there."""
    hint = suggest(str(path), [STARTER]).partition("?")
    return (
        f"there is no model {path}, neither file nor folder; {hint[0] + '? ' if hint[1] else ''}a checkpoint of "
        f"training (runs/mine/best.ckpt) or a folder that `slap export` wrote is loaded, as is {STARTER!r}, the model "
        "that comes with the package; slap.Model.from_pretrained loads from the Hugging Face hub"
    )


def _quick(model: Model) -> bool:
    """Return True if a model embeds a few inputs in no time, as none does in a precision that the processor lacks."""
    backend = model.backend
    if not isinstance(backend, NetworkBackend) or backend.dtype != torch.bfloat16:
        return True
    return backend.device.type != "cpu" or computes_bfloat16()


def computes_bfloat16() -> bool:
    """Return True if the processor has instructions for bfloat16 (on x86 AMX or AVX-512 BF16)."""
    return any(there is True for name, there in torch.cpu.get_capabilities().items() if "bf16" in name)


def _dtype(dtype: str | torch.dtype | None) -> torch.dtype | None:
    found = DTYPES.get(dtype) if isinstance(dtype, str) else dtype
    if dtype is not None and found not in DTYPES.values():
        raise UserError(f"dtype must be one of {', '.join(DTYPES)}; got {dtype!r}")
    return found


def _in(dtype: torch.dtype, model: Model) -> Model:
    if not isinstance(model.backend, NetworkBackend):
        raise UserError(f"only SLAP's own models change their dtype, not a {type(model.backend).__name__}")
    cast(model.backend.network, dtype)
    return model


def _from_file(path: Path, device: torch.device, trust: bool, weights: Weights) -> Model:
    if path.suffix != ".ckpt" and not trust:
        raise UserError(
            f"{path} is no checkpoint (.ckpt) and no folder that `slap export` wrote; these are loaded. `slap convert` "
            "makes a folder of a checkpoint (.pt) of LAION's package laion_clap"
        )
    return Model(checkpoint(path, device, weights, trust))


def checkpoint(path: Path, device: torch.device, weights: Weights = "raw", trust: bool = False) -> NetworkBackend:
    """Load the model of a checkpoint that training wrote.

    Args:
        path: of the checkpoint.
        device: the device that it computes on.
        weights: those as they were trained, "raw", or their averages, "ema".
        trust: take weights that are not finite, too.

    Raises:
        ValueError: it is damaged, of something else, would run code, has weights that are not finite, or lacks the
            weights that are asked for.
    """
    content = read_checkpoint(path)
    arguments, absent = for_use(content["hyper_parameters"])
    try:
        state = merged(chosen_state(content, weights, path), content["hyper_parameters"].get(LORA))
        network = build(arguments, state, trust=trust).to(device)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    seconds = content.get(MAX_SECONDS, DEFAULT_MAX_SECONDS)
    return NetworkBackend(network, arguments, seconds, absent, weights=weights)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint's content; only tensors and plain data are read.

    Raises:
        ValueError: it is damaged, of something else, or would run code.
    """
    content = read(path, mmap=True)
    if not isinstance(content, dict) or not {"hyper_parameters", "state_dict"} <= set(content):
        raise UserError(f"{path} is no checkpoint of SLAP: it lacks hyper_parameters or state_dict")
    return content


def _from_folder(folder: Path, device: torch.device, trust: bool) -> Model:
    if saved_model.recognizes(folder):
        return Model(*saved_model.read(folder, device, trust))
    for entry in entry_points(group=READERS):
        reader = entry.load()
        if reader.recognizes(folder):
            backend: AudioTextModel = reader.load(folder, device)
            for part in vars(backend).values():
                if isinstance(part, nn.Module) and not trust:
                    require_finite(part, part.state_dict(), f"get {folder} again (trust=True loads it anyway)")
            return Model(backend)
    reason = why_not(folder)
    raise UserError(
        f"{folder} holds no model that is known here: no folder of `slap export`, nor of another library"
        + (f"; {reason}" if reason else "")
    )
