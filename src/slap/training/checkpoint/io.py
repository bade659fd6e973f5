"""Lightning's plug-ins for checkpoints: complete files that are verified, written at once or beside training."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Thread
from typing import Any

from lightning.fabric.plugins import CheckpointIO
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor

from slap.core.checkpoint_file import read, write
from slap.core.errors import UserError

LAST, PREVIOUS, BEST = "last.ckpt", "previous.ckpt", "best.ckpt"

Place = str | Path


class CheckpointFiles(CheckpointIO):
    """Checkpoints in the files of `slap.core.checkpoint_file`, which loading verifies and never unpickles.

    Args:
        previous: by the name of a file, the name under which its old content is kept. Default: `last.ckpt` has
            `previous.ckpt`.
    """

    def __init__(self, previous: Mapping[str, str] | None = None) -> None:
        self.previous = {LAST: PREVIOUS} if previous is None else dict(previous)

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Place, storage_options: Any = None) -> None:
        """Save, all or nothing.

        Raises:
            OSError: the file cannot be written; it keeps its old content.
            ValueError: `path` is the address of no file, or there are storage options, of which none exist.
        """
        if storage_options is not None:
            raise UserError(f"there are no storage options for checkpoints in files, got {storage_options!r}")
        file = _file(path)
        name = self.previous.get(file.name)
        write(checkpoint, file, file.with_name(name) if name else None)

    def load_checkpoint(
        self,
        path: Place,
        map_location: Callable[..., Any] | None = None,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Verify and load; only tensors and plain data are read, unless `weights_only` is False.

        Raises:
            DamagedCheckpointError: the file is not what was saved.
            ValueError: `path` is the address of no file.
            FileNotFoundError: there is no such file.
        """
        content: dict[str, Any] = read(_file(path), map_location or "cpu", weights_only)
        return content

    def remove_checkpoint(self, path: Place) -> None:
        """Remove the file, if there is one."""
        _file(path).unlink(missing_ok=True)

    def check(self) -> None:
        """Raise the error of a write that goes on beside training; here there is none."""

    def wait(self) -> None:
        """Wait for a write that goes on beside training; here there is none."""


class AsyncCheckpointFiles(CheckpointFiles):
    """Checkpoints that a thread writes while training goes on.

    A checkpoint is copied to the host's memory at once, and takes that memory until it is written. One checkpoint is
    written at a time; the next one waits for it. An error of the thread is raised by `check`, which
    `slap.training.checkpoint.last.LastCheckpoint` calls at each step, and by every method that waits.

    Args:
        previous: as for `CheckpointFiles`.
    """

    def __init__(self, previous: Mapping[str, str] | None = None) -> None:
        super().__init__(previous)
        self._thread: Thread | None = None
        self._error: Exception | None = None

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Place, storage_options: Any = None) -> None:
        """Copy a checkpoint, and start writing it.

        Raises:
            OSError: the previous checkpoint could not be written.
        """
        self.wait()
        copied = apply_to_collection(checkpoint, Tensor, _copy_to_host)
        self._thread = Thread(target=self._write, args=(copied, path, storage_options), name="checkpoint")
        self._thread.start()

    def load_checkpoint(self, path: Place, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Load as the parent does, after the write that goes on."""
        self.wait()
        return super().load_checkpoint(path, *args, **kwargs)

    def remove_checkpoint(self, path: Place) -> None:
        """Remove as the parent does, after the write that goes on."""
        self.wait()
        super().remove_checkpoint(path)

    def check(self) -> None:
        """Raise the error of a write since the last check, if there was one."""
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def wait(self) -> None:
        """Wait for the write that goes on, and raise its error."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.check()

    def teardown(self) -> None:
        """Wait for the last write, and raise its error."""
        self.wait()

    def _write(self, checkpoint: dict[str, Any], path: Place, storage_options: Any) -> None:
        try:
            super().save_checkpoint(checkpoint, path, storage_options)
        except Exception as error:  # raised in the thread that trains
            self._error = error


def _copy_to_host(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True)


def _file(path: Place) -> Path:
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", str(path)):
        raise UserError(f"{path} is an address; checkpoints are read from and written to files")
    return Path(path)


def files_of(trainer: Any) -> CheckpointFiles | None:
    """Return the plug-in by which a trainer keeps checkpoints, None if it is not one of these."""
    found = trainer.strategy.checkpoint_io
    return found if isinstance(found, CheckpointFiles) else None
