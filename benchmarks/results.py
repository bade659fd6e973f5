"""Where benchmarks leave what they measured: a JSON file each, and a section of RESULTS.md which each run replaces."""

from __future__ import annotations

import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "RESULTS.md"


def machine() -> dict[str, Any]:
    """Date, and what the figures depend on."""
    import torch

    cpu = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cpu": cpu,
        "cores": os.cpu_count(),
        "load before": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Rows of equal keys as a Markdown table; numbers to three digits."""
    names = list(rows[0])
    lines = ["| " + " | ".join(names) + " |", "|" + " --- |" * len(names)]
    lines += ["| " + " | ".join(_shown(row[name]) for name in names) + " |" for row in rows]
    return "\n".join(lines)


def keep(name: str, title: str, about: str, rows: list[dict[str, Any]], out: Path | None, update: bool) -> None:
    """Print results; write them to a JSON file and into their section of RESULTS.md, if that is wanted.

    Args:
        name: of the benchmark.
        title: of its section.
        about: how to run it and how to read it.
        rows: the figures.
        out: the JSON file.
        update: replace the section.
    """
    known = machine()
    text = table(rows)
    print(text)
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps({"benchmark": name, "machine": known, "rows": rows}, indent=2) + "\n")
    if update:
        where = ", ".join(f"{key} {value}" for key, value in known.items())
        _replace(name, f"## {title}\n\n{about}\n\n{text}\n\nMeasured: {where}.\n")


def _replace(name: str, section: str) -> None:
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->\n"
    text = RESULTS.read_text() if RESULTS.exists() else "# Results\n\nWritten by the benchmarks themselves.\n"
    if begin in text:
        text = text[: text.index(begin)] + begin + section + text[text.index(end) :]
    else:
        text = f"{text.rstrip()}\n\n{begin}{section}{end}"
    RESULTS.write_text(text)


def _shown(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
