"""Processes that a launcher (torchrun, srun) started for one command, as the environment describes them."""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

from slap.core.errors import UserError

ATTEMPT = "TORCHELASTIC_RESTART_COUNT"
"""Variable with the number of times that torchrun started the processes before (`--max-restarts`)."""

PARENT = os.getppid()
"""Process that started this one; noted when the module is imported, before anything that takes time."""


@dataclass(frozen=True)
class Launched:
    """Processes that were started together.

    Attributes:
        by: the launcher, as its user calls it.
        processes: their number.
        nodes: the number of machines.
        sure: whether this process is known to be one of them, and not a script beside them.
    """

    by: str
    processes: int
    nodes: int = 1
    sure: bool = True

    @classmethod
    def found(cls, environment: Mapping[str, str] = os.environ) -> Launched | None:
        """Return the processes that this one is started with; None without a launcher.

        Raises:
            ValueError: SLURM started tasks, but not a fixed number per node, as training needs it.
        """
        if "TORCHELASTIC_RUN_ID" in environment:
            size, local = int(environment["WORLD_SIZE"]), int(environment.get("LOCAL_WORLD_SIZE", 0))
            return cls("torchrun", size, size // local if local else 1)
        if "RANK" in environment and int(environment.get("WORLD_SIZE", 1)) > 1:
            return cls("a launcher (variables RANK, WORLD_SIZE)", int(environment["WORLD_SIZE"]), sure=False)
        if "SLURM_NTASKS" not in environment or environment.get("SLURM_JOB_NAME") in ("bash", "interactive"):
            return None
        tasks = int(environment["SLURM_NTASKS"])
        if tasks > 1 and "SLURM_NTASKS_PER_NODE" not in environment:
            raise UserError(
                f"SLURM runs {tasks} tasks without --ntasks-per-node: say how many processes each node gets, "
                "e.g. `srun --nodes 2 --ntasks-per-node 8 ...`"
            )
        # A batch script has the variables of its job too, but only a step of srun has a number.
        return cls("SLURM", tasks, int(environment.get("SLURM_NNODES", 1)), "SLURM_STEP_ID" in environment)

    def adopt(self, options: MutableMapping[str, Any]) -> None:
        """Fill in the trainer's `devices` and `num_nodes` where they are not given.

        Raises:
            ValueError: what is given means another number of processes: each would train a run of its own, all into
                the same folder, or wait for processes that nobody starts.
        """
        if self.sure and options.get("num_nodes", 1) == 1:
            options["num_nodes"] = self.nodes
        if self.sure and options.get("devices", "auto") in ("auto", -1, "-1"):
            options["devices"] = max(self.processes // options["num_nodes"], 1)
        devices = _count(options.get("devices", "auto"))
        if devices is not None:
            self.check(devices, options.get("num_nodes", 1))

    def check(self, devices: int, nodes: int) -> None:
        """Refuse a trainer of another number of processes.

        Raises:
            ValueError: see `adopt`.
        """
        if devices * nodes == self.processes:
            return
        raise UserError(
            f"{self.by} started {self.processes} processes, but the trainer has devices={devices} and "
            f"num_nodes={nodes}, {devices * nodes} in all. Give --trainer.devices the processes per machine and "
            "--trainer.num_nodes the machines, or start one process"
        )


def _count(devices: Any) -> int | None:
    """Return the number of devices that Lightning's option `devices` names; None where it depends on the machine."""
    if isinstance(devices, str):
        devices = [part for part in devices.split(",") if part.strip()] if "," in devices else devices.strip()
    if isinstance(devices, list | tuple):
        return len(devices)
    found = int(devices) if str(devices).lstrip("-").isdigit() else -1
    return None if found < 0 else found


def refuse_torchrun(command: str) -> None:
    """Refuse to run a command of one process several times at once.

    Raises:
        ValueError: torchrun started several processes.
    """
    launched = Launched.found() if "TORCHELASTIC_RUN_ID" in os.environ else None
    if launched is not None and launched.processes > 1:
        raise UserError(
            f"`slap {command}` is the work of one process, and torchrun started {launched.processes}, which would "
            f"write the same files: run `slap {command} ...` without torchrun"
        )
