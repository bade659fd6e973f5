"""Clips to evaluate a model on, from folders of corpora and from manifests.

A data set of `slap.evaluation.benchmarks` is looked for below a folder: in its official layout, or as `slap prepare`
wrote it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from slap.audio.reader import AudioError
from slap.audio.recordings import Audio
from slap.audio.sources import LazyAudio
from slap.core.bad_clip import BadClip
from slap.core.errors import UserError
from slap.core.registry import find
from slap.datamodules.audio.load import segment
from slap.datamodules.manifests.columns import Columns
from slap.datamodules.prepare import REPORT
from slap.datamodules.prepare.report import FAULTS
from slap.evaluation.benchmarks import Dataset
from slap.evaluation.eval_set import EvalClip, EvalSet, Part
from slap.evaluation.tasks.base import Use


class NoDataError(UserError):
    """No data for a row; the message says what was looked for."""


@dataclass
class Split:
    """One published split as it was found.

    Attributes:
        manifest: of the clips that are there; None if not one is.
        official: the published number of clips.
        lost: by reason, the clips that are not in the manifest.
        classes: all labels of the data set's task; the labels of the clips alone where no list has more.
    """

    manifest: Path | None
    official: int | None
    lost: dict[str, int] = field(default_factory=dict)
    classes: tuple[str, ...] = ()


class Corpora:
    """Folders of corpora, and their splits as they are found there.

    Args:
        roots: folders that hold a folder per corpus.
        named: folders of single data sets or corpora, by name.
        work: the folder that manifests of corpora in their official layouts are written to.
        workers: processes that read headers.
    """

    def __init__(self, roots: Sequence[Path], named: Mapping[str, Path], work: Path, workers: int = 0) -> None:
        for folder in [*roots, *named.values()]:
            if not folder.is_dir():
                raise FileNotFoundError(f"--data: there is no folder {folder}")
        self.roots, self.named, self.work, self.workers = list(roots), dict(named), work, workers
        self._splits: dict[tuple[str, str, str], Split] = {}

    def folder(self, dataset: Dataset) -> Path:
        """Find the folder of a data set.

        Raises:
            NoDataError: there is none.
            ValueError: there are several.
        """
        for name in (dataset.name, dataset.corpus):
            if name in self.named:
                return self.named[name]
        names = (dataset.name, dataset.corpus, *dataset.folders)
        wanted = {_plain(name) for name in names}
        found = [path for root in self.roots for path in sorted(root.iterdir()) if _plain(path.name) in wanted]
        found = [path for path in found if path.is_dir()]
        if not found:
            where = ", ".join(map(str, self.roots)) or "nowhere, as there is no --data"
            raise NoDataError(f"there is no folder {' or '.join(dict.fromkeys(names))} in {where}")
        if len(found) > 1:
            raise UserError(
                f"{dataset.name} may be {' or '.join(map(str, found))}; say which by --data {dataset.name}=FOLDER"
            )
        return found[0]

    def split(self, dataset: Dataset, name: str) -> Split:
        """Find a published split of a data set: read from a prepared folder, or prepared from the official layout.

        Raises:
            NoDataError: it is not there.
            ManifestError: a list of the corpus is not in its official form.
        """
        folder = self.folder(dataset)
        key = (str(folder), json.dumps(dict(dataset.options), sort_keys=True), name)
        if key not in self._splits:
            prepared = (folder / REPORT).is_file()
            try:
                self._splits[key] = (
                    _prepared(dataset, folder, name) if prepared else self._layout(dataset, folder, name)
                )
            except FileNotFoundError as error:
                raise NoDataError(str(error)) from error
        return self._splits[key]

    def _layout(self, dataset: Dataset, folder: Path, name: str) -> Split:
        from slap.datamodules.prepare.split import prepare_split

        corpus = find("corpus", dataset.corpus)(folder, **dataset.options)
        corpus.out = self.work / dataset.name
        manifest = self.work / dataset.name / f"{name}.jsonl.gz"
        manifest.parent.mkdir(parents=True, exist_ok=True)
        for old in manifest.parent.glob(f"{manifest.name}*"):
            old.unlink()
        report = prepare_split(corpus, name, manifest, self.workers, show=False)
        return _split(report, manifest, corpus.classes().get(dataset.label, ()))


def _prepared(dataset: Dataset, folder: Path, name: str) -> Split:
    """Read a split that `slap prepare` wrote.

    Raises:
        NoDataError: it prepared another corpus, other options, or not this split.
    """
    try:
        report = json.loads((folder / REPORT).read_text(encoding="utf-8"))
        made, options, splits = report["corpus"], report["options"], report["splits"]
    except (ValueError, KeyError, TypeError) as error:
        raise NoDataError(f"{folder / REPORT} is no report of slap prepare: {error!r}") from error
    wanted = {key: value for key, value in dataset.options.items() if options.get(key, value) != value}
    if made != dataset.corpus or wanted:
        said = ", ".join(f"{key} {value}" for key, value in wanted.items()) or dataset.corpus
        raise NoDataError(
            f"{folder} was prepared from {made} with {options or 'no options'}; {dataset.name} needs {said}"
        )
    if name not in splits:
        raise NoDataError(
            f"{folder} holds {', '.join(splits)}; {dataset.name} needs the split {name}, see `slap prepare`"
        )
    return _split(splits[name], folder / f"{name}.jsonl.gz", report.get("classes", {}).get(dataset.label, ()))


def _split(about: Mapping[str, Any], manifest: Path, classes: Iterable[str]) -> Split:
    """Return a split by what `slap prepare` reports about it."""
    lost = {fault: about[fault]["count"] for fault in FAULTS if about[fault]["count"]}
    lost |= {reason: names["count"] for reason, names in about["left_out"].items()}
    return Split(manifest if about["found"] else None, about["official"], lost, tuple(classes))


def _plain(name: str) -> str:
    return "".join(sign for sign in name.lower() if sign.isalnum())


def clips_of_benchmark(corpora: Corpora, dataset: Dataset, learns: bool) -> tuple[EvalSet, list[Path]]:
    """Return the clips of a benchmark, and the manifests of its test clips.

    Args:
        corpora: the folders of corpora.
        dataset: the benchmark.
        learns: whether the training and validation splits are needed too.

    Raises:
        NoDataError: it is not there, or not one clip of a split that is needed.
    """
    clips: list[EvalClip] = []
    manifests: list[Path] = []
    lost: Counter[str] = Counter()
    labels: set[str] = set()
    official: int | None = 0
    parts: tuple[Part, ...] = ("train", "val", "test") if learns else ("test",)
    for part in parts:
        for name in dataset.splits(part):
            split = corpora.split(dataset, name)
            if split.manifest is None:
                why = ", ".join(f"{count} {fault}" for fault, count in split.lost.items())
                where = f"{corpora.folder(dataset)}: {why}" if why else str(corpora.folder(dataset))
                raise NoDataError(f"not one clip of {dataset.name}, {name}, is in {where}")
            found = clips_of(split.manifest, dataset.use, dataset.label, part, lost)
            clips += found
            labels |= {*split.classes, *(label for clip in found for label in clip.labels)}
            if part == "test":
                manifests.append(split.manifest)
                official = None if official is None or split.official is None else official + split.official
                lost.update(split.lost)
    warnings = []
    if dataset.classes is not None and len(labels) != dataset.classes:
        warnings.append(f"only {len(labels)} of the {dataset.classes} classes are known, so the metrics are too high")
    folds = len({clip.fold for clip in clips})
    if dataset.folds and folds != dataset.folds:
        warnings.append(f"only {folds} of the {dataset.folds} folds have clips")
    data = EvalSet(
        name=dataset.name,
        split="+".join(dataset.test),
        clips=clips,
        classes=tuple(sorted(labels)),
        multilabel=dataset.use == "tags",
        folds=bool(dataset.folds),
        official=official,
        lost=lost,
        warnings=tuple(warnings),
        about=dataset.about,
        prompts=dataset.prompts,
        own_captions_only=True,
    )
    return data, manifests


def clips_of(
    manifest: Path, use: Use, label: str, part: Part, lost: Counter[str], columns: Columns | None = None
) -> list[EvalClip]:
    """Return the clips of a manifest, with captions, with segments, with the labels of one task, or with questions.

    Args:
        manifest: any that training reads.
        use: the kind of annotation that the task needs.
        label: the task of the manifest whose labels are taken; of questions "" is all kinds.
        part: the use of the clips.
        lost: counts, by reason, the test clips of the manifest that cannot be used, or have no annotation of the
            task.
        columns: columns of a table whose names are not the known ones, see `read_manifest`.
    """
    from slap.datamodules.captions.sample import captions_to_evaluate
    from slap.datamodules.dataset import custom_of, origin_of
    from slap.datamodules.manifests.read import read_manifest
    from slap.datamodules.segments import packed_segments

    bad: list[BadClip] = []
    captioned = use not in ("choices", "segments")
    cuts = read_manifest(manifest, max_bad=1.0, bad=bad, columns=columns, captioned=captioned)
    without: Counter[str] = Counter(clip.reason for clip in bad)
    found = []
    for cut in cuts:
        custom = cut.custom or {}
        own = captions_to_evaluate(cut) if use == "captions" else []
        captions = tuple(caption.text for caption in own)
        labels = _labels(custom, use, label) if use in ("labels", "tags") else ()
        choices = _choices(custom, label) if use == "choices" else {}
        segments = packed_segments(cut) if use == "segments" else None
        if labels is None:
            without["without label"] += 1
        elif use == "choices" and not choices:
            without["without choices"] += 1
        elif use == "segments" and segments is None:
            without["without segments"] += 1
        else:
            audio, origin = audio_of(cut, manifest), origin_of(custom_of(cut))
            fold = custom.get("fold")
            found.append(EvalClip(cut.id, audio, captions, labels, fold, part, origin, choices, segments))
    if part == "test":
        lost.update(without)
    return found


def audio_of(cut: Any, manifest: Path) -> Audio:
    """Return a segment of a file where the clip is one; for mixes, shards and samples in memory, what decodes them."""
    try:
        return segment(cut, str(manifest))
    except ValueError:
        return LazyAudio(f"{manifest}: {cut.id}", cut.duration, partial(_decoded, cut))


def _decoded(cut: Any, rate: int) -> np.ndarray:
    from slap.datamodules.audio.load import load, mono
    from slap.datamodules.bad_clips import ClipError

    try:
        return load(mono(cut, rate)).numpy()
    except ClipError as error:
        raise AudioError(str(error)) from error


def _labels(custom: Mapping[str, Any], use: Use, label: str) -> tuple[str, ...] | None:
    """Return the labels of a clip for a task; None if the manifest has none for it, unlike an empty list of tags."""
    if use == "tags":
        tags = custom.get("tags", {}).get(label)
        return None if tags is None else tuple(tags)
    name = custom.get("labels", {}).get(label)
    return None if name is None else (name,)


def _choices(custom: Mapping[str, Any], label: str) -> dict[str, tuple[str, ...]]:
    """Return the questions of a clip, of one kind or of all."""
    known = custom.get("choices") or {}
    return {task: tuple(captions) for task, captions in known.items() if label in ("", task)}


def clips_of_manifests(
    name: str, paths: Mapping[Part, Path], uses: Sequence[Use], label: str = "", columns: Columns | None = None
) -> tuple[EvalSet, list[Path]]:
    """Return the clips of a user's manifests, and the manifest of the test clips.

    Args:
        name: that the user gave.
        paths: of the manifests, by part; "test" is there.
        uses: kinds of annotation that the task can use; the first that the clips have is taken.
        label: the task whose labels are taken, where the clips have labels for several; "" is the only one. Of
            questions, the one kind that is asked; "" is all kinds.
        columns: columns of tables whose names are not the known ones, see `read_manifest`.

    Raises:
        NoDataError: the clips have nothing of the kind, or labels for several tasks.
    """
    use, label = _use_of(name, paths["test"], uses, label, columns)
    lost: Counter[str] = Counter()
    clips = [clip for part, path in paths.items() for clip in clips_of(path, use, label, part, lost, columns)]
    test = [clip for clip in clips if clip.part == "test"]
    folds = use in ("labels", "tags") and all(clip.fold is not None for clip in test)
    data = EvalSet(
        name=name if not label or label == name or use == "choices" else f"{name}/{label}",
        split=paths["test"].name,
        clips=clips,
        classes=tuple(sorted({label for clip in clips for label in clip.labels})),
        multilabel=use == "tags",
        folds=folds,
        lost=lost,
        about=f"the manifest {paths['test']}" + (", mean over its folds" if folds else ""),
    )
    return data, [paths["test"]]


def _use_of(name: str, path: Path, uses: Sequence[Use], label: str, columns: Columns | None) -> tuple[Use, str]:
    """Return the kind of annotation of a manifest that a task can use, and the task of its labels."""
    if "captions" in uses and not label:
        return "captions", ""
    if "segments" in uses:
        return _segmented(name, path, label, columns)
    offered = [pair for pair in _annotations(path, uses, columns) if pair[0] != "captions"]
    chosen = [pair for pair in offered if not label or pair[1] == label]
    if len(chosen) == 1:
        return chosen[0]
    if chosen and {use for use, _ in chosen} == {"choices"}:
        return "choices", label
    there = ", ".join(task for _, task in offered) or "none"
    if not chosen:
        raise NoDataError(f"{path} has no {' or '.join(uses)} {label!r}; there are: {there}".replace(" ''", ""))
    raise NoDataError(f"{path} has labels for several tasks, {there}; name one, as in TASK/{name}/{chosen[0][1]}")


def _segmented(name: str, path: Path, label: str, columns: Columns | None) -> tuple[Use, str]:
    """Check that clips of a manifest have segments.

    Raises:
        NoDataError: none has any, or a task of labels was named.
    """
    from slap.datamodules.manifests.read import read_manifest

    if label:
        raise NoDataError(f"segments belong to no task of labels; write TASK/{name} without /{label}")
    cuts = read_manifest(path, max_bad=1.0, columns=columns, captioned=False)
    if not any((cut.custom or {}).get("segments") for cut in cuts):
        raise NoDataError(f"{path} has no clip with `segments`, phrases with the time in which each is heard")
    return "segments", ""


def kinds_of(path: Path, uses: Sequence[Use], label: str = "", columns: Columns | None = None) -> list[tuple[Use, str]]:
    """Return all kinds of annotation of a manifest that a task can use, with the task of labels.

    Questions are one kind; captions that were made of labels are none.

    Args:
        path: of the manifest.
        uses: kinds that the task can use.
        label: the task of labels or the kind of questions to return alone; "" is all of them.
        columns: columns of a table whose names are not the known ones, see `read_manifest`.
    """
    known = [(use, name) for use, name in _annotations(path, uses, columns) if label in ("", name)]
    found = [(use, label if use == "choices" else name) for use, name in known]
    return list(dict.fromkeys(found))


def _annotations(path: Path, uses: Sequence[Use], columns: Columns | None) -> list[tuple[Use, str]]:
    """Return the kinds of annotation of a manifest in the order of `uses`, with each task of labels and questions."""
    from slap.datamodules.captions.sample import TEMPLATE, field_of
    from slap.datamodules.manifests.read import read_manifest

    known: dict[Use, set[str]] = {"captions": set(), "labels": set(), "tags": set(), "choices": set()}
    for cut in read_manifest(path, max_bad=1.0, columns=columns, captioned="choices" not in uses):
        if any(field_of(caption) != TEMPLATE for caption in cut.supervisions):
            known["captions"].add("")
        for kind in ("labels", "tags", "choices"):
            known[kind] |= set((cut.custom or {}).get(kind, {}))
    return [(use, task) for use in uses for task in sorted(known[use])]
