"""Episodes as tokens, and rounds of them: what was written is learned as it was drawn, and nothing else is."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from tuneful.core.environment import Turn
from tuneful.core.errors import DataError
from tuneful.core.types import Completion, Example, Layout, Message, Place, Row
from tuneful.data.layouts import Collator
from tuneful.environments import Play
from tuneful.models.playing import Player, Tried
from tuneful.objectives import Grpo, Rloo
from tuneful.schedules.rewarded import figures
from tuneful.schedules.rollouts import Rollouts
from tuneful.schedules.rounds import Hints, Rounds
from tuneful.testing import tiny_policy


class Talk:
    """Asks again until it has heard so many replies; each is worth its number of letters."""

    kind = "talk"
    patience: ClassVar[float] = 10.0

    def __init__(self, turns: int = 3) -> None:
        self.turns = turns

    def episode(self, example: Example, seed: int) -> Talking:
        return Talking(self.turns, example.messages[:1])


class Talking:
    tools = ()

    def __init__(self, turns: int, prompt: Sequence[Message]) -> None:
        self.left, self.prompt = turns, prompt

    def reply(self, text: str) -> Turn:
        self.left -= 1
        again = () if not self.left else (Message("user", f"and now {self.left}"),)
        return Turn(float(len(text)), done=not self.left, messages=again, parts={"letters": len(text)})


def example(words: str = "say 1") -> Example:
    return Example(Place("test", 1), messages=(Message("user", words), Message("assistant", "1")))


@pytest.fixture
def made(generator_folder: Path) -> Any:
    policy, loaded = tiny_policy(generator_folder)
    return SimpleNamespace(policy=policy, processor=loaded.processor, network=loaded.network)


def player(made: Any, environment: Any, new_tokens: int = 5, longest: int = 200) -> Player:
    return Player(made.processor, partial(Play, environment), new_tokens, longest)


def test_an_episode_holds_the_tokens_that_were_read_and_written(made: Any) -> None:
    tried = player(made, Talk(3)).play(made.policy, [(example(), 0), (example("say 2"), 0)], count=2, seed=1)
    assert [len(group) for group in tried] == [2, 2]
    for one in (one for group in tried for one in group):
        assert len(one.replies) == 3
        assert one.reward == sum(map(len, one.replies))
        assert len(one.written) == len(one.drawn)
        assert one.prompt == len(made.processor.prompt(one.game.messages[:1], ()).ids)
        assert min(one.written) == one.prompt
        ends = [n for n, place in enumerate(one.written) if place + 1 not in one.written]
        parts = np.split(np.array([one.ids[place] for place in one.written]), [n + 1 for n in ends[:-1]])
        assert [made.processor.decode(part.tolist()) for part in parts] == one.replies
        heard = made.processor.decode([token for place, token in enumerate(one.ids) if place not in one.written])
        assert "and now 2" in heard
        assert "and now 1" in heard
    assert len({tuple(one.ids) for group in tried for one in group}) == 4, "each is drawn for itself"


def test_what_follows_a_reply_is_what_the_template_says(made: Any) -> None:
    """A conversation of one's own words is the same, played or rendered."""
    ((tried,),) = player(made, Talk(2)).play(made.policy, [(example(), 0)], seed=3)
    rendered = made.processor.prompt(tried.game.messages[:3], ()).text
    end = tried.written[len(tried.written) - 1]
    first = next(place for place, after in zip(tried.written, tried.written[1:], strict=False) if after > place + 1)
    played = made.processor.tokenizer.decode(tried.ids[: tried.written[tried.written.index(first) + 1]])
    assert played == rendered
    assert end == len(tried.ids) - 1, "nothing is put behind the last reply"


def test_trainer_and_sampler_say_the_same_of_every_token(made: Any) -> None:
    groups = player(made, Talk(3)).play(made.policy, [(example(), 0), (example("ask me"), 0)], count=3, seed=1)
    rows = [row for group in groups for row in map(as_row, group)]
    batch = Collator(Layout.ROLLOUTS, share=True)(rows)
    with torch.no_grad():
        now = made.policy(batch).token_logprobs(batch.targets["tokens"], batch.targets["where"])
    assert len(now) == sum(len(one.written) for group in groups for one in group)
    torch.testing.assert_close(now, batch.targets["drawn"], atol=1e-4, rtol=1e-4)


