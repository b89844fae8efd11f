"""The tasks of reasoning-gym, scored apart from everything else."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tuneful.core.types import Example, Place
from tuneful.environments import play
from tuneful.environments import reasoning_gym as adapter
from tuneful.environments.reasoning_gym import BESIDE, ReasoningGym
from tuneful.testing import check_environment

here = pytest.mark.skipif(importlib.util.find_spec("reasoning_gym") is None, reason="reasoning-gym is an extra")


@pytest.fixture(scope="module", autouse=True)
def ended() -> Iterator[None]:
    yield
    BESIDE.end()


def test_without_it_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter.importlib.util, "find_spec", lambda name: None)
    assert ReasoningGym().lacking() == ["reasoning-gym is not here: pip install 'tuneful[rl]'"]


def test_other_examples_are_refused() -> None:
    [game] = play(ReasoningGym(), [(Example(Place("x", 1), text="1 + 1?", label="2"), 0)], lambda asked: ["2"])
    assert "this is no task of reasoning-gym; take those that it makes" in game.broken


@here
def test_tasks_and_their_scores() -> None:
    environment = ReasoningGym(settings={"min_terms": 2, "max_terms": 2}, hint="Number only.", answer="is (-?\\d+)")
    assert environment.lacking() == []
    check_environment(environment)
    for example in environment.examples(4, 0):
        question, right = example.messages
        assert question.content.endswith("\nNumber only.")
        replies = [f"it is {right.content}", f"is 5, no, is {right.content}", "is 123456", right.content]
        scores = [environment.score(reply, example.label) for reply in replies]
        assert scores[:2] == [1, 1]
        assert scores[2] < 1
        assert scores[3] == 0, "there is no 'is' in it"
    assert environment.episode(example, 0).prompt == (question,)


@here
def test_half_a_score_counts_or_does_not() -> None:
    [example] = ReasoningGym().examples(1, 0)
    reply = f"x {example.messages[1].content}"
    assert 0 < ReasoningGym().score(reply, example.label) < 1
    assert ReasoningGym(whole=True).score(reply, example.label) == 0


@here
def test_no_task_of_one_seed_is_one_of_another() -> None:
    asked = [
        {one.messages[0].content for one in ReasoningGym(dataset="spell_backward").examples(40, seed)}
        for seed in (0, 1)
    ]
    assert len(asked[0] & asked[1]) < 10, "neighbouring seeds of the library share all tasks but one"


@here
@pytest.mark.parametrize(
    "code",
    [
        "open({file!r}, 'w').write('x')",
        "__import__('os').system('touch {file}')",
        "__import__('socket').socket()",
        "().__class__ / 0",
    ],
)
def test_what_a_model_writes_is_run_by_some_rules_and_can_do_nothing(code: str, tmp_path: Path) -> None:
    file = tmp_path / "was_here"
    environment = ReasoningGym(dataset="string_insertion")
    [example] = environment.examples(1, 0)
    reply = f"[{code.format(file=str(file))}]"
    assert environment.score(reply, example.label) < 1
    assert not file.exists()


@here
def test_a_sum_that_never_ends_breaks_its_episode_and_no_other() -> None:
    environment = ReasoningGym(dataset="string_insertion", seconds=0.5)
    example = environment.examples(1, 0)[0]
    replies = iter(["[9**9**9**9]", example.messages[1].content])
    games = play(environment, [(example, 0)] * 2, lambda asked: [next(replies) for _ in asked])
    assert games[0].broken == "TimeoutError: reasoning-gym gave no score within 0.5 s"
    assert (games[1].reward, games[1].broken) == (1, "")


@here
@pytest.mark.parametrize(
    ("settings", "said"),
    [({"dataset": "chainsum"}, "not registered"), ({"settings": {"terms": 3}}, "unexpected keyword"), ({"answer": "("}, "is no regular expression")],
)  # fmt: skip
def test_what_cannot_be_made_is_said(settings: dict[str, Any], said: str) -> None:
    [problem] = ReasoningGym(**settings).lacking()
    assert said in problem
