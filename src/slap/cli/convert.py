"""Convert a checkpoint of another package into a folder that `slap.load` reads.

    slap convert 630k-audioset-best.pt clap --tokenizer roberta-base
    slap fit --recipe finetune --model.start clap ...

Converted are checkpoints of LAION's package laion_clap (.pt) with an HTS-AT and a RoBERTa: both encoders, both
projections and the temperature. Such a file holds no tokenizer: --tokenizer names a folder with that of roberta-base,
tokenizer.json, or vocab.json and merges.txt. Nothing of the file is run: tensors, plain data and numpy's numbers are
read, and files with anything else are refused. Checkpoints of Microsoft's package msclap are not converted, since no
encoder here has their layers. `slap export OUT FOLDER --format transformers` writes the model for
transformers.

Exit status: 0 done; 2 nothing was saved.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from slap.cli.options import add_allow_collapsed
from slap.core.errors import UserError


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("checkpoint", metavar="CKPT", type=Path, help="the checkpoint of laion_clap (.pt)")
    parser.add_argument("out", metavar="OUT", type=Path, help="the folder to write, which must not be there yet")
    parser.add_argument(
        "--tokenizer",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="folder with the tokenizer of roberta-base: tokenizer.json, or vocab.json and merges.txt",
    )
    parser.add_argument(
        "--licence",
        default="not stated",
        metavar="ID",
        help="license of the weights for the model card, e.g. cc0-1.0 (default: not stated)",
    )
    add_allow_collapsed(parser, "save")


def run(arguments: argparse.Namespace) -> int:
    """Read, check, save."""
    import torch

    from slap.encoders.hf import laion
    from slap.inference.model import Model
    from slap.inference.model_card import Card

    out: Path = arguments.out
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UserError(f"{out} is there already; OUT is a new folder")
    for path in (arguments.checkpoint, arguments.tokenizer):
        if not path.exists():
            raise FileNotFoundError(f"there is no {path}")
    model = Model(laion.load(arguments.checkpoint, arguments.tokenizer, torch.device("cpu")))
    model.save_pretrained(out, Card(arguments.checkpoint.stem, arguments.licence), arguments.allow_collapsed)
    print(f"{out}: {', '.join(sorted(path.name for path in out.iterdir()))}; the model is {model.name}")
    return 0
