"""Saving to and loading from the Hugging Face hub, by the mixin of huggingface_hub (extra `hub`)."""

from __future__ import annotations

from pathlib import Path

import torch

try:
    from huggingface_hub import ModelHubMixin, snapshot_download
except ImportError as error:
    raise ImportError("the hub needs huggingface_hub: pip install 'slap-audio[hub]'") from error

from slap.inference.model import Model
from slap.inference.model_card import Card
from slap.inference.saved_model import CONFIG, README, TOKENIZERS, WEIGHTS, read, save


class HubModel(ModelHubMixin, library_name="slap", tags=["audio", "clap"]):
    """A model with the mixin's `save_pretrained`, `from_pretrained` and `push_to_hub`.

    Args:
        model: the model.
        card: what its card shall say.
        allow_collapsed: save it also if it is collapsed.
    """

    def __init__(self, model: Model, card: Card | None = None, allow_collapsed: bool = False) -> None:
        self.model = model
        self.card = card
        self.allow_collapsed = allow_collapsed

    def _save_pretrained(self, save_directory: Path) -> None:
        save(self.model, save_directory, self.card, self.allow_collapsed)

    @classmethod
    def _from_pretrained(  # type: ignore[override]  # the mixin hands on options that are named here
        cls,
        *,
        model_id: str,
        revision: str | None,
        cache_dir: str | Path | None,
        force_download: bool,
        local_files_only: bool,
        token: str | bool | None,
        device: str | torch.device = "cpu",
    ) -> HubModel:
        place = torch.device(device)
        if Path(model_id).is_dir():
            return cls(read(Path(model_id), place))
        folder = Path(
            snapshot_download(
                model_id,
                revision=revision,
                cache_dir=cache_dir,
                force_download=force_download,
                local_files_only=local_files_only,
                token=token,
                allow_patterns=[CONFIG, WEIGHTS, README, *TOKENIZERS],
            )
        )
        return cls(read(folder, place, root=folder.parent.parent))  # snapshots are links to blobs beside them
