"""Arguments of `AudioTextData` in groups that check themselves; its docstring describes each of them.

n clips.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from slap.core.errors import UserError
from slap.core.units import Seconds
from slap.datamodules.audio.decode import LARGEST, MEGABYTE
from slap.datamodules.bad_clips import check_share
from slap.datamodules.captions.augment import AugmentSpec, text_augmentation
from slap.datamodules.captions.sample import CaptionSampler
from slap.datamodules.labels import Labels, balancing
from slap.datamodules.manifests.collection import every_source, sources_of
from slap.datamodules.manifests.data_root import Folders, RemoteRoots
from slap.datamodules.manifests.sequence import Clips
from slap.datamodules.sampling.epoch import Source
from slap.datamodules.sampling.mixed import split_budget
from slap.datamodules.sampling.mixture import NamedManifests, balanced, mixed_epoch, shares
from slap.datamodules.sampling.sampler import SHUFFLE_CLIPS
from slap.datamodules.stored import Array

MOST_DECODED = 1e12
"""MB; more cannot be a number of bytes."""


@dataclass(frozen=True)
class Batching:
    """Sizes of batches and of the clips in them.

    Raises:
        ValueError: an argument is out of range.
    """

    max_duration: Seconds = 200.0
    max_clips: int | None = None
    num_buckets: int = 10
    min_clip: Seconds = 0.0
    max_clip: Seconds | None = 30.0
    window: Seconds | None = None
    min_clips: int = 1
    shuffle_clips: int = SHUFFLE_CLIPS
    step_batches: int | None = None

    def __post_init__(self) -> None:
        if self.max_duration <= 0 or (self.max_clips is not None and self.max_clips < 1) or self.num_buckets < 1:
            raise UserError(
                f"max_duration must be above 0 seconds, max_clips and num_buckets at least 1; "
                f"got max_duration={self.max_duration}, max_clips={self.max_clips}, num_buckets={self.num_buckets}"
            )
        if not 1 <= self.min_clips <= (self.max_clips or self.min_clips):
            raise UserError(
                f"min_clips is a number of clips from 1 to max_clips; got min_clips={self.min_clips}, "
                f"max_clips={self.max_clips}"
            )
        if self.max_clip is not None and not self.min_clip < self.max_clip <= self.max_duration:
            raise UserError(
                f"min_clip < max_clip <= max_duration is needed, got min_clip={self.min_clip}, "
                f"max_clip={self.max_clip}, max_duration={self.max_duration}; max_clip=None crops nothing"
            )
        if self.shuffle_clips < 1 or (self.step_batches is not None and self.step_batches < 1):
            raise UserError(
                f"shuffle_clips (clips shuffled at a time) and step_batches (batches per step) must be at least 1; got "
                f"shuffle_clips={self.shuffle_clips}, step_batches={self.step_batches}"
            )
        if self.window is not None and self.window <= 0:
            raise UserError(f"window must be above 0 seconds, got {self.window}")

    @property
    def longest_segment(self) -> Seconds:
        """Longest segment that evaluation takes at once."""
        return self.max_duration if self.window is None else min(self.window, self.max_duration)

    def train_lengths(self, clips: Clips, sample_rate: int) -> Array:
        """Return the lengths of training clips after the crop to `max_clip`, (n,) int64 in samples."""
        return clips.samples(sample_rate, None if self.max_clip is None else round(self.max_clip * sample_rate))


@dataclass(frozen=True)
class Mixture:
    """Number of times that the clips of each training manifest come in an epoch.

    Raises:
        ValueError: an argument is out of range, or two of them contradict each other.
    """

    manifests: NamedManifests
    repeats: int | Sequence[int] = (1,)
    weights: Mapping[str, float] | None = None
    temperature: float | None = None
    epoch_clips: int | None = None
    balance: str | None = None

    def __post_init__(self) -> None:
        count = len(self.manifests.paths)
        if len(self.repeats_each) != count or not all(number >= 1 for number in self.repeats_each):
            raise UserError(f"repeats must be 1 or more for each of the {count} training manifests, got {self.repeats}")
        if self.balance is not None:
            self._check_balance()
        elif self.weights is not None or self.temperature is not None:
            self._check_shares()
        elif self.epoch_clips is not None:
            raise UserError(
                "epoch_clips is the length of a mixture's epoch: it needs weights or a temperature, or balance"
            )

    @property
    def repeats_each(self) -> list[int]:
        """`repeats` of each manifest."""
        numbers = [self.repeats] if isinstance(self.repeats, int) else list(self.repeats)
        return numbers * len(self.manifests.paths) if len(numbers) == 1 else numbers

    def sources(self, parts: Sequence[Clips], labels: Callable[[str], Labels]) -> list[Source]:
        """Return what an epoch takes of each training manifest; nothing where no clip is left.

        Args:
            parts: the clips of each manifest.
            labels: returns the labels of all clips of a task.
        """
        if self.balance is not None:
            return balanced(every_source(parts), balancing(labels(self.balance)), self.epoch_clips)
        if self.weights is None and self.temperature is None:
            return sources_of(parts, self.repeats_each)
        if not any(len(part) for part in parts):
            return []
        return mixed_epoch(every_source(parts), self.manifests, self.weights, self.temperature, self.epoch_clips)

    def _check_balance(self) -> None:
        if self.weights is not None or self.temperature is not None or set(self.repeats_each) - {1}:
            raise UserError("balance, shares and repeats all say how often clips come; give one of them")
        if self.epoch_clips is not None and self.epoch_clips < len(self.manifests.paths):
            raise UserError(f"epoch_clips must be at least the number of manifests, got {self.epoch_clips}")

    def _check_shares(self) -> None:
        names = self.manifests.names
        if self.weights is not None and self.temperature is not None:
            raise UserError("weights and temperature both say what the shares are; give one of them")
        if not names:
            raise UserError("shares need sources with names: give train={name: manifest, ...}")
        if set(self.repeats_each) != {1}:
            raise UserError(f"repeats and shares both say how often clips come; got repeats={self.repeats_each} too")
        if self.epoch_clips is not None and self.epoch_clips < len(names):
            raise UserError(f"epoch_clips must be at least the {len(names)} sources, got {self.epoch_clips}")
        shares(dict.fromkeys(names, 1), self.weights, self.temperature)  # checks the numbers


@dataclass(frozen=True)
class Unlabelled:
    """Training clips without captions, and their share of every batch.

    Raises:
        ValueError: an argument is out of range.
    """

    manifests: NamedManifests
    share: float = 0.5
    empty_captions: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise UserError(f"unlabelled_share is a share of the seconds of a batch, between 0 and 1; got {self.share}")

    def budgets(self, batching: Batching) -> list[tuple[Seconds, int | None]]:
        """Return the seconds and clips of a batch for clips with captions, and for those without.

        Raises:
            ValueError: a clip would not fit into its share.
        """
        parts = split_budget(batching.max_duration, batching.max_clips, self.share)
        least = min(seconds for seconds, _ in parts)
        if batching.max_clip is not None and batching.max_clip > least:
            raise UserError(
                f"max_clip={batching.max_clip} s does not fit into {least:g} s, the smaller part of max_duration="
                f"{batching.max_duration} s with unlabelled_share={self.share}; raise max_duration or lower max_clip"
            )
        return parts


@dataclass(frozen=True)
class Captions:
    """Choice of captions in training, and prompts of zero-shot tasks.

    Raises:
        ValueError: an argument is out of range, or a text augmentation is unknown.
    """

    caption_fields: Mapping[str, float] | None = None
    text_augment: AugmentSpec | None = None
    prompts: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        self.sampler()
        for task, template in (self.prompts or {}).items():
            if "{label}" not in template:
                raise UserError(f"the prompt of task {task!r} has no {{label}} in it: {template!r}")

    def sampler(self) -> CaptionSampler:
        """Return what draws the captions of training clips."""
        return CaptionSampler(self.caption_fields, text_augmentation(self.text_augment))

    def check_tasks(self, tasks: Sequence[str] | None) -> None:
        """Refuse prompts for tasks that the evaluation manifests do not have; None where there are no such manifests.

        Raises:
            ValueError: there are such prompts.
        """
        unknown = [] if tasks is None else sorted(set(self.prompts or {}) - set(tasks))
        if unknown:
            raise UserError(f"prompts name the tasks {unknown}, but the clips have labels of {tasks or 'none'}")


@dataclass(frozen=True)
class Limits:
    """Limits on what manifests and audio files may do to a run.

    Raises:
        ValueError: an argument is out of range.
    """

    max_bad: float = 0.05
    max_decoded: float = LARGEST / MEGABYTE
    data_root: Folders | None = None
    remote_roots: RemoteRoots | None = None

    def __post_init__(self) -> None:
        check_share(self.max_bad)
        if not isinstance(self.max_decoded, int | float) or not 0 < self.max_decoded < MOST_DECODED:
            raise UserError(f"max_decoded is a number of MB above 0, got {self.max_decoded!r}")

    @property
    def largest(self) -> int:
        """`max_decoded` in bytes."""
        return round(self.max_decoded * MEGABYTE)
