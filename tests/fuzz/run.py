"""Fuzzing: random cases against everything that reads what somebody else wrote.

    python tests/fuzz/run.py --cases 100000
    python tests/fuzz/run.py --target cuts --first 4711 --cases 1 --seed 0      # one case again

A case is made of (seed, target, number) alone, so each find can be made again. A find is an exception that is not one
of those which the code promises, a forbidden act (a process, a connection), a broken promise about the result, or a
case that takes longer than `SLOW` seconds of processor time or a gigabyte more memory. Each find becomes a test with a
name of its own in tests/security/test_fuzz_finds.py.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

import fuzz_audio
import fuzz_manifests
import fuzz_models
import fuzz_shapes
import fuzz_text
from fuzz_tools import WATCH, Case

TARGETS: dict[str, tuple[Case, int]] = {
    "bytes_of_audio": (fuzz_audio.bytes_of_audio, 20),
    "rows_of_csv": (fuzz_manifests.rows_of_csv, 12),
    "rows_of_json": (fuzz_manifests.rows_of_json, 12),
    "cuts": (fuzz_manifests.cuts, 12),
    "shards": (fuzz_manifests.shards, 4),
    "captions": (fuzz_text.captions, 12),
    "options_of_data": (fuzz_text.options_of_data, 6),
    "options_of_objectives": (fuzz_text.options_of_objectives, 2),
    "configuration": (fuzz_text.configuration, 2),
    "tokenizers": (fuzz_text.tokenizers, 1),
    "packed": (fuzz_shapes.packed, 6),
    "durations": (fuzz_shapes.durations, 2),
    "checkpoints": (fuzz_models.checkpoints, 3),
    "saved_models": (fuzz_models.saved_models, 3),
    "ranges": (fuzz_models.ranges, 3),
}
"""What is tried, and how many of a hundred cases it gets."""

SLOW = 10.0  # seconds of processor time: a case usually takes a few thousandths
GREEDY = 1 << 20  # kB by which the memory of the process may grow in one case


@dataclass
class Outcome:
    """Of the cases of one target."""

    target: str
    cases: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    finds: list[dict[str, Any]] = field(default_factory=list)


def try_cases(target: str, numbers: Sequence[int], seed: int = 0) -> Outcome:
    """Run some cases of a target, whatever they find."""
    case, _ = TARGETS[target]
    outcome = Outcome(target)
    place = Path(tempfile.mkdtemp(prefix="fuzz_"))
    for number in numbers:
        folder = place / str(number)
        folder.mkdir()
        began, used = time.process_time(), _peak()
        try:
            with WATCH.watching(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                case(np.random.default_rng([seed, crc32(target.encode()), number]), folder)
            if time.process_time() - began > SLOW:
                raise TimeoutError(f"took {time.process_time() - began:.1f} s of processor time")
            if _peak() - used > GREEDY:
                raise MemoryError(f"took {(_peak() - used) >> 10} MB of memory")
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            last = traceback.extract_tb(error.__traceback__)[-1]
            at = f"{Path(last.filename).name}:{last.lineno}"
            what = f"{type(error).__name__}: {str(error)[:300]}"
            outcome.finds.append({"number": number, "what": what, "at": at, "trace": traceback.format_exc()[-3000:]})
        finally:
            shutil.rmtree(folder)
        taken = time.process_time() - began
        outcome.cases, outcome.seconds = outcome.cases + 1, outcome.seconds + taken
        outcome.slowest = max(outcome.slowest, taken)
    shutil.rmtree(place)
    return outcome


def _peak() -> int:
    """The most memory that this process has taken, in kB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def share_of(target: str, cases: int) -> int:
    """How many of some cases a target gets, at least one."""
    return max(round(cases * TARGETS[target][1] / sum(share for _, share in TARGETS.values())), 1)


def main() -> int:
    """Run, print, keep; 1 if anything was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=2000, help="of all targets together (default: %(default)s)")
    parser.add_argument("--target", choices=TARGETS, help="this one alone")
    parser.add_argument("--first", type=int, default=0, help="number of the first case (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of all cases (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="a JSON file for the result")
    arguments = parser.parse_args()
    rows, finds = [], 0
    for target in [arguments.target] if arguments.target else TARGETS:
        count = arguments.cases if arguments.target else share_of(target, arguments.cases)
        outcome = try_cases(target, range(arguments.first, arguments.first + count), arguments.seed)
        finds += len(outcome.finds)
        rows.append({**vars(outcome), "finds": [{**find, "trace": ""} for find in outcome.finds]})
        each = 1000 * outcome.seconds / outcome.cases
        print(f"{target:24} {outcome.cases:7} cases  {each:7.2f} ms each  {len(outcome.finds):5} finds", flush=True)
        shown = set()
        for find in outcome.finds:
            if (key := (find["at"], find["what"][:40])) not in shown:
                shown.add(key)
                print(f"  case {find['number']}: {find['what']} ({find['at']})")
                print("    " + find["trace"].replace("\n", "\n    ") if arguments.target else "", flush=True)
    total = sum(row["cases"] for row in rows)
    peak = _peak() >> 10
    print(f"{total} cases, {finds} finds, seed {arguments.seed}, most memory {peak} MB")
    if arguments.out:
        about = {"date": datetime.now(UTC).date().isoformat(), "python": platform.python_version()}
        result = {
            **about,
            "cases": total,
            "finds": finds,
            "seed": arguments.seed,
            "peak_mb": peak,
            "targets": rows,
        }
        arguments.out.write_text(json.dumps(result, indent=2) + "\n")
    return bool(finds)


if __name__ == "__main__":
    sys.exit(main())
