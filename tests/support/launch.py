"""Starts a test file as a program, once for each of several processes that train together as under torchrun."""

import os
import socket
import subprocess
import sys
from pathlib import Path

PATH = os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")]))
"""PYTHONPATH of programs that import what lies in this folder, as the tests do."""


def launch(program, processes, folder, *arguments, timeout=600):
    """Run `python program rank folder *arguments` on every rank; the program can import what lies in this folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = []
    for rank in range(processes):
        environment = os.environ | {
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": PATH,
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "GROUP_RANK": "0",
            "WORLD_SIZE": str(processes),
            "LOCAL_WORLD_SIZE": str(processes),
            "TORCHELASTIC_RUN_ID": "test",
        }
        with (folder / f"{processes}-{rank}.err").open("w") as errors:
            command = [sys.executable, program, str(rank), str(folder), *map(str, arguments)]
            running.append(subprocess.Popen(command, env=environment, stderr=errors, stdout=errors))
    try:
        codes = [process.wait(timeout=timeout) for process in running]
        said = [(folder / f"{processes}-{rank}.err").read_text()[-3000:] for rank in range(processes)]
        assert not any(codes), "\n".join(said)
    finally:
        for process in running:
            process.kill()
            process.wait()
