"""Policy gradients by hand: advantages, weights and denominators, and losses of tokens."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from tuneful.core.types import Example, Layout, Place, Row
from tuneful.data.layouts import Collator
from tuneful.data.played import Played
from tuneful.objectives import Grpo, OnPolicyDistil, ReinforcePlusPlus, Rloo
from tuneful.objectives.policy_gradient import PolicyGradient

NAN = float("nan")
FREE = [[np.zeros(2), np.zeros(1), np.zeros(3)]]  # three answers of two, one and three tokens, which cost nothing


def first(objective: PolicyGradient, rewards: list[list[float]], costs: Any = FREE) -> list[float]:
    """The advantage of the first token of each answer to the first prompt."""
    return [float(tokens[0]) for tokens in objective.advantages(np.array(rewards), costs)[0]]


def test_advantages_of_a_group_by_hand() -> None:
    """Rewards 1, 0, 2: mean 1, deviation 1 by n - 1."""
    assert first(Grpo(scale="none"), [[1.0, 0.0, 2.0]]) == [0, -1, 1]
    assert first(Grpo(scale="group"), [[1.0, 0.0, 2.0]]) == pytest.approx([0, -1 / 1.0001, 1 / 1.0001])
    # The others' means are 1, 1.5 and 0.5.
    assert first(Rloo(kl=0), [[1.0, 0.0, 2.0]]) == pytest.approx([0, -1.5, 1.5])
    # Of all six tokens the mean is (1 + 1 + 0 + 2 + 2 + 2) / 6 = 4/3, the deviation sqrt(5/9).
    told = [(reward - 4 / 3) / (math.sqrt(5 / 9) + 1e-4) for reward in (1, 0, 2)]
    assert first(ReinforcePlusPlus(kl=0), [[1.0, 0.0, 2.0]]) == pytest.approx(told, rel=1e-5)


def test_the_batch_scales_all_groups_alike() -> None:
    rewards = np.array([[1.0, 0.0], [0.0, 0.0]])  # mean 1/4, squares 9/16 + 3/16, so the deviation is 1/2
    found = Grpo(scale="batch").advantages(rewards, [[np.zeros(1)] * 2] * 2)
    assert [float(tokens[0]) for tokens in found[0]] == pytest.approx([0.5 / 0.5001, -0.5 / 0.5001])
    assert not any(tokens.any() for tokens in found[1])


@pytest.mark.parametrize(
    "objective",
    [
        Grpo(scale="none"), Grpo(scale="group"), Grpo(), Rloo(kl=0), ReinforcePlusPlus(kl=0),
        ReinforcePlusPlus(kl=0, baseline=True),
    ],
    ids=repr,
)  # fmt: skip
def test_equal_rewards_teach_nothing_and_what_has_none_counts_for_nobody(objective: PolicyGradient) -> None:
    assert first(objective, [[2.0, 2.0, 2.0]]) == [0, 0, 0]
    found = first(objective, [[1.0, NAN, 0.0]])
    assert found[1] == 0
    assert found[0] > 0 > found[2]
    if not isinstance(objective, ReinforcePlusPlus):
        assert found[0] == -found[2], "the mean is that of the two"


def test_the_cost_of_an_answer_is_taken_from_its_reward() -> None:
    """Answers cost 1 and 3 nats; at 0.5 a nat rewards of 2 and 2 become 1.5 and 0.5."""
    costs = [[np.array([0.5, 0.5]), np.array([3.0])]]
    found = Grpo(scale="none", kl=0.5).advantages(np.array([[2.0, 2.0]]), costs)[0]
    assert [tokens.tolist() for tokens in found] == [[0.5, 0.5], [-0.5]]
    # From a token on: 2 - 1, 2 - 0.5, and 2 - 3: mean 0.5, squares 0.25 + 1 + 2.25.
    # Rewards are alike, so these costs stay as small as they are.
    told = ReinforcePlusPlus(kl=1.0).advantages(np.array([[2.0, 2.0]]), costs)[0]
    assert np.concatenate(told).tolist() == pytest.approx([0.5, 1, -1.5], rel=1e-3)
    # Of 2 - 1, 2 - 0.5 and 4 - 3 the mean is 7/6, and squares around it are 1/36 + 1/9 + 1/36.
    told = ReinforcePlusPlus(kl=1.0).advantages(np.array([[2.0, 4.0]]), costs)[0]
    spread = math.sqrt(1 / 18) + 1e-4
    assert np.concatenate(told).tolist() == pytest.approx([-1 / 6 / spread, 1 / 3 / spread, -1 / 6 / spread], rel=1e-4)


def test_what_counts_for_nothing_is_no_part_of_the_usual_cost() -> None:
    """Rewards 1 and 0, costs 0.2 and 0.4 beside one of 9 that no reward stands for."""
    costs = [[np.array([0.2]), np.array([9.0]), np.array([0.4])]]
    found = Grpo(scale="none", kl=1.0).advantages(np.array([[1.0, NAN, 0.0]]), costs)[0]
    assert [float(tokens[0]) for tokens in found] == pytest.approx([0.5 + 0.1, 0, -0.5 - 0.1])


@pytest.mark.parametrize(
    ("objective", "share"),
    [
        (Grpo(), (1, 4)), (Grpo(mean="answer"), (0.25, 1)), (Grpo(mean="constant"), (1, 10)), (Rloo(), (1, 1)),
        (ReinforcePlusPlus(), (1, 4)),
    ],
    ids=repr,
)  # fmt: skip
def test_what_an_answer_of_four_tokens_of_ten_weighs(objective: PolicyGradient, share: tuple[float, float]) -> None:
    assert objective.share(4, 10) == share


class Says:
    """A model that finds the tokens that were written as likely as it is told."""

    def __init__(self, now: list[float]) -> None:
        self.now = torch.tensor(now, requires_grad=True)

    def __call__(self, batch: Any) -> Any:
        return self

    def token_logprobs(self, tokens: Any, where: Any) -> Any:
        return self.now


def played(drawn: list[float], advantage: float, objective: PolicyGradient) -> Row:
    weight, units = objective.share(len(drawn), 10)
    ids, learn = np.arange(len(drawn) + 2, dtype=np.int32), np.zeros(len(drawn) + 2, dtype=np.float32)
    learn[2:] = weight
    return Played(
        Example(Place("test", 1)), ids, learn, advantages=np.full(len(drawn), advantage, dtype=np.float32),
        drawn=np.array(drawn, dtype=np.float32), units=units,
    )  # fmt: skip


def loss(objective: PolicyGradient, now: list[float], rows: list[Row]) -> tuple[float, torch.Tensor, Any]:
    """Of an update, its slope, and what is said of it."""
    batch, says = Collator(Layout.ROLLOUTS)(rows), Says(now)
    terms = objective(says, batch)  # type: ignore[arg-type]
    total = (terms.losses * batch.weights).sum() / batch.units
    total.backward()
    assert says.now.grad is not None
    return float(total.detach()), says.now.grad, terms.metrics


@pytest.mark.parametrize(
    ("objective", "weights"),
    [
        (Grpo(), [2 / 3, 2 / 3, -1 / 3]),  # a third of the advantage of each token
        (Grpo(mean="answer"), [0.5, 0.5, -0.5]),  # 2 / 2 tokens / 2 answers, and -1 / 2
        (Grpo(mean="constant"), [0.1, 0.1, -0.05]),  # of 2 answers that may have had 10 tokens each
        (Rloo(), [1, 1, -0.5]),
        (ReinforcePlusPlus(), [2 / 3, 2 / 3, -1 / 3]),
    ],
    ids=repr,
)
def test_what_was_just_drawn_has_the_slope_of_its_log_probability(
    objective: PolicyGradient, weights: list[float]
) -> None:
    """Answers of two tokens with advantage 2 and of one with -1."""
    drawn = [[-1.0, -2.0], [-0.5]]
    rows = [played(drawn[0], 2.0, objective), played(drawn[1], -1.0, objective)]
    total, slope, told = loss(objective, [-1.0, -2.0, -0.5], rows)
    assert slope.tolist() == pytest.approx([-weight for weight in weights])
    assert total == pytest.approx(-sum(weights))
    assert told == {"clipped": 0.0, "ratio": 1.0}


def test_what_has_moved_too_far_is_held_by_hand() -> None:
    """Ratios 1.5 and 0.5. A reward that is followed too far has no slope any more; a mistake is mended at any ratio."""
    now = [math.log(1.5) - 1, math.log(0.5) - 1]
    up, slope, told = loss(Grpo(), now, [played([-1.0, -1.0], 1.0, Grpo())])
    assert up == pytest.approx(-(1.28 + 0.5) / 2)
    assert slope.tolist() == pytest.approx([0, -0.5 / 2])
    assert told["clipped"] == 0.5
    down, slope, _ = loss(Grpo(), now, [played([-1.0, -1.0], -1.0, Grpo())])
    assert down == pytest.approx((1.5 + 0.8) / 2)
    assert slope.tolist() == pytest.approx([1.5 / 2, 0])


def test_variants_of_the_ratio_by_hand() -> None:
    now = [math.log(1.5) - 1, math.log(0.5) - 1]
    whole = Grpo(ratio="answer", mean="answer", clip_low=0.0003, clip_high=0.0004)
    total, _, _ = loss(whole, now, [played([-1.0, -1.0], -1.0, whole)])
    assert total == pytest.approx(0.9997, abs=1e-6), "sqrt(1.5 * 0.5) = 0.866 is held at 1 - 0.0003 for a loss"
    total, slope, _ = loss(whole, now, [played([-1.0, -1.0], 1.0, whole)])
    assert total == pytest.approx(-math.sqrt(0.75))
    assert slope.tolist() == pytest.approx([-math.sqrt(0.75) / 2] * 2)
    weighed = Grpo(loss="cispo", clip_high=0.2)
    total, slope, _ = loss(weighed, now, [played([-1.0, -1.0], 2.0, weighed)])
    assert slope.tolist() == pytest.approx([-1.2 * 2 / 2, -0.5 * 2 / 2]), "tokens beyond the clip still learn"
    assert total == pytest.approx(-(1.2 * 2 * now[0] + 0.5 * 2 * now[1]) / 2)


def test_every_token_is_worth_what_the_teacher_says_of_it() -> None:
    """The costs are log (p / p of the teacher); rewards are not read, but an answer that broke teaches nothing."""
    costs = [[np.array([0.5, -0.25]), np.array([3.0]), np.array([1.0])]]
    found = OnPolicyDistil(teacher="x").advantages(np.array([[0.0, 9.0, NAN]]), costs)[0]
    assert [tokens.tolist() for tokens in found] == [[-0.5, 0.25], [-3], [0]]
    assert OnPolicyDistil(teacher="x").weighs_costs
    assert not Grpo().weighs_costs
    assert Grpo(kl=0.1).weighs_costs
