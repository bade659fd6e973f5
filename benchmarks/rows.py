"""Common parts of the benchmarks of `make bench`: a row of their table, their options, and their end."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from results import keep
from timing import CLOCKS

Measure = Callable[[argparse.Namespace], "list[Row]"]


@dataclass(frozen=True)
class Row:
    """One thing that was measured.

    Attributes:
        what: it is; without numbers that change, but in brackets, since runs are compared by it.
        unit: of `beside` and `reached`.
        beside: what it is compared with: the best that the machine could do, or an alternative.
        reached: what was measured.
        ratio: of the two, which is what can be compared between machines.
        at_least: the least ratio that is wanted.
        at_most: the largest.
        note: why it was not measured.
    """

    what: str
    unit: str = ""
    beside: float | None = None
    reached: float | None = None
    ratio: float | None = None
    at_least: float | None = None
    at_most: float | None = None
    note: str = ""

    @classmethod
    def skipped(cls, what: str, why: str) -> Row:
        """Make a row that was not measured."""
        return cls(what, note=f"not run: {why}")

    @property
    def aim(self) -> str:
        """The aim in words."""
        if self.at_least is not None:
            return f">= {self.at_least:g}"
        return "" if self.at_most is None else f"<= {self.at_most:g}"

    @property
    def verdict(self) -> str:
        """The verdict: whether the aim is reached."""
        if self.ratio is None or not self.aim:
            return self.note
        low, high = self.at_least, self.at_most
        return "yes" if (low is None or self.ratio >= low) and (high is None or self.ratio <= high) else "no"

    def shown(self) -> dict[str, Any]:
        """Return the row as cells of the table."""
        numbers = {"beside": self.beside, "reached": self.reached, "ratio": self.ratio}
        blank = {name: "" if value is None else float(value) for name, value in numbers.items()}
        return {"what": self.what, "unit": self.unit, **blank, "aim": self.aim, "met": self.verdict}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of all of these benchmarks."""
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="(default: all, %(default)s)")
    parser.add_argument("--clock", choices=[*CLOCKS], default="wall", help="`processor` needs one thread")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the figures here as JSON")
    parser.add_argument("--update", action="store_true", help="replace the section of RESULTS.md")


def check(options: argparse.Namespace) -> None:
    """Set the threads.

    Raises:
        SystemExit: processor time of several threads.
    """
    if options.clock == "processor" and options.threads != 1:
        raise SystemExit("--clock processor adds the time of all threads up: give --threads 1")
    torch.set_num_threads(options.threads)


def finish(name: str, title: str, about: str, measure: Measure, options: argparse.Namespace) -> None:
    """Measure, print and keep."""
    check(options)
    rows = [row.shown() for row in measure(options)]
    how = f"{about}\n\nThreads: {options.threads}, time: {options.clock}."
    keep(name, title, how, rows, options.out, options.update)
