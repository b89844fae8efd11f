"""Environments of Gymnasium, put into words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tuneful.core.types import Example, Place
from tuneful.environments import gymnasium as adapter
from tuneful.environments.gymnasium import Gymnasium, words
from tuneful.testing import check_environment

LAKE: dict[str, Any] = {
    "settings": {"is_slippery": False, "desc": ["SF", "HG"]},
    "actions": ["left", "down", "right", "up"],
    "task": "Cross the lake.",
    "turns": 5,
}
EXAMPLE = Example(Place("x", 1), label=7)


def test_without_gymnasium_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter.importlib.util, "find_spec", lambda name: None)
    assert Gymnasium().lacking() == ["gymnasium is not here: pip install 'tuneful[rl]'"]


def test_observations_in_words() -> None:
    import numpy as np

    assert words(np.array([0.12345, -2.0, 1e-7], dtype=np.float32)) == "0.123, -2, 1e-07"
    assert words({"at": (np.int64(3), 4), "sees": "a wall"}) == "at: 3, 4; sees: a wall"


def test_a_walk_over_the_ice() -> None:
    pytest.importorskip("gymnasium", reason="gymnasium is an extra")
    environment = Gymnasium(**LAKE)
    assert environment.lacking() == []
    episode = environment.episode(EXAMPLE, 0)
    [asked] = episode.prompt
    assert asked.content == "Cross the lake. Reply with one of these: left, down, right, up.\nObservation: 0"
    turn = episode.reply("Left or right?")
    assert turn.messages[0].content == "Reply with one of these: left, down, right, up."
    turn = episode.reply("I go RIGHT.")
    assert turn.messages[0].content == "Observation: 1"
    assert (turn.reward, turn.done) == (0, False)
    turn = episode.reply("down")
    assert (turn.reward, turn.done) == (1, True)
    hole = environment.episode(EXAMPLE, 0).reply("down")
    assert (hole.reward, hole.done) == (0, True)


def test_gymnasium_keeps_the_contract_and_its_own_seeds() -> None:
    pytest.importorskip("gymnasium", reason="gymnasium is an extra")
    check_environment(Gymnasium(id="Blackjack-v1", actions=["stick", "hit"]))
    check_environment(Gymnasium(id="CartPole-v1", scale=0.1, turns=4))
    lake = Gymnasium(turns=6)  # slippery: the next square is drawn
    check_environment(lake)
    seeds = [{example.label for example in lake.examples(1000, seed)} for seed in (0, 1, 2, 3, 4_000_000_000)]
    assert len(set.union(*seeds)) == 5000
    assert max(map(max, seeds)) < 2**31


def test_a_function_of_ones_own_describes(tmp_path: Path) -> None:
    pytest.importorskip("gymnasium", reason="gymnasium is an extra")
    file = tmp_path / "seen.py"
    file.write_text("def told(observation):\n    return f'You stand on square {observation}.'\n")
    episode = Gymnasium(**LAKE, describe=f"{file}:told").episode(EXAMPLE, 0)
    assert episode.prompt[0].content.endswith("\nYou stand on square 0.")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"id": "NoSuchWorld-v0"}, "NoSuchWorld"),
        ({"actions": ["left", "right"]}, "actions: 2 names for 4 actions"),
        ({"actions": ["a", "A", "b", "c"]}, "two have the same name"),
        ({"id": "Pendulum-v1"}, "its actions are of kind Box, which cannot be named"),
        ({"describe": "nowhere.py:told"}, "there is no such file"),
    ],
)
def test_what_cannot_be_put_into_words_is_said(settings: dict[str, Any], said: str) -> None:
    pytest.importorskip("gymnasium", reason="gymnasium is an extra")
    [problem] = Gymnasium(**settings).lacking()
    assert said in problem
