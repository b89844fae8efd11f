"""One frozen base under several low-rank updates, each of which reads some tokens of a batch and no others.

    y_i = W x_i + B_a (s A_a x_i)        a: whose token i is

The wide product is taken once for all tokens, the thin ones stretch by stretch, as PLoRA (arXiv:2508.02932) and
LoRAFusion (arXiv:2510.00206) do on GPUs; PEFT has such batches for use only (`adapter_names`). Each update is summed
before it is rounded, as in `products.py`, so every one of them learns what it would learn by itself.

Shapes: N flat tokens, I inputs, O outputs of all layers together, K the sum of their ranks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from tuneful.core.products import Product

ADAPTERS = "adapters"  # the input of a batch that says whose tokens are whose, as `Routes.along` reads it
Member = tuple[Product, slice]  # an update on the base, and the tokens that read it


@dataclass(slots=True)
class Routes:
    """Which update reads which tokens of the pass at hand: one object, which all layers of a module hold."""

    names: tuple[str, ...]
    current: int = 0  # reads whatever nobody else does
    _stretches: list[tuple[int, int, int]] = field(default_factory=list)
    _rows: int = 0

    @property
    def name(self) -> str:
        return self.names[self.current]

    @property
    def several(self) -> bool:
        """The pass at hand says whose its tokens are."""
        return bool(self._stretches)

    @contextmanager
    def only(self, adapter: int) -> Iterator[None]:
        """That one reads for as long as the context, where a pass does not say otherwise."""
        before, self.current = self.current, adapter
        try:
            yield
        finally:
            self.current = before

    @contextmanager
    def along(self, table: Tensor | None, rows: int) -> Iterator[None]:
        """A pass over so many rows. `table` (S, 3) says from which token and which row on whose stretch is: adapter,
        token, row; None: all are the current one's."""
        before = self._stretches, self._rows
        self._stretches, self._rows = ([] if table is None else [tuple(line) for line in table.tolist()]), rows
        try:
            yield
        finally:
            self._stretches, self._rows = before

    def parts(self, x: Tensor) -> list[tuple[int, slice]]:
        """Whose are which of the vectors of x (1, N, I) or (R, ..., I), counted without its last dimension: one a
        token, or several a row, as heads read them. What lies behind the last token is the last one's."""
        total = x.numel() // max(1, x.shape[-1])
        by_row = x.dim() > 1 and len(x) == self._rows
        starts = [row * (total // self._rows) if by_row else token for _, token, row in self._stretches]
        ends = [*starts[1:], total]
        return [
            (adapter, slice(start, end))
            for (adapter, _, _), start, end in zip(self._stretches, starts, ends, strict=True)
        ]


class Grouped:
    """Products of one base that differ in their updates, as one; the stretches hold every token once, in order."""

    def __init__(self, members: Sequence[Member]) -> None:
        self._members = tuple(members)
        first = self._members[0][0]
        self.dtype, self.inputs, self.outputs, self.rank = first.dtype, first.inputs, first.outputs, first.rank

    @property
    def learned(self) -> list[nn.Parameter]:
        """Of every stretch; an update that has two is there twice."""
        return [parameter for product, _ in self._members for parameter in product.learned]

    def prepare(self) -> None:
        """The base is the members' own."""

    def forget_backward(self) -> None:
        """The same."""

    def forward(self, x_NI: Tensor, *, seen_NI: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """y (N, O), and s A x (N, K) for the backward pass, as `Product.forward`."""
        read_NI = x_NI if seen_NI is None else seen_NI
        low_NK, update_NO = x_NI.new_empty(len(x_NI), self.rank), x_NI.new_empty(len(x_NI), self.outputs)
        for product, part in self._members:
            product.update(read_NI[part], update_NO[part], low_NK[part])
        return self._base.across(x_NI, update_NO), low_NK

    def backward(
        self, grad_NO: Tensor, x_NI: Tensor, low_NK: Tensor | None, *, slope: bool = True
    ) -> tuple[Tensor, list[Tensor]]:
        """Slopes of x (empty unless `slope`) and of `learned`."""
        assert low_NK is not None
        beside_NI, grads = self._slopes(grad_NO, x_NI, low_NK, slope=slope)
        return (grad_NO.new_empty(0) if beside_NI is None else self._base.back(grad_NO, beside_NI)), grads

    def backward_apart(self, grad_NO: Tensor, seen_NI: Tensor, low_NK: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """The same where the updates read something else than x: slopes of x, of that, and of `learned`."""
        apart_NI, grads = self._slopes(grad_NO, seen_NI, low_NK, slope=True)
        assert apart_NI is not None
        return self._base.back(grad_NO, None), apart_NI, grads

    def _slopes(
        self, grad_NO: Tensor, seen_NI: Tensor, low_NK: Tensor, *, slope: bool
    ) -> tuple[Tensor | None, list[Tensor]]:
        slope_NI = torch.empty_like(seen_NI) if slope else None
        grads: list[Tensor] = []
        for product, part in self._members:
            slope_NK, own = product.slopes(grad_NO[part], seen_NI[part], low_NK[part])
            grads += own
            if slope_NI is not None:
                product.below(slope_NK, slope_NI[part])
        return slope_NI, grads

    @property
    def _base(self) -> Product:
        return self._members[0][0]
