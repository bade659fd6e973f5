"""How Lightning saves and loads checkpoints here: as complete files with checksums, at once or beside training."""

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

LAST, PREVIOUS, BEST = "last.ckpt", "previous.ckpt", "best.ckpt"

Place = str | Path


class CheckpointFiles(CheckpointIO):
    """Checkpoints as `slap.core.checkpoint_file` writes them; loading verifies them and never unpickles.

    Args:
        previous: by the name of a file the name under which the one before it is kept. Default: of `last.ckpt`.
    """

    def __init__(self, previous: Mapping[str, str] | None = None) -> None:
        self.previous = {LAST: PREVIOUS} if previous is None else dict(previous)

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Place, storage_options: Any = None) -> None:
        """Save, all or nothing.

        Raises:
            OSError: it cannot be written; what was there before still is.
            ValueError: the place is no file, or options that there are none of.
        """
        if storage_options is not None:
            raise ValueError(f"there are no storage options for checkpoints in files, got {storage_options!r}")
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
            DamagedCheckpointError: it is not what was saved.
            ValueError: the place is no file.
            FileNotFoundError: there is none.
        """
        content: dict[str, Any] = read(_file(path), map_location or "cpu", weights_only is not False)
        return content

    def remove_checkpoint(self, path: Place) -> None:
        """Remove a file, if it is there."""
        _file(path).unlink(missing_ok=True)

    def check(self) -> None:
        """Nothing is being written that could have failed."""

    def wait(self) -> None:
        """Nothing is being written."""


class AsyncCheckpointFiles(CheckpointFiles):
    """The same, but training goes on while a thread writes.

    What is saved is copied to the host's memory at once, so it costs that memory until it is written. One checkpoint is
    written at a time; the next one waits for it. An error of the thread is raised by `check`, which
    `slap.training.checkpoint.run_folder.LastCheckpoint` calls at each step, and by whatever waits.

    Args:
        previous: as for `CheckpointFiles`.
    """

    def __init__(self, previous: Mapping[str, str] | None = None) -> None:
        super().__init__(previous)
        self._thread: Thread | None = None
        self._error: Exception | None = None

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Place, storage_options: Any = None) -> None:
        """Copy, and have it written.

        Raises:
            OSError: the checkpoint before could not be written.
        """
        self.wait()
        copied = apply_to_collection(checkpoint, Tensor, _copy_to_host)
        self._thread = Thread(target=self._write, args=(copied, path, storage_options), name="checkpoint")
        self._thread.start()

    def load_checkpoint(self, path: Place, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """As the parent, after what is being written."""
        self.wait()
        return super().load_checkpoint(path, *args, **kwargs)

    def remove_checkpoint(self, path: Place) -> None:
        """As the parent, after what is being written."""
        self.wait()
        super().remove_checkpoint(path)

    def check(self) -> None:
        """Raise the error of what was written since the last time, if there was one."""
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def wait(self) -> None:
        """Until nothing is being written; raises its error."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.check()

    def teardown(self) -> None:
        """At the end of training; raises the error of what was written last."""
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
        raise ValueError(f"{path} is an address; checkpoints are read from and written to files")
    return Path(path)


def files_of(trainer: Any) -> CheckpointFiles | None:
    """How a trainer keeps checkpoints, if it does so in these files."""
    found = trainer.strategy.checkpoint_io
    return found if isinstance(found, CheckpointFiles) else None
