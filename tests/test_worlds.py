"""The environments that need no data: rewards by hand, the best player, and players who do not understand."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from pydantic import ValidationError

from tuneful.core.environment import PARTS, Lacks, MakesExamples
from tuneful.core.errors import InputError
from tuneful.core.types import Example, Message, Place
from tuneful.environments import ENVIRONMENTS, GridWorld, GuessNumber, ScriptedUser, SingleTurn, TicketDesk, play
from tuneful.environments.calls import called, objects
from tuneful.environments.grid_world import Square, distances
from tuneful.environments.rewards import Contains, Exact, Length, Numeric
from tuneful.environments.ticket_desk import TOOLS, outcome, solution
from tuneful.testing import check_environment

MADE = [one() for one in ENVIRONMENTS if isinstance(one(), MakesExamples) and not isinstance(one(), Lacks)]


@pytest.mark.parametrize("environment", MADE, ids=lambda one: one.kind)
def test_worlds_keep_the_contract(environment: Any) -> None:
    check_environment(environment)


def test_environments_over_data_keep_the_contract() -> None:
    said = [
        Message(role, text) for role, text in [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]
    ]
    example = Example(Place("x", 1), messages=tuple(said))
    check_environment(SingleTurn(), [example])
    check_environment(ScriptedUser(), [example])


@pytest.mark.parametrize("environment", [GridWorld(), TicketDesk()], ids=lambda one: one.kind)
def test_what_is_tested_was_never_learned(environment: GridWorld | TicketDesk) -> None:
    def worlds(seed: int) -> set[str]:
        return {json.dumps(one.label, sort_keys=True) for one in environment.examples(200, seed)}

    learned = worlds(0) | worlds(PARTS)
    assert len(worlds(0)) == 200
    assert not learned & (worlds(1) | worlds(2))
    assert not worlds(1) & worlds(2)


def test_more_worlds_than_there_are_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"grid_world: 100 different tasks are asked for, and there seem to be \d+;"):
        GridWorld(rows=2, columns=2, walls=0).examples(100, 0)
    monkeypatch.setattr("tuneful.environments.grid_world.TRIES", 2)
    with pytest.raises(InputError, match="take fewer walls or more turns"):
        GridWorld(rows=9, columns=9, turns=1).examples(1, 0)


# guess_number


def guess(environment: GuessNumber, secret: int, replies: Sequence[str]) -> tuple[list[str], float]:
    """What is answered, and the sum of rewards."""
    episode, answers, total = environment.episode(Example(Place("x", 1), label=secret), 0), [], 0.0
    for reply in replies:
        turn = episode.reply(reply)
        total += turn.reward
        answers += [message.content for message in turn.messages]
    assert turn.done
    return answers, total


def test_a_number_is_guessed() -> None:
    environment = GuessNumber(turns=5)
    answers, reward = guess(environment, 7, ["Is it 10?", "5", "no idea", "7."])
    assert answers == [
        "The number is lower than 10.",
        "The number is higher than 5.",
        "Reply with one whole number from 1 to 20.",
    ]
    assert reward == pytest.approx(1 - 3 / 5)
    assert guess(environment, 7, ["7"])[1] == 1
    assert guess(environment, 7, ["6 or 7", "6.5", "21", "-7", "8"]) == (
        [
            "Reply with one whole number from 1 to 20.",
            "Reply with one whole number from 1 to 20.",
            "21 is not between 1 and 20. Reply with one whole number.",
            "-7 is not between 1 and 20. Reply with one whole number.",
        ],
        0.0,
    )
    assert guess(GuessNumber(turns=1), 3, ["3"])[1] == 1
    with pytest.raises(ValidationError, match="high: 3 is not above low, which is 3"):
        GuessNumber(low=3, high=3)


def halving(low: int, high: int) -> Callable[[list[Sequence[Message]]], list[str]]:
    """A player that guesses so that the tree of guesses is as full as it can be."""

    def one(conversation: Sequence[Message]) -> str:
        left, right = low, high
        for message in conversation[1:]:
            if found := re.search(r"(higher|lower) than (-?\d+)", message.content):
                number = int(found[2])
                left, right = (max(left, number + 1), right) if found[1] == "higher" else (left, min(right, number - 1))
        return str((left + right) // 2)

    return lambda conversations: [one(conversation) for conversation in conversations]


def test_the_best_player_gets_the_optimum() -> None:
    environment = GuessNumber(low=1, high=7, turns=4)
    assert environment.optimum() == pytest.approx((1 + 2 * 0.75 + 4 * 0.5) / 7)
    everything = [(Example(Place("x", secret), label=secret), 0) for secret in range(1, 8)]
    games = play(environment, everything, halving(1, 7))
    assert sum(game.reward for game in games) / 7 == pytest.approx(environment.optimum())
    assert GuessNumber(low=1, high=20, turns=2).optimum() == pytest.approx((1 + 2 * 0.5) / 20)
    constant = play(environment, everything, lambda asked: ["4"] * len(asked))
    assert sum(game.reward for game in constant) == 1


def test_secrets_are_spread_and_the_prompt_tells_nothing() -> None:
    examples = GuessNumber().examples(400, 0)
    assert {example.label for example in examples} == set(range(1, 21))
    assert len({example.messages for example in examples}) == 1
    assert [one.label for one in GuessNumber().examples(20, 0)] != [one.label for one in GuessNumber().examples(20, 1)]


# grid_world

WORLD = {"size": (3, 3), "start": (1, 1), "goal": (3, 1), "walls": [(2, 1), (2, 2)]}
# S . .
# # # .
# G . .    the shortest way: east, east, south, south, west, west


def walk(environment: GridWorld, replies: Sequence[str]) -> tuple[list[str], float]:
    episode, answers, total = environment.episode(Example(Place("x", 1), label=WORLD), 0), [], 0.0
    for reply in replies:
        turn = episode.reply(reply)
        total += turn.reward
        answers += [message.content for message in turn.messages]
    assert turn.done
    return answers, total


def test_a_way_through_a_grid() -> None:
    way = ["east", "I go East.", "south", "SOUTH", "west", "west"]
    answers, reward = walk(GridWorld(), way)
    assert answers[0] == "You are at row 1, column 2. The goal is at row 3, column 1."
    assert reward == 1
    answers, reward = walk(GridWorld(), ["south", "north", "north or east", "up", *way])
    assert answers[0] == "There is a wall. You are still at row 1, column 1. The goal is at row 3, column 1."
    assert answers[1] == answers[0]
    assert answers[2].startswith("Reply with one word: north, south, east or west. You are at row 1, column 1.")
    assert reward == pytest.approx(6 / 10)
    assert walk(GridWorld(turns=6), ["east"] * 6)[1] == 0
    assert walk(GridWorld(turns=6, partial=0.3), ["east"] * 6)[1] == pytest.approx(0.3 * 2 / 6)
    assert walk(GridWorld(turns=6), way)[1] == 1


def test_distances_by_hand_and_a_world_in_words() -> None:
    found = distances(WORLD)
    assert found == {
        Square(3, 1): 0, Square(3, 2): 1, Square(3, 3): 2, Square(2, 3): 3, Square(1, 3): 4, Square(1, 2): 5, Square(1, 1): 6,
    }  # fmt: skip
    [message] = GridWorld().episode(Example(Place("x", 1), label=WORLD), 0).prompt
    assert message.content.startswith(
        "You are in a grid of 3 rows and 3 columns. Row 1 is in the north, column 1 in the west. You are at row 1, column "
        "1. The goal is at row 3, column 1. There are walls at row 2, column 1; row 2, column 2. Walk to the goal"
    )


def test_the_shortest_way_is_worth_one_in_every_world() -> None:
    environment = GridWorld(rows=5, columns=4, walls=6, turns=9)
    for example in environment.examples(40, 0):
        left, here = distances(example.label), Square(*example.label["start"])
        assert 1 <= left[here] <= 9
        episode, total = environment.episode(example, 0), 0.0
        moves = {"north": (-1, 0), "south": (1, 0), "east": (0, 1), "west": (0, -1)}
        while left[here]:
            name, here = next(
                (name, there)
                for name, (down, right) in moves.items()
                if left.get(there := Square(here.row + down, here.column + right), 99) == left[here] - 1
            )
            total += episode.reply(name).reward
        assert total == environment.optimum()


# ticket_desk


def call(name: str, **arguments: Any) -> str:
    return json.dumps({"name": name, "arguments": arguments})


ORDERS = {
    "A1": {"item": "lamp", "price": 40, "days_since_delivery": 3, "paid_back": False},
    "A2": {"item": "tent", "price": 300, "days_since_delivery": 3, "paid_back": False},
    "A3": {"item": "radio", "price": 40, "days_since_delivery": 31, "paid_back": False},
    "A4": {"item": "clock", "price": 40, "days_since_delivery": 30, "paid_back": True},
    "A5": {"item": "chair", "price": 100, "days_since_delivery": 30, "paid_back": False},
}


def serve(number: str, replies: Sequence[str], **settings: Any) -> tuple[list[str], float]:
    world = {"order": number, "orders": ORDERS, "says": "Money back!"}
    episode, answers, total = TicketDesk(**settings).episode(Example(Place("x", 1), label=world), 0), [], 0.0
    for reply in replies:
        turn = episode.reply(reply)
        total += turn.reward
        answers += [message.content for message in turn.messages]
    assert turn.done
    return answers, total


def test_what_the_rules_want() -> None:
    wanted = {"A1": "refund", "A2": "escalate", "A3": "close", "A4": "close", "A5": "refund"}
    assert {number: outcome(order) for number, order in ORDERS.items()} == wanted


@pytest.mark.parametrize(
    ("number", "replies", "reward"),
    [
        ("A1", [call("look_up", order="A1"), call("refund", order="A1", amount=40), call("close")], 1),
        ("A1", [call("look_up", order="A1"), call("refund", order="A1", amount=41), call("close")], 0),
        ("A1", [call("refund", order="A1", amount=40), call("look_up", order="A1"), call("close")], 0),
        ("A1", [call("look_up", order="A1"), call("look_up", order="A3"), call("refund", order="A3", amount=40), call("close")], 0),
        ("A1", [call("look_up", order="A1"), call("refund", order="A1", amount=40), call("refund", order="A1", amount=40), call("close")], 0),
        ("A1", [call("look_up", order="A1"), call("refund", order="A1", amount=40), *["done"] * 4], 0),
        ("A1", [call("look_up", order="A1"), call("close")], 0.1),
        ("A1", [call("close")], 0),
        ("A2", [call("look_up", order="A2"), call("escalate", order="A2"), call("close")], 1),
        ("A2", [call("look_up", order="A2"), call("refund", order="A2", amount=300), call("close")], 0),
        ("A3", [call("look_up", order="A3"), call("close")], 1),
        ("A3", [call("close")], 0),
        ("A4", ["Let me see.\n<tool_call>" + call("look_up", order="A4") + "</tool_call>", call("close")], 1),
    ],
)  # fmt: skip
def test_tickets_by_hand(number: str, replies: list[str], reward: float) -> None:
    assert serve(number, replies)[1] == reward


def test_what_the_tools_answer() -> None:
    replies = ["hello", call("look_up", order="A9"), call("look_up"), call("look_up", order=3), call("pay", order="A1")]
    replies += [call("look_up", order="A1"), call("refund", order="A1", amount=40), call("close")]
    answers, reward = serve("A1", replies, turns=9)
    assert reward == 1
    assert [json.loads(answer.removeprefix("Result: ")) for answer in answers] == [
        {"error": 'Reply with one JSON object: {"name": "...", "arguments": {...}}.'},
        {"error": "There is no order A9."},
        {"error": "look_up: arguments has no 'order'."},
        {"error": "look_up: 'order' should be of type string."},
        {"error": 'There is no tool "pay". Tools: look_up, refund, escalate, close.'},
        {"order": "A1", "item": "lamp", "price": 40, "days_since_delivery": 3, "paid_back": False},
        {"done": "refund"},
    ]


def test_the_rules_solve_every_ticket_and_all_cases_come() -> None:
    environment = TicketDesk()
    examples = environment.examples(60, 1)
    steps = {id(example): solution(example.label) for example in examples}
    for example in examples:
        episode = environment.episode(example, 0)
        assert sum(episode.reply(step).reward for step in steps[id(example)]) == environment.optimum()
    cases = [outcome(example.label["orders"][example.label["order"]]) for example in examples]
    assert {name: cases.count(name) > 5 for name in set(cases)} == {"refund": True, "escalate": True, "close": True}
    assert examples[0].tools == environment.episode(examples[0], 0).tools == ()
    assert "- refund {\"order\": string, \"amount\": number}: Pays" in examples[0].messages[0].content  # fmt: skip
    untold = TicketDesk(tell_tools=False).examples(1, 1)[0]
    assert "Pays" not in untold.messages[0].content
    assert untold.tools == TicketDesk(tell_tools=False).episode(untold, 0).tools == TOOLS


def test_calls_in_a_text() -> None:
    assert called('so: {"name": "close"}', TOOLS) == ("close", {})
    assert objects('{"a": {"b": 1}} {"c": 2} {bad {"d": 3}') == [{"a": {"b": 1}}, {"c": 2}, {"d": 3}]
    assert objects('{"a":' * 5000) == []
    for text in (
        call("close") + call("close"),
        '{"name": ["close"]}',
        '{"name": "close", "arguments": []}',
        '{"name": "close", "arguments": {"x": 1}}',
    ):
        with pytest.raises(ValueError, match=r"."):
            called(text, TOOLS)


# scripted_user


def talk(*said: str, label: Any = None) -> Example:
    """Messages; those that begin with > are the assistant's."""
    messages = [Message("assistant", one[1:]) if one[0] == ">" else Message("user", one) for one in said]
    return Example(Place("x", 1), messages=tuple(messages), label=label)


