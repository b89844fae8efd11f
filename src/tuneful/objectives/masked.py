"""Naming hidden tokens by what stands around them: continued pretraining of encoders."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar, Literal

from pydantic import Field, NonNegativeInt

from tuneful.core.policy import Policy
from tuneful.core.spec import Spec
from tuneful.core.types import Batch, Layout, Terms
from tuneful.objectives.noise import chances


class Masked(Spec):
    """Cross-entropy of hidden tokens (Devlin et al. 2019, arXiv:1810.04805, section 3.1), others anew at every look.

    All hidden tokens are masked: keeping some, or putting others in their place, brings nothing (Wettig et al. 2023,
    arXiv:2202.08005, section 6), nor is 15 % of them the best rate. A hidden token stands for `1 / rate` tokens, so
    that the mean over all is that over the hidden ones.
    """

    layout: ClassVar[Layout] = Layout.MASKED

    kind: Literal["masked"] = "masked"
    rate: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """Share of the tokens that are hidden."""
    token: NonNegativeInt | None = None
    """The id that stands where a token is hidden. None: the tokenizer's own."""

    def __call__(self, policy: Policy, batch: Batch) -> Terms:
        if self.token is None:
            raise ValueError("which token hides others is the tokenizer's to say, and must be resolved before training")
        ids, where = batch.inputs["input_ids"], batch.targets["where"]
        drawn = chances(policy, batch)
        hidden = (drawn < self.rate) | (drawn == drawn.min())
        places, covered = where[hidden], ids.clone()
        covered[0, places] = self.token
        outputs = policy(replace(batch, inputs={**batch.inputs, "input_ids": covered}))
        logprobs = outputs.token_logprobs(batch.targets["tokens"][hidden], places)
        losses = logprobs.new_zeros(len(where)).index_put((hidden.nonzero()[:, 0],), -logprobs / self.rate)
        return Terms(losses=losses, outputs=outputs)
