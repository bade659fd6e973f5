"""How a process that fails leaves the others: none is left behind, and nobody is waited for who has ended."""

import subprocess
import sys
from signal import SIGKILL
from types import SimpleNamespace

import pytest
import torch.distributed as dist

from slap.training.processes import fail_fast as failing
from slap.training.processes.fail_fast import HEARD, FailFast


class EndedError(Exception):
    """In place of the end of the process."""


@pytest.fixture(autouse=True)
def ended(monkeypatch):
    def end(code):
        raise EndedError(code)

    monkeypatch.setattr("slap.training.processes.fail_fast.os._exit", end)


def trainer_of(*children):
    launcher = SimpleNamespace(procs=list(children))
    return SimpleNamespace(world_size=2, global_rank=0, strategy=SimpleNamespace(launcher=launcher))


def child(what):
    return subprocess.Popen([sys.executable, "-c", what])


def test_processes_that_have_not_met_this_one_yet_end_with_it(capfd):
    """Nothing but this would tell them: they would wait to meet it, and hold its output open."""
    waiting = child("import time; time.sleep(600)")
    with pytest.raises(EndedError, match="1"):
        FailFast().on_exception(trainer_of(waiting), None, RuntimeError("no luck"))
    assert waiting.wait(60) == -SIGKILL
    assert "[rank 0] failed, so all 2 processes end:\nRuntimeError: no luck" in capfd.readouterr().err


def test_nobody_waits_until_processes_hear_that_have_ended(monkeypatch):
    looks = []

    def look(seconds):
        looks.append(seconds)
        assert len(looks) < 10, "it waits for those who cannot hear"

    store = dist.HashStore()
    monkeypatch.setattr(failing, "_own_store", lambda: store)
    monkeypatch.setattr(failing, "sleep", look)
    killed = child("pass")
    killed.wait()
    with pytest.raises(EndedError, match="1"):
        FailFast().on_exception(trainer_of(killed), None, RuntimeError("no luck"))
    assert store.add(HEARD, 0) == 0
