"""A trained model in use: `slap.load(path)` gives a `Model`, whatever was trained.

n recordings, m texts, K labels, E shared dimension.

`Model` holds what is the same for all models: reading audio, windows, batches, prompts. What differs is behind the
small protocol `slap.inference.backend.AudioTextModel`, which SLAP's own networks and third-party models fulfil.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from slap.audio.sources import Audio, as_list, source
from slap.core.calibration import Calibration
from slap.core.decoding import GREEDY, Decoding
from slap.core.errors import UserError
from slap.inference.backend import AudioTextModel, Localizer
from slap.inference.collapse import complaint
from slap.inference.embedder import BATCH_SECONDS, Embedder
from slap.inference.frames import Frames, frames_of
from slap.inference.jobs import caption_job, label_job, no_captions, samples_of
from slap.inference.model_card import Card
from slap.inference.saved_model import read, save
from slap.inference.scores import Label, Score, ranked
from slap.inference.stream import StreamItem, in_order, require_finite, run
from slap.metrics.zero_shot import class_embeddings, class_prompts

PROMPTS = ("This is a sound of {label}.",)
"""The prompts of a label where none are given."""


class Model(Embedder):
    """A trained model in use.

    Recordings are passed alone or in a list: a path, `(array, rate)` with a numpy array or tensor, or a tensor at
    `sample_rate`. Files may have any rate, channels (which are averaged) and length: up to `max_seconds` in one pass,
    beyond it in overlapping windows, see `slap.core.windows`. The same recording always has the same embedding, alone
    or among others. A recording that cannot be used raises `slap.audio.reader.AudioError`, which names it.

    Args:
        backend: the model proper.
        calibration: instead of the backend's.

    Attributes:
        backend: the same.
        calibration: the rule by which `classify` makes probabilities; `calibrate` replaces it.
    """

    def __init__(self, backend: AudioTextModel, calibration: Calibration | None = None) -> None:
        super().__init__(backend)
        self.calibration = calibration or backend.calibration

    def classify(
        self, audio: Audio | Sequence[Audio], labels: Sequence[str], prompts: str | Sequence[str] = PROMPTS
    ) -> list[list[Score]]:
        """Rank labels for each recording, the best first.

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
        """Rank labels as `classify` does, from the recordings' embeddings, (n, E)."""
        return ranked(embeddings @ self.embed_labels(labels, prompts).T, labels, self.calibration)

    def embed_labels(self, labels: Sequence[str], prompts: str | Sequence[str] = PROMPTS) -> Tensor:
        """Embed labels within prompts, (K, E); see `classify`."""
        if isinstance(labels, str) or not labels or len(set(labels)) != len(labels):
            raise UserError(f"labels must be a list of one or more different ones, got {labels!r}")
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
            beam: beam width; see `slap.core.decoding.Decoding`, as for the other options of decoding.
            max_length: the most tokens of a caption.
            length_penalty: with a beam; 0 prefers short captions.
            batch_seconds: seconds of audio per batch.
            top_p: draw each token among the most probable ones that together have this probability.
            temperature: with `top_p`.
            seed: with `top_p`.
            progress: show a progress bar on stderr.

        Raises:
            ValueError: the model did not learn to write captions, or options that make no sense, alone or together.
            AudioError: one of the recordings cannot be used.
        """
        recordings = as_list(audio)
        decoding = Decoding(max_length, beam, length_penalty, top_p, temperature, seed)
        found = self.stream_captions(recordings, decoding, batch_seconds)
        bar = tqdm(found, total=len(recordings), unit=" clips", disable=not progress)
        return in_order(bar, len(recordings))

    def stream_captions(
        self, audio: Sequence[Audio], decoding: Decoding = GREEDY, batch_seconds: float = BATCH_SECONDS
    ) -> Iterator[StreamItem[str]]:
        """Describe recordings as `caption` does; yield each when it is done, as `stream` does."""
        return run(audio, caption_job(self.backend, decoding, batch_seconds))

    @property
    def no_captions(self) -> str:
        """The reason why the model writes no captions; "" if it does."""
        return no_captions(self.backend)

    def label(
        self, audio: Audio | Sequence[Audio], head: str | None = None, batch_seconds: float = BATCH_SECONDS
    ) -> list[list[Label]]:
        """Rank the classes that the model was fine-tuned on, for each recording, the most probable first.

        Args:
            audio: the recordings.
            head: the objective whose head classifies; None is the only one.
            batch_seconds: seconds of audio per batch.

        Raises:
            ValueError: the model has no such head, see `slap.inference.jobs.label_job`.
            AudioError: one of the recordings cannot be used.
        """
        recordings = as_list(audio)
        return in_order(self.stream_labels(recordings, head, batch_seconds), len(recordings))

    def stream_labels(
        self, audio: Sequence[Audio], head: str | None = None, batch_seconds: float = BATCH_SECONDS
    ) -> Iterator[StreamItem[list[Label]]]:
        """Rank classes as `label` does; yield each recording when it is done, as `stream` does."""
        return run(audio, label_job(self.backend, head, batch_seconds))

    def frames(self, audio: Audio, texts: str | Sequence[str], hop: float = 0.04) -> Frames:
        """Compute the similarity of texts to one recording over time, see `slap.inference.frames`.

        Args:
            audio: one recording of any length.
            texts: m of them.
            hop: seconds from frame to frame; that of the audio encoder's patches (SLAP: 0.16) or a whole fraction.

        Raises:
            ValueError: the model has no dense features, or no such step.
            AudioError: the recording cannot be used.
        """
        backend, rate = self.backend, self.sample_rate
        if not isinstance(backend, Localizer):
            raise UserError(
                f"a {type(backend).__name__} has no dense features, so it cannot tell when something sounds"
            )
        words = (texts,) if isinstance(texts, str) else tuple(texts)
        directions, step = self.embed_text(words), round(hop * rate)

        def similar(clip: Tensor) -> Tensor:
            return require_finite(backend.encode_frames(clip, step) @ directions.T, "a similarity")

        window, width = samples_of(backend, 0)[0], backend.frame_samples
        return frames_of(source(audio, 0, rate).blocks(), similar, words, window, step, width, rate)

    # -- saving -------------------------------------------------------------------------------------------------------

    def save_pretrained(self, folder: str | Path, card: Card | None = None, allow_collapsed: bool = False) -> None:
        """Write the model into a folder that `slap.load` and `from_pretrained` read, see `slap.inference.saved_model`.

        Raises:
            ValueError: a collapsed model, unless `allow_collapsed`.
            TypeError: a model of another library.
        """
        fault = None if allow_collapsed else complaint(self)
        if fault:
            raise UserError(
                f"the model is collapsed: {fault}; --allow-collapsed (allow_collapsed=True) saves it anyway"
            )
        save(self.backend, self.calibration, folder, card)

    def push_to_hub(self, repo_id: str, card: Card | None = None, allow_collapsed: bool = False, **options: Any) -> str:
        """Upload the model to the Hugging Face hub, and return the commit's address; needs the extra `hub`.

        Args:
            repo_id: `user/name`.
            card: the facts that the model card states beyond the model itself.
            allow_collapsed: upload a collapsed model too.
            options: private, token, revision and commit_message, see `slap.inference.hub.upload`.
        """
        from slap.inference.hub import upload  # huggingface_hub is an extra

        with TemporaryDirectory() as folder:
            self.save_pretrained(folder, card, allow_collapsed)
            return upload(folder, repo_id, **options)

    @classmethod
    def from_pretrained(cls, name: str | Path, device: str | torch.device = "cpu", **options: Any) -> Model:
        """Load a model from a folder, or from the Hugging Face hub, which needs the extra `hub`.

        Args:
            name: a folder that `save_pretrained` wrote, or `user/name`.
            device: the device that it computes on.
            options: revision, cache_dir, force_download, local_files_only and token, see `slap.inference.hub.download`.
        """
        if Path(name).is_dir():
            return cls(*read(Path(name), torch.device(device)))
        from slap.inference.hub import download  # huggingface_hub is an extra

        folder = download(str(name), **options)
        # Snapshots are links to blobs beside them.
        return cls(*read(folder, torch.device(device), root=folder.parent.parent))

    # -- probabilities ------------------------------------------------------------------------------------------------

    def calibrate(
        self,
        audio: Audio | Sequence[Audio],
        truth: Sequence[str],
        labels: Sequence[str],
        prompts: str | Sequence[str] = PROMPTS,
    ) -> Calibration:
        """Fit the probabilities of `classify` to labeled recordings, see `slap.core.calibration`; ranks stay.

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
            raise UserError(
                f"{len(embeddings)} recordings need as many labels out of {list(labels)}; got {len(truth)}"
                + (f", among them {unknown}" if unknown else "")
            )
        cosines = embeddings @ self.embed_labels(labels, prompts).T
        right = torch.tensor([list(labels).index(label) for label in truth])
        self.calibration = (self.calibration or Calibration("softmax", 1.0)).fit(cosines, right)
        return self.calibration
