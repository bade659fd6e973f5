"""Ragged batches: items of different lengths laid end to end, with no padding between them.

B items, N rows in all, P coordinates of a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from slap.core.errors import UserError

TILE = 128
"""Rows per tile of FlashAttention."""

SMALL = 1 << 14
"""Largest number of elements of a tensor that is pickled as bytes."""

PLAIN = (torch.int32, torch.int64, torch.float32, torch.float64, torch.bool)


class PickledAsBytes:
    """Base of what is sent between processes: its small tensors are pickled as bytes, in the message itself.

    torch hands over each tensor in shared memory of its own, by a file descriptor that is asked for through a socket.
    For waveforms that saves copies; for a few numbers it takes longer than everything else about the batch.
    """

    def __getstate__(self) -> dict[str, Any]:
        return {name: value.numpy() if _is_small(value) else value for name, value in self.__dict__.items()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            self.__dict__[name] = torch.from_numpy(value) if isinstance(value, np.ndarray) else value


def _is_small(value: Any) -> bool:
    return (
        isinstance(value, Tensor)
        and value.device.type == "cpu"
        and value.dtype in PLAIN
        and value.numel() <= SMALL
        and not value.requires_grad
    )


class Layout(PickledAsBytes):
    """The places where the items of a packed batch begin and end. Each derived quantity is computed once.

    Batches that differ only in their values share one layout, so a forward pass derives these once, not per layer.

    Args:
        lengths: (B,) int32, rows of each item, on the batch's device.
        sizes: the same numbers on the host, if they are known; reading them from a GPU waits for it.

    Attributes:
        plans: data that other modules derive from this layout once, by a key of theirs, see `slap.nn.attention`.
    """

    def __init__(self, lengths: Tensor, sizes: tuple[int, ...] | None = None) -> None:
        self.lengths = lengths
        if sizes is not None:
            self.sizes = sizes
        self.plans: dict[Any, Any] = {}
        self._filled: dict[int, Layout] = {}

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Rows of each item, on the host."""
        return tuple(self.lengths.tolist())

    @cached_property
    def total(self) -> int:
        """N, the rows of all items."""
        return sum(self.sizes)

    @cached_property
    def max_length(self) -> int:
        """Rows of the longest item; 0 for an empty batch."""
        return max(self.sizes, default=0)

    @cached_property
    def reach(self) -> int:
        """`max_length` rounded up to a whole tile of FlashAttention: fewer different numbers, at no cost."""
        return -(-self.max_length // TILE) * TILE

    @cached_property
    def cu_seqlens(self) -> Tensor:
        """(B + 1,) int32: item i has the rows from `cu_seqlens[i]` up to `cu_seqlens[i + 1]`, exclusive."""
        return torch.nn.functional.pad(self.lengths.cumsum(0, dtype=torch.int32), (1, 0))

    @cached_property
    def item(self) -> Tensor:
        """(N,) int64: the item that each row belongs to."""
        return torch.arange(len(self.sizes), device=self.lengths.device).repeat_interleave(
            self.lengths, output_size=self.total
        )

    @cached_property
    def index(self) -> Tensor:
        """(N,) int64: the place of each row within its item, from 0."""
        return torch.arange(self.total, device=self.lengths.device) - self.cu_seqlens[:-1].long()[self.item]

    def filled(self, multiple: int) -> Layout:
        """Return this layout with one more item at the end, of 1 to `multiple` rows, which makes N a multiple of it.

        Its derived quantities are computed already, since compiled code should not compute them.
        """
        if multiple not in self._filled:
            rest = multiple - self.total % multiple
            longer = Layout(torch.cat([self.lengths, self.lengths.new_full((1,), rest)]), (*self.sizes, rest))
            _ = longer.cu_seqlens, longer.reach
            self._filled[multiple] = longer
        return self._filled[multiple]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Layout:
        """Move the tensors of the layout to another device."""
        return Layout(self.lengths.to(device, non_blocking=non_blocking), self.sizes)


@dataclass(frozen=True, eq=False)
class Packed(PickledAsBytes):
    """A ragged batch: items end to end, no padding.

    Args:
        values: (N, ...) the rows of all items.
        lengths: (B,) int32, rows of each item, on the device of `values`; their sum is N.
        positions: (N, P) coordinates of each row, or None. They stay with their rows when rows are hidden or dropped.

    Raises:
        ValueError: the shapes do not fit together.

    Example:
        >>> batch = Packed.pack([torch.zeros(3, 8), torch.ones(2, 8)])
        >>> batch.values.shape, batch.sizes, batch.cu_seqlens.tolist()
        (torch.Size([5, 8]), (3, 2), [0, 3, 5])
    """

    values: Tensor
    lengths: Tensor
    positions: Tensor | None = None
    layout: Layout = None  # type: ignore[assignment]  # made from lengths unless another batch's is shared

    def __post_init__(self) -> None:
        if self.lengths.dim() != 1 or self.lengths.dtype != torch.int32:
            raise UserError(
                f"lengths must be a 1-D int32 tensor, one entry per item; "
                f"got {self.lengths.dtype} of shape {tuple(self.lengths.shape)}"
            )
        if self.layout is None:
            object.__setattr__(self, "layout", Layout(self.lengths))
            # On a GPU the sum would make the host wait; batches are made on the CPU, where it is free.
            if self.lengths.device.type == "cpu" and self.layout.total != len(self.values):
                raise UserError(f"lengths sum to {self.layout.total} rows, but values hold {len(self.values)}")
        if self.positions is not None and len(self.positions) != len(self.values):
            raise UserError(f"{len(self.positions)} positions for {len(self.values)} rows; each row needs one")

    @classmethod
    def pack(cls, items: Sequence[Tensor]) -> Packed:
        """Pack items, (n_i, ...) each with the same trailing shape, end to end."""
        if not items:
            raise UserError("cannot pack an empty list of items: the shape of a row would be unknown")
        sizes = tuple(len(item) for item in items)
        lengths = torch.tensor(sizes, dtype=torch.int32, device=items[0].device)
        return cls(torch.cat(list(items)), lengths, layout=Layout(lengths, sizes))

    def unpack(self) -> list[Tensor]:
        """Return the items, (n_i, ...) each, as views of `values`."""
        return list(self.values.split(self.sizes))

    def replace(self, values: Tensor) -> Packed:
        """Return a packed batch with other values, (N, ...), that shares layout and positions."""
        return replace(self, values=values)

    def take(self, items: Tensor | Sequence[int]) -> Packed:
        """Select items, in the given order; repeats are allowed.

        Args:
            items: indices of C items. A tensor, (C,) int64, may be on any device; with a list the host need not wait
                for a GPU.
        """
        chosen = items.tolist() if isinstance(items, Tensor) else list(items)
        if chosen == list(range(len(self))):
            return self
        device = self.values.device
        wanted = torch.tensor(chosen, dtype=torch.int64).to(device, non_blocking=True)
        layout = Layout(self.lengths[wanted], tuple(self.sizes[i] for i in chosen))
        rows = self.cu_seqlens[:-1].long()[wanted][layout.item] + layout.index
        positions = None if self.positions is None else self.positions[rows]
        return Packed(self.values[rows], layout.lengths, positions, layout)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Packed:
        """Move the batch to another device; sizes that the host knows stay known."""
        layout = self.layout.to(device, non_blocking)
        positions = None if self.positions is None else self.positions.to(device, non_blocking=non_blocking)
        return Packed(self.values.to(device, non_blocking=non_blocking), layout.lengths, positions, layout)

    def pin_memory(self) -> Packed:
        """Copy the batch to page-locked memory, from which copies to a GPU can overlap with computation."""
        positions = None if self.positions is None else self.positions.pin_memory()
        layout = Layout(self.lengths.pin_memory(), self.sizes)
        return Packed(self.values.pin_memory(), layout.lengths, positions, layout)

    def __len__(self) -> int:
        """B, the number of items."""
        return len(self.lengths)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Rows of each item, on the host."""
        return self.layout.sizes

    @property
    def max_length(self) -> int:
        """Rows of the longest item."""
        return self.layout.max_length

    @property
    def cu_seqlens(self) -> Tensor:
        """(B + 1,) int32, where each item begins and the last one ends."""
        return self.layout.cu_seqlens

    @property
    def item(self) -> Tensor:
        """(N,) int64, the item that each row belongs to."""
        return self.layout.item

    @property
    def index(self) -> Tensor:
        """(N,) int64, the place of each row within its item."""
        return self.layout.index


def random_crops(audio: Packed, share: float) -> Packed:
    """Return a part of each item at a random place, e.g. of waveforms for a view of an objective's own.

    Args:
        audio: (N,) or (N, ...), B items.
        share: length of the part, as a share of the item, above 0 to 1; at least one row.

    Raises:
        ValueError: the share is out of range.

    Example:
        >>> random_crops(Packed.pack([torch.zeros(100), torch.zeros(1)]), 0.5).sizes
        (50, 1)
    """
    if not 0 < share <= 1:
        raise UserError(f"share must be above 0 and up to 1, got {share}")
    sizes = tuple(max(round(size * share), 1) for size in audio.sizes)
    lengths = torch.tensor(sizes, dtype=torch.int32).to(audio.lengths.device, non_blocking=True)
    layout = Layout(lengths, sizes)
    room = audio.lengths - lengths
    start = (torch.rand(len(sizes), device=lengths.device) * (room + 1)).long().clamp(max=room.long())
    rows = (audio.cu_seqlens[:-1].long() + start)[layout.item] + layout.index
    return Packed(audio.values[rows], lengths, None if audio.positions is None else audio.positions[rows], layout)
