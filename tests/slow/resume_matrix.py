"""Kill runs at random and continue them, over all that could matter, and compare them with runs that were not killed.

    python tests/slow/resume_matrix.py --out /tmp/matrix [--ranks 1 2 4]

Each case: `slap fit` on the recipe of tests/support/resume_recipe.py as a program, killed once in epoch 0 and once in
epoch 1 (kill -9 or SIGTERM, of a random process), continued each time by the same command with `--ckpt_path last`. Clip
ids, losses, weights, optimizer, logs and best scores must be those of the run that was not interrupted, bit for bit.
The run without interruption is made once for each accumulation and number of processes: workers must make no
difference. Prints a line a case; the exit status is the number of cases that failed.
"""

from __future__ import annotations

import argparse
import itertools
import random
import signal
import sys
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from resume_runs import assert_same_run, in_processes, options

SIGNALS = {"kill -9": signal.SIGKILL, "SIGTERM": signal.SIGTERM}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="a folder that is not there")
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2, 4])
    parser.add_argument("--accumulate", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    given.out.mkdir(parents=True)
    rng, failed = random.Random(given.seed), 0
    for ranks, accumulate in itertools.product(given.ranks, given.accumulate):
        settings = {"trainer.accumulate_grad_batches": accumulate, "trainer.max_steps": 16 if accumulate == 1 else 6}
        settings["trainer.val_check_interval"] = 3
        if ranks > 1:
            settings |= {"trainer.devices": ranks, "trainer.strategy": "ddp"}
        settings |= {"data.clips": 60 * ranks, "trainer.save_every": 2 if accumulate == 1 else 1}
        whole = given.out / f"whole-{ranks}-{accumulate}"
        done = in_processes(options(given.out / "clips", whole, **settings))
        assert done.returncode == 0, done.stderr
        for workers, (name, number) in itertools.product(given.workers, SIGNALS.items()):
            case = f"{ranks} processes, {workers} workers, accumulation {accumulate}, {name}"
            kills = [
                {"batch": batch, "signal": number, "rank": rng.randrange(ranks)}
                for batch in (rng.randint(3 if accumulate == 1 else 5, 9), rng.randint(13, 14))
            ]
            out = given.out / case.replace(" ", "").replace(",", "-")
            started = time.perf_counter()
            try:
                run(out, options(given.out / "clips", out, **settings, **{"data.num_workers": workers}), kills)
                assert_same_run(out, whole, ranks)
                outcome = "same"
            except Exception:
                failed += 1
                outcome = traceback.format_exc()
            where = ", ".join(f"batch {kill['batch']} rank {kill['rank']}" for kill in kills)
            print(f"{case}, at {where}: {outcome} ({time.perf_counter() - started:.0f} s)", flush=True)
    return failed


def run(out: Path, arguments: list[str], kills: list[dict]) -> None:
    for i, kill in enumerate(kills):
        killed = in_processes(arguments, kill, again=i > 0)
        expected = 143 if kill["signal"] == signal.SIGTERM else None
        assert killed.returncode == expected or (expected is None and killed.returncode not in (0, 143)), killed.stderr
    done = in_processes(arguments, again=True)
    assert done.returncode == 0, done.stderr


if __name__ == "__main__":
    sys.exit(main())
