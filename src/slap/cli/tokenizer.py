"""Train the text encoder's tokenizer on a manifest's captions.

Recipes train their own tokenizer; this command is for sharing one between runs, or for inspecting it before:

    slap tokenizer train.csv words.model --vocab-size 4000
    slap fit --recipe demo --model.text '{name: transformer, tokenizer: words.model, vocab_size: 4000}'

The result is a sentencepiece model. Captions are converted to lower case, and rare characters to bytes, so every
caption has tokens.
"""

from __future__ import annotations

import argparse
from itertools import islice
from pathlib import Path

from slap.cli.options import add_columns, add_overwrite, check_free
from slap.core.errors import UserError


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("manifest", metavar="MANIFEST", help="manifest: .csv, .tsv, .jsonl, .jsonl.gz or Shar")
    parser.add_argument("out", metavar="OUT", type=Path, help="file to write")
    parser.add_argument(
        "--vocab-size",
        type=int,
        default=8000,
        metavar="N",
        help="largest number of pieces (default: %(default)s)",
    )
    add_overwrite(parser, "the file OUT")
    add_columns(parser)


def run(arguments: argparse.Namespace) -> int:
    """Train and write the tokenizer, and print its number of pieces and the mean length of captions.

    Raises:
        ManifestError: the manifest does not exist or has a fault.
        ValueError: OUT is a folder or exists, or the vocabulary is too small; names the smallest one that is possible.
    """
    from slap.datamodules.manifests.read import captions_of, read_manifest
    from slap.nn.tokenizer import MOST_CAPTIONS, train_tokenizer

    out: Path = arguments.out
    if out.is_dir():
        raise UserError(f"{out} is a folder; name the file to write, e.g. {out / 'words.model'}")
    check_free(out, arguments.overwrite)
    captions = list(islice(captions_of(read_manifest(arguments.manifest, columns=arguments.columns)), MOST_CAPTIONS))
    tokenizer = train_tokenizer(captions, arguments.vocab_size)
    out.parent.mkdir(parents=True, exist_ok=True)
    tokenizer.save(out)
    tokens = sum(map(len, tokenizer.encode(captions)))
    print(
        f"{out}: {tokenizer.vocab_size} pieces from {len(captions)} captions, with {tokens / len(captions):.1f} "
        "tokens per caption on average, begin and end tokens included"
    )
    return 0
