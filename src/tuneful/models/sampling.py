"""Answers to prompts, many at once, with a key-value cache; rows that have ended are dropped from the batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from tuneful.core.policy import Policy
from tuneful.core.protocols import Processor
from tuneful.core.types import Completion
from tuneful.models.writing import Writing, write

TOGETHER = 64  # prompts decoded at once


@dataclass(frozen=True, slots=True)
class Generator:
    """Decodes with packed attention where the architecture allows it, with the model's own where not; prompts of
    similar length together."""

    processor: Processor

    def sample(
        self,
        policy: Policy,
        prompts: Sequence[np.ndarray],
        *,
        limit: int,
        temperature: float = 0.0,
        seed: int = 0,
        original: bool = False,
        stops: Sequence[str] = (),
        owners: Sequence[str] = (),
        count: int = 1,
    ) -> list[Completion]:
        """`count` answers a prompt behind one another, at most `limit` tokens each; temperature 0 takes the likeliest
        token. An answer also ends where one of the texts `stops` begins. `original` asks the model as it was before
        tuning. Draws no random numbers from the run's own generator. `owners` are the tasks of the prompts, where each
        has a model of its own."""
        random = torch.Generator(policy.device).manual_seed(seed)
        writing = Writing(self.processor, limit, temperature, random, tuple(filter(None, stops)))
        found: dict[int, list[Completion]] = {}
        for task, places in _by_owner(policy, owners, len(prompts), original=original):
            alone = [[prompts[place]] for place in places]
            with policy.of_task(task):
                said = write(
                    policy, alone, writing, mix=lambda logits: logits[0], count=TOGETHER, original=original, each=count
                )
            found.update((place, said[at * count : (at + 1) * count]) for at, place in enumerate(places))
        return [answer for place in range(len(prompts)) for answer in found[place]]


def _by_owner(policy: Policy, owners: Sequence[str], count: int, *, original: bool) -> list[tuple[str, list[int]]]:
    """Which prompts are whose, all nobody's where one model answers them."""
    if original or not owners or not policy.several:
        return [("", list(range(count)))] if count else []
    return [(task, [place for place, owner in enumerate(owners) if owner == task]) for task in dict.fromkeys(owners)]
