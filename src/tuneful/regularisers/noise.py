"""Noise on what a model reads while it learns."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from pydantic import PositiveFloat
from torch import Tensor

from tuneful.core.layers import frozen_depth
from tuneful.core.policy import Policy
from tuneful.core.spec import Spec
from tuneful.core.types import Batch, Terms


class Neftune(Spec):
    """Even noise on every embedded token while the model learns: alpha / sqrt(L d) times a number of -1 to 1, for a row
    of L tokens embedded in d numbers.

    Jain et al. 2023, arXiv:2310.05914, algorithm 1.
    """

    kind: Literal["neftune"] = "neftune"
    alpha: PositiveFloat = 5.0
    """How strong."""

    def problems(self, policy: Policy) -> list[str]:
        """Layers that are computed once never see noise."""
        if not frozen_depth(policy.module):
            return []
        return ["regularisers: neftune disturbs what the lowest layer reads, and with this adapter that layer learns "
                "nothing; use an adapter under which all layers learn (full, lora), or leave neftune out"]  # fmt: skip

    @contextmanager
    def during(self, policy: Policy, batch: Batch) -> Iterator[None]:
        """Passes without a slope (the reference) are left alone."""
        lengths_N = policy.lengths(batch)
        embedding: Any = policy.module.get_input_embeddings()  # type: ignore[operator]

        def noised(_: Any, __: Any, embedded: Tensor) -> Tensor:
            if not torch.is_grad_enabled():
                return embedded
            _, tokens, width = embedded.shape
            rows = lengths_N.new_full((tokens,), tokens)  # padded rows are as long as the longest
            if len(embedded) == 1:
                rows[: len(lengths_N)] = lengths_N[:tokens]
            scale_N1 = self.alpha / (rows.to(embedded.device)[:, None] * width).sqrt()
            return embedded + (torch.empty_like(embedded).uniform_(-1, 1) * scale_N1).to(embedded.dtype)

        hook = embedding.register_forward_hook(noised)
        try:
            yield
        finally:
            hook.remove()

    def __call__(self, policy: Policy, batch: Batch, terms: Terms) -> Tensor:
        """Nothing beside what the noise does."""
        return terms.losses.new_zeros(())
