"""Pack the audio of a manifest into shards: a few large files that are read from front to back.

Many small files are slow on network disks and object stores. This writes Lhotse's Shar format, a folder that stands
wherever a manifest may, in training too:

    slap pack train.jsonl.gz train_shards --shard-size 1000
    slap fit --recipe base --data.train '[train_shards]'

Clips keep their sample rate and channels. FLAC and WAV are written with 16 bits: equal to the source where that has no
more. Stretches of long files become files of their own. `original` encodes in the format of the source, which costs
quality once more where that is lossy.

The folder appears when it is complete. Interrupted, the same command goes on with the shard that it was at; the shards
so far wait in OUT.part.
"""

from __future__ import annotations

import argparse
from pathlib import Path

FORMATS = ("flac", "wav", "mp3", "opus", "original")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("manifest", metavar="MANIFEST", type=Path, help="a manifest, as for training")
    parser.add_argument("out", metavar="OUT", type=Path, help="the folder to make; it may not exist yet")
    parser.add_argument(
        "--shard-size", type=int, default=1000, metavar="N", help="clips in a shard (default: %(default)s)"
    )
    parser.add_argument("--format", choices=FORMATS, default="flac", help="how audio is encoded (default: %(default)s)")
    parser.add_argument(
        "--workers", type=int, metavar="N", help="processes that work at the same time (default: one for each core)"
    )
    parser.add_argument(
        "--skip-bad",
        action="store_true",
        help="leave out clips that cannot be read, and say which, instead of stopping",
    )


def run(arguments: argparse.Namespace) -> int:
    """Pack, and print how much there is of what.

    Raises:
        ManifestError: the manifest has a fault, or an id cannot be the name of a file.
        DecodeError: a clip cannot be read, without `--skip-bad`.
        ValueError: OUT exists, or what waits in OUT.part was made otherwise.
    """
    from slap.datamodules.shar.write import pack

    packed = pack(
        arguments.manifest,
        arguments.out,
        shard_size=arguments.shard_size,
        encoding=arguments.format,
        workers=arguments.workers,
        skip_bad=arguments.skip_bad,
    )
    for line in packed.bad:
        print(f"left out: {line}")
    print(
        f"{arguments.out}: {packed.clips} clips, {packed.seconds / 3600:.2f} hours, {packed.size / 1e6:.1f} MB in "
        f"{packed.shards} shards"
        + (f"; {len(packed.bad)} clips could not be read and are left out" if packed.bad else "")
    )
    return 0
