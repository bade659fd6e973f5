"""A disk that fills up ends a run with an error that says so; the last good checkpoint stays, and nothing half-written.

The test starts this file as a program that has a small file system of its own.
"""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import resume_recipe
from launch import PATH
from resume_runs import EVERY, in_process, options
from slap.inference.load import read_checkpoint

MOUNT = 'mount -t tmpfs -o size=16m none "$0" && exec "$@"'
CASES = {
    "a part of a checkpoint fits": (0.5, "false"),
    "a part fits, written beside training": (0.5, "true"),
    "nothing fits": (0.0, "false"),
}
"""How much of a checkpoint still fits on the disk; and `async_save`."""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    disk, clips = tmp_path_factory.mktemp("disk"), tmp_path_factory.mktemp("clips")
    own = ["unshare", "--map-root-user", "--mount", "sh", "-c", MOUNT, str(disk)]
    try:
        subprocess.run([*own, "true"], check=True, capture_output=True, text=True)
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no small file system can be mounted here: {getattr(error, 'stderr', None) or error}")
    program = [sys.executable, __file__, str(disk), str(clips)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": PATH}
    done = subprocess.run([*own, *program], env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_a_full_disk_ends_the_run_and_one_with_room_again_goes_on(outcomes, case):
    found = outcomes[case]
    assert found["errno"] == errno.ENOSPC
    assert "No space left on device" in found["said"]
    if case != "nothing fits":  # where another file may have met it first
        assert "the checkpoint was not saved" in found["said"]
        assert "still holds last.ckpt, previous.ckpt" in found["said"]
    assert found["steps"] == 2
    assert found["files"] == found["before"]
    assert found["status"] == 0
    assert found["steps at last"] == EVERY["trainer.max_steps"]


def main(disk, clips):
    import slap.metrics.bootstrap
    import slap.training.callbacks.learning_curves

    slap.metrics.bootstrap.SAMPLES, slap.training.callbacks.learning_curves.draw = (
        20,
        lambda series, path, chance: path.write_bytes(b""),
    )
    resume_recipe.data(str(clips))
    print(json.dumps({case: fill_up(disk, clips, *how) for case, how in CASES.items()}))


def fill_up(disk, clips, part, beside):
    """Stop a run, let a part of a checkpoint fit on the disk, go on, make room, and go on."""
    out = disk / "run"
    arguments = options(clips, out, **EVERY, **{"trainer.save_every": 1, "trainer.async_save": beside})
    in_process(arguments, {"batch": 2, "signal": signal.SIGTERM})
    before = [path.name for path in sorted(out.iterdir())]
    room = os.statvfs(disk)
    leave = int(part * (out / "last.ckpt").stat().st_size)
    filler = disk / "filler"
    filler.write_bytes(bytes(room.f_bavail * room.f_frsize - leave))
    found = {"before": before, "errno": None, "said": "no error"}
    try:
        in_process(arguments, again=True)
    except OSError as error:
        found |= {"errno": error.errno, "said": str(error)}
    found["files"] = [path.name for path in sorted(out.iterdir())]
    found["steps"] = read_checkpoint(out / "last.ckpt")["global_step"]
    filler.unlink()
    found["status"] = in_process(arguments, again=True)
    found["steps at last"] = read_checkpoint(out / "last.ckpt")["global_step"]
    for path in sorted(out.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
