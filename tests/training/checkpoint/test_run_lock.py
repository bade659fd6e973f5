"""One training at a time writes to a folder; the lock of one that has ended is taken over."""

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from threading import Event, Thread

import pytest

from slap.training.checkpoint.run_lock import FILE, Holder, RunLock


@pytest.fixture
def other():
    """Another process of this machine, which runs."""
    process = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    yield process
    process.stdin.close()
    process.wait()


def held_by(folder, **known):
    from slap.training.checkpoint import run_lock

    pid = known.pop("pid")
    holder = replace(Holder.here(), **{"pid": pid, "started": run_lock._started(pid), "token": "other", **known})
    (folder / FILE).write_text(json.dumps(asdict(holder)))


def test_a_folder_has_one_training_at_a_time(tmp_path, other):
    held_by(tmp_path, pid=other.pid)
    with pytest.raises(ValueError, match=f"is in use: process {other.pid} on .* has been training in it since"):
        RunLock(tmp_path).acquire()
    assert json.loads((tmp_path / FILE).read_text())["pid"] == other.pid


def test_the_lock_of_a_process_that_has_ended_is_taken_over(tmp_path, other):
    held_by(tmp_path, pid=other.pid)
    other.kill()
    other.wait()
    lock = RunLock(tmp_path)
    lock.acquire()
    assert json.loads((tmp_path / FILE).read_text())["pid"] == os.getpid()
    lock.release()
    assert not list(tmp_path.iterdir())


def test_the_number_of_a_process_that_has_ended_may_be_given_to_another(tmp_path, other):
    held_by(tmp_path, pid=other.pid)
    holder = json.loads((tmp_path / FILE).read_text())
    (tmp_path / FILE).write_text(json.dumps({**holder, "started": "1"}))
    RunLock(tmp_path).acquire()


def test_a_process_of_another_machine_cannot_be_seen(tmp_path):
    held_by(tmp_path, pid=1, host="node7")
    with pytest.raises(ValueError, match=rf"process 1 on node7 .*remove its lock: rm .*{FILE}"):
        RunLock(tmp_path).acquire()


@pytest.mark.parametrize(("restarts", "free"), [(1, False), (2, True)])
def test_a_job_that_is_started_again_has_ended_before(tmp_path, monkeypatch, restarts, free):
    """On whatever machine: the scheduler never runs two attempts at once."""
    held_by(tmp_path, pid=1, host="node7", job=("SLURM_JOB_ID=77", 1))
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    monkeypatch.setenv("SLURM_RESTART_COUNT", str(restarts))
    if free:
        RunLock(tmp_path).acquire()
    else:
        with pytest.raises(ValueError, match="cannot be seen from"):
            RunLock(tmp_path).acquire()


def test_a_lock_is_released_by_its_holder_alone(tmp_path):
    first = RunLock(tmp_path)
    first.acquire()
    held_by(tmp_path, pid=1, host="node7")
    first.release()
    assert (tmp_path / FILE).exists()


def test_a_damaged_lock_is_not_guessed_at(tmp_path):
    (tmp_path / FILE).write_text("{")
    with pytest.raises(ValueError, match=f"its content is damaged.*rm .*{FILE}"):
        RunLock(tmp_path).acquire()


def test_the_lock_is_never_seen_without_its_content(tmp_path):
    """A second training that looked at that moment would call the lock damaged."""
    seen, done = [], Event()

    def look():
        while not done.is_set():
            try:
                RunLock(tmp_path).holder()
            except ValueError as error:
                seen.append(error)

    looking, lock = Thread(target=look), RunLock(tmp_path)
    lock._content = lambda: lock.path.read_text()
    looking.start()
    for _ in range(200):
        lock.acquire()
        lock.release()
    done.set()
    looking.join()
    assert not seen


def test_a_lock_that_another_training_has_taken_over_meanwhile_is_left(tmp_path, other, monkeypatch):
    held_by(tmp_path, pid=1, started="1")
    lock = RunLock(tmp_path)
    ended, holder = [lock.holder()], RunLock.holder
    held_by(tmp_path, pid=other.pid, token="of another")
    monkeypatch.setattr(RunLock, "holder", lambda self: ended.pop() if ended else holder(self))
    with pytest.raises(ValueError, match=f"is in use: process {other.pid}"):
        lock.acquire()
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    assert json.loads((tmp_path / FILE).read_text())["token"] == "of another"


def test_a_lock_is_taken_over_by_one_process_alone(tmp_path, monkeypatch):
    held_by(tmp_path, pid=1, started="1")
    claim = tmp_path / f"{FILE}.other.claim"
    claim.touch()
    monkeypatch.setattr("slap.training.checkpoint.run_lock.PATIENCE", 0.2)
    with pytest.raises(ValueError, match=f"several trainings start in .*if none runs, rm {claim}"):
        RunLock(tmp_path).acquire()
    assert json.loads((tmp_path / FILE).read_text())["token"] == "other"


@pytest.mark.parametrize(
    ("said", "cluster", "free"),
    [
        ("echo RUNNING", "", False),
        ("echo COMPLETING", "", False),
        ("echo PENDING", "", True),  # it was requeued, and waits
        ("true", "", True),
        ("echo slurm_load_jobs error: Invalid job id specified >&2; exit 1", "", True),
        ("echo slurm_load_jobs error: Unable to contact slurm controller >&2; exit 1", "", False),
        ("true", "@elsewhere", False),
    ],
)
def test_slurm_says_whether_the_job_of_a_lock_has_ended(tmp_path, monkeypatch, said, cluster, free):
    """A job that was killed by force on another machine leaves its lock, and the next job continues the run."""
    out, programs = tmp_path / "out", tmp_path / "bin"
    programs.mkdir()
    (programs / "squeue").write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\n{said}\n')
    (programs / "squeue").chmod(0o755)
    out.mkdir()
    held_by(out, pid=1, host="node7", job=(f"SLURM_JOB_ID=77{cluster}", 0))
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
    monkeypatch.setenv("SLURM_JOB_ID", "78")
    if free:
        RunLock(out).acquire()
        assert "--jobs=77" in (tmp_path / "asked").read_text()
    else:
        with pytest.raises(ValueError, match="cannot be seen from"):
            RunLock(out).acquire()