def as_row(tried: Tried) -> Row:
    return rounds(None, Grpo(), [])._played(Row(example(), np.zeros(0), np.zeros(0)), tried)


def test_the_token_an_answer_ends_with_is_learned_and_stands_there_once() -> None:
    """Behind a reply the template puts 2, which ends it, and 7: where the model has written the 2 itself, 7 alone."""
    for stopped in (True, False):
        game: Any = SimpleNamespace(reward=1.0, broken="", turns=[], messages=[])
        one, end = Tried(game, [1, 3], 2), (2,) if stopped else ()
        one.say(Completion((5, 6), "x", stopped, end, (-1.0, -2.0, -3.0)[: 2 + stopped]), "x")
        assert one.written == ([2, 3, 4] if stopped else [2, 3])
        assert len(one.drawn) == len(one.written)
        one.hear(np.array([2, 7]))
        assert one.ids == [1, 3, 5, 6, 2, 7]
        assert one.truncated is not stopped


def test_an_episode_without_room_for_another_reply_is_cut(made: Any) -> None:
    ((tried,),) = player(made, Talk(9), longest=80).play(made.policy, [(example(), 0)], seed=0)
    assert tried.truncated
    assert len(tried.ids) <= 80
    assert 0 < len(tried.replies) < 9


def test_the_likeliest_way_is_the_same_each_time(made: Any) -> None:
    found = [
        player(made, Talk(2)).play(made.policy, [(example(), 0)], temperature=0.0, seed=seed) for seed in (0, 1)
    ]  # fmt: skip
    assert found[0][0][0].ids == found[1][0][0].ids


def told(rewards: Sequence[float], *, truncated: Sequence[int] = (), broken: Sequence[int] = ()) -> list[Tried]:
    """Answers of one token to one prompt with these rewards."""
    found = []
    for number, reward in enumerate(rewards):
        game = SimpleNamespace(reward=reward, broken="why" if number in broken else "", turns=[], messages=[])
        one = Tried(game, [5, 6, 10 + number], 2, [2], [-1.0], ["x"], truncated=number in truncated)  # type: ignore[arg-type]
        found.append(one)
    return found


class Given:
    """A player that gives what it is told, and remembers what it was asked."""

    new_tokens = 10

    def __init__(self, groups: Sequence[list[Tried]]) -> None:
        self.groups, self.asked, self.hints = list(groups), [], []  # type: ignore[var-annotated]

    def play(self, policy: Any, asked: Any, *, count: int, seed: int, hints: Any) -> Any:
        self.hints.append(hints)
        self.asked.append([example.place.row for example, _ in asked])
        return [self.groups.pop(0) for _ in asked]


def rounds(play: Any, objective: Any, rows: Sequence[Row], **changes: Any) -> Rounds:
    settings = {"prompts": 2, "answers": 3, "redraw": 0, "micro_tokens": 100, "seed": 0, **changes}
    return Rounds(rows, Collator(Layout.ROLLOUTS), play or Given([]), objective, **settings)  # type: ignore[arg-type]


def prompts(count: int) -> list[Row]:
    return [Row(Example(Place("test", n)), np.array([5, 6], dtype=np.int32), np.zeros(2)) for n in range(count)]


def test_a_round_learns_what_can_be_learned_and_counts_the_rest() -> None:
    """Of the first prompt all rewards are alike, and its three answers count in the denominator alone."""
    groups = [told([1, 1, 1]), told([0, 1, 2], truncated=[2])]
    found = rounds(Given(groups), Grpo(scale="none"), prompts(2)).drawn(None, 0)  # type: ignore[arg-type]
    assert sorted(float(row.advantages[0]) for row in found.rows) == [-0.5, 0.5], "what was cut is no baseline"
    assert found.units == 3
    assert found.metrics["reward"] == 1
    assert found.metrics["spread"] == 0.5
    assert found.metrics["truncated"] == pytest.approx(1 / 6)
    groups = [told([1, 1, 1]), told([0, 1, 2], truncated=[2])]
    objective = Grpo(scale="none", truncated=True)
    found = rounds(Given(groups), objective, prompts(2)).drawn(None, 0)  # type: ignore[arg-type]
    assert sorted(float(row.advantages[0]) for row in found.rows) == [-1, 1]
    assert found.units == 3 + 1, "the answer that is worth the mean counts, too"


