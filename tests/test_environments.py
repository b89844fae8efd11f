"""Episodes side by side: sums by hand, and everything an environment or reward can do wrong."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tuneful.core.environment import Turn
from tuneful.core.types import Example, Message, Place
from tuneful.environments import ENVIRONMENTS, Play, SingleTurn, in_time, play
from tuneful.environments.in_time import Failed, answers
from tuneful.environments.rewards import Exact, Length, Numeric, Python
from tuneful.testing import check_table

QUESTION = Message("user", "2 + 2?")
EXAMPLE = Example(Place("sums", 1), messages=(QUESTION, Message("assistant", "4")))


def test_every_environment_keeps_the_contract_of_components() -> None:
    check_table(ENVIRONMENTS)


def test_rewards_are_weighed_and_added_up() -> None:
    environment = SingleTurn(rewards=[Numeric(weight=2), Length(limit=1, margin=4, weight=0.5), Numeric(which="first")])
    episode = environment.episode(EXAMPLE, seed=0)
    assert episode.prompt == (QUESTION,), "the reference is not shown"
    turn = episode.reply("it is 4")
    assert turn.reward == 2 * 1 + 0.5 * -0.5 + 1
    assert turn.parts == {"numeric": 1, "length": -0.5, "numeric 2": 1}
    assert turn.done


def test_what_is_asked_may_be_a_text_and_its_answer_a_label() -> None:
    episode = SingleTurn().episode(Example(Place("x", 1), text="2 + 2?", label=4), seed=0)
    assert episode.prompt == (QUESTION,)
    assert episode.reply("4").reward == 1


def made(reply: Callable[[str], Any], turns: int = 1, patience: float = 5.0) -> Any:
    """An environment with this answer to a reply."""

    @dataclass
    class Made:
        kind: str = "made"
        prompt: Sequence[Message] = (QUESTION,)
        tools: Sequence[Any] = ()

        @property
        def turns(self) -> int:
            return turns

        @property
        def patience(self) -> float:
            return patience

        def episode(self, example: Example, seed: int) -> Any:
            if example.label == "unlucky":
                raise KeyError("no such world")
            return self

        def reply(self, text: str) -> Any:
            return reply(text)

    return Made()


def fail(text: str) -> Any:
    raise RuntimeError(f"bad\n{text}")


GOING_ON = Turn(0.25, done=False, messages=(Message("user", "and?"),))


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (fail, "RuntimeError: bad x"),
        (lambda text: sys.exit(3), "SystemExit: 3"),
        (lambda text: Turn(float("nan"), done=True), "ValueError: Made gave nan, which is no finite number"),
        (lambda text: Turn(float("inf"), done=True), "ValueError: Made gave inf, which is no finite number"),
        (lambda text: Turn("1.0", done=True), "ValueError: Made gave '1.0', where a number was expected"),
        (lambda text: Turn(None, done=True), "ValueError: Made gave None, where a number was expected"),
        (lambda text: Turn(1.0, done=True, parts={"a": float("nan")}), "ValueError: a gave nan, which is no finite number"),
        (lambda text: 1.0, "TypeError: Made.reply returned 1.0, where a Turn was expected"),
        (lambda text: Turn(1.0, done=False), "ValueError: Made goes on and says nothing that could be replied to"),
        (lambda text: Turn(1.0, done=False, broken="the judge is ill"), "the judge is ill"),
    ],
)  # fmt: skip
def test_a_broken_episode_is_data(reply: Callable[[str], Any], why: str) -> None:
    held = Play(made(reply, turns=3), [(EXAMPLE, 0), (EXAMPLE, 1)])
    turn = held.reply({1: "x"})[1]
    assert turn.broken == why
    assert turn.done
    assert turn.reward == 0
    assert held.open == [0]
    assert held.games[1].broken == why
    assert held.games[1].messages == [QUESTION, Message("assistant", "x")]


def test_an_episode_that_does_not_begin_is_data() -> None:
    unlucky = Example(Place("x", 1), label="unlucky")
    games = play(
        made(lambda text: Turn(1.0, done=True)), [(unlucky, 0), (EXAMPLE, 0)], lambda asked: ["x"] * len(asked)
    )
    assert [game.broken for game in games] == ["the episode did not begin: KeyError: 'no such world'", ""]
    assert games[1].reward == 1
    nothing = play(SingleTurn(), [(Example(Place("x", 1), label="4"), 0)], lambda asked: ["x"])
    assert nothing[0].broken.startswith("the episode did not begin: ValueError: x row 1: nothing is asked")


def test_an_environment_that_never_ends_is_ended() -> None:
    asked: list[int] = []

    def write(conversations: list[Sequence[Message]]) -> list[str]:
        asked.append(len(conversations[0]))
        return ["on"]

    [game] = play(made(lambda text: GOING_ON, turns=3), [(EXAMPLE, 0)], write)
    assert asked == [1, 3, 5]
    assert game.reward == 0.75
    assert game.cut
    assert not game.broken
    assert [message.role for message in game.messages] == ["user", "assistant"] * 3
    with pytest.raises(ValueError, match="game 0 is over"):
        Play(made(lambda text: GOING_ON, turns=3), [(Example(Place("x", 1), label="unlucky"), 0)]).reply({0: "x"})


def slow(reply: str, example: Example) -> float:
    if reply == "slow":
        time.sleep(60)
    return {"nan": float("nan"), "text": "1"}.get(reply, 1.0)  # type: ignore[return-value]


def test_a_reward_that_takes_a_minute_costs_the_patience_once() -> None:
    environment = SingleTurn(rewards=[Python(path=f"{__name__}:slow")], patience=0.5)
    held = Play(environment, [(EXAMPLE, seed) for seed in range(40)])
    start = time.monotonic()
    turns = held.reply({number: "slow" if number % 2 else "quick" for number in range(40)})
    assert time.monotonic() - start < 3.0, "not once for each of twenty"
    assert [turn.broken for turn in turns.values()] == ["", "no answer within 0.5 s"] * 20
    assert [turn.reward for turn in turns.values()] == [1, 0] * 20


def test_what_rewards_get_wrong_is_said() -> None:
    held = Play(SingleTurn(rewards=[Exact(), Python(path=f"{__name__}:slow")]), [(EXAMPLE, 0)] * 3)
    turns = held.reply({0: "nan", 1: "text", 2: "4"})
    assert [turn.broken for turn in turns.values()] == [
        "ValueError: python gave nan, which is no finite number",
        "ValueError: python gave '1', where a number was expected",
        "",
    ]
    assert turns[2].reward == 2


def test_time_begins_when_a_job_does() -> None:
    """Six jobs of 0.15 s, one at a time, none longer than 0.7 s."""
    assert answers([lambda: time.sleep(0.15)] * 6, patience=0.7, at_once=1) == [None] * 6


def test_no_more_at_once_than_asked_for() -> None:
    now, most, lock = 0, 0, threading.Lock()

    def job() -> int:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.02)
        with lock:
            now -= 1
        return most

    answers([job] * 12, patience=5, at_once=3)
    assert most == 3


def test_however_many_never_end_all_is_over_after_twice_the_patience() -> None:
    ever = threading.Event()
    start = time.monotonic()
    found = answers([ever.wait] * 50, patience=0.4, at_once=4)
    assert time.monotonic() - start < 2.5, "13 times the patience is 5.2 s"
    assert found == [Failed("no answer within 0.4 s")] * 50
    ever.set()


def test_threads_that_never_end_are_not_gathered_without_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_time, "STUCK", 3)
    monkeypatch.setattr(in_time, "_given_up", [])
    ever = threading.Event()
    for _ in range(2):
        answers([ever.wait] * 2, patience=0.05)
    found = answers([ever.wait, lambda: True], patience=0.05)
    assert found == [Failed("not begun: 3 earlier ones never ended")] * 2
    ever.set()
    time.sleep(0.05)
    assert answers([lambda: True], patience=1) == [True]


def test_answers_that_come_too_late_are_passed_over() -> None:
    first = answers([partial(time.sleep, 0.1)], patience=0.05)
    assert first == [Failed("no answer within 0.05 s")]
    assert answers([lambda: time.sleep(0.1) or "mine"], patience=1) == ["mine"]  # type: ignore[func-returns-value]


def test_a_thread_that_never_ends_does_not_keep_the_interpreter() -> None:
    code = "import time\nfrom in_time import answers\nanswers([lambda: time.sleep(60)], patience=0.1)"
    place = {"PYTHONPATH": str(Path(in_time.__file__).parent)}
    assert subprocess.run([sys.executable, "-S", "-c", code], timeout=50, check=False, env=place).returncode == 0
