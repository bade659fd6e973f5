"""Find when in a recording something sounds: events with onset and offset, and a plot.

    slap frames runs/demo/best.ckpt street.wav --texts "a dog barks" "a car passes" --plot street.png

Times come in steps of 40 ms, on the clock of a player: in a video whose audio starts late they count from the begin of
the video. An event begins where the similarity reaches the threshold. The default is a probability of one half for a
model that was trained with `frame_alignment`; for any other it is set half-way between quiet and loud for each text,
see `slap.inference.frames`. A silent recording (below -70 dBFS) has no events. --json also prints the similarity at all
times, and the probability if the model has learned it.

Exit status: 0 done, also without any event; 2 nothing was done.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from slap.cli.options import (
    add_common,
    add_dtype,
    add_model,
    add_overwrite,
    add_weights,
    check_free,
    load,
    plain,
    tell,
)
from slap.core.errors import UserError
from slap.core.segments import Segment, phrases_of


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_model(parser)
    parser.add_argument("file", metavar="FILE", help="a recording of any length")
    parser.add_argument(
        "--texts",
        nargs="+",
        metavar="TEXT",
        help="descriptions of the sounds to find, or a .txt file with one per line; default: the phrases of --known",
    )
    parser.add_argument(
        "--known",
        type=Path,
        metavar="MANIFEST",
        help="a manifest with the segments of FILE, when which sound is known to be heard; --plot outlines them",
    )
    parser.add_argument(
        "--plot", type=Path, metavar="PNG", help="write a plot of spectrogram, similarity and events to this file"
    )
    parser.add_argument(
        "--hop", type=float, default=0.04, metavar="S", help="seconds from frame to frame (default: 0.04)"
    )
    parser.add_argument(
        "--threshold",
        type=float,
        metavar="COSINE",
        help="similarity that an event must reach, a cosine (default: that of a probability of one half, if the model "
        "was trained with frame_alignment; else set for each text)",
    )
    for name, default, help_ in (
        ("hysteresis", 0.02, "an event lasts while the similarity is less than this cosine below the threshold"),
        ("shortest", 0.2, "duration, in seconds, below which events are dropped"),
        ("smooth", 0.2, "width, in seconds, of the median filter over similarities"),
        (
            "contrast",
            0.05,
            "least range of the similarity, a cosine, for a text to have events, if the threshold is set for each text",
        ),
    ):
        parser.add_argument(
            f"--{name}", type=float, default=default, metavar="X", help=f"{help_} (default: %(default)g)"
        )
    add_overwrite(parser, "the file of --plot")
    add_dtype(parser)
    add_weights(parser)
    add_common(parser)


def run(arguments: argparse.Namespace) -> int:
    """Listen, print and draw."""
    known = [] if arguments.known is None else _known(arguments.known, Path(arguments.file))
    texts = plain(arguments.texts, "texts") if arguments.texts or not known else phrases_of([known])
    if arguments.plot is not None:
        check_free(arguments.plot, arguments.overwrite)
    model = load(arguments)
    frames = model.frames(arguments.file, texts, arguments.hop)
    events = frames.events(
        arguments.threshold, arguments.hysteresis, arguments.shortest, arguments.smooth, arguments.contrast
    )
    notes = [(arguments.file, frames.note)] if frames.note else []
    if arguments.plot is not None:
        from slap.inference.frames_plot import draw

        draw(arguments.file, frames, events, arguments.plot, known)
    if arguments.json:
        similarity = {text: frames.similarity[:, i].tolist() for i, text in enumerate(texts)}
        listed = {
            "seconds": frames.seconds,
            "begins": frames.begins,
            "hop": frames.hop,
            "times": frames.times.tolist(),
            "similarity": similarity,
            "note": frames.note,
        }
        if frames.probability is not None:
            listed["probability"] = {text: frames.probability[:, i].tolist() for i, text in enumerate(texts)}
        print(json.dumps({"events": [asdict(event) for event in events], **listed}, ensure_ascii=False))
        return tell([], notes)
    for event in events:
        print(f"{event.onset:.2f}\t{event.offset:.2f}\t{event.text}\t{event.score:.3f}")
    if not events:
        print("no events" if frames.silent else "no events; a lower --threshold or --contrast finds more")
    return tell([], notes)


def _known(manifest: Path, recording: Path) -> list[Segment]:
    """Return the segments of a recording that a manifest lists, in seconds from the begin of the recording.

    Raises:
        UserError: it lists none.
    """
    from slap.datamodules.manifests.read import read_manifest
    from slap.datamodules.segments import segments_of

    found: list[Segment] = []
    for cut in read_manifest(manifest, captioned=False):
        if Path(cut.recording.sources[0].source).resolve() == recording.resolve():
            found += (Segment(cut.start + s["start"], cut.start + s["end"], s["text"]) for s in segments_of(cut) or ())
    if not found:
        raise UserError(f"{manifest} has no segments of {recording}; --known takes a manifest with a column `segments`")
    return found
