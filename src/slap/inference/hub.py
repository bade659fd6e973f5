"""Folders of saved models on the Hugging Face hub, by huggingface_hub (extra `hub`)."""

from __future__ import annotations

from pathlib import Path

from slap.core.errors import MissingDependencyError, UserError

try:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
except ImportError as error:
    raise MissingDependencyError("the hub needs huggingface_hub: pip install 'slap-audio[hub]'") from error

from slap.inference.graph_record import TOKENIZERS
from slap.inference.saved_model import CONFIG, README, WEIGHTS


def upload(
    folder: str | Path,
    repo_id: str,
    private: bool | None = None,
    token: str | None = None,
    revision: str | None = None,
    commit_message: str = "Push a SLAP model",
) -> str:
    """Upload a folder that `save_pretrained` wrote, and return the commit's address; a new repository is made.

    Args:
        folder: the folder.
        repo_id: `user/name`.
        private: make a new repository a private one.
        token: of the user; default: the one that `hf auth login` stored.
        revision: branch to push to.
        commit_message: of the commit.
    """
    api = HfApi(token=token, library_name="slap")
    repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
    return api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message=commit_message, revision=revision)


def download(
    name: str,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    force_download: bool = False,
    local_files_only: bool = False,
    token: str | bool | None = None,
) -> Path:
    """Download the files of a saved model, none that could hold code, and return their folder.

    Args:
        name: `user/name`.
        revision: branch, tag or commit.
        cache_dir: the folder of downloads.
        force_download: download files again that are there already.
        local_files_only: download nothing.
        token: of the user.

    Raises:
        UserError: the hub has no such model, or cannot be reached.
    """
    try:
        folder = snapshot_download(
            name,
            revision=revision,
            cache_dir=cache_dir,
            force_download=force_download,
            local_files_only=local_files_only,
            token=token,
            allow_patterns=[CONFIG, WEIGHTS, README, *TOKENIZERS],
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError) as error:
        raise UserError(
            f"there is no folder {name}, and the Hugging Face hub gives no model {name}: {error}\nA model is a folder "
            "that `slap export` wrote, or `user/name` on the hub"
        ) from error
    return Path(folder)
