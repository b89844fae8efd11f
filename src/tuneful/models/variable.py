"""Attention of packed rows by a kernel for sequences of different length, where the device has one (CUDA).

A segment's queries read the keys of its ancestors and then its own, gathered behind one another. The kernel's causal
mask ends with the last key, so a query sees everything before the segment, and of the segment what lies before itself.

Shapes: N packed tokens, M gathered keys, S segments, H query heads, G key-value heads, E head width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tuneful.models.cut import ancestors
from tuneful.models.scores import Settings

Kernel = Callable[..., Any]  # torch.nn.attention.varlen.varlen_attn
HALF = (torch.bfloat16, torch.float16)
WHOLE, CAUSAL = (-1, -1), (-1, 0)  # windows


@dataclass(frozen=True)
class Variable:
    """Where the segments of a batch begin and end, as the kernel asks."""

    kernel: Kernel
    keys: Tensor | None  # (M,) packed token of each key; None where no segment has ancestors
    query_ends: Tensor  # (S + 1,) int32
    key_ends: Tensor  # (S + 1,) int32
    longest: tuple[int, int]  # queries and keys of a segment

    @staticmethod
    def of(segments: Sequence[Sequence[int]], kernel: Kernel, device: torch.device) -> Variable:
        """`segments`: start, end, parent (-1 = none), parents first, one behind the other."""
        paths = [
            np.concatenate([before, np.arange(start, end)])
            for (start, end, _), before in zip(segments, ancestors(segments), strict=True)
        ]
        sizes, spans = [end - start for start, end, _ in segments], list(map(len, paths))
        shares = sizes != spans
        return Variable(
            kernel,
            torch.from_numpy(np.concatenate(paths)).to(device) if shares else None,
            _ends(sizes, device),
            _ends(spans, device),
            (max(sizes), max(spans)),
        )

    def reads(self, q: Tensor, settings: Settings) -> bool:
        """The kernel knows half precision alone, and no dropout."""
        return q.dtype in HALF and not settings.dropout

    def attend(self, q: Tensor, k: Tensor, v: Tensor, settings: Settings) -> Tensor:
        """q (N, H, E), k and v (N, G, E) -> (N, H, E), differentiable."""
        if self.keys is not None:
            k, v = k.index_select(0, self.keys), v.index_select(0, self.keys)
        mixed: Tensor = self.kernel(
            q,
            k,
            v,
            self.query_ends,
            self.key_ends,
            *self.longest,
            scale=settings.scale,
            window_size=CAUSAL if settings.causal else WHOLE,
            enable_gqa=q.shape[1] != k.shape[1],
        )
        return mixed


def _ends(sizes: Sequence[int], device: torch.device) -> Tensor:
    return torch.tensor([0, *np.cumsum(sizes).tolist()], dtype=torch.int32, device=device)
