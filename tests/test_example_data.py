"""The demo's data: what is committed is what the grammar makes, and the test asks for nothing that was trained on."""

from __future__ import annotations

import importlib
import itertools
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import pytest

FOLDER = Path(__file__).parents[1] / "examples" / "commands"
SPLITS = ("train", "validation", "test")
SEED = 7
SIMILAR = 0.8  # Jaccard similarity of character runs; below the engine's own limit for a near-duplicate
RUN = 5  # characters


@pytest.fixture(scope="module")
def grammar() -> ModuleType:
    before = list(sys.path)
    sys.path.insert(0, str(FOLDER))
    try:
        return importlib.import_module("grammar")
    finally:
        sys.path[:] = before


@pytest.fixture(scope="module")
def drawn(grammar: ModuleType) -> dict[str, list[Any]]:
    return dict(grammar.draw(SEED))


def committed(split: str) -> bytes:
    return (FOLDER / f"{split}.jsonl").read_bytes()


def test_the_command_line_makes_the_committed_bytes(tmp_path: Path) -> None:
    command = [sys.executable, "-B", str(FOLDER / "make.py"), "--seed", str(SEED), "--out", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True)
    for split in SPLITS:
        assert (tmp_path / f"{split}.jsonl").read_bytes() == committed(split)


def test_another_seed_makes_other_rows(grammar: ModuleType) -> None:
    assert grammar.lines(grammar.draw(8)["test"]).encode() != committed("test")


def test_sizes_and_actions(grammar: ModuleType, drawn: dict[str, list[Any]]) -> None:
    assert {split: len(committed(split).splitlines()) for split in SPLITS} == grammar.SIZES
    assert grammar.SIZES == {"train": 720, "validation": 80, "test": 120}
    for rows in drawn.values():
        counts = Counter(row.action for row in rows)
        assert len(counts) == len(grammar.ACTIONS) >= 14
        assert max(counts.values()) - min(counts.values()) <= 1


def test_every_committed_row_is_a_valid_command(grammar: ModuleType) -> None:
    for split in SPLITS:
        for line in committed(split).decode("utf-8").splitlines():
            row = json.loads(line)
            assert list(row) == ["prompt", "completion"]
            grammar.check(row)


@pytest.mark.parametrize(
    "completion",
    [
        '{"action": "fly", "minutes": 10, "label": "tea"}',
        '{"action": "set_timer", "label": "tea", "minutes": 10}',
        '{"action": "set_timer", "minutes": "10", "label": "tea"}',
        '{"action": "set_timer", "minutes": 10, "label": "pasta"}',
        '{"action":"set_timer","minutes":10,"label":"tea"}',
        '{"action": "set_timer", "minutes": 10}',
        '{"action": "set_alarm", "time": "7:30", "day": "tomorrow"}',
        '{"minutes": 10}',
        "[]",
        "{}",
        "10",
        "10 minutes",
    ],
)
def test_what_is_no_valid_answer_is_refused(grammar: ModuleType, completion: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - JSON faults speak for themselves
        grammar.check({"prompt": "Set a 10 minutes timer for the tea tomorrow.", "completion": completion})


def test_no_split_shares_a_sentence(grammar: ModuleType, drawn: dict[str, list[Any]]) -> None:
    for action in grammar.ACTIONS:
        for wording in filter(None, (action.english, action.chinese)):
            parts = {split: set(wording.sentences(split)) for split in SPLITS}
            assert not any(parts[one] & parts[other] for one, other in itertools.combinations(SPLITS, 2))
        assert len(set(action.english.sentences("train"))) >= 10
        assert len(set(action.english.sentences("test"))) >= 2
    used = {split: {(row.action, row.sentence) for row in rows} for split, rows in drawn.items()}
    assert not any(used[one] & used[other] for one, other in itertools.combinations(SPLITS, 2))


def test_no_two_rows_share_action_and_values(drawn: dict[str, list[Any]]) -> None:
    combinations = [row.combination for rows in drawn.values() for row in rows]
    assert len(set(combinations)) == len(combinations)


def test_no_prompt_nearly_repeats_one_of_another_split(drawn: dict[str, list[Any]]) -> None:
    runs = {split: [_runs(row.prompt) for row in rows] for split, rows in drawn.items()}
    for one, other in itertools.combinations(SPLITS, 2):
        worst = max(len(a & b) / len(a | b) for a in runs[one] for b in runs[other])
        assert worst < SIMILAR, f"{one} and {other}"


@pytest.mark.parametrize("split", SPLITS)
def test_shares_of_typos_and_of_chinese(drawn: dict[str, list[Any]], split: str) -> None:
    rows = drawn[split]
    assert 0.07 <= sum(row.typo for row in rows) / len(rows) <= 0.13
    assert 0.07 <= sum(row.language == "zh-TW" for row in rows) / len(rows) <= 0.13
    assert len({row.action for row in rows if row.language == "zh-TW"}) >= 8


def test_typos_spare_the_values(grammar: ModuleType, drawn: dict[str, list[Any]]) -> None:
    rng = Random(0)
    for row in drawn["train"]:
        if row.language == "en" and not row.typo:
            wrong = grammar.misspelled(rng, row)
            assert _values(wrong) == _values(row)
            assert len(row.prompt) - len(wrong.prompt) in (0, 1)
            assert (wrong.prompt != row.prompt) == wrong.typo


@pytest.mark.parametrize(
    ("hour", "minute", "half", "words"),
    [
        (7, 30, "7:30 am", "half past seven in the morning"),
        (8, 15, "8:15 am", "a quarter past eight in the morning"),
        (9, 0, "9 am", "nine o'clock in the morning"),
    ],
)
def test_times_are_said_as_people_say_them(grammar: ModuleType, hour: int, minute: int, half: str, words: str) -> None:
    parts = sys.modules["parts"]
    assert parts.with_half(hour, minute) == half
    assert parts.in_words(hour, minute) == words


def test_hours_past_noon_are_said_with_pm(grammar: ModuleType) -> None:
    parts = sys.modules["parts"]
    assert [parts.with_half(hour, 5) for hour in (12, 13, 21)] == ["12:05 pm", "1:05 pm", "9:05 pm"]


def _values(row: Any) -> list[str]:
    return [piece.text for piece in row.pieces if piece.slot]


def _runs(text: str) -> set[str]:
    folded = "".join(character for character in text.casefold() if character.isalnum())
    return {folded[place : place + RUN] for place in range(max(1, len(folded) - RUN + 1))}
