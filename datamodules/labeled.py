"""How the field trains and judges classifiers on labeled corpora: the splits, folds and labels of each.

The manifests are those of `slap prepare`, or your own with the columns `label` (or `tags`) and `fold`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from slap.datamodules.manifests.filters import folds_of
from slap.datamodules.manifests.read import read_manifest
from slap.datamodules.protocols import Role, prepared

HELD_OUT = 0.05
"""Share of the training clips that is held out where a corpus has no validation split."""


@dataclass(frozen=True)
class Protocol:
    """How a corpus is trained and judged on.

    Attributes:
        prepare: the arguments of `slap prepare` that make its manifests.
        task: whose labels.
        train: its splits to train on.
        val: those to choose on; none where a share of the first of `train` is held out, or a fold.
        test: those to judge on.
        folded: whether its one split is judged fold by fold.
        multi_label: whether a clip may have several labels.
        balanced: whether classes come equally often in training.
    """

    prepare: str
    task: str
    train: tuple[str, ...]
    val: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    folded: bool = False
    multi_label: bool = False
    balanced: bool = False


PROTOCOLS: dict[str, Protocol] = {
    "esc50": Protocol("esc50", "esc50", ("all",), folded=True),
    "esc10": Protocol("esc50 --subset esc10", "esc10", ("all",), folded=True),
    "urbansound8k": Protocol("urbansound8k", "urbansound8k", ("all",), folded=True),
    "speechcommands": Protocol("speechcommands", "speechcommands", ("train",), ("validation",), ("test",)),
    "gtzan": Protocol("gtzan --subset filtered", "gtzan", ("train",), ("valid",), ("test",)),
    "cremad": Protocol("cremad --actors evar", "cremad", ("train",), ("valid",), ("test",)),
    "vggsound": Protocol("vggsound", "vggsound", ("train",), (), ("test",)),
    "fsd50k": Protocol("fsd50k", "fsd50k", ("train",), ("val",), ("eval",), multi_label=True),
    "audioset-20k": Protocol("audioset", "audioset", ("balanced_train",), (), ("eval",), multi_label=True),
    "audioset-2m": Protocol(
        "audioset", "audioset", ("balanced_train", "unbalanced_train"), (), ("eval",), multi_label=True, balanced=True
    ),
}


def manifests_of(
    corpus: str, folder: str | None = None, fold: int = 1, val_fold: int | None = None
) -> Mapping[Role, Sequence[str]]:
    """The manifests of a corpus, by what they are used for.

    Args:
        corpus: one of `PROTOCOLS`.
        folder: that `slap prepare` wrote; None is `manifests/` and the corpus' name, without `-20k` and the like.
        fold: to test on, where there are folds.
        val_fold: to choose on, see `folds`.

    Raises:
        FileNotFoundError: the corpus was not prepared.
        ManifestError: there is no such fold.
    """
    protocol = PROTOCOLS[corpus]
    place = Path(folder or f"manifests/{corpus.partition('-')[0]}")
    found = {role: [prepared(place, split, protocol.prepare) for split in getattr(protocol, role)] for role in ROLES}
    if protocol.folded:
        return folds(found["train"][0], fold, val_fold)
    named: dict[Role, list[str]] = {role: [str(path) for path in paths] for role, paths in found.items()}
    if not protocol.val:
        first = named["train"][0]
        named["train"][0], named["val"] = f"{first}#train={HELD_OUT}", [f"{first}#heldout={HELD_OUT}"]
    return named


ROLES: tuple[Role, ...] = ("train", "val", "test")


def folds(manifest: Path, fold: int, val_fold: int | None = None) -> Mapping[Role, Sequence[str]]:
    """One fold to test on, one to choose on, and the others to train on.

    The field mostly trains on all other folds and takes the best figure that the test fold ever shows, which chooses on
    the test. Here a fold chooses (by default the next one), or none does: 0 trains on all others, and the last
    checkpoint is to be tested.

    Args:
        manifest: whose clips have folds.
        fold: to test on.
        val_fold: to choose on; None is the next one, or the first after the last; 0 is none.

    Raises:
        ManifestError: the clips have no folds, or only two, or not these.
        ValueError: the fold to choose on is the one to test on.
    """
    there = sorted(set(folds_of(read_manifest(manifest)).tolist()))
    if val_fold is None:
        val_fold = there[(there.index(fold) + 1) % len(there)] if fold in there else fold
    if val_fold == fold and fold in there:
        raise ValueError(f"fold {fold} is tested on, so it may not choose: val_fold can be {_others(there, fold)} or 0")
    named: dict[Role, list[str]] = {"test": [f"{manifest}#fold={fold}"], "val": [], "train": []}
    if not val_fold:
        named["train"] = [f"{manifest}#fold=not {fold}"]
        return named
    named["val"] = [f"{manifest}#fold={val_fold}"]
    named["train"] = [f"{manifest}#fold=not {fold},{val_fold}"]
    return named


def _others(there: Sequence[int], fold: int) -> str:
    return ", ".join(str(other) for other in there if other != fold)
