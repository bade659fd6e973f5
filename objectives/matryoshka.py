"""Matryoshka representation learning (arXiv 2205.13147): leading dimensions of an embedding are embeddings, too.

n embeddings, E shared dimension.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from slap.core.compact import leading
from slap.core.errors import UserError
from slap.model.contracts import ModelParts


class Matryoshka:
    """Mix-in beside `Objective` for losses of cosines, which are averaged over leading dimensions.

    The paper sums the losses, with weights of 1. The mean keeps the weight of the objective as it is (our choice).

    Attributes:
        leading_dims: the numbers of leading dimensions that are trained, the largest first; without any, only whole
            embeddings are.
    """

    leading_dims: tuple[int, ...] = ()

    def nest(self, dims: Sequence[int] | None) -> None:
        """Set the leading dimensions.

        Raises:
            ValueError: they are no list of different positive integers.
        """
        listed = () if dims is None else dims
        whole = isinstance(listed, Sequence) and all(type(dim) is int and dim > 0 for dim in listed)
        if not whole or len(set(listed)) != len(listed) or (dims is not None and not listed):
            raise UserError(f"matryoshka lists different positive numbers of dimensions, e.g. [512, 256]; got {dims!r}")
        self.leading_dims = tuple(sorted(listed, reverse=True))

    def fit_dims(self, model: ModelParts) -> None:
        """Check the leading dimensions against the model's E.

        Raises:
            ValueError: the largest is not E, which embeddings have in use unless fewer dimensions are asked for.
        """
        if self.leading_dims and self.leading_dims[0] != model.embedding_dim:
            raise UserError(
                f"the largest number of matryoshka must be the model's embedding_dim, {model.embedding_dim}; "
                f"got {list(self.leading_dims)}"
            )

    def nested(self, embeddings: Tensor) -> list[Tensor]:
        """Return embeddings, (n, E), in each number of leading dimensions, each of length 1."""
        return [leading(embeddings, dim) for dim in self.leading_dims or (embeddings.shape[1],)]

    def mean_loss(self, loss: Callable[[Tensor, Tensor], Tensor], rows: Tensor, others: Sequence[Tensor]) -> Tensor:
        """Average a loss of pairs, which gives (n,), over the leading dimensions.

        Args:
            loss: takes embeddings of one number of dimensions, (n, d) and (m, d).
            rows: (n, E).
            others: m embeddings from `nested`.
        """
        first, *shorter = (loss(*pair) for pair in zip(self.nested(rows), others, strict=True))
        return sum(shorter, first) / len(others)
