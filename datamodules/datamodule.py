"""The data module: manifests of clips with captions in, packed batches out.

A batch holds B clips with C captions; see `slap.core.batch.Batch`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch.distributed as dist
from lightning.pytorch import LightningDataModule

from slap.core.bad_clip import BadClip
from slap.core.units import Seconds
from slap.datamodules.audio.decode import LARGEST, MEGABYTE
from slap.datamodules.augment import augmentations
from slap.datamodules.bad_clips import BadClipLog
from slap.datamodules.captions.augment import AugmentSpec, text_augmentation
from slap.datamodules.captions.sample import CaptionSampler
from slap.datamodules.dataset import EvaluationDataset, Tokenize, TrainDataset, Transform
from slap.datamodules.labels import Labels, all_labels, balancing
from slap.datamodules.loader import Loader
from slap.datamodules.manifests.collection import (
    MonoCuts,
    check_lengths,
    every_source,
    long_enough,
    read_manifests,
    sources_of,
)
from slap.datamodules.manifests.data_root import Folders
from slap.datamodules.manifests.read import captions_of
from slap.datamodules.manifests.sequence import Clips, ConcatClips
from slap.datamodules.overlap.warn import indexed, warn_of_overlap
from slap.datamodules.sampling.epoch import Source
from slap.datamodules.sampling.eval_windows import segments_of
from slap.datamodules.sampling.mixture import Manifests, Named, balanced, mixed, shares
from slap.datamodules.sampling.position import Position, basis, position_in, state
from slap.datamodules.sampling.replacement import Replacements
from slap.datamodules.sampling.sampler import EvaluationSampler, TrainSampler

PROMPT = "This is a sound of {label}."
"""The prompt of a zero-shot task that is given none."""

STAGES = {"fit": "train", "validate": "val", "test": "test", "predict": "test"}
"""The manifests that each stage cannot do without."""

MOST_DECODED = 1e12  # MB: what is beyond is no number of bytes

log = logging.getLogger(__name__)


class AudioTextData(LightningDataModule):
    """Batches of clips and captions from manifests (see `slap.datamodules.manifests.read` for their format).

    In training each clip comes once an epoch (or `repeats` times), in a new order, with one of its captions drawn at
    random. In evaluation each clip comes once, whole or in windows, with all its captions. Sample rate and tokenizer
    are the model's: the trainer says which, or `connect` where there is no trainer. The same seed gives the same
    batches, whatever the number of workers.

    Clips that are bad (absent, unreadable, truncated, silent, ...: see `slap.core.bad_clip`) stop nothing and are not
    hidden: training replaces each by one of nearly the same length, evaluation leaves it out and says so. They are
    counted and listed in `bad_clips.jsonl` in the run's folder.

    A training that is continued from a checkpoint goes on with the batch after the last one that it was trained on,
    without loading those before (`slap.training.checkpoint.resume`). For that the manifests, what makes batches of
    them (the arguments
    from `max_duration` to `max_clip`, and `seed`) and the number of processes must be the same; anything else is an
    error that says what has changed.

    Manifests may go under names, `{"audiocaps": "a.jsonl", "clotho": ["b.jsonl", "c.jsonl"]}`: then the logs tell these
    sources apart, in training by the losses of their clips and in validation by figures of their own, and `weights` or
    `temperature` give each a share of every epoch. An epoch of such a mixture is `epoch_clips` long. Each source goes
    through all its clips again and again, each time in a new order, and an epoch goes on where the last one stopped. So
    clips of a source that is small for its share come several times an epoch, and of one that is large only some do,
    other ones in the next epoch.

    Args:
        train: a manifest, several, or by name the manifests of a source.
        val: the same, for validation; may be left out.
        test: the same, for `test` and `predict`.
        max_duration: seconds of audio in a batch, before transforms. Never exceeded: nothing is padded, so this is
            what a batch costs.
        max_clips: clips in a batch at most, if that shall be limited too.
        num_buckets: classes of similar length that training batches are made from; 1 mixes all lengths.
        repeats: how often the clips of each training manifest come in an epoch: one number for each, or one for all.
            Each time, caption, crop and transforms are drawn anew.
        weights: for each source of `train` its weight; the shares of an epoch are in proportion to them.
        temperature: gives the sources of `train` shares in proportion to (number of clips)^(1 / temperature). 1 is
            their own shares, more evens them out.
        epoch_clips: clips of an epoch with `weights`, `temperature` or `balance`. Default: as many as there are.
        balance: a task whose classes shall come equally often: each training clip comes in proportion to the sum over
            its labels of 1 / (clips with that label), see `slap.datamodules.labels`. Clips without label never come.
        min_clip: training clips shorter than this are left out, and how many is logged. Never in evaluation.
        max_clip: longer training clips are cropped to this, at a random place. The paper trains on up to 30 s.
            Evaluation never crops: a clip's embedding would depend on chance. None crops nothing.
        window: evaluation takes longer clips in overlapping windows of this length and merges their embeddings, as
            `slap.core.windows` says. At most, and by default, `max_duration`: whatever fits into a batch goes as a
            whole.
        caption_fields: for each field of captions how probable it is that training draws one of it, e.g.
            `{"caption": 0.7, "tags": 0.3}`. Where a clip lacks some of the fields, the others keep their proportions;
            one that has none of them counts as bad. Default: all captions of a clip are equally probable. Evaluation
            always takes all, but those of the field "template", made of labels, only where a clip has no others.
        text_augment: changes the captions that training draws: the name of a registered text augmentation, `{"name":
            ..., argument: value}`, the dotted path of a function or the function, see
            `slap.datamodules.captions.augment`.
            A caption that it changed still describes all clips of the caption as it was.
        prompts: for each zero-shot task (a column `label` or `label_<task>`) its prompt, with `{label}` in it. Tasks
            without one get "This is a sound of {label}."
        augment: augmentation of training clips by name and arguments, see `slap.datamodules.augment`.
        transforms: applied to the cuts of each training batch after those, in order; see
            `slap.datamodules.augment.basic`.
        max_bad: the share of clips that may be bad; the run stops with an error when more are. See
            `slap.datamodules.bad_clips` for when that is judged.
        max_decoded: MB that reading the wanted stretch of a clip may take, by its header: seconds x channels x rate x 4
            bytes, thrice, for the copies that are made. One that would take more is bad; nothing is allocated for it.
        data_root: folders below which the audio of the manifests must lie; default: those of the environment variable
            SLAP_DATA_ROOT, or anywhere. See `slap.datamodules.manifests.data_root`.
        in_memory: decode and resample all audio once, at 64 kB for a second of 16 kHz. Each process of distributed
            training holds it all; forked workers share it.
        num_workers: loading processes; 0 loads between training steps.
        seed: of order, captions and crops.

    Attributes:
        restart_changed: whether a run that is continued with other data begins its epoch anew, instead of stopping.

    Raises:
        ValueError: an argument is out of range, or a clip does not fit into a batch.
        ManifestError: a manifest cannot be used; raised by `setup`.
    """

    def __init__(
        self,
        train: Manifests = (),
        val: Manifests = (),
        test: Manifests = (),
        *,
        max_duration: Seconds = 200.0,
        max_clips: int | None = None,
        num_buckets: int = 10,
        repeats: int | Sequence[int] = 1,
        weights: Mapping[str, float] | None = None,
        temperature: float | None = None,
        epoch_clips: int | None = None,
        balance: str | None = None,
        min_clip: Seconds = 0.0,
        max_clip: Seconds | None = 30.0,
        window: Seconds | None = None,
        caption_fields: Mapping[str, float] | None = None,
        text_augment: AugmentSpec | None = None,
        prompts: Mapping[str, str] | None = None,
        augment: Mapping[str, Mapping[str, Any] | None] | None = None,
        transforms: Sequence[Transform] = (),
        max_bad: float = 0.05,
        max_decoded: float = LARGEST / MEGABYTE,
        data_root: Folders | None = None,
        in_memory: bool = False,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self._groups = {"train": Named.of(train), "val": Named.of(val), "test": Named.of(test)}
        self.manifests = {split: list(group.paths) for split, group in self._groups.items()}
        count = len(self.manifests["train"])
        self.repeats = [repeats] * count if isinstance(repeats, int) else list(repeats)
        if len(self.repeats) != count or not all(number >= 1 for number in self.repeats):
            raise ValueError(f"repeats must be 1 or more for each of the {count} training manifests, got {repeats}")
        self._weights, self._temperature, self._epoch_clips = weights, temperature, epoch_clips
        self._balance = balance
        self._check_mixture()
        self._choice = CaptionSampler(caption_fields, text_augmentation(text_augment))
        if max_duration <= 0 or (max_clips is not None and max_clips < 1) or num_buckets < 1:
            raise ValueError(
                f"max_duration must be above 0, max_clips and num_buckets at least 1; "
                f"got max_duration={max_duration}, max_clips={max_clips}, num_buckets={num_buckets}"
            )
        if max_clip is not None and not min_clip < max_clip <= max_duration:
            raise ValueError(
                f"min_clip < max_clip <= max_duration is needed, got min_clip={min_clip}, max_clip={max_clip}, "
                f"max_duration={max_duration}; max_clip=None crops nothing"
            )
        if window is not None and window <= 0:
            raise ValueError(f"window must be above 0 seconds, got {window}")
        _check_templates(prompts or {})
        if not isinstance(max_decoded, int | float) or not 0 < max_decoded < MOST_DECODED:
            raise ValueError(f"max_decoded is a number of MB above 0, got {max_decoded!r}")
        self.quarantine = BadClipLog(max_bad)
        self.data_root = data_root
        self.largest = round(max_decoded * MEGABYTE)
        self.max_duration, self.max_clips, self.num_buckets = max_duration, max_clips, num_buckets
        self.min_clip, self.max_clip = min_clip, max_clip
        self.window = max_duration if window is None else min(window, max_duration)
        self.transforms, self.in_memory = (*augmentations(augment or {}), *transforms), in_memory
        self.num_workers, self.seed = num_workers, seed
        if not self.manifests["val"]:
            # Lightning's sign that there is no validation; an empty loader would make it validate on nothing.
            self.val_dataloader = None  # type: ignore[method-assign, assignment]
        self._given_prompts = dict(prompts or {})
        self._connection: tuple[int, Tokenize] | None = None
        self._read: dict[str, ConcatClips] = {}
        self._labels: dict[str, Labels] = {}
        self._left_out: dict[str, list[BadClip]] = {}
        self._mono: dict[tuple[str, int], MonoCuts] = {}
        self._sources: list[Source] = []  # what an epoch takes of the training clips
        self._firsts: dict[str, tuple[int, ...]] = {}  # of each source, the number of its first clip
        self._loaders: list[Loader] = []
        self.restart_changed = False
        self._position = Position()
        self._basis: dict[str, Any] = {}  # what the position depends on
        self._saved: dict[str, Any] = {}  # by the checkpoint that is continued

    def connect(self, sample_rate: int, tokenize: Tokenize) -> None:
        """Say what the model wants, where no trainer does.

        Args:
            sample_rate: of the waveforms, Hz.
            tokenize: captions to packed token ids.
        """
        self._connection = sample_rate, tokenize

    def setup(self, stage: str | None = None) -> None:
        """Read and check the manifests of a stage, and decode their audio if it is to be held in memory."""
        if stage is None:
            splits = {split for split, paths in self.manifests.items() if paths}
        else:
            needed = STAGES[stage]
            if not self.manifests[needed]:
                raise ValueError(f"{stage} needs a manifest: give AudioTextData({needed}=...)")
            splits = {needed, "val"} if stage == "fit" else {needed}
        if self.trainer is not None and not self.trainer.fast_dev_run:  # type: ignore[attr-defined]
            self.quarantine.out = Path(self.trainer.default_root_dir)
            self.quarantine.waiting = stage == "fit"
        for split in sorted(splits):
            self._clips(split)
            if self.in_memory:
                self._mono_cuts(split)
        self._check_prompts()
        if stage == "fit":
            self._position, self._saved = Position(), {}
        if stage == "fit" and self._process()[0] == 0:
            warn_of_overlap(self._named("train"), [*self._named("val"), *self._named("test")])

    def teardown(self, stage: str) -> None:
        """End the loading processes."""
        del stage
        self.quarantine.flush()
        for loader in self._loaders:
            loader.close()
        self._loaders.clear()

    def captions(self) -> Iterator[str]:
        """All captions of the training manifests, each once, lazily; a tokenizer learns from them."""
        return captions_of(self._clips("train"))

    def labels(self, task: str) -> Labels:
        """For each training clip the labels that it has of a task; a classification head learns its classes so."""
        if task not in self._labels:
            self._labels[task] = all_labels(self._clips("train"), task)
        return self._labels[task]

    @property
    def source_names(self) -> dict[str, tuple[str, ...]]:
        """By split the names of its sources, in the order in which batches number them; none without names."""
        return {split: group.names for split, group in self._groups.items()}

    @property
    def prompts(self) -> dict[str, str]:
        """For each zero-shot task of the evaluation manifests read so far its prompt, with `{label}` in it."""
        return {**dict.fromkeys(self._tasks(), PROMPT), **self._given_prompts}

    @property
    def place(self) -> tuple[int, int]:
        """The epoch, and the batches of it that each process has trained on, or continues behind."""
        return self._position.epoch, self._position.batches

    def commit(self, epoch: int, batches: int) -> None:
        """Take note that training has come so far: a checkpoint goes on from there.

        `slap.training.checkpoint.resume` says when.

        Args:
            epoch: counted from 0.
            batches: of it that each process has trained on.
        """
        self._position = Position(epoch, batches)

    def state_dict(self) -> dict[str, Any]:
        """The place in the data up to which training has come, and what that depends on; plain data."""
        return state(self._position, self._basis) if self._basis else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where a checkpoint says; the next training loader looks whether the data are the same."""
        self._saved = dict(state_dict)

    def train_dataloader(self) -> Loader:
        """Batches of one training epoch; Lightning sets which.

        Raises:
            ValueError: a checkpoint is continued with other data, and `restart_changed` is not set.
        """
        sample_rate, tokenize = self._model()
        clips, cuts = self._clips("train"), self._mono_cuts("train")
        lengths = clips.samples(sample_rate)
        if self.max_clip is not None:
            np.minimum(lengths, round(self.max_clip * sample_rate), out=lengths)
        replacements = Replacements(lengths, self.seed)
        sampler = TrainSampler(
            lengths,
            round(self.max_duration * sample_rate),
            self.max_clips,
            self.num_buckets,
            self.seed,
            *self._process(),
            self._sources,
        )
        self._basis = basis(clips.keys, sampler)
        if self._saved:
            self._position = position_in(self._saved, self._basis, self.restart_changed)
            self._saved = {}
        sampler.begin_at(self._position.epoch, self._position.batches)
        return self._loader(
            TrainDataset(
                cuts,
                tokenize,
                clips.tasks,
                self.transforms,
                self.max_clip,
                self.seed,
                replacements,
                self.largest,
                self._firsts["train"],
                self._choice,
            ),
            sampler,
            "train",
        )

    def val_dataloader(self) -> Loader:
        """The validation clips, each once. The attribute is None if there is no such manifest."""
        return self._evaluation_loader("val")

    def test_dataloader(self) -> Loader:
        """The test clips, each once."""
        return self._evaluation_loader("test")

    def predict_dataloader(self) -> Loader:
        """The test clips, each once."""
        return self._evaluation_loader("test")

    def _evaluation_loader(self, split: str) -> Loader:
        sample_rate, tokenize = self._model()
        clips, budget = self._clips(split), round(self.max_duration * sample_rate)
        stretches = segments_of(clips.samples(sample_rate), round(self.window * sample_rate))
        return self._loader(
            EvaluationDataset(
                self._mono_cuts(split), tokenize, clips.tasks, stretches, self.largest, self._firsts[split]
            ),
            EvaluationSampler(stretches.lengths, budget, self.max_clips, *self._process()),
            split,
        )

    def _loader(
        self, dataset: TrainDataset | EvaluationDataset, sampler: TrainSampler | EvaluationSampler, stage: str
    ) -> Loader:
        on_gpu = self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
        before = self._left_out.get(stage, ())
        loader = Loader(dataset, sampler, self.quarantine, stage, before, self.num_workers, on_gpu)
        self._loaders.append(loader)
        return self._loaders[-1]

    def _clips(self, split: str) -> ConcatClips:
        """The clips of a split's manifests, opened on first use."""
        if split not in self._read:
            bad = self._left_out.setdefault(split, [])
            parts = read_manifests(self.manifests[split], self.quarantine.max_bad, bad, self.data_root)
            if self._process()[0] == 0:  # every process finds the same
                self.quarantine.add(split, bad)
            if split == "train":
                parts = [long_enough(part, self.min_clip) for part in parts]
                self._sources = self._epoch_of(parts)
                if not self._sources:
                    raise ValueError(f"no training clip is left: all are shorter than min_clip={self.min_clip} s")
            self._firsts[split] = self._groups[split].firsts([len(part) for part in parts])
            clips = ConcatClips(parts)
            if split == "train" and self.max_clip is None:
                check_lengths(clips, self.max_duration, "raise max_duration, or crop with max_clip")
            self._read[split] = clips
        return self._read[split]

    def _epoch_of(self, parts: Sequence[Clips]) -> list[Source]:
        """What an epoch takes of the training manifests."""
        if self._balance is not None:
            self._labels[self._balance] = labels = all_labels(ConcatClips(parts), self._balance)
            return balanced(every_source(parts), balancing(labels), self._epoch_clips)
        if self._weights is None and self._temperature is None:
            return sources_of(parts, self.repeats)
        named, sizes = self._groups["train"], [len(part) for part in parts]
        if not sum(sizes):
            return []
        totals = dict(zip(named.names, map(sum, named.grouped(sizes)), strict=True))
        share = shares(totals, self._weights, self._temperature)
        total = self._epoch_clips or sum(sizes)
        for name, size in totals.items():
            times = share[name] * total / size
            log.info("%s: %.1f %% of an epoch of %d clips, each %.2f times", name, 100 * share[name], total, times)
        return mixed(every_source(parts), named, share, total)

    def _check_mixture(self) -> None:
        """Refuse what makes no mixture."""
        weights, temperature, names = self._weights, self._temperature, self._groups["train"].names
        if self._balance is not None:
            if weights is not None or temperature is not None or set(self.repeats) - {1}:
                raise ValueError("balance, shares and repeats all say how often clips come; give one of them")
            if self._epoch_clips is not None and self._epoch_clips < len(self.manifests["train"]):
                raise ValueError(f"epoch_clips must be at least the number of manifests, got {self._epoch_clips}")
            return
        if weights is None and temperature is None:
            if self._epoch_clips is not None:
                raise ValueError(
                    "epoch_clips is the length of a mixture's epoch: it needs weights or a temperature, or balance"
                )
            return
        if weights is not None and temperature is not None:
            raise ValueError("weights and temperature both say what the shares are; give one of them")
        if not names:
            raise ValueError("shares need sources with names: give train={name: manifest, ...}")
        if set(self.repeats) != {1}:
            raise ValueError(f"repeats and shares both say how often clips come; got repeats={self.repeats} too")
        if self._epoch_clips is not None and self._epoch_clips < len(names):
            raise ValueError(f"epoch_clips must be at least the {len(names)} sources, got {self._epoch_clips}")
        shares(dict.fromkeys(names, 1), weights, temperature)  # complains, before anything is read

    def _mono_cuts(self, split: str) -> MonoCuts:
        """The same clips as the model wants them, held in memory if that is asked for."""
        sample_rate, _ = self._model()
        if (split, sample_rate) not in self._mono:
            self._mono[split, sample_rate] = MonoCuts(self._clips(split), sample_rate, self.in_memory, self.largest)
        return self._mono[split, sample_rate]

    def _model(self) -> tuple[int, Tokenize]:
        """The sample rate and the tokenizer."""
        if self.trainer is not None:
            model = self.trainer.lightning_module
            return model.audio.sample_rate, model.text.tokenize  # type: ignore[union-attr, return-value]
        if self._connection is None:
            raise RuntimeError("without a trainer, call connect(sample_rate, tokenize) first")
        return self._connection

    def _process(self) -> tuple[int, int]:
        """Rank and world size."""
        if self.trainer is not None:
            return self.trainer.global_rank, self.trainer.world_size
        if dist.is_available() and dist.is_initialized():
            return dist.get_rank(), dist.get_world_size()
        return 0, 1

    def _tasks(self) -> list[str]:
        """The zero-shot tasks of the evaluation manifests read so far."""
        return sorted({task for split in ("val", "test") if split in self._read for task in self._read[split].tasks})

    def _named(self, split: str) -> list[tuple[Path, Clips]]:
        """The manifests of a split with their clips; those that are not read yet only if that takes no time."""
        if split in self._read:
            return list(zip(self.manifests[split], self._read[split].sources, strict=True))
        return indexed(self.manifests[split])

    def _check_prompts(self) -> None:
        """Refuse prompts for tasks that no evaluation manifest has, once all of them are read."""
        given = {split for split in ("val", "test") if self.manifests[split]}
        tasks = self._tasks()
        unknown = sorted(set(self._given_prompts) - set(tasks))
        if unknown and given and given <= set(self._read):
            raise ValueError(f"prompts name the tasks {unknown}, but the clips have labels of {tasks or 'none'}")


def _check_templates(prompts: Mapping[str, str]) -> None:
    for task, template in prompts.items():
        if "{label}" not in template:
            raise ValueError(f"the prompt of task {task!r} has no {{label}} in it: {template!r}")
