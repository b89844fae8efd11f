"""A user whom a model behind an address plays."""

from __future__ import annotations

from typing import Any

from endpoints import Server
from tuneful.core.types import Example, Message, Place
from tuneful.environments import SimulatedUser, play
from tuneful.environments.rewards import Contains, Exact

EXAMPLE = Example(
    Place("x", 1), messages=(Message("user", "How do I reset it?"), Message("assistant", "hold the button"))
)


def user(server: Server, **settings: Any) -> SimulatedUser:
    return SimulatedUser(endpoint=server.url, model="user", pause=0, **settings)


def test_a_user_speaks_until_it_is_done(server: Server) -> None:
    said = iter(["Which button?", "Fine, thanks. [DONE]"])
    server.answer = lambda body: next(said)
    environment = user(server, rewards=[Contains(), Exact(weight=2)], person="You are old.")
    [game] = play(
        environment, [(EXAMPLE, 7)], lambda asked: ["The button." if len(asked[0]) == 1 else "Hold the button!"]
    )
    assert [message.content for message in game.messages] == [
        "How do I reset it?", "The button.", "Which button?", "Hold the button!",
    ]  # fmt: skip
    assert [turn.reward for turn in game.turns] == [0, 3]
    asked = server.asked[1]["messages"]
    assert "You are old." in asked[0]["content"]
    assert [(one["role"], one["content"]) for one in asked[1:]] == [
        ("user", "Begin."), ("assistant", "How do I reset it?"), ("user", "The button."), ("assistant", "Which button?"),
        ("user", "Hold the button!"),
    ]  # fmt: skip
    assert server.asked[1]["seed"] == 7


def test_the_last_turn_asks_nobody_and_an_address_that_fails_breaks_the_episode(server: Server) -> None:
    server.answer = lambda body: "And then?"
    [game] = play(user(server, turns=2), [(EXAMPLE, 0)], lambda asked: ["hold the button"])
    assert (game.reward, len(game.turns), len(server.asked)) == (1, 2, 1)
    server.answer = lambda body: 500
    [game] = play(user(server), [(EXAMPLE, 0)], lambda asked: ["hold the button"])
    assert "answers 500" in game.broken


def test_what_is_missing_is_said() -> None:
    assert SimulatedUser().lacking() == [
        "simulated_user: endpoint '': expected an address like http://localhost:8000/v1",
        "simulated_user: say with `model` which of the endpoint's models is asked",
    ]
