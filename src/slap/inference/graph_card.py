"""The section of a model card about exported graphs: inputs, outputs, rates, limits and ids."""

from __future__ import annotations

from slap.core.windows import hop_of
from slap.inference.graph_record import RECORD, GraphRecord, Text

SECTION = """\
{files}, with checksums in `{record}`. Each takes one item:

| graph | input | output |
|---|---|---|
| `audio` | {audio} | {embedding} `{audio_output}` |
| `text` | {text} | {embedding} `{text_output}` |

A longer recording is cut into windows of {window} samples, one every {hop}, the last of which ends where the recording
ends. Its embedding is the mean of theirs, each weighted by the samples that it stands for, scaled to length 1.
`slap.onnx.load` (`pip install slap-onnx`, which brings no torch) does all this for files of any rate."""


def described(record: GraphRecord) -> str:
    """Describe the graphs of a folder in Markdown."""
    audio = (
        f"`{record.inputs['audio']}`, (samples,) float32 in -1 to 1: mono at {record.sample_rate} Hz, 1 to "
        f"{record.window} samples ({record.max_seconds:g} s)"
    )
    return SECTION.format(
        files=", ".join(f"`{name}`" for name in record.files),
        record=RECORD,
        audio=audio,
        text=f"`{record.inputs['text']}`, (tokens,) int64{_ids(record.text)}",
        embedding=f"({record.embedding_dim},) float32 of length 1,",
        audio_output=record.outputs["audio"],
        text_output=record.outputs["text"],
        window=record.window,
        hop=hop_of(record.window),
    )


def _ids(text: Text | None) -> str:
    if text is None:
        return ""
    return (
        f": {text.bos} begins a text, {text.eos} ends it, and `{text.tokenizer}` gives the ids between them; at most "
        f"{text.max_tokens} in all"
    )
