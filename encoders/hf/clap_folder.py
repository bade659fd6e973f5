"""CLAP models of the `transformers` library for `slap.load`, from a folder that `ClapModel` was saved to.

The folder holds the model (safetensors), the feature extractor and the tokenizer, as the models published by LAION do.
`slap.encoders.hf.clap_files` reads them: nothing is unpickled, no code of the folder runs, and nothing else is opened.

It becomes a network of SLAP with CLAP's encoders, projections and temperature, which is trained, evaluated and exported
as any other, see `slap.encoders.hf.clap_network`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from slap.core.errors import UserError
from slap.core.files import read_json
from slap.core.outline import outline
from slap.encoders.hf.clap_files import CONFIG, ClapFiles
from slap.encoders.hf.clap_network import clap_of, network_of
from slap.encoders.hf.pretrained import make_extractor, require_transformers
from slap.inference.graph_record import remove_graphs
from slap.inference.model_card import Card, write_card
from slap.inference.network_backend import NetworkBackend
from slap.nn.json_tokenizer import HFTokenizer

COMPUTED = ("position_ids", "token_type_ids", "relative_position_index", "num_batches_tracked")
"""Ends of the names of tables that the model makes by itself, so that files may lack them."""

USE = """```python
from transformers import ClapModel, ClapProcessor

model, processor = ClapModel.from_pretrained("FOLDER"), ClapProcessor.from_pretrained("FOLDER")
```

`FOLDER` is the folder of this file; `slap.load` reads it too. The processor takes a random part of recordings that are
longer than the model takes, `slap.load` takes them in overlapping windows."""
"""How the model card says to use what `write` wrote."""


def recognizes(folder: Path) -> bool:
    """Return whether a folder holds a CLAP model of transformers."""
    try:
        return (folder / CONFIG).is_file() and read_json(folder / CONFIG).get("model_type") == "clap"
    except (OSError, UserError):
        return False


def load(folder: Path, device: torch.device) -> NetworkBackend:
    """Load the model of a folder.

    Raises:
        ImportError: transformers is missing or too old.
        ValueError: the weights are no safetensors or incomplete, or there is no feature extractor or tokenizer.
    """
    require_transformers()
    from transformers import ClapFeatureExtractor

    files = ClapFiles(folder)
    model = make_model(files.config(), files.weights(), folder)
    try:
        extractor = make_extractor(ClapFeatureExtractor, files.extractor())
        tokenizer = HFTokenizer.of(files.tokenizer(), str(folder))
    except (OSError, ValueError, TypeError, ArithmeticError) as error:
        raise UserError(f"{folder} needs a feature extractor and a tokenizer beside the model: {error}") from error
    return network_of(model, extractor, tokenizer, device)


def make_model(config: Any, weights: dict[str, Tensor], folder: Path) -> Any:
    """Make the model of a configuration and fill it with weights, after a look at their sizes.

    Raises:
        ValueError: the weights are incomplete, or of another model.
    """
    from transformers import ClapModel

    outline(lambda: ClapModel(config), weights)
    try:
        made, report = ClapModel.from_pretrained(
            None, config=config, state_dict=weights, dtype=torch.float32, output_loading_info=True
        )
    except RuntimeError as error:
        raise UserError(f"{folder} has weights of another model than its config.json describes: {error}") from error
    missing = sorted(name for name in report["missing_keys"] if not name.endswith(COMPUTED))
    if missing:
        raise UserError(f"{folder} lacks weights, so they would stay random: {', '.join(missing)}")
    return made


def write(backend: NetworkBackend, folder: Path, card: Card) -> None:
    """Write a model into a folder that `ClapModel` and `ClapProcessor` of transformers load.

    Args:
        backend: a network with CLAP's encoders and projections.
        folder: the folder; made if it is not there.
        card: the facts that the model card states beyond the model itself.

    Raises:
        UserError: the model has other encoders or projections.
    """
    require_transformers()
    model, processor = clap_of(backend)
    folder.mkdir(parents=True, exist_ok=True)
    remove_graphs(folder)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    readme = folder / "README.md"
    readme.write_text(write_card(backend, card, backend.arguments, USE), encoding="utf-8")
    for weights in folder.glob("*.safetensors"):
        weights.chmod(readme.stat().st_mode)  # safetensors writes files for their owner alone
