"""What the model wrote becomes likelier where it was rewarded more than expected, and less likely where less.

Shapes: P prompts, G answers to each, M tokens that the model wrote, in a batch. A loss is one number a token; what
variants differ in is the advantage of a token, its weight, and what an answer adds to the denominator.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import NonNegativeFloat
from torch import Tensor

from tuneful.core.policy import Policy
from tuneful.core.spec import Spec
from tuneful.core.types import Batch, Layout, Terms

LEAST = 1e-4  # added to a standard deviation
ALIKE = 1e-9  # of values that differ by no more than rounding


class PolicyGradient(Spec):
    """What all of them share. With r = p / p when drawn of a token and A its advantage, the loss of the token is
    -min(r A, clip(r, 1 - low, 1 + high) A) (Schulman et al. 2017, arXiv:1707.06347, equation 7). In the first update
    after the answers were drawn r is 1, so its gradient is that of -A log p, and nothing is clipped."""

    layout: ClassVar[Layout] = Layout.ROLLOUTS
    compares: ClassVar[Literal["before", "teacher"]] = "before"  # with what `costs` compare

    clip_low: NonNegativeFloat = 0.2
    """How far r may fall below 1 and still count."""
    clip_high: NonNegativeFloat = 0.28
    """How far r may rise above 1: further than it may fall, so that rare tokens can become likely (Yu et al. 2025,
    arXiv:2503.14476, section 3.1)."""
    kl: NonNegativeFloat = 0.0
    """What a reward loses for each nat by which an answer is likelier than before tuning. It is taken from the reward,
    where its gradient is unbiased, and not added to the loss."""
    truncated: bool = False
    """Answers that the limit cut are learned from, too. Otherwise they count nothing, in the denominator either."""

    @property
    def compares_answers(self) -> bool:
        """Answers to one prompt that are all worth the same teach nothing."""
        return True

    @property
    def weighs_costs(self) -> bool:
        """Costs are asked for; otherwise they are zeros."""
        return self.kl > 0 or self.compares == "teacher"

    def advantages(self, rewards_PG: np.ndarray, costs: Sequence[Sequence[np.ndarray]]) -> list[list[np.ndarray]]:
        """Of each answer an advantage for each of its tokens; rewards are not a number where there is none. `costs` are
        log (p / p before tuning) of the tokens, or zeros where nobody asks."""
        spent_PG = np.array([[float(cost.sum()) for cost in group] for group in costs])
        spent_PG[np.isnan(rewards_PG)] = np.nan
        found_PG = np.nan_to_num(self.scaled(self.above(rewards_PG), rewards_PG) - self.kl * self.above(spent_PG))
        return [
            [np.full(len(cost), advantage, dtype=np.float32) for advantage, cost in zip(own, group, strict=True)]
            for own, group in zip(found_PG, costs, strict=True)
        ]

    def above(self, values_PG: np.ndarray) -> np.ndarray:
        """(P, G) by how much each is above the mean of its prompt; not a number where there is none."""
        return _above(values_PG)

    def scaled(self, above_PG: np.ndarray, rewards_PG: np.ndarray) -> np.ndarray:
        """Advantages, in a unit of their own."""
        return above_PG

    def share(self, tokens: int, limit: int) -> tuple[float, float]:
        """The weight of each of an answer's tokens, and what the answer adds to the denominator; `limit` is how many
        tokens it may have had."""
        raise NotImplementedError

    def __call__(self, policy: Policy, batch: Batch) -> Terms:
        outputs = policy(batch)
        now_M = outputs.token_logprobs(batch.targets["tokens"], batch.targets["where"])
        moved_M, advantages_M = now_M - batch.targets["drawn"], batch.targets["advantages"]
        ratios_M = self.ratios(moved_M, batch.targets["rows"])
        held_M = self.held(ratios_M)
        losses_M = self.losses(now_M, ratios_M, held_M, advantages_M)
        with torch.no_grad():
            counts_M = (batch.weights > 0).float()
            told = counts_M.sum().clamp(min=1)
            clipped = (self.clips(ratios_M, held_M, advantages_M).float() * counts_M).sum() / told
            metrics = {"clipped": float(clipped), "ratio": float((ratios_M * counts_M).sum() / told)}
        return Terms(losses=losses_M, outputs=outputs, metrics=metrics)

    def ratios(self, moved_M: Tensor, rows_M: Tensor) -> Tensor:
        """(M,) p / p when drawn."""
        return moved_M.exp()

    def held(self, ratios_M: Tensor) -> Tensor:
        return ratios_M.clamp(1 - self.clip_low, 1 + self.clip_high)

    def clips(self, ratios_M: Tensor, held_M: Tensor, advantages_M: Tensor) -> Tensor:
        """(M,) bool: the token has moved so far that it learns less, or nothing."""
        return (ratios_M - held_M) * advantages_M > 0

    def losses(self, now_M: Tensor, ratios_M: Tensor, held_M: Tensor, advantages_M: Tensor) -> Tensor:
        """(M,)"""
        return -torch.minimum(ratios_M * advantages_M, held_M * advantages_M)


class Grpo(PolicyGradient):
    """Group relative policy optimisation (Shao et al. 2024, arXiv:2402.03300, equation 3): an answer is as good as it
    is better than the mean of the answers to the same prompt. Variants:

    - `mean`: of what the loss is a mean. `token`: of all tokens of an update (DAPO, arXiv:2503.14476, equation 8);
      `answer`: of answers, each the mean of its tokens, as at first, which lets long wrong answers off lightly;
      `constant`: a sum over tokens divided by the most there could be (Dr. GRPO, Liu et al. 2025, arXiv:2503.20783),
      which no length biases.
    - `scale`: advantages are divided by nothing, by the standard deviation of their `group` as at first, which weighs
      prompts by how alike their answers do, or of the whole `batch` (Liu et al. 2025, arXiv:2508.08221).
    - `ratio`: r of a `token`, or of an answer, the geometric mean of those of its tokens (GSPO, Zheng et al. 2025,
      arXiv:2507.18071, equation 7), which is meant for `mean: answer`.
    - `loss`: `cispo` clips the weight of a token and not its gradient: -min(r, 1 + high) A log p, the first factor held
      fixed (MiniMax 2025, arXiv:2506.13585, equation 4); clip_high is then large, such as 4.
    """

    kind: Literal["grpo"] = "grpo"
    mean: Literal["token", "answer", "constant"] = "token"
    """Of what the loss is a mean."""
    scale: Literal["none", "group", "batch"] = "batch"
    """What advantages are divided by."""
    ratio: Literal["token", "answer"] = "token"
    """Of what the change since it was drawn is told."""
    loss: Literal["clip", "cispo"] = "clip"
    """What becomes of a token whose probability has changed much."""

    def scaled(self, above_PG: np.ndarray, rewards_PG: np.ndarray) -> np.ndarray:
        if self.scale == "group":
            return above_PG / (_spread(rewards_PG, axis=1) + LEAST)
        return above_PG / (_spread(rewards_PG) + LEAST) if self.scale == "batch" else above_PG

    def share(self, tokens: int, limit: int) -> tuple[float, float]:
        if self.mean == "answer":
            return 1.0 / max(1, tokens), 1.0
        return (1.0, float(tokens)) if self.mean == "token" else (1.0, float(limit))

    def ratios(self, moved_M: Tensor, rows_M: Tensor) -> Tensor:
        if self.ratio == "token":
            return moved_M.exp()
        count = int(rows_M.max()) + 1
        sums = moved_M.new_zeros(count).index_add(0, rows_M, moved_M)
        return (sums / torch.bincount(rows_M, minlength=count).clamp(min=1)).exp()[rows_M]

    def held(self, ratios_M: Tensor) -> Tensor:
        return ratios_M.clamp(max=1 + self.clip_high) if self.loss == "cispo" else super().held(ratios_M)

    def clips(self, ratios_M: Tensor, held_M: Tensor, advantages_M: Tensor) -> Tensor:
        return ratios_M > held_M if self.loss == "cispo" else super().clips(ratios_M, held_M, advantages_M)

    def losses(self, now_M: Tensor, ratios_M: Tensor, held_M: Tensor, advantages_M: Tensor) -> Tensor:
        if self.loss == "cispo":
            return -held_M.detach() * advantages_M * now_M
        return super().losses(now_M, ratios_M, held_M, advantages_M)


class Rloo(PolicyGradient):
    """REINFORCE, leave one out (Ahmadian et al. 2024, arXiv:2402.14740, equation 8): an answer is as good as it is
    better than the mean of the other answers to its prompt, and the loss is a sum over its tokens."""

    kind: Literal["rloo"] = "rloo"
    kl: NonNegativeFloat = 0.03
    """What a reward loses for each nat by which an answer is likelier than before tuning."""

    def above(self, values_PG: np.ndarray) -> np.ndarray:
        """Above the mean of the others."""
        count_P1 = np.sum(~np.isnan(values_PG), axis=1, keepdims=True)
        return _above(values_PG) * (count_P1 / np.maximum(1, count_P1 - 1))

    def share(self, tokens: int, limit: int) -> tuple[float, float]:
        return 1.0, 1.0


class ReinforcePlusPlus(PolicyGradient):
    """REINFORCE++ (Hu 2025, arXiv:2501.03262): what is left of the reward behind a token, the cost of the tokens from
    it on taken away, brought to mean 0 and deviation 1 over all tokens of an update. Answers to one prompt are not
    compared, so a few are enough (`schedule.answers`)."""

    kind: Literal["reinforce_plus_plus"] = "reinforce_plus_plus"
    kl: NonNegativeFloat = 0.01
    """What a reward loses for each nat by which an answer is likelier than before tuning, from a token on."""
    baseline: bool = False
    """First takes away the mean reward of the answers to the same prompt."""

    @property
    def compares_answers(self) -> bool:
        return self.baseline

    def advantages(self, rewards_PG: np.ndarray, costs: Sequence[Sequence[np.ndarray]]) -> list[list[np.ndarray]]:
        above_PG = self.above(rewards_PG) if self.baseline else rewards_PG
        left = [
            [reward - self.kl * cost[::-1].cumsum()[::-1] for reward, cost in zip(own, group, strict=True)]
            for own, group in zip(above_PG, costs, strict=True)
        ]
        known = [tokens for group in left for tokens in group if len(tokens) and not np.isnan(tokens[0])]
        everything = np.concatenate(known) if known else np.zeros(1)
        mean, spread = everything.mean(), everything.std()
        if np.isnan(above_PG).all() or np.nanmax(above_PG) - np.nanmin(above_PG) <= ALIKE:
            spread = 1.0  # what is left is the cost of the tokens alone, which is not to be made large
        return [
            [np.nan_to_num((tokens - mean) / (spread + LEAST)).astype(np.float32) for tokens in group] for group in left
        ]

    def share(self, tokens: int, limit: int) -> tuple[float, float]:
        return 1.0, float(tokens)


def _above(values_PG: np.ndarray) -> np.ndarray:
    """The mean of the prompt taken away; what differs by rounding alone is alike."""
    found = values_PG - _mean(values_PG)
    known_PG = np.where(np.isnan(values_PG), _mean(values_PG), values_PG)
    alike_P1 = known_PG.max(axis=1, keepdims=True) - known_PG.min(axis=1, keepdims=True) <= ALIKE
    return np.where(alike_P1 & ~np.isnan(values_PG), 0.0, found)


def _mean(rewards_PG: np.ndarray) -> np.ndarray:
    """(P, 1) of the rewards of a prompt that are known, 0 where none is."""
    known_PG = ~np.isnan(rewards_PG)
    return np.nansum(rewards_PG, axis=1, keepdims=True) / np.maximum(1, known_PG.sum(axis=1, keepdims=True))


def _spread(rewards_PG: np.ndarray, axis: int | None = None) -> np.ndarray:
    """Standard deviation of those that are known, by n - 1; (P, 1) by prompt, or () of all."""
    known = (~np.isnan(rewards_PG)).sum(axis=axis, keepdims=axis is not None)
    mean = np.nansum(rewards_PG, axis=axis, keepdims=axis is not None) / np.maximum(1, known)
    squares = np.nansum((rewards_PG - mean) ** 2, axis=axis, keepdims=axis is not None)
    found: np.ndarray = np.sqrt(squares / np.maximum(1, known - 1))
    return found
