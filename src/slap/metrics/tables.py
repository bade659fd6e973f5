"""Tables in Markdown and for a terminal, and the table of metrics with their intervals and chance."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from slap.metrics.bootstrap import MetricValue

HEADINGS = ("metric", "value", "95 % interval", "chance", "best", "count")

ACCURACY = "_accuracy"
"""End of the name of a classifier's accuracy."""

_NAMES = {"t2a_": "text to audio, ", "a2t_": "audio to text, ", "zeroshot_": "zero-shot, ", "choice_": "choice, "}


def markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Write a table in Markdown.

    Args:
        headings: of the columns.
        rows: cells of each row.
        left: columns that are aligned to the left; the others are aligned to the right.

    Example:
        >>> print(markdown_table(["metric", "value"], [["mAP", "62.5"]]))
        | metric | value |
        |---|---:|
        | mAP | 62.5 |
    """
    ends = ["---"] * left + ["---:"] * (len(headings) - left)
    return "\n".join([_line(headings), f"|{'|'.join(ends)}|", *map(_line, rows)])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def escape_markdown(cell: str) -> str:
    """Escape what would end a cell of a Markdown table."""
    return cell.replace("|", "\\|").replace("\n", " ")


def text_table(
    headings: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1, widths: Sequence[int] = ()
) -> str:
    """Write a table for a terminal, with two spaces between columns.

    Args:
        headings: of the columns.
        rows: cells of each row.
        left: columns that are aligned to the left; the others are aligned to the right.
        widths: least width of each column, in characters.

    Example:
        >>> print(text_table(["metric", "value"], [["mAP", "62.5"]]))
        metric  value
        mAP      62.5
    """
    table = [headings, *rows]
    least = [*widths, *[0] * (len(headings) - len(widths))]
    sizes = [max(least[i], *(len(row[i]) for row in table)) for i in range(len(headings))]
    return "\n".join(
        "  ".join(
            cell.ljust(size) if i < left else cell.rjust(size)
            for i, (cell, size) in enumerate(zip(row, sizes, strict=True))
        ).rstrip()
        for row in table
    )


def metrics_text(results: Mapping[str, MetricValue]) -> str:
    """Write metrics as a table for a terminal of 80 columns.

    Example:
        >>> print(metrics_text({"t2a_R@1": MetricValue(62.5, 56.1, 68.9, 0.3125, 320)}))
        metric                         value     95 % interval  chance    best   count
        text to audio, R@1              62.5      56.1 to 68.9     0.3   100.0     320
    """
    return text_table(HEADINGS, _rows(results), widths=(28, 6, 16, 6, 6, 6))


def metrics_markdown(results: Mapping[str, MetricValue]) -> str:
    """Write metrics as a table in Markdown.

    Example:
        >>> print(metrics_markdown({"zeroshot_order": MetricValue(62.5, 56.1, 68.9, 8.333, 320)}))
        | metric | value | 95 % interval | chance | best | count |
        |---|---:|---:|---:|---:|---:|
        | zero-shot, order | 62.5 | 56.1 to 68.9 | 8.3 | 100.0 | 320 |
        >>> print(metrics_markdown({"clotho/t2a_R@10": MetricValue(62.5, 56.1, 68.9, 0.96, 1045)}).splitlines()[-1])
        | clotho: text to audio, R@10 | 62.5 | 56.1 to 68.9 | 1.0 | 100.0 | 1045 |
    """
    return markdown_table(HEADINGS, _rows(results))


def _rows(results: Mapping[str, MetricValue]) -> list[list[str]]:
    return [[readable(name), *cells(result)] for name, result in results.items()]


def cells(result: MetricValue) -> list[str]:
    """Write a metric as the cells of a table: value, interval, chance, best possible value and count."""
    interval = f"{result.low:.1f} to {result.high:.1f}"
    best = "-" if result.best is None else f"{result.best:.1f}"
    return [f"{result.value:.1f}", interval, f"{result.chance:.1f}", best, str(result.count)]


LEGEND = {
    "clips": "clips of the same kind that might have been held out instead",
    "origins": "origins (recordings, videos, speakers) that might have been held out instead, each with all its clips",
    "clips within folds": "clips that might have been in each fold instead",
    "origins within folds": "origins (recordings, ...) that might have been in each fold instead, with all their clips",
    "folds": "other splits into folds, each with a training run of its own that shares clips with the others "
    "(Nadeau and Bengio's t interval)",
    "runs": "training runs with other seeds (t interval)",
}
"""What each kind of interval is over, in words."""


OF_ONE_MODEL = (
    " They are of this one model, and say nothing about another seed, machine or training run: for these, train "
    "several and take the interval over runs."
)


def legend(kinds: Iterable[str]) -> str:
    """Write what the columns of a table of metrics mean.

    Args:
        kinds: the kinds of interval in the table, `MetricValue.over`.
    """
    words = [f"over {LEGEND[kind]}" for kind in LEGEND if kind in set(kinds)]
    limits = "" if {"folds", "runs"} & set(kinds) else OF_ONE_MODEL
    return (
        f"Values in percent, but for ranks. 95 % intervals {'; '.join(words)}.{limits} chance: what guessing reaches; "
        "best: the best value that any model can reach on these clips."
    )


def readable(metric: str) -> str:
    """Write the name of a metric in words.

    Example:
        >>> readable("clotho/t2a_R@1"), readable("classification_accuracy")
        ('clotho: text to audio, R@1', 'classification, accuracy')
    """
    source, _, name = metric.rpartition("/")
    for prefix, words in _NAMES.items():
        if name.startswith(prefix):
            return (f"{source}: " if source else "") + words + name.removeprefix(prefix)
    for ending in (ACCURACY, "_mAP"):
        if metric.endswith(ending):
            return f"{metric.removesuffix(ending)}, {ending[1:]}"
    return metric