def test_the_user_says_what_stands_in_the_example() -> None:
    environment = ScriptedUser(rewards=[Exact()])
    episode = environment.episode(talk("1 + 1?", ">2", "and 1 more?", ">3", "and 1 more?", label="4"), 0)
    assert [message.content for message in episode.prompt] == ["1 + 1?"]
    turns = [episode.reply(text) for text in ("2", "5", "4")]
    assert [turn.reward for turn in turns] == [pytest.approx(1 / 3), 0, pytest.approx(1 / 3)]
    assert [[message.content for message in turn.messages] for turn in turns] == [["and 1 more?"], ["and 1 more?"], []]
    assert [turn.done for turn in turns] == [False, False, True]


def test_two_messages_of_the_user_are_two_questions_and_no_reference_is_needed_by_some_rewards() -> None:
    episode = ScriptedUser(rewards=[Length(limit=1, margin=1)], turns=2).episode(talk("a", "b", "c"), 0)
    assert episode.reply("x").reward == 0
    last = episode.reply("x y")
    assert last.reward == -0.5
    assert last.done, "the third question is left out"
    [game] = play(ScriptedUser(), [(talk("a", "b"), 0)], lambda asked: ["x"] * len(asked))
    assert "nothing to compare with" in game.broken


def test_rewards_read_the_conversation_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []

    class Spy(Contains):
        def __call__(self, reply: str, example: Example) -> float:
            seen.append([message.content for message in example.messages])
            return 1.0

    episode = ScriptedUser.model_construct(rewards=[Spy()], turns=8).episode(talk("a", ">b", "c", ">d"), 0)
    episode.reply("B")
    episode.reply("D")
    assert seen == [["a", "b"], ["a", "B", "c", "d"]]


def test_an_example_in_which_the_user_says_nothing_is_said() -> None:
    [game] = play(ScriptedUser(rewards=[Numeric()]), [(talk(">hello"), 0)], lambda asked: ["x"])
    assert "the user says nothing in this example" in game.broken
