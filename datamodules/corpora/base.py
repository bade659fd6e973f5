"""The base class of corpora for `slap prepare`: the official list of clips, and the paths of their audio.

A corpus is one small class. It reads only the lists that the corpus comes with, never audio, and does not check whether
a file exists: `slap prepare` does, and reports missing files. `slap.datamodules.corpora.esc50` is an example:

    @register("esc50")
    class ESC50(Corpus):
        def __init__(self, root: Path, subset: Literal["esc50", "esc10"] = "esc50") -> None: ...
        def clips(self, split: str) -> Iterator[Clip]: ...

The arguments of the constructor beyond `root`, typed and documented under `Args:`, are the options of
`slap prepare esc50 ROOT OUT`. Importing a corpus must be fast, since `slap plugins` imports all of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from slap.core.registry import add_kind
from slap.datamodules.manifests.clip import Clip


class Corpus(ABC):
    """A corpus in its official layout.

    The docstring of a corpus begins with a description in one line; then come its citation, its license and its source.

    Args:
        root: folder of the unpacked corpus.

    Attributes:
        SPLITS: official names of the official splits; a corpus without splits has the single split "all".
        may_be_cut: True if audio may be shorter than the lists say, as of downloads: segments after its end are
            dropped. Otherwise such a clip is reported as one that lies outside of its file.
        unpacks: True if `clips` unpacks the audio of all clips, which cannot be done in parts.
        root: folder of the unpacked corpus.
        out: folder to which `slap prepare` writes; a corpus that unpacks audio does so below `out / "audio"`.
        left_out: clips that are in the official list but not in `clips`, by reason; see `leave_out`.

    Raises:
        FileNotFoundError: there is no such folder.
    """

    SPLITS: ClassVar[tuple[str, ...]] = ()
    may_be_cut: ClassVar[bool] = False
    unpacks: ClassVar[bool] = False

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self.out: Path | None = None
        self.left_out: dict[str, list[str]] = {}
        if not self.root.exists():
            raise FileNotFoundError(
                f"there is no folder {self.root}; name the one that holds {type(self).__name__} as published"
            )

    @abstractmethod
    def clips(self, split: str) -> Iterator[Clip]:
        """Yield the official list of a split, in an order that never changes.

        Ids are stable: the corpus' name, then the corpus' own name of the clip (`esc50/1-100032-A-0`). `corpus` and
        `split` of each clip are set, and `fold` and `origin` if the corpus has them. A clip without a caption of its
        own gets one from a template, see `templated`.

        Raises:
            FileNotFoundError: a list of the corpus is missing.
            ManifestError: a list is not in its official form; names file and line.
        """

    def splits(self) -> Sequence[str]:
        """Return the splits that can be prepared: the official ones, or for some corpora those in the folder."""
        return self.SPLITS

    def official(self, split: str) -> int | None:  # noqa: ARG002
        """Return the published number of clips of a split, or None where none is published."""
        return None

    def classes(self) -> Mapping[str, Sequence[str]]:
        """Return all labels of each task with a closed list, those that no clip of a split has included."""
        return {}

    def leave_out(self, reason: str, name: str) -> None:
        """Record that `clips` leaves out a clip, e.g. one on a blacklist; the report counts them by reason."""
        self.left_out.setdefault(reason, []).append(name)


def words(label: str) -> str:
    """Return a label as words: underscores stand for spaces in most corpora.

    Example:
        >>> words("crying_baby")
        'crying baby'
    """
    return " ".join(label.replace("_", " ").split())


# Reserved names are options of `slap prepare` itself.
add_kind(
    "corpus",
    Corpus,
    plural="corpora",
    reserved={"corpus", "out", "splits", "workers", "overwrite", "plugins", "part", "merge"},
)
