"""Describe sounds in words, with a model that was trained with the captioning objective.

    slap caption runs/demo/best.ckpt sounds/clip.wav "more/*.flac"
    slap caption exported sounds --beam 4 --json

Exit status: 0 done; 3 done, but for files that are listed on stderr; 2 nothing was done.
"""

from __future__ import annotations

import argparse
import json

from slap.use.options import PATHS, add_batch, add_common, add_model, load, tell_failed


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_model(parser)
    parser.add_argument("paths", metavar="PATH", nargs="+", help=PATHS)
    parser.add_argument("--beam", type=int, default=1, metavar="N", help="beginnings kept; 1 is greedy (default: 1)")
    parser.add_argument("--max-length", type=int, default=64, metavar="N", help="tokens at most (default: 64)")
    parser.add_argument(
        "--length-penalty",
        type=float,
        default=1.0,
        metavar="X",
        help="of a beam; 0 prefers short captions (default: 1)",
    )
    add_batch(parser)
    add_common(parser)


def run(arguments: argparse.Namespace) -> int:
    """Caption and print."""
    from slap.use.inputs import inputs

    items = inputs(arguments.paths)
    model = load(arguments)
    captions: dict[int, str] = {}
    failed = []
    options = (arguments.beam, arguments.max_length, arguments.length_penalty, arguments.batch_seconds)
    for done in model.stream_captions([item.audio for item in items], *options):
        if done.result is None:
            failed.append((items[done.index].id, str(done.error)))
        else:
            captions[done.index] = done.result
    found = [(items[i].id, captions[i]) for i in sorted(captions)]
    if arguments.json:
        clips = [{"id": name, "caption": caption} for name, caption in found]
        bad = [{"id": name, "error": reason} for name, reason in failed]
        print(json.dumps({"clips": clips, "failed": bad}, indent=2, ensure_ascii=False))
    else:
        print("\n".join(f"{name}\t{caption}" for name, caption in found))
    return tell_failed(failed)
