"""`slap prepare` in parts: each reads the headers of some files, and a last command writes the manifests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slap.cli.parts import say_done
from slap.core.errors import UserError
from slap.core.parts import Part, Parts

if TYPE_CHECKING:
    from slap.datamodules.corpora.base import Corpus
    from slap.datamodules.prepare.parts import PartJournals

INTERRUPTED = 130


def prepare_one_part(
    source: Corpus, splits: Sequence[str], out: Path, made: Mapping[str, Any], workers: int, part: Part
) -> int:
    """Read the headers of one part of the files; return the exit status.

    Args:
        source: the corpus.
        splits: splits to prepare.
        out: folder that the manifests will be written to.
        made: what the report says of the command.
        workers: number of processes that read headers.
        part: the part.

    Raises:
        ValueError: the corpus cannot be prepared in parts, or the parts have another plan.
    """
    from slap.datamodules.prepare.split import prepare_part  # imports Lhotse

    if source.unpacks:
        raise UserError(
            f"{made['corpus']} is unpacked while it is listed, so it cannot be prepared in parts. Tar files can be "
            "used as they are: name them as a manifest, e.g. `slap pack SHARDS OUT --part 1/64`; see "
            "docs/howto/data_in_place.md"
        )
    parts, files = Parts(out, plan_of(made, splits)), 0
    try:
        with parts.work(part) as folder:
            if folder is not None:
                files = sum(prepare_part(source, split, journal(folder, split), workers, part) for split in splits)
                parts.finish(part, {"files": files})
    except KeyboardInterrupt:
        print("\ninterrupted; the same command continues from here")
        return INTERRUPTED
    say_done(part, out, before=folder is None, about=f"{files} files" if folder else "")
    return 0


def plan_of(made: Mapping[str, Any], splits: Sequence[str]) -> dict[str, Any]:
    """Return the plan of the parts, see `slap.core.parts`."""
    return {**made, "splits": list(splits)}


def journals_of(parts: Parts, splits: Sequence[str]) -> dict[str, PartJournals]:
    """Return the journals of all parts for each split.

    Raises:
        ValueError: a part is missing or has another plan; names it.
    """
    from slap.datamodules.prepare.parts import PartJournals

    done = parts.complete()
    return {split: PartJournals([journal(part.folder, split) for part in done]) for split in splits}


def journal(folder: Path, split: str) -> Path:
    """Return the path of a part's journal of headers."""
    return folder / f"{split}.headers"
