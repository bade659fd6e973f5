"""The tables of an evaluation, in Markdown and LaTeX, and as text for a terminal, from its record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Record = Mapping[str, Any]

HEADINGS = ("task", "data set", "metric", "value", "95 % interval", "chance", "paper", "clips")

NOTE = (
    "Values in percent, but for ranks; 95 % bootstrap intervals over clips, or over folds where the value is a mean "
    "over folds; chance is what guessing reaches; paper: as published, pretrained / fine-tuned; clips: evaluated of "
    "the published list."
)


def rows(record: Record) -> list[tuple[str, ...]]:
    """The cells of the table, a row a metric."""
    found: list[tuple[str, ...]] = []
    for result in record["results"]:
        for name, metric in result["metrics"].items():
            found.append(
                (
                    result["task"],
                    result["dataset"],
                    name,
                    f"{metric['value']:.1f}",
                    f"{metric['low']:.1f} to {metric['high']:.1f}",
                    "-" if metric["chance"] is None else f"{metric['chance']:.1f}",
                    _published(result["paper"].get(name, {})),
                    _clips(result["counts"]),
                )
            )
    return found


def _published(figures: Mapping[str, float]) -> str:
    if not figures:
        return ""
    if "reported" in figures:
        return f"{figures['reported']:.1f}"
    return " / ".join(f"{figures[key]:.1f}" if key in figures else "-" for key in ("pretrained", "finetuned"))


def _clips(counts: Mapping[str, Any]) -> str:
    official = counts["official"]
    return f"{counts['evaluated']}" + (f" of {official}" if official is not None else "")


def text(record: Record, metrics: Mapping[str, Sequence[str]]) -> str:
    """The table for a terminal.

    Args:
        record: of the evaluation.
        metrics: for each task those to show; of others all are shown.
    """
    shown = [row for row in rows(record) if row[2] in metrics.get(row[0], [row[2]])]
    table = [HEADINGS, *shown]
    widths = [max(len(row[i]) for row in table) for i in range(len(HEADINGS))]
    left = (0, 1, 2)
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    )


def markdown(record: Record) -> str:
    """The table, and beneath it what each result depends on."""
    lines = [f"# Evaluation of {record['model']['path']}", "", _about_model(record), ""]
    lines += [f"| {' | '.join(HEADINGS)} |", "|---|---|---|---:|---:|---:|---:|---:|"]
    lines += [f"| {' | '.join(_escaped(cell) for cell in row)} |" for row in rows(record)]
    lines += ["", NOTE]
    for title, key in (("Not run", "skipped"), ("Failed", "failed")):
        if record[key]:
            lines += ["", f"## {title}", ""]
            lines += [f"- {row['row']}: {row['reason']}" for row in record[key]]
    lines += ["", "## What the figures depend on"]
    for result in record["results"]:
        lines += ["", f"### {result['task']}, {result['dataset']} ({result['split']})", ""]
        lines += [f"- **{warning}**" for warning in result["warnings"]]
        lines += [f"- {name}: {text}" for name, text in result["definitions"].items()]
        lines += [f"- {line}" for line in settings(result)]
        lines += [f"- ids: sha256 {result['ids_sha256']}"]
        lines += ["", *(f"![{plot}]({plot})" for plot in result.get("plot_files", []))]
    lines += ["", "## Software", "", ", ".join(f"{name} {number}" for name, number in record["software"].items())]
    return "\n".join(lines) + "\n"


def settings(result: Record) -> list[str]:
    """What a result depends on, a line each."""
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
    )


def latex(record: Record) -> str:
    """The table for LaTeX, with the package booktabs."""
    head = " & ".join(_tex(cell) for cell in HEADINGS)
    lines = [r"\begin{tabular}{lllrrrrr}", r"\toprule", rf"{head} \\", r"\midrule"]
    previous = ""
    for row in rows(record):
        if previous and row[0] != previous:
            lines.append(r"\midrule")
        previous = row[0]
        lines.append(rf"{' & '.join(_tex(cell) for cell in row)} \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    comment = "".join(f"% {line}\n" for line in (f"model {record['model']['hash']}", NOTE))
    return comment + "\n".join(lines) + "\n"


TEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}


def _tex(cell: str) -> str:
    return "".join(TEX.get(sign, sign) for sign in cell).replace(" to ", "--")


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|").replace("_", "\\_")
