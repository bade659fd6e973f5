"""Using a trained model: `slap.load(path)` gives a `Model`, whatever was trained.

n recordings, m texts, K labels, E shared dimension.

`Model` holds what is the same for all models: reading audio, windows, batches, prompts. What differs is behind the
small protocol `AudioTextModel`, which SLAP's own checkpoints and the models of others fulfil.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
from torch import Tensor
from tqdm import tqdm

from slap.audio.sources import Audio, as_list, source
from slap.core.calibration import Calibration
from slap.core.decoding import GREEDY, Decoding
from slap.inference.frames import Frames, over_time
from slap.inference.labeling import Label, label
from slap.inference.stream import Embedded, Span, StreamItem, WindowJob, embed, joined, run
from slap.metrics.zero_shot import class_embeddings, class_prompts

if TYPE_CHECKING:
    from slap.inference.model_card import Card

PROMPTS = ("This is a sound of {label}.",)
"""What stands around a label where nothing else is asked for."""

BATCH_SECONDS = 120.0
"""Audio that is encoded together; more is faster on a GPU, less takes less memory."""


class AudioTextModel(Protocol):
    """What a model must offer to be used as a `Model`; everything runs without gradient and in evaluation mode.

    Attributes:
        sample_rate: of the clips that it takes, Hz.
        max_seconds: the longest clip that it takes at once.
        embedding_dim: E.
    """

    sample_rate: int
    max_seconds: float
    embedding_dim: int

    @property
    def name(self) -> str:
        """Tells models apart: equal for equal weights, different otherwise (a content hash)."""

    @property
    def calibration(self) -> Calibration | None:
        """How cosines become probabilities; None if the model learnt nothing of the kind."""

    def encode_audio(self, clips: Sequence[Tensor]) -> Tensor:
        """Clips, each (T_i,) float32 on the CPU with 1 to `max_seconds` x `sample_rate` samples, to (n, E).

        Rows have length 1, are float32 on the CPU, and each depends on its clip alone.
        """

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Texts to (m, E), likewise."""


@runtime_checkable
class Captioner(Protocol):
    """A backend that writes captions.

    Attributes:
        no_captions: why it does not write any after all; "" if it does.
    """

    no_captions: str

    def write(self, clips: Sequence[Tensor], decoding: Decoding) -> tuple[list[str], Tensor]:
        """A caption for each clip, and what `encode_audio` gives for the clips, (n, E)."""


@runtime_checkable
class Localizer(Protocol):
    """A backend that tells when in a clip something sounds."""

    @property
    def frame_samples(self) -> int:
        """Samples that a frame spans."""

    def encode_frames(self, clip: Tensor, hop: int) -> Tensor:
        """A clip, (T,), to embeddings of its frames, (F, E), one every `hop` samples; see `slap.inference.frames`."""


@dataclass(frozen=True)
class Score:
    """How well a label fits a recording.

    Attributes:
        label: the label.
        cosine: between the recording and the label's prompts, -1 to 1.
        probability: see `slap.core.calibration`; None if the model was trained without an objective that gives any.
    """

    label: str
    cosine: float
    probability: float | None


