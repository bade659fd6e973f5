"""States of metrics over clips: text and numbers of each row, kept on the CPU and gathered from all processes.

R rows, each a clip or a window of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat
from torchmetrics.utilities.distributed import gather_all_tensors

from slap.core.bad_clip import BadClip
from slap.core.errors import UserError
from slap.metrics.bootstrap import MetricValue

Span = tuple[int, int]
"""First sample of a window in its clip, and the sample after its last."""


class NoClipsError(UserError):
    """No process has a clip that counts."""


class ClipMetric(Metric):
    """Base of metrics over whole sets of clips: collects rows with `update`, and computes when all are there.

    A clip may come in several windows (see `slap.core.windows`), in any batches and on any processes, and more than
    once, as samplers repeat clips to even out processes: it counts once. A clip with a bad window does not count.

    States are one-dimensional tensors on the CPU, whatever the device, and processes may hold any number of rows, also
    none. Everything is gathered, so all processes compute the same. Text is kept as its UTF-8 bytes.

    Attributes:
        results: each metric with its confidence interval, chance and count, of the last `compute`.
        bad: clips that could not be used, as (id, place in the manifest, reason), of the last `compute`.
        not_finite: ids of the clips for which, or for a caption of which, the model gave numbers that are not finite,
            of the last `compute`. They rank last.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    def __init__(self, **options: Any) -> None:
        options.setdefault("dist_sync_fn", gather_states)
        super().__init__(**options)
        self.results: dict[str, MetricValue] = {}
        self.bad: set[tuple[str, str, str]] = set()
        self.not_finite: set[str] = set()
        self._dtypes: dict[str, torch.dtype] = {}
        self._add_text("ids")
        self._add_text("origins")
        self._add_numbers("spans", torch.int64)
        self._add_numbers("group", torch.int64)
        self._add_text("bad_clips")

    def _add_numbers(self, name: str, dtype: torch.dtype) -> None:
        self.add_state(f"{name}_state", [], dist_reduce_fx="cat")
        self._dtypes[f"{name}_state"] = dtype

    def _add_text(self, name: str) -> None:
        self._add_numbers(f"{name}_bytes", torch.uint8)
        self._add_numbers(f"{name}_sizes", torch.int64)

    def _keep_numbers(self, name: str, values: Tensor) -> None:
        state = f"{name}_state"
        getattr(self, state).append(values.detach().flatten().to("cpu", self._dtypes[state]))

    def _keep_text(self, name: str, texts: Sequence[str]) -> None:
        raw = [text.encode("utf-8", "surrogatepass") for text in texts]
        self._keep_numbers(f"{name}_bytes", torch.frombuffer(bytearray(b"".join(raw) or b" "), dtype=torch.uint8))
        if not any(raw):
            getattr(self, f"{name}_bytes_state").pop()
        self._keep_numbers(f"{name}_sizes", torch.tensor([len(text) for text in raw], dtype=torch.int64))

    def _numbers(self, name: str) -> Tensor:
        """Return all that was kept, flat."""
        found: Any = getattr(self, f"{name}_state")
        return dim_zero_cat(found).cpu() if len(found) else torch.empty(0, dtype=self._dtypes[f"{name}_state"])

    def _texts(self, name: str) -> list[str]:
        raw = self._numbers(f"{name}_bytes").numpy().tobytes()
        ends = self._numbers(f"{name}_sizes").cumsum(0).tolist()
        return [raw[a:b].decode("utf-8", "surrogatepass") for a, b in zip([0, *ends], ends, strict=False)]

    def _keep_rows(
        self,
        ids: Sequence[str],
        spans: Sequence[Span] | None,
        group: Tensor | None,
        bad: Sequence[BadClip],
        origins: Sequence[str] | None,
    ) -> None:
        """Keep the ids, spans and origins of rows, and the clips that could not be used.

        Raises:
            ValueError: there is not one span, or one origin, for each row.
        """
        for values, word in ((spans, "span"), (origins, "origin")):
            if values is not None and len(values) != len(ids):
                raise UserError(f"each row needs a {word}; got {len(ids)} rows and {len(values)} {word}s")
        self._keep_text("ids", ids)
        self._keep_text("origins", [""] * len(ids) if origins is None else origins)
        self._keep_numbers("spans", torch.tensor(list(spans) if spans else [(0, 1)] * len(ids)))
        self._keep_numbers("group", torch.zeros(len(ids)) if group is None else group)
        self._keep_text("bad_clips", [part for clip in bad for part in (clip.id, clip.where, clip.reason)])

    def _rows(self, group: int | None = None) -> tuple[list[str], list[Span], list[int]]:
        """Return the ids and spans of all rows, and the numbers of those that count, in one group or in all.

        Raises:
            NoClipsError: no row counts.
        """
        ids, groups = self._texts("ids"), self._numbers("group").tolist()
        spans = [(start, stop) for start, stop in self._numbers("spans").view(-1, 2).tolist()]
        bad = self._texts("bad_clips")
        self.bad = set(zip(bad[::3], bad[1::3], bad[2::3], strict=True))
        unusable = {name for name, _, reason in self.bad if reason != "caption"}  # another caption of it may be good
        rows = [row for row, name in enumerate(ids) if name not in unusable and group in (None, groups[row])]
        if not rows:
            raise NoClipsError(
                "no clips were evaluated: the manifest is empty, no batch was drawn, or all clips are bad"
            )
        return ids, spans, rows

    def _values(self) -> dict[str, Tensor]:
        """Return what `compute` returns: the values of `results` without their intervals."""
        return {name: torch.tensor(result.value, dtype=torch.float64) for name, result in self.results.items()}

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """Gather the states of all processes, also of those without rows."""
        for name, dtype in self._dtypes.items():
            if not len(getattr(self, name)):
                setattr(self, name, [torch.empty(0, dtype=dtype)])
        super().sync(*args, **kwargs)

    @property
    def update_called(self) -> bool:
        """Always true: that no process has any rows is an error of `compute`, which knows all of them."""
        return True


def gather_states(values: Tensor, group: Any = None) -> list[Tensor]:
    """Gather a state from all processes, on the GPU where the process group needs that: (n_r,) -> R tensors."""
    on_gpu = dist.get_backend(group) == "nccl"
    return [part.cpu() for part in gather_all_tensors(values.cuda() if on_gpu else values, group)]
