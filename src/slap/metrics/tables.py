"""Tables in Markdown and for a terminal, and the table of metrics with their intervals and chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from slap.metrics.bootstrap import MetricValue

HEADINGS = ("metric", "value", "95 % interval", "chance", "count")

ACCURACY = "_accuracy"
"""End of the name of a classifier's accuracy."""

_NAMES = {"t2a_": "text to audio, ", "a2t_": "audio to text, ", "zeroshot_": "zero-shot, "}


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
        metric                           value     95 % interval    chance     count
        text to audio, R@1                62.5      56.1 to 68.9       0.3       320
    """
    return text_table(HEADINGS, _rows(results), widths=(28, 8, 16, 8, 8))


def metrics_markdown(results: Mapping[str, MetricValue]) -> str:
    """Write metrics as a table in Markdown.

    Example:
        >>> print(metrics_markdown({"zeroshot_order": MetricValue(62.5, 56.1, 68.9, 8.333, 320)}))
        | metric | value | 95 % interval | chance | count |
        |---|---:|---:|---:|---:|
        | zero-shot, order | 62.5 | 56.1 to 68.9 | 8.3 | 320 |
        >>> print(metrics_markdown({"clotho/t2a_R@10": MetricValue(62.5, 56.1, 68.9, 0.96, 1045)}).splitlines()[-1])
        | clotho: text to audio, R@10 | 62.5 | 56.1 to 68.9 | 1.0 | 1045 |
    """
    return markdown_table(HEADINGS, _rows(results))


def _rows(results: Mapping[str, MetricValue]) -> list[list[str]]:
    return [[readable(name), *cells(result)] for name, result in results.items()]


def cells(result: MetricValue) -> list[str]:
    """Write a metric as the cells of a table: value, interval, chance and count."""
    interval = f"{result.low:.1f} to {result.high:.1f}"
    return [f"{result.value:.1f}", interval, f"{result.chance:.1f}", str(result.count)]


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
