"""Results of benchmarks: a JSON file each, and a section of RESULTS.md that each run replaces."""

from __future__ import annotations

import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "RESULTS.md"
FIGURES = Path(__file__).parent / "results"
"""The same figures as JSON, a file for each benchmark, which `make bench-compare` reads."""


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
        update: replace the section, and the JSON file below `results`.
    """
    known = machine()
    print(table(rows))
    for file in (out, FIGURES / f"{name}.json" if update else None):
        if file:
            write(name, rows, file, known)
    if update:
        _replace(name, _section(title, about, rows, known))


def write(name: str, rows: list[dict[str, Any]], out: Path, known: dict[str, Any] | None = None) -> None:
    """Write the JSON file alone, which `rewrite` reads."""
    out.parent.mkdir(parents=True, exist_ok=True)
    kept = {"benchmark": name, "machine": known or machine(), "rows": rows}
    out.write_text(json.dumps(kept, indent=2) + "\n")


def rewrite(source: Path, name: str, title: str, about: str, update: bool) -> None:
    """Print results that were kept, perhaps by another machine, and write their section, if that is wanted.

    Args:
        source: a file that `keep` or `write` wrote; the facts about the machine are the file's.
        name: of the benchmark.
        title: of its section.
        about: how to run it and how to read it.
        update: replace the section.

    Raises:
        ValueError: the file is another benchmark's.
    """
    kept = json.loads(source.read_text())
    if kept["benchmark"] != name:
        raise ValueError(f"{source} holds figures of the benchmark {kept['benchmark']!r}, not of {name!r}")
    print(table(kept["rows"]))
    if update:
        _replace(name, _section(title, about, kept["rows"], kept["machine"]))


def _section(title: str, about: str, rows: list[dict[str, Any]], known: dict[str, Any]) -> str:
    where = ", ".join(f"{key} {value}" for key, value in known.items())
    return f"## {title}\n\n{about}\n\n{table(rows)}\n\nMeasured: {where}.\n"


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
