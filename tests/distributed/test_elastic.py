"""Processes that are killed, and a run that goes on with fewer and again with more: no clip is lost or comes twice."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import resume_recipe
from epochs import tokenize
from resume_runs import options
from slap.inference.load import read_checkpoint

pytestmark = [pytest.mark.distributed, pytest.mark.slow]

CLIPS, SECONDS = 120, 0.8


def leg(processes: int, clips: Path, out: Path, kill: int | None, **settings) -> list[list[list[str]]]:
    """Train on some processes until one of them is killed; return the ids of each step that counts, by rank."""
    for file in out.glob("stream*.jsonl"):
        file.unlink()
    before = read_checkpoint(out / "last.ckpt")["global_step"] if (out / "last.ckpt").exists() else 0
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    given = {"data.clips": CLIPS, "data.max_duration": SECONDS, "trainer.save_every": 1, "trainer.max_steps": 18}
    given |= {"trainer.devices": processes, "trainer.strategy": "ddp", "trainer.val_check_interval": 1000}
    arguments = options(clips, out, **given, **settings)
    killed = {"batch": kill, "rank": 1, "signal": signal.SIGKILL} if kill else {}
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(processes), "GROUP_RANK": "0"}
    shared |= {"LOCAL_WORLD_SIZE": str(processes), "TORCHELASTIC_RUN_ID": "test", "OMP_NUM_THREADS": "1"}
    running = []
    for rank in range(processes):
        own = {"RANK": str(rank), "LOCAL_RANK": str(rank), "KILL": json.dumps(killed)}
        command = [sys.executable, "-m", "slap", "fit", *arguments, "--ckpt_path", "last"]
        with (out.parent / f"{processes} {rank}.log").open("w") as log:
            running.append(subprocess.Popen(command, env=os.environ | shared | own, stdout=log, stderr=log))
    try:
        codes = [process.wait(timeout=580) for process in running]
    finally:
        for process in running:
            process.kill()
            process.wait()
    said = "\n".join((out.parent / f"{processes} {rank}.log").read_text()[-2000:] for rank in range(processes))
    assert (codes[1] == -signal.SIGKILL and all(codes)) if kill else not any(codes), said
    after = read_checkpoint(out / "last.ckpt")["global_step"]
    assert after > before, said
    ranks = [
        [json.loads(line) for line in (out / f"stream{r}.jsonl").read_text().splitlines()] for r in range(processes)
    ]
    return [
        [row["ids"] for rows in ranks for row in rows if row["batch"] == number and row["epoch"] == 0]
        for number in range(before + 1, after + 1)
    ]


def whole_steps(clips: Path, size: int) -> list[list[str]]:
    """Return the ids of each step of the first epoch of a run without interruption."""
    data = resume_recipe.data(str(clips), CLIPS, SECONDS)
    data.connect(resume_recipe.RATE, tokenize)
    data.setup("fit")
    sampler = data.train_dataloader().sampler
    sampler.step_batches = size
    names = [cut.id for cut in data._splits.clips("train")]
    data.teardown("fit")
    return [sorted(names[i] for batch in step for i in batch.tolist()) for step in sampler.steps(0)]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    resume_recipe.data(str(folder), CLIPS)
    return folder


def test_four_then_three_then_four(clips: Path, tmp_path: Path) -> None:
    """By default the batch of a process stays as it is, so a step of three has three quarters of the clips."""
    out = tmp_path / "run"
    steps = leg(4, clips, out, kill=4) + leg(3, clips, out, kill=8)
    assert [len(step) for step in steps] == [4] * 3 + [3] * 4
    steps += leg(4, clips, out, kill=None)
    seen = Counter(name for step in steps for ids in step for name in ids)
    assert seen == Counter(f"{kind}{i}" for kind in ("birds", "cars") for i in range(CLIPS // 2))


def test_a_kept_batch(clips: Path, tmp_path: Path) -> None:
    """With `step_batches` each step has the clips that it would have had without interruption."""
    out = tmp_path / "run"
    settings = {"data.step_batches": 3}
    steps = leg(3, clips, out, kill=4, **settings) + leg(2, clips, out, kill=None, **settings)
    found = [sorted(name for ids in step for name in ids) for step in steps if step]
    assert found == whole_steps(clips, 3)
