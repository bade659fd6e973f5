"""The lock of a run's folder, which keeps a second training out while the first one writes to it.

The lock is a file that names its holder: host, process, the time at which that process started, and its job. Whether
the holder still runs can be seen on its own host alone, unless SLURM knows that its job has ended. All processes of one
training share the lock, which its first process takes.
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
from time import monotonic, sleep
from typing import Literal

from slap.core.errors import UserError
from slap.core.files import create_whole
from slap.core.process_state import runs, status

FILE = "run.lock"

SLURM = "SLURM_JOB_ID"

JOBS = {SLURM: "SLURM_RESTART_COUNT", "TORCHELASTIC_RUN_ID": "TORCHELASTIC_RESTART_COUNT"}
"""Variables with the name of a job that is started again after a failure, and with the number of restarts so far."""

State = Literal["running", "ended", "unknown"]

PATIENCE, LOOK = 5.0, 0.05
"""Seconds for which a lock that other processes take over is waited for, and between looks at it."""


def job() -> tuple[str, int] | None:
    """Return the name of the job of this process, and how often the job was restarted; None without one."""
    for name, restarts in JOBS.items():
        if os.environ.get(name, "none") != "none":
            cluster = os.environ.get("SLURM_CLUSTER_NAME") if name == SLURM else None
            there = f"@{cluster}" if cluster else ""
            return f"{name}={os.environ[name]}{there}", int(os.environ.get(restarts) or 0)
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
            return "ended" if mine and self.job and _slurm_has_ended(self.job[0], mine[0]) else "unknown"
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
        until = monotonic() + PATIENCE
        while monotonic() < until:
            me = Holder.here()
            try:
                create_whole(self.path, json.dumps(asdict(me)) + "\n")
            except FileExistsError:
                self._take_over()
                continue
            self._token = me.token
            return
        claims = ", ".join(str(path) for path in self.path.parent.glob(f"{FILE}.*.claim"))
        raise UserError(
            f"{self.path} changes hands all the time: several trainings start in {self.path.parent}"
            + (f", or one of them was killed while it took the lock over; if none runs, rm {claims}" if claims else "")
        )

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
            known = json.loads(self._content())
            return Holder(**{**known, "job": known["job"] and tuple(known["job"])})
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(
                f"{self.path} does not name the training that holds {self.path.parent}: its content is damaged. If no "
                f"training writes to the folder, remove the file: rm {self.path}"
            ) from error

    def _content(self) -> str:
        """Read the lock; one that is still empty is being written, where the file system knows no hard links."""
        until = monotonic() + PATIENCE
        while not (text := self.path.read_text(encoding="utf-8")) and monotonic() < until:
            sleep(LOOK)
        return text

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
        claim = self.path.with_name(f"{FILE}.{holder.token}.claim")
        try:
            claim.touch(exist_ok=False)  # by one process alone, so that the lock which the next one takes is left
        except FileExistsError:
            sleep(LOOK)
            return
        try:
            now = self.holder()
            if now is not None and now.token == holder.token:
                self.path.unlink()
        finally:
            claim.unlink()


def _differ(before: str, now: str) -> bool:
    return bool(before and now) and before != now


def _slurm_has_ended(job: str, mine: str) -> bool:
    """Return whether a job has ended, as far as SLURM says so to another job of the same cluster."""
    (kind, number, cluster), (own_kind, _, own_cluster) = _parts(job), _parts(mine)
    if not kind == own_kind == SLURM or cluster != own_cluster or number is None:
        return False
    asked = ["squeue", "--noheader", "--format=%T", f"--jobs={number}"]
    try:
        said = subprocess.run(asked, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    if "Invalid job id" in said.stderr:  # one that SLURM has forgotten
        return True
    return said.returncode == 0 and set(said.stdout.split()) <= {"PENDING"}


def _parts(job: str) -> tuple[str, str | None, str]:
    """Return the kind, the number and the cluster in the name of a job; no number if it is none."""
    kind, _, rest = job.partition("=")
    number, _, cluster = rest.partition("@")
    return kind, number if number.isdecimal() else None, cluster


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
