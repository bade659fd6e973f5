"""The record in a run's folder: the id of the run, which its checkpoints hold too, and the files that it wrote."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from slap.core.bad_clip import BAD_CLIPS
from slap.core.errors import UserError
from slap.core.files import atomic_write, refuse_link
from slap.training.callbacks.loss_monitor import WATCH_FILES
from slap.training.checkpoint.io import BEST, LAST, PREVIOUS
from slap.training.checkpoint.metrics_log import METRICS

FILE = "run.json"

RUN_FILES = (METRICS, BEST, LAST, PREVIOUS, "curves.png")
"""The results that a run leaves in its folder, besides the TensorBoard log."""

OWN_FILES = (*RUN_FILES, "config.yaml", "hparams.yaml", "tensorboard/hparams.yaml", BAD_CLIPS, *WATCH_FILES)
"""All names, in a run's folder, under which a run writes."""

REQUEUED = "hpc_ckpt_*.ckpt"
"""Checkpoints that Lightning writes when a SLURM job is requeued."""

EVENTS = "tensorboard/events.*"
EVENT = re.compile(r"tensorboard/events\.[^/\0]+")


@dataclass(frozen=True)
class RunRecord:
    """The record of a run.

    A run begins only where none of its files is there yet, so in a folder with a record they are the run's own. Of the
    files of TensorBoard, whose names differ each time, the record lists those of the run.

    Attributes:
        run: its id.
        job: name of the job that ran it last; "" without one.
        parent: id of the run whose checkpoint it began with; "" without one.
        checkpoint: path of that checkpoint.
        events: files of TensorBoard, below the folder.
    """

    run: str
    job: str = ""
    parent: str = ""
    checkpoint: str = ""
    events: tuple[str, ...] = ()

    @classmethod
    def new(cls, parent: str = "", checkpoint: str = "") -> RunRecord:
        """Return the record of a run that begins."""
        return cls(uuid.uuid4().hex, parent=parent, checkpoint=checkpoint)

    @classmethod
    def of(cls, folder: Path) -> RunRecord | None:
        """Read the record in a folder; None if there is none.

        Raises:
            UserError: the record is damaged.
        """
        try:
            known = json.loads((folder / FILE).read_text(encoding="utf-8"))
            record = cls(**{**known, "events": tuple(known["events"])})
            for name in record.events:  # which are removed with the run, so none may lie elsewhere
                if not EVENT.fullmatch(name):
                    raise ValueError(f"{name!r} is no file of TensorBoard")
            return record
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(
                f"{folder / FILE} is no record of a run, so what {folder} holds is left alone; name another folder as "
                "the trainer's `out` (--trainer.out)"
            ) from error

    def write(self, folder: Path, job: str, events: Sequence[str]) -> None:
        """Write the record, with the job that runs now and further files of TensorBoard."""
        folder.mkdir(parents=True, exist_ok=True)
        now = replace(self, job=job, events=tuple(sorted({*self.events, *events})))
        with atomic_write(folder / FILE) as file:
            file.write(json.dumps(asdict(now), indent=1) + "\n")

    def remove_files(self, folder: Path) -> None:
        """Remove what the run has written, and the record."""
        written = [
            folder / name for name in (*OWN_FILES, *self.events) if name != "hparams.yaml"
        ]  # that is new already
        for path in [*written, *folder.glob(REQUEUED), folder / FILE]:
            path.unlink(missing_ok=True)


def own_files(folder: Path) -> list[str]:
    """Return the names, among those under which a run writes, that are taken in a folder.

    Raises:
        UserError: one of them is a link, through which the run would write elsewhere.
    """
    for name in (*OWN_FILES, FILE):
        refuse_link(folder / name)
    return [name for name in OWN_FILES if (folder / name).exists()] + [path.name for path in folder.glob(REQUEUED)]


def events_in(folder: Path) -> set[str]:
    """Return the files of TensorBoard, as paths below a folder."""
    return {str(path.relative_to(folder)) for path in folder.glob(EVENTS)}
