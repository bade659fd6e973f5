"""Real launchers: torchrun starts processes, starts them anew, and is killed; Lightning's first process is killed."""

import json
import os
import signal
import socket
import subprocess
import sys
from time import monotonic, sleep

import pytest

import resume_recipe
from resume_runs import in_processes, options, stream

pytestmark = pytest.mark.distributed


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    resume_recipe.data(str(folder))
    return folder


def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def torchrun(words, arguments, errors, **kill):
    command = [sys.executable, "-m", "torch.distributed.run", *words, "-m", "slap", *arguments]
    environment = {**os.environ, "KILL": json.dumps(kill), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stderr=errors, stdout=errors, start_new_session=True)


def end(processes):
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_one_run_for_all_processes_also_when_they_are_started_anew(clips, tmp_path):
    """Without --trainer.devices; and the second attempt does not end by the first one's message."""
    out, log = tmp_path / "out", tmp_path / "log"
    given = options(clips, out, **{"trainer.max_steps": 6, "trainer.save_every": 1})
    words = ["--nproc-per-node", "2", "--master-port", str(port()), "--max-restarts", "1"]
    with log.open("w") as errors:
        fit = torchrun(words, ["fit", *given, "--ckpt_path", "last"], errors, batch=3, rank=1, error="no luck")
        try:
            code = fit.wait(240)
        finally:
            end([fit])
    said = log.read_text()
    assert code == 0, said[-5000:]
    assert said.count("[rank 0] ends, because rank 1 failed: RuntimeError: no luck") == 1
    ids = [stream(out, rank) for rank in (0, 1)]
    assert [sorted(rows) for rows in ids] == [[1, 2, 3, 4, 5, 6]] * 2
    assert not {name for row in ids[0].values() if row["epoch"] == 0 for name in row["ids"]} & {
        name for row in ids[1].values() if row["epoch"] == 0 for name in row["ids"]
    }  # one run, whose clips are dealt out


def test_another_number_of_devices_is_refused(clips, tmp_path):
    given = options(clips, tmp_path / "out", **{"trainer.devices": 3})
    environment = {"TORCHELASTIC_RUN_ID": "x", "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2"}
    command = [sys.executable, "-m", "slap", "fit", *given]
    refused = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "torchrun started 2 processes, but the trainer has devices=3" in refused.stderr
    assert not (tmp_path / "out").exists()


def test_all_end_when_one_of_two_launchers_is_killed(clips, tmp_path):
    given = options(clips, tmp_path / "out", **{"trainer.max_steps": 100_000, "trainer.val_check_interval": 10_000})
    meet, logs = port(), [tmp_path / "0", tmp_path / "1"]
    running, worker = [], None
    try:
        for node, log in enumerate(logs):
            words = ["--nnodes", "2", "--nproc-per-node", "1", "--node-rank", str(node), "--master-port", str(meet)]
            words += ["--master-addr", "127.0.0.1"]
            with log.open("w") as errors:
                kill = {"batch": 3, "rank": 1, "signal": signal.SIGKILL, "launcher": True}
                running.append(torchrun(words, ["fit", *given], errors, **kill))
        assert running[1].wait(200) == -signal.SIGKILL
        assert running[0].wait(60) == 1
        worker = int((tmp_path / "out/pid1").read_text())
        wait_until(lambda: not alive(worker), 60)  # it would train on
    finally:
        end(running)
        if worker is not None and alive(worker):
            os.kill(worker, signal.SIGKILL)
    assert "[rank 1] ends, because torchrun, which started rank 1, has ended without a word" in logs[1].read_text()
    assert "[rank 0] ends, because torchrun, which started rank 1, has ended" in logs[0].read_text()


STARTS = "import subprocess, sys; w = subprocess.Popen(sys.argv[1:]); print(w.pid, flush=True); w.wait()"
"""Program in place of torchrun, that starts one process."""


def test_a_process_that_waits_for_the_others_ends_with_its_launcher(clips, tmp_path):
    """Rank 1 never comes, and rank 0 would wait for it for half an hour."""
    given = options(clips, tmp_path / "out")
    environment = {
        "TORCHELASTIC_RUN_ID": "x",
        "RANK": "0",
        "LOCAL_RANK": "0",
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
    }
    environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port()), "GROUP_RANK": "0", "OMP_NUM_THREADS": "1"}
    log = tmp_path / "log"
    command = [sys.executable, "-c", STARTS, sys.executable, "-m", "slap", "fit", *given]
    with log.open("w") as errors:
        launcher = subprocess.Popen(
            command, env=os.environ | environment, stdout=subprocess.PIPE, stderr=errors, start_new_session=True
        )
    worker = int(launcher.stdout.readline())
    try:
        wait_until(lambda: "Initializing distributed" in log.read_text(), 200)
        launcher.kill()
        wait_until(lambda: not alive(worker), 60)
    finally:
        end([launcher])
        launcher.stdout.close()
        if alive(worker):
            os.kill(worker, signal.SIGKILL)
    assert "[rank 0] ends, because torchrun, which started rank 0, has ended without a word" in log.read_text()


def wait_until(reached, seconds):
    begin = monotonic()
    while not reached():
        assert monotonic() - begin < seconds
        sleep(0.2)


def alive(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_others_say_that_rank_0_was_lost(clips, tmp_path):
    """It is the launcher and the place where the processes meet."""
    two = {"trainer.devices": 2, "trainer.strategy": "ddp", "trainer.max_steps": 50}
    kill = {"batch": 2, "rank": 0, "signal": signal.SIGKILL}
    lost = in_processes(options(clips, tmp_path, **two), kill, timeout=250)
    assert lost.returncode == -signal.SIGKILL
    assert "rank 0 has ended without a word: it was killed" in lost.stderr
