"""Chance in an objective: the run's own while it learns, always the same while it is measured."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import torch
from torch import Tensor

from tuneful.core.policy import Policy
from tuneful.core.types import Batch


def chances(policy: Policy, batch: Batch, draw: int = 0) -> Tensor:
    """(M,) uniform numbers below 1, one for each place in `where`; while the model is measured those of a row depend on
    its own tokens alone, however rows are batched. Another `draw` gives others."""
    ids, where = batch.inputs["input_ids"], batch.targets["where"]
    if policy.module.training:
        return torch.rand(len(where), device=ids.device)
    told, owners = ids[0, where].cpu(), batch.targets["rows"].cpu()
    found = torch.empty(len(where))
    for row in owners.unique().tolist():
        own = owners == row
        generator = torch.Generator().manual_seed(zlib.crc32(told[own].numpy().tobytes(), draw))
        found[own] = torch.rand(int(own.sum()), generator=generator)
    return found.to(ids.device)


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
