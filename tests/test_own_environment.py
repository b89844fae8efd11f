"""An environment as a person writes one, and what the conformance check says of those that break the contract."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tuneful.core.environment import Turn
from tuneful.core.types import Example, Message, Place
from tuneful.environments import play
from tuneful.testing import check_environment

EXAMPLE = Example(Place("x", 1), messages=(Message("user", "hello"),))
IMPORTS = """
from typing import Literal
from pydantic import PositiveFloat, PositiveInt
from tuneful.core.environment import Turn
from tuneful.core.spec import Spec
from tuneful.core.types import Example
"""
PAGE = Path(__file__).parent.parent / "docs" / "concepts" / "environments.md"


def test_the_environment_of_the_page_works() -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {"__name__": "page"}
    echo = next(block for block in blocks if "class Echo(Spec)" in block).replace("-> Echoing", "-> object")
    for text in (IMPORTS, blocks[0], echo):
        exec(compile(text, str(PAGE), "exec", dont_inherit=True), names)
    check_environment(names["Echo"](), [EXAMPLE])
    games = play(names["Echo"](), [(EXAMPLE, 0)] * 2, lambda asked: ["hello", "hullo"])
    assert [game.reward for game in games] == [1, 0]


class Odd:
    """Wrong in one way each."""

    kind, turns, patience, tools, prompt = "odd", 2, 5.0, (), (Message("user", "hello"),)
    made = 0

    def __init__(self, wrong: str) -> None:
        self.wrong = wrong

    def episode(self, example: Example, seed: int) -> Odd:
        self.made += 1
        if self.wrong == "prompt":
            self.prompt = (Message("user", f"hello {self.made}"),)
        return self

    def reply(self, text: str) -> Turn:
        reward = {"reward": float(self.made), "finite": float("nan")}.get(self.wrong, 0.0)
        return Turn(reward, done=self.wrong != "end", messages=self.prompt)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("prompt", "the same example, seed and replies give another episode"),
        ("reward", "the same example, seed and replies give another episode"),
        ("finite", "it breaks: ValueError: Odd gave nan"),
        ("end", "it does not end by itself within its 2 turns"),
    ],
)
def test_what_breaks_the_contract_is_found(wrong: str, said: str) -> None:
    with pytest.raises(AssertionError, match=said):
        check_environment(Odd(wrong), [EXAMPLE])
