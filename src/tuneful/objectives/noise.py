"""Chance in an objective: the run's own while it learns, always the same while it is measured."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from tuneful.core.policy import Policy


def chances(policy: Policy, ids: Tensor, count: int) -> Tensor:
    """(count,) uniform numbers below 1; while the model is measured they depend on the tokens `ids` alone."""
    if policy.module.training:
        return torch.rand(count, device=ids.device)
    generator = torch.Generator().manual_seed(int(ids.sum()))
    return torch.rand(count, generator=generator).to(ids.device)


def shortened(inputs: Mapping[str, Tensor], gone_N: Tensor) -> dict[str, Tensor]:
    """The same rows without the packed tokens marked in `gone_N`; the first token of a row always stays. No row may
    share tokens with another."""
    segments, keep = inputs["segments"].clone(), ~gone_N
    keep[segments[:, 0]] = True
    behind = torch.cat([keep.new_zeros(1, dtype=torch.long), keep.cumsum(0)])  # tokens kept before each place
    segments[:, :2] = behind[segments[:, :2]]
    lengths = segments[:, 1] - segments[:, 0]
    starts = segments[:, 0].repeat_interleave(lengths)
    return {
        "input_ids": inputs["input_ids"][:, keep],
        "position_ids": (torch.arange(len(starts), device=keep.device) - starts)[None],
        "segments": segments,
        "rows": inputs["rows"],
    }
