"""Folders of saved models on the Hugging Face hub, by huggingface_hub (extra `hub`)."""

from __future__ import annotations

from pathlib import Path

from slap.core.errors import MissingDependencyError

try:
    from huggingface_hub import HfApi, snapshot_download
except ImportError as error:
    raise MissingDependencyError("the hub needs huggingface_hub: pip install 'slap-audio[hub]'") from error

from slap.inference.saved_model import CONFIG, README, TOKENIZERS, WEIGHTS


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
    """
    folder = snapshot_download(
        name,
        revision=revision,
        cache_dir=cache_dir,
        force_download=force_download,
        local_files_only=local_files_only,
        token=token,
        allow_patterns=[CONFIG, WEIGHTS, README, *TOKENIZERS],
    )
    return Path(folder)
