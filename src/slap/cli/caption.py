"""Describe sounds in words, with a model that was trained with the captioning objective.

    slap caption runs/demo/best.ckpt sounds/clip.wav "more/*.flac"
    slap caption exported sounds --beam 4 --json
    slap caption exported sounds --top-p 0.9 --temperature 0.8 --seed 1

Without options each next token is the most probable one (greedy); --beam searches for the most probable caption;
--top-p samples: another --seed gives another caption. A clip's caption never depends on the other clips.

A silent file (below -70 dBFS) has no caption: `-` is printed in its place ("" with --json), and stderr says so.

Exit status: 0 done; 3 done, but for files that are listed on stderr; 2 nothing was done.
"""

from __future__ import annotations

import argparse
import json
import sys

from slap.cli.options import (
    PATHS,
    add_batch,
    add_columns,
    add_common,
    add_decoding,
    add_dtype,
    add_model,
    add_weights,
    as_records,
    decoding,
    load,
    tell,
)
from slap.core.errors import printable


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_model(parser)
    parser.add_argument("paths", metavar="PATH", nargs="+", help=PATHS)
    add_columns(parser)
    add_decoding(parser)
    add_batch(parser)
    add_dtype(parser)
    add_weights(parser)
    add_common(parser)


def run(arguments: argparse.Namespace) -> int:
    """Caption and print."""
    from tqdm import tqdm

    from slap.cli.inputs import inputs

    how = decoding(arguments)
    failed: list[tuple[str, str]] = []
    items = inputs(arguments.paths, failed, arguments.columns)
    model = load(arguments)
    captions: dict[int, str] = {}
    silent: set[str] = set()
    notes: list[tuple[str, str]] = []
    stream = model.stream_captions([item.audio for item in items], how, arguments.batch_seconds)
    for done in tqdm(stream, total=len(items), unit=" clips", disable=None, file=sys.stderr):
        if done.result is None:
            failed.append((items[done.index].id, str(done.error)))
        else:
            captions[done.index] = done.result
        if done.silent:
            silent.add(items[done.index].id)
        if done.note:
            notes.append((items[done.index].id, done.note))
    found = [(items[i].id, captions[i]) for i in sorted(captions)]
    if arguments.json:
        clips = [{"id": name, "caption": caption} for name, caption in found]
        told = {"failed": as_records(failed, "error"), "notes": as_records(notes, "note")}
        print(json.dumps({"clips": clips, **told}, indent=2, ensure_ascii=False))
    else:
        for name, caption in found:
            print(f"{printable(name)}\t{'-' if name in silent else printable(caption)}")
    return tell(failed, notes)
