"""The table of a model's parts and their parameters that a training begins with."""

from __future__ import annotations

from collections.abc import Iterator

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn

UNITS = ("", " K", " M", " B")


class ParameterSummary(Callback):
    """A table of the model's parts, in place of Lightning's.

    Lightning's table counts no operations where a model has no example of its input, and calls that 0 FLOPs.
    """

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the table, on the first process."""
        if trainer.is_global_zero:
            print(parameter_table(pl_module), flush=True)


def parameter_table(model: nn.Module) -> str:
    """Return a line for each part of a model, and one for all of it: name, class, parameters, and those that train."""
    rows = [("part", "class", "parameters", "trained")]
    rows += [(name, type(part).__name__, *_counts(part)) for name, part in _parts(model)]
    rows.append(("all", "", *_counts(model)))
    first, second = (max(len(row[column]) for row in rows) for column in (0, 1))
    return "\n".join(f"{row[0]:<{first}}  {row[1]:<{second}}  {row[2]:>10}  {row[3]:>8}" for row in rows)


def _parts(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, part in model.named_children():
        if isinstance(part, nn.ModuleDict):
            yield from part.items()
        elif next(part.parameters(), None) is not None:
            yield name, part


def _counts(part: nn.Module) -> tuple[str, str]:
    parameters = [*part.parameters()]
    return readable(sum(p.numel() for p in parameters)), readable(sum(p.numel() for p in parameters if p.requires_grad))


def readable(count: int) -> str:
    """Write a number of parameters in units of thousands.

    Example:
        >>> readable(0), readable(999), readable(12_345), readable(86_000_000)
        ('0', '999', '12.3 K', '86.0 M')
    """
    power = min((len(str(count)) - 1) // 3, len(UNITS) - 1)
    return f"{count / 1000**power:.1f}{UNITS[power]}" if power else str(count)
