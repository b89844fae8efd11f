"""Reward models: the formula, what they read, and runs from a file of pairs to a number."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tuneful.adapters import Full, Lora
from tuneful.core.errors import DataError
from tuneful.core.policy import Policy
from tuneful.core.types import Batch, Example, Layout, Message, Place, Row
from tuneful.data.layouts import Collator
from tuneful.data.rewards import rated, rated_answer
from tuneful.evaluation.reward_model import read_rewards, together, with_length
from tuneful.objectives import BradleyTerry
from tuneful.testing import tiny_policy, tiny_rows


class Rates:
    """A model whose head gives texts these numbers."""

    def __init__(self, *rewards: float) -> None:
        self.rewards = torch.tensor(rewards, requires_grad=True)

    def __call__(self, batch: Batch) -> Any:
        return SimpleNamespace(class_logits=lambda: self.rewards[:, None])


def losses(*rewards: float, **settings: float) -> Any:
    rows = len(rewards) // 2
    return BradleyTerry(**settings)(Rates(*rewards), Batch({}, {}, torch.ones(rows), float(rows), 1))  # type: ignore[arg-type]


def test_a_head_that_says_nothing_loses_log_2() -> None:
    assert losses(0.0, 0.0).losses.tolist() == pytest.approx([math.log(2)])
    assert losses(0.5, 0.5).losses.tolist() == pytest.approx([math.log(2) + 0.01])


def test_the_loss_of_two_pairs_by_hand() -> None:
    found = losses(2.0, 1.0, -1.0, 2.0, centring=0.1)
    # -log sigmoid(1) + 0.1 * 3^2 and -log sigmoid(-3) + 0.1 * 1^2
    assert found.losses.tolist() == pytest.approx([0.313262 + 0.9, 3.048587 + 0.1], abs=1e-5)
    assert found.metrics == {"accuracy": 0.5, "margin": pytest.approx(-1.0)}
    assert losses(2.0, 1.0, centring=0).losses.tolist() == pytest.approx([0.313262], abs=1e-5)


def test_centring_holds_rewards_around_zero() -> None:
    rates = Rates(4.0, 3.0)
    BradleyTerry(centring=0.5)(rates, Batch({}, {}, torch.ones(1), 1.0, 1)).losses.sum().backward()  # type: ignore[arg-type]
    away = 1 / (1 + math.exp(1))  # sigmoid(-1), the slope of the first part
    assert rates.rewards.grad is not None
    assert rates.rewards.grad.tolist() == pytest.approx([-away + 7, away + 7], abs=1e-5)


def pair(chosen: str, rejected: str, asked: str = "say it at once") -> Example:
    return Example(
        Place("pairs", 1), messages=(Message("user", asked),), chosen=(Message("assistant", chosen),),
        rejected=(Message("assistant", rejected),),
    )  # fmt: skip


def test_a_shared_prompt_is_read_once_and_changes_nothing(generator_folder: Path) -> None:
    found = {}
    for share in (False, True):
        torch.manual_seed(0)
        policy, loaded = tiny_policy(generator_folder, Lora(rank=4), layout=Layout.REWARDS)
        rows = tiny_rows(loaded, Layout.REWARDS)
        rows.append(rated(pair("abab", "abab cdcdcd"), loaded.processor, 64)[0])
        batch = Collator(Layout.REWARDS, share=share)(rows)
        own = BradleyTerry()(policy, batch).losses
        own.sum().backward()
        found[share] = (own.detach(), {name: p.grad for name, p in policy.trainable().items()}, batch.tokens)
    torch.testing.assert_close(found[True][0], found[False][0], rtol=1e-4, atol=1e-5)
    for name, grad in found[False][1].items():
        torch.testing.assert_close(found[True][1][name], grad, rtol=1e-3, atol=1e-4)
    assert found[True][2] < 0.8 * found[False][2]


@pytest.mark.parametrize("adapter", [Full(), Lora(rank=4)], ids=lambda one: one.kind)
def test_it_is_the_number_that_transformers_gives(adapter: Any, generator_folder: Path) -> None:
    torch.manual_seed(0)
    policy, loaded = tiny_policy(generator_folder, adapter, layout=Layout.REWARDS)
    row, _, _ = rated(pair("abc", "a longer answer"), loaded.processor, 64)
    rewards = read_rewards(policy, [row], Collator(Layout.REWARDS, share=True))
    whole: Any = policy.attached.merged()
    for text, reward in zip(row.texts, rewards, strict=True):
        with torch.no_grad():
            alone = whole(input_ids=torch.tensor(text.astype(np.int64))[None]).logits
        assert float(alone) == pytest.approx(float(reward), abs=1e-4)


def test_a_stop_token_that_is_the_pad_token_is_left_out(generator_folder: Path) -> None:
    """transformers takes it for padding and reads the token before it."""
    _, loaded = tiny_policy(generator_folder, layout=Layout.REWARDS)
    plain = loaded.processor
    row = rated_answer(pair("abc", "d"), (Message("assistant", "abc"),), plain, 64)
    ends = type(plain)(plain.tokenizer, plain.stop_ids, plain.max_tokens, int(row.ids[-1]), plain.brought_template)
    short = rated_answer(pair("abc", "d"), (Message("assistant", "abc"),), ends, 64)
    assert short.ids.tolist() == row.ids[: len(short.ids)].tolist()
    assert len(short.ids) < len(row.ids)
    assert short.ids[-1] != ends.pad_id


def test_an_encoder_reads_prompt_and_answer_as_two_texts(reader_folder: Path) -> None:
    _, loaded = tiny_policy(reader_folder, layout=Layout.REWARDS)
    row, shown, cut = rated(pair("yes", "no"), loaded.processor, 64)
    assert [list(text) for text in row.texts] == [
        list(loaded.processor.text("say it at once", answer, limit=64).ids) for answer in ("yes", "no")
    ]
    assert shown.text == "✓ say it at once\nyes\n✗ say it at once\nno"
    assert not cut
    assert rated(pair("yes" * 40, "no" * 50), loaded.processor, 32)[2]
    with pytest.raises(DataError, match="are the same to this model"):
        rated(pair("yes", "yes"), loaded.processor, 64)


def of_lengths(chosen: int, rejected: int) -> Row:
    return Row(Example(Place("pairs", 1)), np.zeros(chosen + rejected, dtype=np.int32),
               np.zeros(chosen + rejected, dtype=np.float32), lengths=(chosen, rejected))  # fmt: skip


def test_how_much_of_a_reward_is_length() -> None:
    assert together(np.array([1.0, -2.0]), np.array([2.0, -4.0])) == pytest.approx(1)
    assert together(np.array([1.0, 1.0]), np.array([3.0, -3.0])) == pytest.approx(0)
    assert together(np.array([3.0, 4.0]), np.array([1.0, 0.0])) == pytest.approx(0.6)
    rows = [of_lengths(9, 3), of_lengths(3, 9)] * 20  # people do not look at length
    told = with_length(np.array([6.0, -6.0] * 20), rows)
    assert told.key == "reward_is_length"
    assert told.facts == {"n": 40, "rewards": 1.0, "people": 0.0}
    assert with_length(np.array([1.0, 1.0] * 20), rows).key == "reward_length"
    same = [of_lengths(9, 3)] * 40  # people choose the longer one, and so does the model
    assert with_length(np.full(40, 2.0), same).key == "reward_length"


def test_rewards_come_in_the_order_of_the_rows(generator_folder: Path) -> None:
    policy, loaded = tiny_policy(generator_folder, layout=Layout.REWARDS)
    assert isinstance(policy, Policy)
    rows = tiny_rows(loaded, Layout.REWARDS)[::-1]  # not as they are read
    collate = Collator(Layout.REWARDS, share=True)
    together_T = read_rewards(policy, rows, collate)
    alone_T = np.concatenate([read_rewards(policy, [row], collate) for row in rows])
    assert together_T == pytest.approx(alone_T, abs=1e-4)