def test_what_broke_is_left_out_and_counted() -> None:
    groups = [told([0, 1, 5], broken=[2]), told([0, 0, 0], broken=[0, 1, 2])]
    found = rounds(Given(groups), Grpo(scale="none"), prompts(2)).drawn(None, 0)  # type: ignore[arg-type]
    assert sorted(float(row.advantages[0]) for row in found.rows) == [-0.5, 0.5]
    assert found.metrics["broken"] == pytest.approx(4 / 6)
    assert found.metrics["reward"] == 0.5


def test_other_prompts_stand_in_for_those_that_teach_nothing() -> None:
    groups = [told([1, 1, 1]), told([0, 1, 2]), told([0, 0, 3])]
    play = Given(groups)
    found = rounds(play, Grpo(scale="none"), prompts(9), redraw=2).drawn(None, 0)  # type: ignore[arg-type]
    assert list(map(len, play.asked)) == [2, 1], "once again, one prompt"
    assert not set(play.asked[0]) & set(play.asked[1]), "another one"
    assert found.units == 1, "of the second prompt's answers that which is worth the mean, and none of the first's"
    assert len(found.rows) == 2 + 3
    assert found.metrics["drawn_again"] == 1
    assert found.metrics["reward"] == 1, "that of the first prompts: the others were chosen"


def test_every_prompt_is_asked_once_an_epoch() -> None:
    play = Given([told([0, 1, 2])] * 8)
    made = rounds(play, Grpo(), prompts(4))
    for number in range(4):
        made.drawn(None, number)  # type: ignore[arg-type]
    first, second = ([row for rows in part for row in rows] for part in (play.asked[:2], play.asked[2:]))
    assert sorted(first) == sorted(second) == [0, 1, 2, 3]
    assert first != second


def test_figures_of_a_round_by_hand() -> None:
    found = figures([told([0, 1], broken=[0]), told([2, 2])])
    assert found["reward"] == pytest.approx(5 / 3)
    assert found["spread"] == 0
    assert found["entropy"] == 1
    assert (found["length"], found["written"]) == (1, 4)


def test_the_cost_of_an_answer_is_measured_against_the_model_before_tuning(made: Any) -> None:
    tried = player(made, Talk(1)).play(made.policy, [(example(), 0)], count=2, seed=1)
    own = rounds(player(made, Talk(1)), Grpo(kl=0.1), [Row(example(), np.zeros(0), np.zeros(0))])
    plain = [[own._played(own.rows[0], one) for one in group] for group in tried]
    untuned = own._costs(made.policy, plain)
    np.testing.assert_allclose(np.concatenate(untuned[0]), 0, atol=1e-4)
    with torch.no_grad():
        for parameter in made.policy.trainable().values():
            parameter.mul_(1.1)
    made.policy.forget()
    tried = player(made, Talk(1)).play(made.policy, [(example(), 0)], count=2, seed=1)
    plain = [[own._played(own.rows[0], one) for one in group] for group in tried]
    for row, cost in zip(plain[0], own._costs(made.policy, plain)[0], strict=True):
        batch = Collator(Layout.ROLLOUTS)([row])
        before = made.policy.reference(batch).token_logprobs(batch.targets["tokens"], batch.targets["where"])
        np.testing.assert_allclose(cost, row.drawn - before.numpy(), atol=1e-4)
        assert np.abs(cost).max() > 1e-3


def test_prompts_are_learned_although_nothing_of_them_is() -> None:
    assert len(Rollouts().learns(prompts(3))) == 3


def test_a_round_of_which_nothing_could_be_said_asks_for_no_costs() -> None:
    groups = [told([0, 0, 0], broken=[0, 1, 2]), told([0, 0, 0], broken=[0, 1, 2])]
    for group in groups:
        for one in group:
            one.ids, one.written, one.drawn, one.replies = [], [], [], []
    found = rounds(Given(groups), Rloo(), prompts(2)).drawn(None, 0)  # type: ignore[arg-type]
    assert (found.rows, found.units) == ([], 0)
    assert "reward" not in found.metrics
    assert found.metrics["broken"] == 1


