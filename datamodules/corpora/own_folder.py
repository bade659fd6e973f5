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


@register("folder")
class Folder(Corpus):
    """Your own recordings in sub-folders, whose names are their labels.

    `ROOT/dog/1.wav` and `ROOT/dog/july/2.wav` have the label "dog"; with the layout `split/label`,
    `ROOT/train/dog/1.wav` has that label in the split "train". Underscores in a folder's name are spaces in the label.
    Hidden files, links to folders and files with the suffix of no audio are left out, and counted in the report.

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
        """Yield the audio files of a split, in the order of their paths."""
        top = self.root if self.layout == "label" else self.root / split
        for found in scan(top, lambda reason, path: self.leave_out(f"passed over: {reason}", path)):
            path, below = top / found.path, PurePosixPath(found.path)
            if len(below.parts) < 2:
                self.leave_out("not in a folder named after its label", str(path))
                continue
            label = words(below.parts[0])
            yield Clip(
                id=f"{self.name}/{path.relative_to(self.root).as_posix()}",
                audio=path,
                captions=[templated(self.template, label)],
                fields=["template"],
                labels={self.task: label},
                corpus=self.name,
                split=split,
            )
