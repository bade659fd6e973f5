"""SLAP's models as a module of the sentence-transformers library, for its `encode`, trainer, losses and evaluators.

B recordings of a batch, T samples of the longest, C texts, L tokens of the longest, E shared dimension.

A folder that `slap export` wrote loads there; since the class below is none of the library's own, the library wants
`trust_remote_code=True`, though nothing but the installed slap-audio is imported and no code of the folder runs:

    model = SentenceTransformer("exported", trust_remote_code=True)
    model.encode(["dog.wav", "rain.wav"])
    model.encode(["a dog barks"])

`as_sentence_transformer` needs no such word, and takes any model of SLAP's, checkpoints included. Recordings and texts
are embedded as by `slap.inference.embedder.Embedder`, long recordings by windows.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from slap.audio.level import Level
from slap.audio.recordings import Audio
from slap.audio.scan import is_audio
from slap.core.errors import MissingDependencyError, UserError
from slap.core.merging import merge
from slap.core.packed import Packed
from slap.core.windows import hop_of, window_weights, windows
from slap.inference.embedding import tensors
from slap.inference.jobs import samples_of
from slap.inference.load import load
from slap.inference.model import Model
from slap.inference.network_backend import NetworkBackend
from slap.inference.saved_model import save
from slap.inference.stream import BATCH_SECONDS, blocks_of, note_of, opened

try:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modality import is_audio_url_or_path
    from sentence_transformers.base.modality_types import Modality
    from sentence_transformers.base.modules import InputModule
except ImportError as error:
    raise MissingDependencyError(
        "this needs sentence-transformers 5.4 or newer, which knows audio: pip install "
        "'slap-audio[sentence-transformers]'"
    ) from error

log = logging.getLogger(__name__)


def as_sentence_transformer(model: Model, **options: Any) -> SentenceTransformer:
    """Return a model of SLAP's as one of sentence-transformers, which shares its weights.

    Args:
        model: from `slap.load`.
        options: further arguments of `SentenceTransformer`, e.g. prompts and similarity_fn_name.

    Raises:
        UserError: a model of another library.
    """
    module = AudioText(model)
    defaults = {"device": str(module.backend.device), "local_files_only": True, "similarity_fn_name": "cosine"}
    return SentenceTransformer(modules=[module], trust_remote_code=False, **{**defaults, **options})


class AudioText(InputModule):
    """Both encoders with their pooling: from recordings or texts to embeddings of length 1.

    A batch is either `input_values`, (B, T) waveforms at the model's rate, with `lengths`, (B,), or `input_ids`,
    (C, L), with `attention_mask`, (C, L): rows are items in each, as losses that compute in small parts expect.

    Args:
        model: a model of SLAP's. Its encoders are trained from now on by whoever trains this module.
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        if not isinstance(model.backend, NetworkBackend):
            raise UserError(f"a {type(model.backend).__name__} is no model of SLAP's, which alone are modules")
        self.backend = model.backend
        self.calibration = model.calibration
        self.network = model.backend.network
        for part in (self.network.audio, self.network.audio_pool, self.network.text, self.network.text_pool):
            part.requires_grad_(True)

    @property
    def modalities(self) -> list[Modality]:
        """The kinds of input."""
        return ["text", "audio"]

    def get_embedding_dimension(self) -> int:
        """Return E."""
        return self.network.embedding_dim

    def preprocess(self, inputs: Sequence[Any], prompt: str | None = None, **kwargs: Any) -> dict[str, Tensor]:
        """Turn recordings, or texts, into a batch.

        Args:
            inputs: either recordings, see `slap.audio.recordings`, or texts. Arrays are at the model's rate. The path
                of an audio file means its sound. `{"audio": ...}` and `{"text": ...}` say what an input is.
            prompt: written before each text.
            kwargs: `task` of the library's routers, which one pair of encoders does not depend on.

        Raises:
            UserError: recordings and texts together, an empty text, or an unknown argument.
            AudioError: a recording cannot be used.
        """
        unknown = [name for name, value in kwargs.items() if name != "task" and value is not None]
        if unknown:
            raise UserError(f"a model of SLAP's has no argument {', '.join(unknown)}; leave it out")
        kinds = [_kind(item) for item in inputs]
        if len({kind for kind, _ in kinds}) > 1:
            raise UserError("recordings and texts are encoded in calls of their own; got both in one batch")
        items = [item for _, item in kinds]
        return self._recordings(items) if kinds and kinds[0][0] == "audio" else self._texts(items, prompt or "")

    def _texts(self, texts: Sequence[str], prompt: str) -> dict[str, Tensor]:
        for text in texts:
            if not isinstance(text, str) or not text.strip():
                raise UserError(f"a text must be a str with a word in it; got {text!r}")
        rows = self.network.text.tokenize([prompt + text for text in texts]).unpack()
        mask = pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
        return {"input_ids": pad_sequence(list(rows), batch_first=True), "attention_mask": mask}

    def _recordings(self, items: Sequence[Audio]) -> dict[str, Tensor]:
        waves = [self._read(item, index) for index, item in enumerate(items)]
        lengths = torch.tensor([len(wave) for wave in waves])
        return {"input_values": pad_sequence(waves, batch_first=True), "lengths": lengths}

    def _read(self, item: Audio, index: int) -> Tensor:
        """Read a recording, (T,), and log what there is to say about it."""
        stream, level = opened(item, index, self.backend.sample_rate), Level()
        blocks = [block for block in blocks_of(stream, level) if len(block)]
        if not blocks:
            raise UserError(f"{stream.name} holds no samples")
        if note := note_of(stream, level):
            log.warning("%s: %s", stream.name, note)
        return torch.cat(tensors(blocks))

    def forward(self, features: dict[str, Tensor | Any], **_: Any) -> dict[str, Tensor | Any]:
        """Embed a batch; its `sentence_embedding` is (B, E) or (C, E)."""
        if "input_values" in features:
            features["sentence_embedding"] = self._embed_audio(features["input_values"], features["lengths"].tolist())
        else:
            rows = zip(features["input_ids"], features["attention_mask"].sum(1).tolist(), strict=True)
            tokens = Packed.pack([ids[:count] for ids, count in rows])
            features["sentence_embedding"] = self.network.embed_text(tokens).float()
        return features

    def _embed_audio(self, waves: Tensor, lengths: Sequence[int]) -> Tensor:
        window, batch = samples_of(self.backend, BATCH_SECONDS)
        spans = [windows(length, window, hop_of(window)) for length in lengths]
        clips = [wave[start:stop] for wave, own in zip(waves, spans, strict=True) for start, stop in own]
        weights = [weight for own in spans for weight in window_weights(own)]
        owner = [index for index, own in enumerate(spans) for _ in own]
        at_once = max(1, batch // max(map(len, clips)))
        parts = [self.backend.embed(clips[place : place + at_once]) for place in range(0, len(clips), at_once)]
        device = waves.device
        return merge(torch.cat(parts), torch.tensor(owner, device=device), torch.tensor(weights, device=device))

    def save(self, output_path: str, *_: Any, safe_serialization: bool = True, **__: Any) -> None:
        """Write the model into a folder that `slap.load` reads, too.

        Raises:
            UserError: other files than safetensors are asked for.
        """
        if not safe_serialization:
            raise UserError("a model of SLAP's is written as safetensors alone; leave out safe_serialization=False")
        own = self.backend
        trained = NetworkBackend(self.network, own.arguments, own.max_seconds, own.absent, True, own.weights)
        save(trained, self.calibration, output_path)

    @classmethod
    def load(
        cls,
        model_name_or_path: str,
        subfolder: str = "",
        token: bool | str | None = None,
        cache_folder: str | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
        **_: Any,
    ) -> AudioText:
        """Load it from a folder that `slap export` or `save` wrote, or from the hub that a name is asked of.

        The arguments are the library's. What is read is checked as by `slap.load`, and runs no code of the folder.
        """
        if Path(model_name_or_path).is_dir():
            return cls(load(Path(model_name_or_path) / subfolder, "cpu"))
        options = {"token": token, "cache_dir": cache_folder, "revision": revision}
        return cls(Model.from_pretrained(model_name_or_path, "cpu", local_files_only=local_files_only, **options))


def _kind(item: Any) -> tuple[str, Any]:
    """Return "audio" or "text", and the input itself."""
    if isinstance(item, Mapping) and len(item) == 1 and next(iter(item)) in ("audio", "text"):
        ((kind, item),) = item.items()
        return kind, _tensor(item)
    if isinstance(item, str):
        sound = is_audio_url_or_path(item) or (is_audio(Path(item).name) and Path(item).is_file())
        return ("audio" if sound else "text"), item
    if isinstance(item, tuple | list) and all(isinstance(part, str) for part in item):
        raise UserError(f"an input is one recording or one text; got {len(item)} texts, {item!r}")
    return "audio", _tensor(item)


def _tensor(item: Any) -> Any:
    """Return an array as a tensor, which is at the model's rate; anything else as it is."""
    return torch.from_numpy(item) if isinstance(item, np.ndarray) and item.dtype.kind == "f" else item
