"""Report of an evaluation: the table of its record in Markdown and LaTeX, and as text for a terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from slap.metrics.tables import escape_markdown, legend, markdown_table, text_table

Record = Mapping[str, Any]

HEADINGS = ("task", "data set", "metric", "value", "95 % interval", "chance", "best", "paper", "clips")


def note(record: Record) -> str:
    """Write what the columns of the table mean."""
    kinds = {metric["over"] for result in record["results"] for metric in result["metrics"].values()}
    return (
        f"{legend(kinds)} paper: as published, pretrained / fine-tuned; clips: evaluated of the published list. What "
        "each interval is over stands with its definition."
    )


def rows(record: Record) -> list[tuple[str, ...]]:
    """Return the cells of the table, a row per metric."""
    found: list[tuple[str, ...]] = []
    for result in record["results"]:
        for name, metric in result["metrics"].items():
            found.append(
                (
                    result["task"],
                    result["dataset"],
                    name,
                    f"{metric['value']:+.1f}" if is_change(name) else f"{metric['value']:.1f}",
                    f"{metric['low']:.1f} to {metric['high']:.1f}",
                    "-" if metric["chance"] is None or is_change(name) else f"{metric['chance']:.1f}",
                    "-" if metric["best"] is None else f"{metric['best']:.1f}",
                    _published(result["paper"].get(name, {})),
                    _clips(result["counts"]),
                )
            )
    return found


def is_change(metric: str) -> bool:
    """Return whether a metric is the change of another, see `slap.evaluation.tasks.robust`."""
    return ":" in metric


def _published(values: Mapping[str, float]) -> str:
    if not values:
        return ""
    if "reported" in values:
        return f"{values['reported']:.1f}"
    return " / ".join(f"{values[key]:.1f}" if key in values else "-" for key in ("pretrained", "finetuned"))


def _clips(counts: Mapping[str, Any]) -> str:
    official = counts["official"]
    return f"{counts['evaluated']}" + (f" of {official}" if official is not None else "")


def text(record: Record, shows: Callable[[str, str], bool]) -> str:
    """Write the table for a terminal.

    Args:
        record: the record of the evaluation.
        shows: whether a metric of a task is shown.
    """
    shown = [row for row in rows(record) if shows(row[0], row[2])]
    return text_table(HEADINGS, shown, left=3)


def markdown(record: Record) -> str:
    """Write the table, and beneath it the settings of each result."""
    lines = [f"# Evaluation of {record['model']['path']}", "", _about_model(record), ""]
    cells = [[escape_markdown(cell).replace("_", "\\_") for cell in row] for row in rows(record)]
    lines += [markdown_table(HEADINGS, cells, left=3), "", note(record)]
    for title, key in (("Not run", "skipped"), ("Failed", "failed")):
        if record[key]:
            lines += ["", f"## {title}", ""]
            lines += [f"- {row['row']}: {row['reason']}" for row in record[key]]
    lines += ["", "## What the metrics depend on"]
    for result in record["results"]:
        lines += ["", f"### {result['task']}, {result['dataset']} ({result['split']})", ""]
        lines += [f"- **{warning}**" for warning in result["warnings"]]
        lines += [
            f"- {name}: {text}; interval over {result['metrics'][name]['over']}"
            for name, text in result["definitions"].items()
        ]
        lines += [f"- {line}" for line in settings(result)]
        lines += [f"- manifest {file['path']}: sha256 {file['sha256']}" for file in result["manifests"]]
        lines += [f"- ids: sha256 {result['ids_sha256']}"]
        lines += ["", *(f"![{plot}]({plot})" for plot in result.get("plot_files", []))]
    lines += ["", "## Software", "", ", ".join(f"{name} {number}" for name, number in record["software"].items())]
    return "\n".join(lines) + "\n"


def settings(result: Record) -> list[str]:
    """Write the settings that a result depends on, a line each."""
    lines = [] if not result["settings"].get("about") else [str(result["settings"]["about"])]
    for name, value in result["settings"].items():
        if name == "prompts":
            lines.append(_prompts(value))
        elif name == "windowing":
            lines.append(
                f"{value['longer_clips']} clips longer than {value['window_seconds']:g} s: {value['rule']} "
                f"(every {value['hop_seconds']:.4g} s)"
            )
        elif name != "about":
            lines.append(f"{name.replace('_', ' ')}: {value}")
    counts = result["counts"]
    lost = ", ".join(f"{count} {reason}" for reason, count in sorted(counts["lost"].items()))
    lines.append(
        f"clips: {counts['evaluated']} evaluated, {counts['found']} found, {counts['unusable']} unusable"
        + (f"; of the list {lost}" if lost else "")
    )
    return lines


def _prompts(prompts: Mapping[str, Any]) -> str:
    words = [repr(template) for template in prompts.get("templates", [])]
    words += [f"{label}: {', '.join(map(repr, texts))}" for label, texts in prompts.get("texts", {}).items()]
    instead = ", ".join(f"{label} as {word!r}" for label, word in prompts.get("words", {}).items())
    more = f"; {instead}" if instead else ""
    return f"prompts: set {prompts['set']} ({prompts['sha256']}), {'; '.join(words)}{more}"


def _about_model(record: Record) -> str:
    model = record["model"]
    return (
        f"Model {model['hash']} ({model['kind']}, {model['sample_rate']} Hz, up to {model['max_seconds']:g} s at once, "
        f"{model['embedding_dim']} dimensions)."
        + (f" Step {model['step']}, checkpoint's sha256 {model['sha256']}." if "step" in model else "")
    )


def latex(record: Record) -> str:
    """Write the table for LaTeX, with the package booktabs."""
    head = " & ".join(_tex(cell) for cell in HEADINGS)
    lines = [r"\begin{tabular}{lllrrrrrr}", r"\toprule", rf"{head} \\", r"\midrule"]
    previous = ""
    for row in rows(record):
        if previous and row[0] != previous:
            lines.append(r"\midrule")
        previous = row[0]
        lines.append(rf"{' & '.join(_tex(cell) for cell in row)} \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    comment = "".join(f"% {line}\n" for line in (f"model {record['model']['hash']}", note(record)))
    return comment + "\n".join(lines) + "\n"


TEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}


def _tex(cell: str) -> str:
    return "".join(TEX.get(sign, sign) for sign in cell).replace(" to ", "--")
