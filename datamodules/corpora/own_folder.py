"""Your own recordings, in one folder per class."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Literal

from slap.audio.scan import scan
from slap.core.errors import UserError
from slap.core.registry import register
from slap.datamodules.captions.template import templated
from slap.datamodules.corpora.base import Corpus, words
from slap.datamodules.manifests.clip import Clip
from slap.datamodules.manifests.tables import is_table

FLAT = "not in a folder named after its label"
"""The reason for leaving out a recording."""


@register("folder")
class Folder(Corpus):
    """Your own recordings in sub-folders, whose names are their labels.

    `ROOT/dog/1.wav` and `ROOT/dog/july/2.wav` have the label "dog"; with the layout `split/label`,
    `ROOT/train/dog/1.wav` has that label in the split "train". Underscores in a folder's name are spaces in the label.
    Hidden files, links to folders and files with the suffix of no audio are left out, and counted in the report, as are
    recordings that lie in ROOT itself. Where all do, there are no labels: captions then come from a table, see `csv`.

    Args:
        root: folder of the recordings.
        layout: meaning of the first, or the first and second, level of sub-folders.
        task: name of the task of the labels, for zero-shot accuracy.
        template: caption of a clip, with `{label}` in place of its label.
        name: name of the corpus, for ids and reports; None is that of ROOT.
    """

    def __init__(
        self,
        root: Path,
        layout: Literal["label", "split/label"] = "label",
        task: str = "label",
        template: str = "the sound of {label}",
        name: str | None = None,
    ) -> None:
        super().__init__(root)
        if "{label}" not in template:
            raise UserError(f"the template needs {{label}} in place of the label, got {template!r}")
        self.layout, self.task, self.template, self.name = layout, task, template, name or self.root.name

    def splits(self) -> Sequence[str]:
        """Return the sub-folders of ROOT if they are splits, else "all"."""
        if self.layout == "label":
            return ["all"]
        return sorted(path.name for path in self.root.iterdir() if path.is_dir() and not path.name.startswith("."))

    def clips(self, split: str) -> Iterator[Clip]:
        """Yield the audio files of a split, in the order of their paths.

        Raises:
            UserError: there are recordings, and all of them lie in ROOT itself.
        """
        top, labeled = self.root if self.layout == "label" else self.root / split, False
        for found in scan(top, lambda reason, path: self.leave_out(f"passed over: {reason}", path)):
            path, below = top / found.path, PurePosixPath(found.path)
            if len(below.parts) < 2:
                self.leave_out(FLAT, str(path))
                continue
            label, labeled = words(below.parts[0]), True
            yield Clip(
                id=f"{self.name}/{path.relative_to(self.root).as_posix()}",
                audio=path,
                captions=[templated(self.template, label)],
                fields=["template"],
                labels={self.task: label},
                corpus=self.name,
                split=split,
            )
        if not labeled and FLAT in self.left_out:
            raise UserError(self._flat(top, len(self.left_out[FLAT])))

    def _flat(self, folder: Path, count: int) -> str:
        """Return the message about a folder of recordings without labels."""
        tables = sorted(path for path in folder.iterdir() if is_table(path.name) and path.is_file())
        table = str(tables[0]) if tables else f"{folder}/captions.csv"
        there = "such as" if tables else "whose first line is `audio,caption`, e.g."
        return (
            f"{folder} holds {count} recordings and no folders of them, whose names would be their labels. With a "
            f"table of their captions, {there} {table}: `slap prepare csv {table} OUT`, or train on it at once: `slap "
            f"fit --recipe own_data --data.train {table}`. Without captions: search them with a trained model, `slap "
            f"index MODEL {folder} INDEX`, or sort them into folders, {folder}/LABEL/*"
        )
