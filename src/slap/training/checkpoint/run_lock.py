"""The lock of a run's folder, which keeps a second training out while the first one writes to it.

The lock is a file that names its holder: host, process, the time at which that process started, and its job. Whether
the holder still runs can be seen on its own host alone. All processes of one training share the lock, which its first
process takes.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import uuid
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from slap.core.errors import UserError
from slap.core.process_state import runs, status

FILE = "run.lock"

JOBS = {"SLURM_JOB_ID": "SLURM_RESTART_COUNT", "TORCHELASTIC_RUN_ID": "TORCHELASTIC_RESTART_COUNT"}
"""Variables with the name of a job that is started again after a failure, and with the number of restarts so far."""

State = Literal["running", "ended", "unknown"]


def job() -> tuple[str, int] | None:
    """Return the name of the job of this process, and how often the job was restarted; None without one."""
    for name, restarts in JOBS.items():
        if os.environ.get(name, "none") != "none":
            return f"{name}={os.environ[name]}", int(os.environ.get(restarts) or 0)
    return None


@dataclass(frozen=True)
class Holder:
    """The process that holds a lock.

    Attributes:
        host: name of its machine.
        pid: its number there.
        started: the time at which it started, as the system counts it; "" where that is unknown.
        boot: the present run of its machine; "" where that is unknown.
        space: the space of process numbers, which differs between containers; "" where that is unknown.
        since: the time at which it took the lock.
        job: name and restarts of its job; None without one.
        token: a random text, by which a holder knows its own lock.
    """

    host: str
    pid: int
    started: str
    boot: str
    space: str
    since: str
    job: tuple[str, int] | None
    token: str

    @classmethod
    def here(cls) -> Holder:
        """Return this process as a holder."""
        pid, now = os.getpid(), datetime.now(UTC).isoformat(timespec="seconds")
        return cls(socket.gethostname(), pid, _started(pid), _boot(), _space(), now, job(), uuid.uuid4().hex)

    def state(self) -> State:
        """Return whether the holder still runs, as far as that can be seen from here."""
        mine = job()
        if mine and self.job and mine[0] == self.job[0] and mine[1] > self.job[1]:
            return "ended"  # a job is started again after its earlier attempt has ended
        if self.host != socket.gethostname():
            return "unknown"
        if _differ(self.boot, _boot()):
            return "ended"
        if _differ(self.space, _space()):
            return "unknown"
        if self.pid == os.getpid():
            return "ended"  # an earlier training of this very process, or of one that had its number
        return "running" if runs(self.pid) and not _differ(self.started, _started(self.pid)) else "ended"


class RunLock:
    """The lock of a run's folder.

    Args:
        folder: the run's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self._token = ""

    def acquire(self) -> None:
        """Take the lock; one whose holder has ended is taken over.

        Raises:
            UserError: another training holds it, or it cannot be seen whether its holder still runs.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        for _ in range(10):
            me = Holder.here()
            try:
                with self.path.open("x", encoding="utf-8") as file:
                    file.write(json.dumps(asdict(me)) + "\n")
            except FileExistsError:
                self._take_over()
                continue
            self._token = me.token
            return
        raise UserError(f"{self.path} changes hands all the time: several trainings start in {self.path.parent}")

    def release(self) -> None:
        """Give the lock back, if this process holds it."""
        holder = self.holder() if self._token else None
        if holder is not None and holder.token == self._token:
            self.path.unlink(missing_ok=True)
        self._token = ""

    def holder(self) -> Holder | None:
        """Return the process that holds the lock; None if there is no lock.

        Raises:
            UserError: the file is damaged.
        """
        try:
            known = json.loads(self.path.read_text(encoding="utf-8"))
            return Holder(**{**known, "job": known["job"] and tuple(known["job"])})
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(
                f"{self.path} does not name the training that holds {self.path.parent}: its content is damaged. If no "
                f"training writes to the folder, remove the file: rm {self.path}"
            ) from error

    def _take_over(self) -> None:
        """Remove the lock of a holder that has ended."""
        holder = self.holder()
        if holder is None:
            return
        state = holder.state()
        who = f"process {holder.pid} on {holder.host}"
        if state == "running":
            raise UserError(
                f"{self.path.parent} is in use: {who} has been training in it since {holder.since}. Wait for it or end "
                "it, or name another folder as the trainer's `out` (--trainer.out)"
            )
        if state == "unknown":
            raise UserError(
                f"{self.path.parent} was taken for a training by {who} at {holder.since}, and whether that still runs "
                f"cannot be seen from {socket.gethostname()}. If it has ended, remove its lock: rm {self.path}. "
                "Otherwise name another folder as the trainer's `out` (--trainer.out)"
            )
        apart = self.path.with_name(f"{FILE}.{holder.token}.{os.getpid()}.part")
        try:
            self.path.rename(apart)
        except FileNotFoundError:  # another training has taken it over at the same moment
            return
        if holder.token not in apart.read_text(encoding="utf-8"):  # that training's lock, which goes back
            apart.rename(self.path)
        else:
            apart.unlink()


def _differ(before: str, now: str) -> bool:
    return bool(before and now) and before != now


def _started(pid: int) -> str:
    """Return the time at which a process started, as the system counts it; "" where that is unknown."""
    if sys.platform == "linux":
        return (status(pid)[19:20] or [""])[0]
    asked = ["ps", "-o", "lstart=", "-p", str(pid)]
    try:
        return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:  # a system without this program
        return ""


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _space() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""
