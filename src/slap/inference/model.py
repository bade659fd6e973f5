"""A trained model in use: `slap.load(path)` gives a `Model`, whatever was trained.

n recordings, m texts, K labels, E shared dimension.

`Model` holds what is the same for all models: reading audio, windows, batches, prompts. What differs is behind the
small protocol `slap.inference.backend.AudioTextModel`, which SLAP's own networks and third-party models fulfil.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from slap.audio.level import Level
from slap.audio.recordings import Audio, recordings
from slap.core.calibration import Calibration
from slap.core.decoding import GREEDY, Decoding
from slap.core.errors import UserError
from slap.core.units import Seconds
from slap.inference.backend import AudioTextModel, CaptionRater, FrameCalibrated, Localizer
from slap.inference.calibrate import BARE, fitted
from slap.inference.collapse import refuse_collapsed
from slap.inference.embedder import Embedder
from slap.inference.embedding import require_finite
from slap.inference.frames import Frames, frames_of
from slap.inference.jobs import caption_job, label_job, no_captions, no_likelihoods, samples_of
from slap.inference.model_card import Card
from slap.inference.saved_model import Precision, read, save
from slap.inference.scores import PROMPTS, Label, Score, check_labels, ranked, rule_of, templates_of
from slap.inference.shipped import located
from slap.inference.stream import BATCH_SECONDS, StreamItem, blocks_of, in_order, note_of, opened, results, run
from slap.metrics.zero_shot import class_embeddings, class_prompts


class Model(Embedder):
    """A trained model in use.

    Recordings are passed alone or in any iterable: a path, an open file, `(array, rate)` with a numpy array or tensor,
    a tensor at `sample_rate`, or what Hugging Face's datasets give; `slap.audio.recordings` lists all, and says what
    `batch=True` and `channels=True` do. Files may have any rate, channels (which become one, see `slap.audio.mixing`)
    and length: up to `max_seconds` in one pass, beyond it in overlapping windows, see `slap.core.windows`. The same
    recording always has the same embedding, alone or among others. A recording that cannot be used raises
    `slap.audio.reader.AudioError`, which names it. A silent one (see `slap.audio.level`) has no labels and no caption.

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
        self,
        audio: Audio | Iterable[Audio],
        labels: Sequence[str],
        prompts: str | Sequence[str] = PROMPTS,
        threshold: float | None = None,
        *,
        batch: bool = False,
        channels: bool = False,
    ) -> list[list[Score]]:
        """Rank labels for each recording, the best first; a silent recording has none, `[]`, and a warning names it.

        Args:
            audio: the recordings.
            labels: K different ones.
            prompts: templates with `{label}`; of several, a label's embedding is the mean direction.
            threshold: the least probability of a label, 0 to 1, so that a recording may have none of the labels, `[]`;
                None ranks all labels.
            batch: each row of the one array that is passed is a recording.
            channels: two axes of an array are channels and samples, however many channels there are.

        Raises:
            ValueError: no label, or one twice, or a prompt without `{label}`; a threshold for a model without
                probabilities of each label by itself, see `calibrate`.
            AudioError: one of the recordings cannot be used.
        """
        directions, rule = self.embed_labels(labels, prompts), rule_of(self.calibration, prompts, threshold)
        found = in_order(self.stream(audio, batch=batch, channels=channels))
        if not found:
            return []
        ranks = ranked(torch.stack(results(found)) @ directions.T, labels, rule, threshold)
        return [[] if item.silent else rank for item, rank in zip(found, ranks, strict=True)]

    def scores(
        self,
        embeddings: Tensor,
        labels: Sequence[str],
        prompts: str | Sequence[str] = PROMPTS,
        threshold: float | None = None,
    ) -> list[list[Score]]:
        """Rank labels as `classify` does, from the recordings' embeddings, (n, E)."""
        rule = rule_of(self.calibration, prompts, threshold)
        return ranked(embeddings @ self.embed_labels(labels, prompts).T, labels, rule, threshold)

    def embed_labels(self, labels: Sequence[str], prompts: str | Sequence[str] = PROMPTS) -> Tensor:
        """Embed labels within prompts, (K, E); see `classify`."""
        check_labels(labels)
        return class_embeddings(class_prompts(labels, templates_of(prompts)), self.embed_text)

    def caption(
        self,
        audio: Audio | Iterable[Audio],
        beam: int = 1,
        max_length: int = 64,
        length_penalty: float = 1.0,
        batch_seconds: float = BATCH_SECONDS,
        top_p: float | None = None,
        temperature: float = 1.0,
        seed: int = 0,
        progress: bool = False,
        *,
        batch: bool = False,
        channels: bool = False,
    ) -> list[str]:
        """Describe recordings: greedily, with a beam, or drawn (see `slap.core.decoding.Decoding`).

        A recording has the same caption alone or among others, also when it is drawn: what is drawn depends on the seed
        and on the recording itself. Of a recording that takes several windows, each is described, and the description
        is taken whose embedding is nearest to that of the whole. A silent recording has the caption "", and a warning
        names it.

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
            batch: each row of the one array that is passed is a recording.
            channels: two axes of an array are channels and samples, however many channels there are.

        Raises:
            ValueError: the model did not learn to write captions, or options that make no sense, alone or together.
            AudioError: one of the recordings cannot be used.
        """
        decoding = Decoding(max_length, beam, length_penalty, top_p, temperature, seed)
        items = list(recordings(audio, batch, channels))
        found = self.stream_captions(items, decoding, batch_seconds)
        return results(in_order(tqdm(found, total=len(items), unit=" clips", disable=not progress)))

    def stream_captions(
        self,
        audio: Audio | Iterable[Audio],
        decoding: Decoding = GREEDY,
        batch_seconds: float = BATCH_SECONDS,
        *,
        batch: bool = False,
        channels: bool = False,
    ) -> Iterator[StreamItem[str]]:
        """Describe recordings as `caption` does; yield each when it is done, as `stream` does."""
        return run(recordings(audio, batch, channels), caption_job(self.backend, decoding, batch_seconds))

    def caption_likelihood(self, clips: Sequence[Tensor], captions: Sequence[str]) -> Tensor:
        """Compute how probable the caption decoder finds a caption for each clip: (n,), nats per token.

        It is the mean log-likelihood of the caption's tokens, so long captions are not worse than short ones.

        Args:
            clips: (T_i,) samples each at `sample_rate`, at most `max_seconds` long.
            captions: one per clip.

        Raises:
            ValueError: the model did not learn to write captions.
        """
        if not isinstance(self.backend, CaptionRater):
            raise UserError(no_likelihoods(self.backend))
        return self.backend.caption_likelihood(clips, captions)

    @property
    def no_captions(self) -> str:
        """The reason why the model writes no captions; "" if it does."""
        return no_captions(self.backend)

    def label(
        self,
        audio: Audio | Iterable[Audio],
        head: str | None = None,
        batch_seconds: float = BATCH_SECONDS,
        *,
        batch: bool = False,
        channels: bool = False,
    ) -> list[list[Label]]:
        """Rank the classes that the model was fine-tuned on, for each recording, the most probable first.

        A silent recording has none, `[]`, and a warning names it.

        Args:
            audio: the recordings.
            head: the objective whose head classifies; None is the only one.
            batch_seconds: seconds of audio per batch.
            batch: each row of the one array that is passed is a recording.
            channels: two axes of an array are channels and samples, however many channels there are.

        Raises:
            ValueError: the model has no such head, see `slap.inference.jobs.label_job`.
            AudioError: one of the recordings cannot be used.
        """
        return results(in_order(self.stream_labels(audio, head, batch_seconds, batch=batch, channels=channels)))

    def stream_labels(
        self,
        audio: Audio | Iterable[Audio],
        head: str | None = None,
        batch_seconds: float = BATCH_SECONDS,
        *,
        batch: bool = False,
        channels: bool = False,
    ) -> Iterator[StreamItem[list[Label]]]:
        """Rank classes as `label` does; yield each recording when it is done, as `stream` does."""
        return run(recordings(audio, batch, channels), label_job(self.backend, head, batch_seconds))

    def frames(
        self, audio: Audio, texts: str | Sequence[str], hop: Seconds = 0.04, *, channels: bool = False
    ) -> Frames:
        """Compute the similarity of texts to one recording over time, see `slap.inference.frames`.

        A model that was trained with `frame_alignment` gives probabilities, too.

        Args:
            audio: one recording of any length.
            texts: m of them.
            hop: from frame to frame; that of the audio encoder's patches (SLAP: 0.16) or a whole fraction.
            channels: two axes of an array are channels and samples, however many channels there are.

        Raises:
            ValueError: the model has no dense features, or no such step.
            AudioError: the recording cannot be used.
        """
        words = (texts,) if isinstance(texts, str) else tuple(texts)
        return self.frames_by(audio, words, self.embed_text(words), hop, channels=channels)

    @property
    def localizer(self) -> Localizer:
        """The backend, which embeds frames.

        Raises:
            ValueError: it does not.
        """
        if not isinstance(self.backend, Localizer):
            raise UserError(
                f"a {type(self.backend).__name__} has no dense features, so it cannot tell when something sounds"
            )
        return self.backend

    def frames_by(
        self, audio: Audio, words: tuple[str, ...], directions: Tensor, hop: Seconds, *, channels: bool = False
    ) -> Frames:
        """Compute `frames` from texts that are embedded already, (m, E), e.g. for many recordings."""
        backend, rate = self.localizer, self.sample_rate
        step = round(hop * rate)

        def similar(clip: np.ndarray) -> Tensor:
            return require_finite(backend.encode_frames(torch.from_numpy(clip), step) @ directions.T, "a similarity")

        window, width = samples_of(self.backend, 0)[0], backend.frame_samples
        stream, level = opened(next(recordings([audio], channels=channels)), 0, rate), Level()
        found = frames_of(blocks_of(stream, level), similar, words, window, step, width, rate)
        begins = stream.about.begins
        calibration = backend.frame_calibration if isinstance(backend, FrameCalibrated) else None
        return replace(
            found,
            times=found.times + begins,
            begins=begins,
            note=note_of(stream, level),
            silent=level.silent,
            calibration=calibration,
        )

    # -- saving -------------------------------------------------------------------------------------------------------

    def save_pretrained(
        self,
        folder: str | Path,
        card: Card | None = None,
        allow_collapsed: bool = False,
        precision: Precision | None = None,
        without: Sequence[str] = (),
    ) -> None:
        """Write the model into a folder that `slap.load` and `from_pretrained` read, see `slap.inference.saved_model`.

        Args:
            folder: the folder; made if it is not there.
            card: the facts that the model card states beyond the model itself.
            allow_collapsed: save a collapsed model too.
            precision: half precision, in which the weights are stored and no longer computed with; None is as they are.
            without: objectives to leave out, such as the decoder of `captioning`.

        Raises:
            ValueError: a collapsed model, unless `allow_collapsed`; an unknown precision; an objective that it lacks.
            TypeError: a model of another library.
        """
        refuse_collapsed(self, "saved", allow_collapsed)
        save(self.backend, self.calibration, folder, card, precision, without)

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
            name: a folder that `save_pretrained` wrote, `user/name`, or `starter`, see `slap.load`.
            device: the device that it computes on.
            options: revision, cache_dir, force_download, local_files_only and token, see `slap.inference.hub.download`.
        """
        if (folder := located(name)).is_dir():
            return cls(*read(folder, torch.device(device)))
        from slap.inference.hub import download  # huggingface_hub is an extra

        folder = download(str(name), **options)
        # Snapshots are links to blobs beside them.
        return cls(*read(folder, torch.device(device), root=folder.parent.parent))

    # -- probabilities ------------------------------------------------------------------------------------------------

    def calibrate(
        self,
        audio: Audio | Iterable[Audio],
        truth: Sequence[str | Sequence[str]],
        labels: Sequence[str],
        prompts: str | Sequence[str] = PROMPTS,
        independent: bool = False,
        *,
        batch: bool = False,
        channels: bool = False,
    ) -> Calibration:
        """Fit the probabilities of `classify` to labeled recordings, see `slap.core.calibration`.

        Without `independent`, exactly one label of a recording is right, and probabilities sum to 1. With it, each
        label has a probability by itself, so that none or several may be right, and texts have one, too, which
        `slap.search` shows: see `slap.inference.calibrate`.

        Args:
            audio: n recordings.
            truth: the right label of each; with `independent` it may be a list of labels, which may be empty.
            labels: all labels, as `classify` will be asked for.
            prompts: likewise.
            independent: fit a probability of each label by itself.
            batch: each row of the one array that is passed is a recording.
            channels: two axes of an array are channels and samples, however many channels there are.

        Raises:
            ValueError: other than one label a recording, or a label that is none of `labels`.
        """
        embeddings = self.embed_audio(audio, batch=batch, channels=channels)
        named = [[one] if isinstance(one, str) else list(one) for one in truth]
        unknown = sorted({label for several in named for label in several} - set(labels))
        single = independent or all(len(several) == 1 for several in named)
        if len(named) != len(embeddings) or unknown or not single:
            raise UserError(
                f"{len(embeddings)} recordings need as many labels out of {list(labels)}; got {len(named)}"
                + (f", among them {unknown}" if unknown else "")
                + ("" if single else "; several for a recording, or none, need independent=True")
            )
        right = torch.tensor([[label in several for label in labels] for several in named])
        templates = templates_of(prompts)
        cosines = embeddings @ self.embed_labels(labels, templates).T
        if independent:
            bare = embeddings @ self.embed_labels(labels, BARE).T
            self.calibration = fitted(cosines, bare, right, labels, templates)
        else:
            self.calibration = replace(Calibration.fit(cosines, right.int().argmax(1)), prompts=tuple(templates))
        return self.calibration
