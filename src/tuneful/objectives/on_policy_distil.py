"""A smaller model writes, and a larger one says of every token how likely it would have been."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from tuneful.objectives.policy_gradient import PolicyGradient


class OnPolicyDistil(PolicyGradient):
    """On-policy distillation: the reverse Kullback-Leibler divergence from a teacher on texts the model wrote itself
    (Gu et al. 2024, "MiniLLM", arXiv:2306.08543, equation 1; Agarwal et al. 2024, arXiv:2306.13649, with lambda 1). The
    advantage of a token is log (p of the teacher / p), so every token says how good it was, and not the answer alone.

    Rewards of the environment are measured and not learned from. The teacher reads the same tokens, so it must have the
    model's tokenizer, as a larger model of the family has, or a run of the same model."""

    compares: ClassVar[Literal["before", "teacher"]] = "teacher"

    kind: Literal["on_policy_distil"] = "on_policy_distil"
    teacher: Annotated[str, Field(min_length=1)] | None = None
    """A run, or the name or folder of a model that writes."""
    truncated: bool = True
    """Answers that the limit cut are learned from, too: their tokens are judged one by one."""

    @property
    def compares_answers(self) -> bool:
        return False

    @model_validator(mode="after")
    def _has_one_measure(self) -> OnPolicyDistil:
        if self.kl:
            raise ValueError("kl: the teacher says how likely every token should be, and the model before tuning is "
                             "not asked; leave it out")  # fmt: skip
        return self

    def advantages(self, rewards_PG: np.ndarray, costs: Sequence[Sequence[np.ndarray]]) -> list[list[np.ndarray]]:
        return [
            [(-cost if not np.isnan(reward) else np.zeros(len(cost))).astype(np.float32) for reward, cost in pairs]
            for pairs in (zip(own, group, strict=True) for own, group in zip(rewards_PG, costs, strict=True))
        ]

    def share(self, tokens: int, limit: int) -> tuple[float, float]:
        return 1.0, float(tokens)
