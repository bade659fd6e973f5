"""Reader for corpora that are a list of YouTube clips with one generated caption each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from slap.datamodules.corpora.base import Corpus
from slap.datamodules.corpora.csv_lists import rows
from slap.datamodules.corpora.youtube import Downloads, parse
from slap.datamodules.manifests.clip import Clip


def captioned(corpus: Corpus, name: str, split: str, path: Path, column: str, downloads: Downloads) -> Iterator[Clip]:
    """Yield the clips of a list, in order; those with an empty caption or no YouTube id are left out and counted.

    Args:
        corpus: corpus that counts the clips that are left out.
        name: name under which the corpus is registered.
        split: split of the corpus.
        path: path of a CSV file with the columns `column` and `caption`.
        column: column with the name of the clip.
        downloads: audio files.
    """
    for row in rows(path, (column, "caption")):
        if not row["caption"].strip():
            corpus.leave_out("empty caption", row[column])
            continue
        try:
            youtube, start, end = parse(row[column].strip())
        except ValueError:
            corpus.leave_out("no YouTube id", row[column])
            continue
        yield Clip(
            id=f"{name}/{row[column].strip()}",
            audio=downloads.find(youtube, start, end),
            captions=[row["caption"].strip()],
            fields=["caption"],
            corpus=name,
            split=split,
            origin={"youtube": youtube},
        )
