"""Predicting the next token: supervised fine-tuning of generators, and continued pretraining."""

from __future__ import annotations

from typing import ClassVar, Literal

from tuneful.core.policy import Policy
from tuneful.core.spec import Spec
from tuneful.core.types import Batch, Layout, Terms


class NextToken(Spec):
    """Cross-entropy of each learned token; which tokens are learned is the row's business."""

    layout: ClassVar[Layout] = Layout.TOKENS

    kind: Literal["next_token"] = "next_token"

    def __call__(self, policy: Policy, batch: Batch) -> Terms:
        outputs = policy(batch)
        logprobs_M = outputs.token_logprobs(batch.targets["tokens"], batch.targets["where"])
        return Terms(losses=-logprobs_M, outputs=outputs)