class Model:
    """A trained model in use.

    Recordings are passed alone or in a list: a path, `(array, rate)` with a numpy array or tensor, or a tensor at
    `sample_rate`. Files may have any rate, channels (which are averaged) and length: up to `max_seconds` in one pass,
    beyond it in overlapping windows, see `slap.core.windows`. The same recording always has the same embedding, alone
    or
    among others. What cannot be used raises `slap.audio.reader.AudioError`, which names it.

    Args:
        backend: the model proper.

    Attributes:
        backend: the same.
        calibration: how `classify` makes probabilities; `calibrate` replaces it.
    """

    def __init__(self, backend: AudioTextModel) -> None:
        self.backend = backend
        self.calibration = backend.calibration

    @property
    def name(self) -> str:
        """A content hash: equal for equal weights."""
        return self.backend.name

    @property
    def sample_rate(self) -> int:
        """Of the audio that the model works on, Hz; other audio is resampled to it."""
        return self.backend.sample_rate

    @property
    def max_seconds(self) -> float:
        """The longest recording that is embedded in one pass."""
        return self.backend.max_seconds

    @property
    def embedding_dim(self) -> int:
        """E."""
        return self.backend.embedding_dim

    def stream(self, audio: Sequence[Audio], batch_seconds: float = BATCH_SECONDS) -> Iterator[Embedded]:
        """Embed many recordings, those among them that cannot be used included, as they are done.

        Args:
            audio: the recordings.
            batch_seconds: audio that is encoded together.
        """
        window, batch = (round(seconds * self.sample_rate) for seconds in (self.max_seconds, batch_seconds))
        return embed(audio, self.backend.encode_audio, self.sample_rate, window, batch)

    def embed_audio(self, audio: Audio | Sequence[Audio], batch_seconds: float = BATCH_SECONDS) -> Tensor:
        """Recordings to embeddings, (n, E) float32 on the CPU, rows of length 1, in the order of the recordings.

        Raises:
            AudioError: one of them cannot be used.
        """
        recordings = as_list(audio)
        rows = torch.empty(len(recordings), self.embedding_dim)
        for done in self.stream(recordings, batch_seconds):
            if done.embedding is None:
                raise done.error or AssertionError("neither embedding nor error")
            rows[done.index] = done.embedding
        return rows

    def embed_text(self, texts: str | Sequence[str]) -> Tensor:
        """Texts to embeddings, (m, E) float32 on the CPU, rows of length 1.

        Raises:
            ValueError: an empty text.
            TypeError: something else than text.
        """
        texts = [texts] if isinstance(texts, str) else list(texts)
        for i, text in enumerate(texts):
            if not isinstance(text, str):
                raise TypeError(f"text {i} is a {type(text).__name__}, not a str")
            if not text.strip():
                raise ValueError(f"text {i} is empty")
        return self.backend.encode_text(texts) if texts else torch.empty(0, self.embedding_dim)

    def similarity(self, audio: Audio | Sequence[Audio], texts: str | Sequence[str]) -> Tensor:
        """Cosines between recordings and texts, (n, m)."""
        return self.embed_audio(audio) @ self.embed_text(texts).T

    def classify(
        self, audio: Audio | Sequence[Audio], labels: Sequence[str], prompts: str | Sequence[str] = PROMPTS
    ) -> list[list[Score]]:
        """The labels of each recording, the best first.

        Args:
            audio: the recordings.
            labels: K different ones.
            prompts: templates with `{label}`; of several, a label's embedding is the mean direction.

        Raises:
            ValueError: no label, or one twice, or a prompt without `{label}`.
        """
        return self.scores(self.embed_audio(audio), labels, prompts)

    def scores(
        self, embeddings: Tensor, labels: Sequence[str], prompts: str | Sequence[str] = PROMPTS
    ) -> list[list[Score]]:
        """As `classify`, from the recordings' embeddings, (n, E)."""
        cosines = embeddings @ self.embed_labels(labels, prompts).T
        found = None if self.calibration is None else self.calibration.probabilities(cosines)
        scores = []
        for i, row in enumerate(cosines.tolist()):
            given = [None] * len(row) if found is None else found[i].tolist()
            scores.append(
                sorted(map(Score, labels, row, given), key=lambda score: score.cosine, reverse=True)  # stable
            )
        return scores

    def embed_labels(self, labels: Sequence[str], prompts: str | Sequence[str] = PROMPTS) -> Tensor:
        """Labels within prompts to embeddings, (K, E); see `classify`."""
        if isinstance(labels, str) or not labels or len(set(labels)) != len(labels):
            raise ValueError(f"labels must be a list of one or more different ones, got {labels!r}")
        templates = [prompts] if isinstance(prompts, str) else list(prompts)
        return class_embeddings(class_prompts(labels, templates), self.embed_text)

    def caption(
        self,
        audio: Audio | Sequence[Audio],
        beam: int = 1,
        max_length: int = 64,
        length_penalty: float = 1.0,
        batch_seconds: float = BATCH_SECONDS,
        top_p: float | None = None,
        temperature: float = 1.0,
        seed: int = 0,
        progress: bool = False,
    ) -> list[str]:
        """Describe recordings: greedily, with a beam, or drawn (see `slap.core.decoding.Decoding`).

        A recording has the same caption alone or among others, also when it is drawn: what is drawn depends on the seed
        and on the recording itself. Of a recording that takes several windows, each is described, and the description
        is taken whose embedding is nearest to that of the whole.

        Args:
            audio: the recordings.
            beam: 1 takes the most probable token each time; more keep that many beginnings.
            max_length: the most tokens of a caption, with those that begin and end it.
            length_penalty: of a beam; 0 prefers the most probable caption, and so short ones; 1 the highest mean over
                tokens.
            batch_seconds: audio that is described together.
            top_p: draw each token among the most probable ones that together have this probability, instead of beams.
            temperature: with `top_p`, divides the logits.
            seed: with `top_p`, of what is drawn.
            progress: show a progress bar on stderr.

        Raises:
            ValueError: the model did not learn to write captions, or options that make no sense, alone or together.
            AudioError: one of the recordings cannot be used.
        """
        recordings = as_list(audio)
        captions = [""] * len(recordings)
        decoding = Decoding(max_length, beam, length_penalty, top_p, temperature, seed)
        found = self.stream_captions(recordings, decoding, batch_seconds)
        for done in tqdm(found, total=len(recordings), unit=" clips", disable=not progress):
            if done.result is None:
                raise done.error or AssertionError("neither caption nor error")
            captions[done.index] = done.result
        return captions

    def stream_captions(
        self, audio: Sequence[Audio], decoding: Decoding = GREEDY, batch_seconds: float = BATCH_SECONDS
    ) -> Iterator[StreamItem[str]]:
        """As `caption`, as they are done, the recordings that cannot be used among them."""
        backend = self.backend
        if not isinstance(backend, Captioner):
            raise ValueError(self.no_captions)

        def describe(clips: Sequence[Tensor]) -> list[tuple[str, Tensor]]:
            texts, embeddings = backend.write(clips, decoding)
            return list(zip(texts, embeddings, strict=True))

        def nearest(parts: list[tuple[str, Tensor]], spans: list[Span]) -> str:
            if len(parts) == 1:
                return parts[0][0]
            texts = [text or " " for text, _ in parts]
            whole = joined([embedding for _, embedding in parts], spans)
            return parts[int((backend.encode_text(texts) @ whole).argmax())][0]

        window, batch = (round(seconds * self.sample_rate) for seconds in (self.max_seconds, batch_seconds))
        yield from run(audio, WindowJob(describe, nearest, self.sample_rate, window, batch))

    @property
    def no_captions(self) -> str:
        """Why the model writes no captions; "" if it does."""
        backend = self.backend
        return (
            backend.no_captions if isinstance(backend, Captioner) else f"a {type(backend).__name__} writes no captions"
        )

    def label(
        self, audio: Audio | Sequence[Audio], head: str | None = None, batch_seconds: float = BATCH_SECONDS
    ) -> list[list[Label]]:
        """The classes that the model was fine-tuned on, of each recording, the most probable first.

        Args:
            audio: the recordings.
            head: the objective whose head classifies; None is the only one.
            batch_seconds: audio that is computed together.

        Raises:
            ValueError: the model has no such head, see `slap.inference.labeling`.
            AudioError: one of the recordings cannot be used.
        """
        recordings = as_list(audio)
        found: list[list[Label]] = [[] for _ in recordings]
        for done in label(self, recordings, head, batch_seconds):
            if done.result is None:
                raise done.error or AssertionError("neither labels nor error")
            found[done.index] = done.result
        return found

    def frames(self, audio: Audio, texts: str | Sequence[str], hop: float = 0.04) -> Frames:
        """The similarity of texts to one recording over time, and events from it: see `slap.inference.frames`.

        Args:
            audio: one recording of any length.
            texts: m of them.
            hop: seconds from frame to frame; that of the audio encoder's patches (SLAP: 0.16) or a whole fraction.

        Raises:
            ValueError: the model cannot tell, or has no such step.
            AudioError: the recording cannot be used.
        """
        backend, rate = self.backend, self.sample_rate
        if not isinstance(backend, Localizer):
            raise ValueError(
                f"a {type(backend).__name__} has no dense features, so it cannot tell when something sounds"
            )
        words = (texts,) if isinstance(texts, str) else tuple(texts)
        directions, step, width = self.embed_text(words), round(hop * rate), backend.frame_samples
        found = source(audio, 0, rate)
        similarity, samples = over_time(
            found.blocks(),
            lambda clip: backend.encode_frames(clip, step) @ directions.T,
            round(self.max_seconds * rate),
            step,
            width,
        )
        times = (torch.arange(len(similarity), dtype=torch.float64) * step + width / 2) / rate
        return Frames(times.clamp(max=samples / rate), similarity, words, samples / rate, step / rate)

    # -- saving -------------------------------------------------------------------------------------------------------

    def save_pretrained(self, folder: str | Path, card: Card | None = None, allow_collapsed: bool = False) -> None:
        """Write the model into a folder that `slap.load` and `from_pretrained` read, see `slap.inference.saved_model`.

        Raises:
            ValueError: a collapsed model, unless `allow_collapsed`.
        """
        from slap.inference.saved_model import save

        save(self, folder, card, allow_collapsed)

    def push_to_hub(
        self,
        repo_id: str,
        card: Card | None = None,
        allow_collapsed: bool = False,
        private: bool | None = None,
        token: str | None = None,
        revision: str | None = None,
        commit_message: str = "Push a SLAP model",
    ) -> str:
        """Upload the model to the Hugging Face hub, and return the commit's address; needs the extra `hub`.

        Args:
            repo_id: `user/name`.
            card: what the model card shall say beyond the model itself.
            allow_collapsed: upload a collapsed model too.
            private: whether a new repository is.
            token: of the user; default: the one that `hf auth login` stored.
            revision: branch to push to.
            commit_message: of the commit.
        """
        from slap.inference.hub import HubModel

        hub = HubModel(self, card, allow_collapsed)
        return hub.push_to_hub(repo_id, commit_message=commit_message, private=private, token=token, branch=revision)

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        device: str | torch.device = "cpu",
        revision: str | None = None,
        cache_dir: str | Path | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        token: str | bool | None = None,
    ) -> Model:
        """A model from the Hugging Face hub, or from a folder; needs the extra `hub`.

        Args:
            name: `user/name`, or a folder that `save_pretrained` wrote.
            device: where it computes.
            revision: branch, tag or commit.
            cache_dir: where downloads are kept.
            force_download: download what is there already.
            local_files_only: download nothing.
            token: of the user.
        """
        from slap.inference.hub import HubModel

        return HubModel.from_pretrained(
            name,
            device=device,
            revision=revision,
            cache_dir=cache_dir,
            force_download=force_download,
            local_files_only=local_files_only,
            token=token,
        ).model

    # -- probabilities ------------------------------------------------------------------------------------------------

    def calibrate(
        self,
        audio: Audio | Sequence[Audio],
        truth: Sequence[str],
        labels: Sequence[str],
        prompts: str | Sequence[str] = PROMPTS,
    ) -> Calibration:
        """Fit the probabilities of `classify` to labeled recordings, see `slap.core.calibration`; the order stays.

        Args:
            audio: n recordings.
            truth: the right label of each.
            labels: all labels, as `classify` will be asked for.
            prompts: likewise.

        Raises:
            ValueError: other than one label a recording, or a label that is none of `labels`.
        """
        embeddings = self.embed_audio(audio)
        unknown = sorted(set(truth) - set(labels))
        if len(truth) != len(embeddings) or unknown:
            raise ValueError(
                f"{len(embeddings)} recordings need as many labels out of {list(labels)}; got {len(truth)}"
                + (f", among them {unknown}" if unknown else "")
            )
        cosines = embeddings @ self.embed_labels(labels, prompts).T
        right = torch.tensor([list(labels).index(label) for label in truth])
        self.calibration = (self.calibration or Calibration("softmax", 1.0)).fit(cosines, right)
        return self.calibration
