"""A run whose loading process is killed ends, with the reason, also where the others outlive SIGTERM."""

import re
import subprocess
import sys

SCRIPT = """
import os, signal
from torch.utils.data import DataLoader
import slap.datamodules.dataset

class Numbers:
    def __len__(self):
        return 1000
    def __getitem__(self, number):
        return number

def outlive(worker):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)

def main():
    numbers = iter(DataLoader(Numbers(), batch_size=None, num_workers=2, worker_init_fn=outlive))
    next(numbers)
    os.kill(numbers._workers[0].pid, signal.SIGKILL)
    for number in numbers:
        pass

main()
"""


def test_a_killed_worker_ends_the_run_and_the_other_workers() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert re.search(r"RuntimeError: DataLoader worker \(pid.* \d+\) (is killed by signal: Killed|exited)", done.stderr)
    assert "Exception ignored" not in done.stderr
