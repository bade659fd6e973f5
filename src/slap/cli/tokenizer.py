"""Train the text encoder's tokenizer on a manifest's captions.

Recipes do this by themselves, so it is needed only to share one tokenizer between runs, or to look at it before:

    slap tokenizer train.csv words.model --vocab-size 4000
    slap fit --recipe demo --model.text '{name: transformer, tokenizer: words.model, vocab_size: 4000}'

The model is a sentencepiece one. Captions become lower case, and rare characters bytes, so every caption has tokens.
"""

from __future__ import annotations

import argparse
from itertools import islice
from pathlib import Path


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("manifest", metavar="MANIFEST", help="a .csv, .jsonl or CutSet manifest, as for training")
    parser.add_argument("out", metavar="OUT", type=Path, help="the file to write; an older one is replaced")
    parser.add_argument(
        "--vocab-size", type=int, default=8000, metavar="N", help="the most pieces it may have (default: %(default)s)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Train and write the tokenizer, and print how large it is and how long captions get.

    Raises:
        ManifestError: the manifest is not there or has a fault.
        ValueError: OUT is a folder, or the vocabulary is too small; says the smallest that would do.
    """
    from slap.datamodules.manifests.read import captions_of, read_manifest
    from slap.nn.tokenizer import MOST_CAPTIONS, train_tokenizer

    out: Path = arguments.out
    if out.is_dir():
        raise ValueError(f"{out} is a folder; name the file to write, e.g. {out / 'words.model'}")
    captions = list(islice(captions_of(read_manifest(arguments.manifest)), MOST_CAPTIONS))
    tokenizer = train_tokenizer(captions, arguments.vocab_size)
    out.parent.mkdir(parents=True, exist_ok=True)
    tokenizer.save(out)
    tokens = sum(map(len, tokenizer.encode(captions)))
    print(
        f"{out}: {tokenizer.vocab_size} pieces from {len(captions)} captions, which take {tokens / len(captions):.1f} "
        "tokens on average, with those that begin and end them"
    )
    return 0
