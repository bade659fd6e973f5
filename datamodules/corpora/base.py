"""What a corpus promises `slap prepare`: its official list of clips, and where its layout says that their audio is.

A corpus is one small class. It reads only the lists that the corpus comes with, never audio, and says nothing about
whether a file is there: `slap prepare` looks, and reports what is missing. `slap.datamodules.corpora.esc50` is the
pattern:

    @register("esc50")
    class ESC50(Corpus):
        def __init__(self, root: Path, subset: Literal["esc50", "esc10"] = "esc50") -> None: ...
        def clips(self, split: str) -> Iterator[Clip]: ...

The arguments of the constructor beyond `root`, typed and documented under `Args:`, are the options of
`slap prepare esc50 ROOT OUT`. Importing a corpus must stay quick, since `slap plugins` imports them all.
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

    The docstring of a corpus begins with what it is; then come its citation, its license, and where to get it.

    Args:
        root: the folder that the corpus was unpacked in.

    Attributes:
        SPLITS: its official splits, by their official names; one without splits has the single split "all".
        root: the folder that the corpus was unpacked in.
        out: where `slap prepare` writes; a corpus whose audio must be unpacked first does that below `out / "audio"`.
        left_out: clips that are in the official list but not in `clips`, by reason; see `leave_out`.

    Raises:
        FileNotFoundError: there is no such folder.
    """

    SPLITS: ClassVar[tuple[str, ...]] = ()

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self.out: Path | None = None
        self.left_out: dict[str, list[str]] = {}
        if not self.root.exists():
            raise FileNotFoundError(f"there is no {self.root}; it should hold {type(self).__name__} as published")

    @abstractmethod
    def clips(self, split: str) -> Iterator[Clip]:
        """The official list of a split, lazily and in an order that never changes.

        Ids are stable: the corpus' name, then what the corpus itself calls the clip (`esc50/1-100032-A-0`). `corpus`
        and `split` of each clip are set, and `fold` and `origin` where the corpus knows them. A clip without caption of
        its own gets one from a template, see `templated`.

        Raises:
            FileNotFoundError: a list of the corpus is missing.
            ManifestError: a list is not in its official form; names file and line.
        """

    def splits(self) -> Sequence[str]:
        """The splits that can be prepared; for most the official ones, for some what the folder holds."""
        return self.SPLITS

    def official(self, split: str) -> int | None:
        """The published number of clips of a split, or None where none is published."""
        del split
        return None

    def classes(self) -> Mapping[str, Sequence[str]]:
        """All labels of each task, also those that no clip of a split has; nothing for tasks without a closed list."""
        return {}

    def leave_out(self, reason: str, name: str) -> None:
        """Note that `clips` passes over a clip, e.g. as it is on a blacklist; the report says how many and which."""
        self.left_out.setdefault(reason, []).append(name)


def words(label: str) -> str:
    """A label as words: underscores stand for spaces in most corpora.

    Example:
        >>> words("crying_baby")
        'crying baby'
    """
    return " ".join(label.replace("_", " ").split())


def templated(template: str, labels: str | Sequence[str]) -> str:
    """A caption for a clip that has labels only, from a template with the place `{label}`.

    Example:
        >>> templated("the sound of {label}", ["dog", "rain", "wind"])
        'the sound of dog, rain and wind'
    """
    labels = [labels] if isinstance(labels, str) else list(labels)
    listed = " and ".join(filter(None, [", ".join(labels[:-1]), labels[-1]]))
    return template.format(label=listed)


# The words that `slap prepare` has for itself.
add_kind("corpus", Corpus, plural="corpora", reserved={"corpus", "out", "splits", "workers", "overwrite", "plugins"})
