"""The data module: manifests of clips with captions in, packed batches out.

A batch holds B clips with C captions; see `slap.core.batch.Batch`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from lhotse import CutSet
from lightning.pytorch import LightningDataModule

from slap.core.bad_clip import BadClip
from slap.core.described import described
from slap.core.errors import UserError
from slap.core.units import Seconds
from slap.datamodules.audio.decode import LARGEST, MEGABYTE
from slap.datamodules.augment import augmentations
from slap.datamodules.augment.base import RandomTransform
from slap.datamodules.bad_clips import BadClipLog
from slap.datamodules.batches import evaluation_batches, train_batches
from slap.datamodules.captions.augment import AugmentSpec
from slap.datamodules.connection import found_by_first, keeps_files, model_of, on_gpu, process_of
from slap.datamodules.content import content_of
from slap.datamodules.dataset import EvaluationDataset, Tokenize, TrainDataset
from slap.datamodules.huggingface.stream_loader import StreamLoader
from slap.datamodules.huggingface.training import StreamedTraining
from slap.datamodules.labels import Labels
from slap.datamodules.learnable import check_learnable
from slap.datamodules.loader import Loader, requests_of
from slap.datamodules.manifests.collection import MonoCuts
from slap.datamodules.manifests.columns import check_columns
from slap.datamodules.manifests.data_root import Folders, RemoteRoots
from slap.datamodules.manifests.hashes import hashed
from slap.datamodules.manifests.read import captions_of
from slap.datamodules.options import Batching, Captions, Limits, Mixture, Unlabelled
from slap.datamodules.overlap.warn import warn_of_overlap
from slap.datamodules.remote.ahead import fetching_ahead
from slap.datamodules.sampling.basis import basis
from slap.datamodules.sampling.mixture import Manifests, NamedManifests
from slap.datamodules.sampling.position import Position, Progress
from slap.datamodules.sampling.sampler import SHUFFLE_CLIPS, EvaluationSampler, StepSampler
from slap.datamodules.splits import Splits

PROMPT = "This is a sound of {label}."
"""The prompt of a zero-shot task that is given none."""


class AudioTextData(LightningDataModule):
    """Batches of clips and captions from manifests (see `slap.datamodules.manifests.read` for their format).

    In training each clip comes once per epoch (or `repeats` times), in a new order, with one of its captions drawn at
    random. In evaluation each clip comes once, whole or in windows, with all its captions. Sample rate and tokenizer
    are the model's: the trainer says which, or `connect` where there is no trainer. The same seed gives the same
    batches, whatever the number of workers.

    Clips that are bad (absent, unreadable, truncated, silent, ...: see `slap.core.bad_clip`) neither stop a run nor
    disappear without a trace: training replaces each by one of nearly the same length, evaluation leaves it out and
    says so. They are counted, and listed in `bad_clips.jsonl` in the run's folder.

    A run that is continued from a checkpoint goes on with the batch after the last one that it was trained on, without
    loading those before (`slap.training.checkpoint.resume`). For that the manifests, the arguments from `max_duration`
    to `max_clip`, `shuffle_clips` and `seed` must be the same; anything else is an error that says what has changed.
    Another number of processes goes on too, with the clips that are left of the epoch, each once.

    Manifests may have names, `{"audiocaps": "a.jsonl", "clotho": ["b.jsonl", "c.jsonl"]}`. Then the logs show these
    sources apart, training by the losses of their clips and validation by metrics of their own, and `weights` or
    `temperature` give each a share of every epoch. Each source goes through all its clips again and again, each time in
    a new order, and an epoch goes on where the last one stopped. So clips of a source that is small for its share come
    several times per epoch; of one that is large only some do, and other ones in the next epoch.

    Clips without captions train the objectives that learn from audio alone, such as `masked_distillation`; the others
    learn from the captioned clips of each batch as if there were no other. `unlabelled` names such clips, and
    `unlabelled_share` says how much of every batch they fill; without `train` they are all there is.

    Args:
        train: a manifest to train on, several, or a mapping from names of sources to their manifests.
        val: manifests for validation, likewise; may be left out.
        test: manifests for `test` and `predict`, likewise.
        unlabelled: audio to train on without captions: manifests of any kind, whose captions are not read, or folders
            of audio files.
        unlabelled_share: share of the seconds of every training batch that `unlabelled` fills beside `train`, above 0
            and below 1. An epoch is one of `train`; the next epoch goes on in `unlabelled` where it stopped.
        empty_captions: take clips of `train` whose caption is empty as clips without captions, not as bad ones.
        max_duration: seconds of audio per batch, per process, before augmentation. Never exceeded, and nothing is
            padded, so this decides the cost of a batch.
        max_clips: largest number of clips per batch, per process; default: any number.
        min_clips: least number of clips per training batch, per process. Length classes that cannot hold so many within
            `max_duration` are joined with shorter ones.
        num_buckets: number of length classes that training batches are made from; 1 mixes all lengths.
        shuffle_clips: largest number of training clips that are shuffled at a time. More are shuffled in sections of at
            most so many: the shards (or runs of 1,024 clips of a manifest without shards) are put in random order, and
            the clips of the next so many are shuffled. Only one section is in memory.
        step_batches: number of batches of `max_duration` per step, of all processes together. With another number of
            processes, the clips of each step are divided among these: 3 processes with 4 batches have 4 / 3 times
            `max_duration` each, and steps with the same clips as 4. Default: one per process.
        repeats: number of times that the clips of each training manifest come in an epoch: one number per manifest, or
            one for all. Each time, caption, crop and augmentation are drawn anew.
        weights: weight of each source of `train` by its name; the shares of an epoch are in proportion to them.
        temperature: T; the sources of `train` get shares of an epoch in proportion to (number of clips)^(1 / T). 1 is
            their own shares, more evens them out.
        epoch_clips: number of clips per epoch with `weights`, `temperature` or `balance`; default: as many as there
            are.
        balance: task whose classes shall come equally often in training: a clip comes in proportion to the sum over its
            labels of 1 / (clips with that label). Clips without label never come.
        min_clip: seconds; shorter training clips are left out. Evaluation leaves out none.
        max_clip: seconds; longer training clips are cropped to this at a random place (the paper: 30). None crops
            nothing. Evaluation never crops, since an embedding would depend on chance.
        window: seconds; evaluation takes longer clips in overlapping windows of this length and merges their
            embeddings. At most, and by default, `max_duration`.
        caption_fields: probability that training draws a caption of each field, e.g. {caption: 0.7, tags: 0.3}. Where a
            clip lacks some fields, the others keep their proportions; one without any of them counts as bad. Default:
            all captions of a clip are equally probable. Evaluation takes all captions,
            but those of the field "template", made of labels, only where a clip has no others.
        text_augment: augmentation of training captions: a registered name, {name: ..., argument: value}, or the dotted
            path of a function. An augmented caption still describes all clips of the original one.
        prompts: prompt of each zero-shot task (a column `label` or `label_<task>`), with `{label}` in it; default:
            "This is a sound of {label}."
        augment: augmentation of training clips: names, each with its arguments or null: crop, event_crop, filter,
            gain, mix, mixup, noise, reverb, scenes, speed, ... (the paper: SpecAugment alone, in the encoder).
        transforms: functions from a Lhotse CutSet to a CutSet that are applied to each training batch after `augment`;
            on the command line dotted paths of functions, or {class_path: ..., init_args: {...}}.
        max_bad: share of clips that may be bad (absent, unreadable, silent, ...), 0 to 1, before the run stops.
        max_decoded: MB that decoding a clip may take by its header: seconds x channels x sample rate x 4 bytes, three
            times for the copies. A clip that would take more is bad, and nothing is allocated for it.
        data_root: folders that the audio of all manifests must lie in; default: those of the environment variable
            SLAP_DATA_ROOT, or any.
        remote_roots: addresses below which shards may be read from object stores and web servers, such as
            s3://bucket/prefix or https://host/path; default: those of the environment variable SLAP_REMOTE_ROOTS, with
            spaces between them, or none.
        columns: columns of your tables whose names are not the known ones, e.g. {audio: filepath, caption: title}; null
            as the column says that the tables have none, e.g. {start: null}. For all tables that are given, but not for
            cuts and shards, which have no columns.
        in_memory: decode and resample all audio once and keep it, 64 kB per second of audio at 16 kHz, per process.
        disjoint: refuse clips of `test` that are in `val` or in `train` too: what selects the checkpoint, or is
            learned, may not test it.
        stream_batches: number of batches per epoch, per process, where `train` is a stream, which has no length.
        num_workers: loading processes per training process; 0 loads between training steps.
        seed: seed of the order of clips, of captions, crops and augmentation.

    Attributes:
        manifests: paths of the manifests by split.
        restart_changed: whether a run that is continued with other data begins its epoch anew, instead of stopping.
        hash_audio: whether the content of audio files is compared, besides their sizes, when a run is continued.
        stream_options: the options, as plain data, that decide what training hears and reads of its clips.
        bad_clips: log of the bad clips met so far.
        columns: as given.
        own_captions_only: whether evaluation takes a caption's own clip alone for right, as published retrieval
            benchmarks do, and not every clip with the same caption, as training does.

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
        unlabelled: Sequence[str | Path] | str | Path = (),  # a list first, or the command line takes it for text
        unlabelled_share: float = 0.5,
        empty_captions: bool = False,
        max_duration: Seconds = 200.0,
        max_clips: int | None = None,
        min_clips: int = 1,
        num_buckets: int = 10,
        shuffle_clips: int = SHUFFLE_CLIPS,
        step_batches: int | None = None,
        repeats: int | Sequence[int] = (1,),
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
        transforms: Sequence[Callable[[CutSet], Any]] = (),  # of a CutSet as result the command line makes a class
        max_bad: float = 0.05,
        max_decoded: float = LARGEST / MEGABYTE,
        data_root: Folders | None = None,
        remote_roots: RemoteRoots | None = None,
        columns: Mapping[str, str | None] | None = None,
        in_memory: bool = False,
        disjoint: bool = False,
        stream_batches: int = 1000,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        others = Unlabelled(NamedManifests.of(unlabelled), unlabelled_share, empty_captions)
        groups = {"train": NamedManifests.of(train), "val": NamedManifests.of(val), "test": NamedManifests.of(test)}
        self.manifests = {split: list(group.paths) for split, group in groups.items()}
        self.batching = Batching(
            max_duration, max_clips, num_buckets, min_clip, max_clip, window, min_clips, shuffle_clips, step_batches
        )
        self.mixture = Mixture(groups["train"], repeats, weights, temperature, epoch_clips, balance)
        self.caption_options = Captions(caption_fields, text_augment, prompts)
        self.limits = Limits(max_bad, max_decoded, data_root, remote_roots)
        check_columns(columns or {})
        self.transforms = (*augmentations(augment or {}), *transforms)
        self.in_memory, self.disjoint, self.num_workers, self.seed = in_memory, disjoint, num_workers, seed
        if not self.manifests["val"]:
            # Lightning's sign that there is no validation; an empty loader would make it validate on nothing.
            self.val_dataloader = None  # type: ignore[method-assign, assignment]
        self.bad_clips = BadClipLog(max_bad)
        self.restart_changed = self.hash_audio = False
        heard: dict[str, Any] = {"caption_fields": caption_fields, "text_augment": text_augment, "columns": columns}
        heard |= {"augment": augment or {}, "transforms": transforms, "max_decoded": max_decoded}
        self.stream_options = {name: described(value) for name, value in heard.items()}
        self.own_captions_only, self.columns = False, columns
        self._splits = Splits(groups, self.batching, self.mixture, others, self.limits, self._report, columns)
        streamed = self.mixture, others, in_memory, columns, self.batching, self.limits, self.caption_options.sampler()
        self._stream = StreamedTraining.among(*streamed, self.transforms, seed, stream_batches, num_workers)
        self._connection: tuple[int, Tokenize] | None = None
        self._loaders: list[Loader | StreamLoader] = []
        self._progress = Progress()
        self._sampler: StepSampler | None = None

    def connect(self, sample_rate: int, tokenize: Tokenize) -> None:
        """Say what the model wants, where no trainer does.

        Args:
            sample_rate: of the waveforms, Hz.
            tokenize: captions to packed token ids.
        """
        self._connection = sample_rate, tokenize

    def setup(self, stage: str | None = None) -> None:
        """Read and check the manifests of a stage, and decode their audio if it is to be held in memory."""
        if self.trainer is not None and keeps_files(self.trainer):
            self.bad_clips.out = Path(self.trainer.default_root_dir)
            self.bad_clips.waiting = stage == "fit"
        needed = self._splits.needed(stage, self._stream is not None)
        if self.caption_options.prompts:  # before the training clips are read, which may take long
            self.caption_options.check_tasks(self._splits.tasks_with(self.caption_options.prompts, needed))
        for split in needed:
            self._splits.clips(split)
            if self.in_memory:
                self._mono_cuts(split)
        if self.disjoint:
            self._splits.check_disjoint()
        if stage == "fit":
            self._progress.reset()
            if self._stream is None:
                self._splits.check_fields(self.caption_options.caption_fields)
                check_learnable(self._splits.clips("train"), self.trainer and self.trainer.lightning_module)
            if self._process()[0] == 0:
                train, val, test = map(self._splits.by_manifest, ("train", "val", "test"))
                warn_of_overlap(train, [*val, *test])

    def teardown(self, stage: str) -> None:
        """End the loading processes."""
        del stage
        self.bad_clips.flush()
        for loader in self._loaders:
            loader.close()
        self._loaders.clear()

    def captions(self) -> Iterator[str]:
        """Yield the captions of the training manifests, each once, lazily; a tokenizer learns from them.

        Examples of the captions that transforms write follow.
        """
        own = self._stream.captions() if self._stream is not None else captions_of(self._splits.clips("train"))
        return chain(own, *(one.captions() for one in self.transforms if isinstance(one, RandomTransform)))

    def labels(self, task: str) -> Labels:
        """Return the labels of a task that each training clip has; a classification head learns its classes so."""
        if self._stream is not None:
            raise UserError(
                f"{self._stream.source.text} is a stream, whose classes are not known; name them: `classes`"
            )
        return self._splits.labels(task)

    def provenance(self, split: str) -> list[dict[str, str]]:
        """Return the path and the SHA-256 of each manifest of a split, for the record of an evaluation."""
        return hashed(self.manifests[split], self.limits.remote_roots)

    @property
    def window(self) -> Seconds:
        """Longest segment that evaluation takes at once; a checkpoint keeps it for those who use the model."""
        return self.batching.longest_segment

    @property
    def source_names(self) -> dict[str, tuple[str, ...]]:
        """By split the names of its sources, in the order in which batches number them; none without names."""
        return {split: self._splits.source_names(split) for split in self.manifests}

    @property
    def prompts(self) -> dict[str, str]:
        """For each zero-shot task of the evaluation manifests read so far its prompt, with `{label}` in it."""
        return {**dict.fromkeys(self._splits.tasks(), PROMPT), **(self.caption_options.prompts or {})}

    @property
    def choice_tasks(self) -> list[str]:
        """The kinds of questions that validation clips have candidates for, after a pass over their manifests."""
        customs = self._splits.clips("val").customs() if self.manifests["val"] else ()
        return sorted({task for custom in customs for task in custom.get("choices") or {}})

    @property
    def place(self) -> tuple[int, int]:
        """The epoch, and the batches of it that each process has trained on, or continues behind."""
        return self._progress.position.epoch, self._progress.position.batches

    def commit(self, epoch: int, batches: int) -> None:
        """Take note that training has come so far: a checkpoint goes on from there.

        `slap.training.checkpoint.resume` says when.

        Args:
            epoch: counted from 0.
            batches: of it that each process has trained on.
        """
        sampler = self._sampler
        self._progress.position = Position(epoch, batches) if sampler is None else sampler.position(epoch, batches)

    def state_dict(self) -> dict[str, Any]:
        """Return the place in the data up to which training has come, and what it depends on, as plain data."""
        streams = [loader for loader in self._loaders if isinstance(loader, StreamLoader)]
        known = self._progress.state()
        return known | {"streams": streams[-1].states(*self.place)} if known and streams else known

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where a checkpoint says; the next training loader looks whether the data are the same."""
        self._progress.saved = dict(state_dict)

    def train_dataloader(self) -> Loader | StreamLoader:
        """Return the batches of one training epoch; Lightning sets the number of the epoch.

        Raises:
            ValueError: a checkpoint is continued with other data, and `restart_changed` is not set.
        """
        if self._stream is not None:
            own = self.bad_clips, on_gpu(self.trainer), self._progress, self.restart_changed
            self._loaders.append(self._stream.loader(self._model(), self._process(), *own))
            return self._loaders[-1]
        drawn = self._process(), self.caption_options, self.transforms, self.seed
        dataset, sampler = train_batches(self._splits, self._mono_cuts("train"), self._model(), *drawn)
        known = basis(self._splits.clips("train").lasting, sampler) | self._content()
        self._progress.begin(known, self.restart_changed)
        sampler.begin_at(self._progress.position)
        self._sampler = sampler
        return self._loader(dataset, sampler, "train")

    def val_dataloader(self) -> Loader:
        """Return the validation clips, each once. The attribute is None if there is no such manifest."""
        return self._evaluation_loader("val")

    def test_dataloader(self) -> Loader:
        """Return the test clips, each once."""
        return self._evaluation_loader("test")

    def predict_dataloader(self) -> Loader:
        """Return the test clips, each once."""
        return self._evaluation_loader("test")

    def _evaluation_loader(self, split: str) -> Loader:
        made = evaluation_batches(self._splits, split, self._mono_cuts(split), self._model(), self._process())
        return self._loader(*made, split)

    def _loader(
        self, dataset: TrainDataset | EvaluationDataset, sampler: StepSampler | EvaluationSampler, split: str
    ) -> Loader:
        before, clips = self._splits.bad.get(split, ()), self._splits.clips(split)
        requests = requests_of(sampler, self.num_workers)
        if not self.in_memory:
            requests = fetching_ahead(requests, clips, dataset.numbers, split)
        loading = self.num_workers, on_gpu(self.trainer), requests
        loader = Loader(dataset, sampler, self.bad_clips, split, before, *loading)
        self._loaders.append(loader)
        return loader

    def _mono_cuts(self, split: str) -> MonoCuts:
        return self._splits.mono_cuts(split, self._model()[0], self.in_memory)

    def _content(self) -> dict[str, str]:
        """Return the fingerprints of the training clips, for checkpoints; the first process looks for all."""
        paths = [*self.manifests["train"], *self._splits.unlabelled.manifests.paths]
        parts, roots = self._splits.clips("train").sources, self.limits.remote_roots
        return found_by_first(self.trainer, partial(content_of, paths, parts, self.hash_audio, roots))

    def _report(self, split: str, bad: list[BadClip]) -> None:
        if self._process()[0] == 0:  # every process finds the same
            self.bad_clips.add(split, bad)

    def _model(self) -> tuple[int, Tokenize]:
        return model_of(self.trainer, self._connection)

    def _process(self) -> tuple[int, int]:
        return process_of(self.trainer)
