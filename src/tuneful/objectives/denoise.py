"""Texts as vectors without labels: the vector of what is left of a text must suffice to rebuild it."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from tuneful.core.policy import Policy
from tuneful.core.spec import Spec
from tuneful.core.types import Batch, Layout, Terms
from tuneful.objectives.noise import chances, shortened


class Denoise(Spec):
    """TSDAE (Wang et al. 2021, arXiv:2104.06979, equation 1): a text is rebuilt from the vector of a part of it.

    Differs from the paper: what rebuilds it is no decoder with cross-attention but one layer, as in RetroMAE (Xiao et
    al. 2022, arXiv:2205.12035, section 3.2), that reads the vector at every place and names the tokens it is not shown.
    The layer learns with the encoder and is no part of the model that is saved. The loss of a row is the mean over the
    tokens named in it.
    """

    layout: ClassVar[Layout] = Layout.REBUILT

    kind: Literal["denoise"] = "denoise"
    deleted: Annotated[float, Field(ge=0, lt=1)] = 0.6
    """Share of the tokens that the encoder does not read."""
    hidden: Annotated[float, Field(gt=0, le=1)] = 0.7
    """Share of the tokens that the decoder is not shown and has to name; 1: it knows the vector and the place alone."""

    def __call__(self, policy: Policy, batch: Batch) -> Terms:
        ids, where = batch.inputs["input_ids"], batch.targets["where"]
        gone = torch.zeros(ids.shape[1], dtype=torch.bool, device=ids.device)
        gone[where] = chances(policy, batch) < self.deleted
        outputs = policy(replace(batch, inputs=shortened(batch.inputs, gone)))
        hidden, owners = self.named(policy, batch), batch.targets["rows"]
        logprobs = policy.rebuilt_logprobs(outputs.embeddings(), batch.targets["tokens"], owners, ~hidden)
        sums = logprobs.new_zeros(len(batch.weights)).index_add(0, owners[hidden], -logprobs)
        counts = torch.bincount(owners[hidden], minlength=len(sums))
        return Terms(losses=sums / counts, outputs=outputs)

    def named(self, policy: Policy, batch: Batch) -> Tensor:
        """(M,) bool: the tokens to be named, at least one a row."""
        drawn, owners = chances(policy, batch, draw=1), batch.targets["rows"]
        lowest = drawn.new_ones(len(batch.weights)).scatter_reduce(0, owners, drawn, "amin")
        return (drawn < self.hidden) | (drawn == lowest[owners])
