"""FENSE (arXiv 2110.04684): similarity of captions by a sentence encoder, with a penalty on broken English.

The encoder and the classifier of errors are downloads of the user's; a folder holds, as they are published:

    paraphrase-TinyBERT-L6-v2/            a sentence-transformers model (any; this one for published scores)
    echecker_clotho_audiocaps_base.ckpt   the classifier, from github.com/blmoistawinde/fense/releases
    bert-base-uncased/                    tokenizer and config.json of the encoder that the classifier was made from

G clips, R references in all, L tokens, C kinds of errors, E width of sentence embeddings.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from slap.core.errors import UserError
from slap.metrics.captioning.ptb import MissingToolError

FOLDER = "SLAP_FENSE"
"""The environment variable that names the folder."""

SENTENCE_ENCODER = "modules.json"
"""File that every folder of sentence-transformers holds."""

THRESHOLD = 0.9
"""Probability from which on an error counts."""

PENALTY = 0.9
"""Share of the score that an error takes away."""

MAX_TOKENS = 64
AT_ONCE = 32

NEEDED = (
    "a sentence-transformers folder (paraphrase-TinyBERT-L6-v2), the classifier echecker_clotho_audiocaps_base.ckpt "
    "(github.com/blmoistawinde/fense/releases), and a folder bert-base-uncased with its config.json and tokenizer"
)


class ErrorClassifier(nn.Module):
    """The published classifier: an encoder's first token and one linear layer, whose last output is "any error".

    Args:
        encoder: a BERT of transformers.
        kinds: C.
    """

    def __init__(self, encoder: nn.Module, kinds: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.clf = nn.Linear(encoder.config.hidden_size, kinds)  # type: ignore[arg-type, union-attr]

    def forward(self, tokens: dict[str, Tensor]) -> Tensor:
        """Tokens of n texts, (n, L) each, to logits of errors, (n, C)."""
        return self.clf(self.encoder(**tokens).last_hidden_state[:, 0])


class Fense:
    """Scores captions.

    Args:
        folder: see above.
        device: that it computes on.

    Attributes:
        settings: names and hashes of these models, for the record of an evaluation.

    Raises:
        FileNotFoundError: something is not in the folder.
        ValueError: the classifier's file holds something else.
    """

    def __init__(self, folder: Path, device: str | torch.device = "cpu") -> None:
        from sentence_transformers import SentenceTransformer
        from transformers import AutoTokenizer

        encoder, checkpoint = _only(folder, f"*/{SENTENCE_ENCODER}").parent, _only(folder, "*.ckpt")
        self.device = torch.device(device)
        self.sentences = SentenceTransformer(
            str(encoder), device=str(device), local_files_only=True, trust_remote_code=False
        )
        self.classifier, made_from = _classifier(checkpoint, folder)
        self.classifier.to(self.device)
        self.tokenizer = AutoTokenizer.from_pretrained(str(made_from), local_files_only=True, trust_remote_code=False)
        self.settings = {
            "sentence_encoder": encoder.name,
            "error_classifier": checkpoint.name,
            "error_classifier_sha256": hashlib.sha256(checkpoint.read_bytes()).hexdigest(),
        }

    def score(self, written: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
        """FENSE of each clip, at most 1; their mean is that of the corpus.

        The mean cosine to the references, of which a caption with an error keeps a tenth.

        Args:
            written: G captions, as they are.
            references: for each of them one or more, likewise.
        """
        flat = [caption for group in references for caption in group]
        clip = torch.tensor([i for i, group in enumerate(references) for _ in group])
        ours, theirs = self._embed(written), self._embed(flat)
        cosines = (ours[clip] * theirs).sum(1).double()
        sums = torch.zeros(len(written), dtype=torch.float64).index_add_(0, clip, cosines)
        alike = sums / clip.bincount(minlength=len(written))
        broken = ~(self.error_probabilities(written) <= THRESHOLD)  # of NaN neither holds
        return torch.where(broken, alike * (1 - PENALTY), alike).tolist()

    @torch.no_grad()
    def error_probabilities(self, captions: Sequence[str]) -> Tensor:
        """Compute the probability that a caption is broken English, (G,) 0 to 1."""
        parts = []
        for start in range(0, len(captions), AT_ONCE):
            texts = list(captions[start : start + AT_ONCE])
            tokens = self.tokenizer(texts, truncation=True, padding=True, max_length=MAX_TOKENS, return_tensors="pt")
            # The published code takes all kinds where there are few captions, by an oversight; the last is "any error".
            parts.append(self.classifier(dict(tokens.to(self.device)))[:, -1].sigmoid().cpu())
        return torch.cat(parts)

    def _embed(self, captions: Sequence[str]) -> Tensor:
        """(n, E) on the CPU, rows of length 1."""
        found = self.sentences.encode(
            list(captions),
            batch_size=AT_ONCE,
            convert_to_tensor=True,
            normalize_embeddings=True,
            show_progress_bar=False,
        )
        return found.float().cpu()


def find_fense(folder: str | Path | None = None, device: str | torch.device = "cpu") -> Fense:
    """FENSE, if all that it needs is there.

    Args:
        folder: see the module; without it, the one that `SLAP_FENSE` names.
        device: that it computes on.

    Raises:
        MissingToolError: what is missing, in one line, and where to get it.
        FileNotFoundError: a folder is named, but something is not in it.
    """
    named = folder or os.environ.get(FOLDER)
    if not named:
        raise MissingToolError(f"FENSE needs {NEEDED}: name a folder with them by the option fense or by {FOLDER}")
    for library in ("sentence_transformers", "transformers"):
        if find_spec(library) is None:
            raise MissingToolError(f"FENSE needs {library}: pip install 'slap-audio[fense]'")
    if not Path(named).is_dir():
        raise FileNotFoundError(f"there is no folder {named}; FENSE needs {NEEDED}")
    return Fense(Path(named), device)


def _only(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        names = ", ".join(str(path.relative_to(folder)) for path in found) or "none"
        raise FileNotFoundError(f"{folder} must hold one {pattern}, and there are: {names}; FENSE needs {NEEDED}")
    return found[0]


def _classifier(checkpoint: Path, folder: Path) -> tuple[ErrorClassifier, Path]:
    """Read the classifier of a published file, and find the folder of the encoder that it was made from."""
    from transformers import AutoConfig, AutoModel

    # weights_only: a file from elsewhere must not be able to run code.
    try:
        content: Any = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise UserError(f"{checkpoint} holds more than tensors and plain data, so it is not read: {error}") from error
    wanted = {"model_type", "num_classes", "state_dict"}
    if not isinstance(content, dict) or not wanted <= set(content):
        raise UserError(f"{checkpoint} is no error classifier of FENSE: it lacks {', '.join(sorted(wanted))}")
    made_from = folder / str(content["model_type"]).rpartition("/")[2]
    if not (made_from / "config.json").is_file():
        raise FileNotFoundError(
            f"{checkpoint.name} was made from {content['model_type']}, whose config.json and tokenizer belong into "
            f"{made_from}"
        )
    config = AutoConfig.from_pretrained(str(made_from), local_files_only=True, trust_remote_code=False)
    model = ErrorClassifier(AutoModel.from_config(config, trust_remote_code=False), content["num_classes"])
    # Older versions of transformers kept the numbers of positions among the weights.
    state = {name: value for name, value in content["state_dict"].items() if not name.endswith("position_ids")}
    model.load_state_dict(state)
    return model.eval(), made_from