def test_advantages_are_those_of_the_whole_update_however_often_it_was_drawn() -> None:
    """Of two groups alike the second came in place of one that taught nothing."""
    groups = [told([1, 1, 1]), told([1, 0, 0]), told([1, 0, 0])]
    found = rounds(Given(groups), Grpo(), prompts(9), redraw=1).drawn(None, 0)  # type: ignore[arg-type]
    gains = sorted(float(row.advantages[0]) for row in found.rows)
    spread = float(np.std([1, 0, 0, 1, 0, 0], ddof=1)) + 1e-4
    assert gains == pytest.approx(sorted([2 / 3 / spread, -1 / 3 / spread, -1 / 3 / spread] * 2))


def test_a_difference_of_rounding_is_none_and_a_cost_makes_none() -> None:
    groups = [told([0.1, 0.1, 0.1]), told([0.1, 0.1, 0.1])]
    found = rounds(Given(groups), Grpo(), prompts(9), redraw=0).drawn(None, 0)  # type: ignore[arg-type]
    assert not found.rows
    costs = [[np.array([0.3]), np.array([-0.2]), np.array([0.5])]]
    gains = Grpo(kl=0.01).advantages(np.array([[0.0, 0.0, 0.0]]), costs)[0]
    assert [float(gain[0]) for gain in gains] == pytest.approx([-0.001, 0.004, -0.003])


def test_what_the_template_refuses_breaks_one_episode(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Any, *told: Any) -> Any:
        raise DataError("no such turn")

    monkeypatch.setattr(type(made.processor), "behind", refuse)
    ((one,),) = player(made, Talk(2)).play(made.policy, [(example(), 0)], seed=1)
    assert one.broken == "no such turn"
    assert np.isnan(one.reward)


def test_a_hint_is_read_and_not_learned(made: Any) -> None:
    asked = Example(Place("test", 1), messages=(Message("user", "say it"), Message("assistant", "abcdef")))
    ((plain,),) = player(made, Talk(1)).play(made.policy, [(asked, 0)], seed=1)
    ((helped,),) = player(made, Talk(1)).play(made.policy, [(asked, 0)], seed=1, hints=[0.5])
    assert helped.replies[0].startswith("abc")
    assert helped.ids[: helped.prompt] == plain.ids[: plain.prompt]
    shown = helped.ids[helped.prompt : min(helped.written)]
    assert tuple(shown) == helped.hint
    assert made.processor.decode(shown) == "abc"
    ((most,),) = player(made, Talk(1)).play(made.policy, [(asked, 0)], seed=1, hints=[0.99])
    assert made.processor.decode(most.hint) == "abcde", "something is left to write"


def test_a_hint_is_of_the_last_answer_and_one_text_with_what_follows(made: Any) -> None:
    words = "\u6211\u4eec"  # three bytes each
    turns = (Message("user", "a"), Message("assistant", "xyz"), Message("user", "b"), Message("assistant", words))
    asked = Example(Place("test", 1), messages=turns)
    ((helped,),) = player(made, Talk(1)).play(made.policy, [(asked, 0)], seed=1, hints=[0.34])
    whole = list(made.processor.tokenizer(words, add_special_tokens=False)["input_ids"])
    assert list(helped.hint) == whole[:2]
    one = Tried(helped.game, [], 0, hint=helped.hint)
    player(made, Talk(1))._said(one, Completion(tuple(whole[2:]), "?", stopped=True))
    assert one.replies == [words]


def test_hints_grow_while_little_is_earned_and_end_when_enough_is() -> None:
    groups = [told([0, 0, 0.3])] * 2 + [told([1, 1, 0.5])] * 4
    play = Given(groups)
    made = rounds(play, Grpo(), prompts(2), hints=Hints(0.5))
    told_of = [made.drawn(None, number).metrics["hint"] for number in range(3)]  # type: ignore[arg-type]
    assert told_of == pytest.approx([0.5, 0.55, 0.5])
    for share, drawn in zip(told_of, play.hints, strict=True):
        assert len(set(drawn)) == 2, "some prompts are easier than others"
        assert all(abs(one - share) <= 0.25 for one in drawn)
    assert made.hints.share == pytest.approx(0.45)
