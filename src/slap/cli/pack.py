"""Pack the audio of a manifest into shards: a few large files that are read from front to back.

Many small files are slow on network disks and object stores. This writes Lhotse's Shar format, a folder that can be
named wherever a manifest can, in training too:

    slap pack train.jsonl.gz train_shards --shard-size 1000
    slap fit --recipe base --data.train '[train_shards]'

Clips keep their sample rate and channels. FLAC and WAV are written with 16 bits: without loss if the source has no more
than 16. Segments of long files become files of their own. `original` encodes in the format of the source; if that is
lossy, some quality is lost again.

OUT appears when it is complete. The same command, given again after an interruption, continues with the next shard; the
shards that are complete are kept in OUT.part.

The tasks of an array job, on any number of machines, write a part each, and one command puts the parts together:

    slap pack train.jsonl.gz train_shards --part 3/64
    slap pack train.jsonl.gz train_shards --merge
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from slap.cli.options import add_columns
from slap.cli.parts import add_parts, refuse_beside_parts, say_done
from slap.core.errors import printable

if TYPE_CHECKING:
    from slap.datamodules.shar.write import PackReport

FORMATS = ("flac", "wav", "mp3", "opus", "original")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "manifest", metavar="MANIFEST", type=Path, help="manifest: .csv, .tsv, .jsonl, .jsonl.gz or Shar"
    )
    parser.add_argument("out", metavar="OUT", type=Path, help="folder to write; it must not exist")
    parser.add_argument(
        "--shard-size", type=int, default=1000, metavar="N", help="clips per shard (default: %(default)s)"
    )
    parser.add_argument("--format", choices=FORMATS, default="flac", help="encoding of audio (default: %(default)s)")
    parser.add_argument(
        "--workers", type=int, metavar="N", help="number of processes that encode audio (default: one per core)"
    )
    parser.add_argument(
        "--skip-bad",
        action="store_true",
        help="leave out and list clips that cannot be read, instead of stopping at the first one",
    )
    add_columns(parser)
    add_parts(parser)


def run(arguments: argparse.Namespace) -> int:
    """Pack, and print the numbers of clips, hours, megabytes and shards.

    Raises:
        ManifestError: the manifest has a fault, or an id cannot be the name of a file.
        DecodeError: a clip cannot be read, without `--skip-bad`.
        ValueError: OUT exists, or OUT.part or a part was made by a different command.
    """
    from slap.datamodules.shar.write import PackOptions, merge_packed, pack, pack_part

    manifest, out, columns = arguments.manifest, arguments.out, arguments.columns
    options = PackOptions(arguments.shard_size, arguments.format, arguments.skip_bad, arguments.workers)
    if arguments.part is not None:
        new = pack_part(manifest, out, arguments.part, options, columns)
        say_done(arguments.part, out, before=not new)
        return 0
    if arguments.merge:
        _say(out, merge_packed(manifest, out, options, columns))
        return 0
    refuse_beside_parts(out)
    _say(out, pack(manifest, out, columns=columns, **vars(options)))
    return 0


def _say(out: Path, packed: PackReport) -> None:
    for line in packed.bad:
        print(f"left out: {printable(line)}")
    print(
        f"{out}: {packed.clips} clips, {packed.seconds / 3600:.2f} hours, {packed.size / 1e6:.1f} MB in "
        f"{packed.shards} shards"
        + (f"; {len(packed.bad)} clips could not be read and are left out" if packed.bad else "")
    )
