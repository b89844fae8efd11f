"""Draws requests in plain words, each with the one JSON command it means.

What a test row says was never seen in training: its sentence belongs to the test alone, and so does its combination
of action and values.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from string import Formatter
from typing import Any

import agenda
import home
import people
import world
from parts import Action, Slots, Wording

ACTIONS: tuple[Action, ...] = (*home.ACTIONS, *agenda.ACTIONS, *people.ACTIONS, *world.ACTIONS)
SIZES = {"train": 720, "validation": 80, "test": 120}
CHINESE, TYPOS = 0.11, 0.1  # shares of the rows
TALK = 0.2  # share of requests with small talk in front, and as many with some behind
OPENERS = {
    ("en", "train"): (
        "Hi there! ",
        "Good morning. ",
        "Hello again. ",
        "Quick question. ",
        "I need a hand. ",
        "Me again. ",
    ),
    ("en", "validation"): ("Hey, it's me. ", "Good evening. "),
    ("en", "test"): ("Hello, dear assistant! ", "One more thing. ", "Nice to have you here. "),
    ("zh-TW", "train"): ("你好，", "早安，", "不好意思，", "對了，"),
    ("zh-TW", "validation"): ("嗨，",),
    ("zh-TW", "test"): ("哈囉，",),
}
CLOSERS = {
    ("en", "train"): (" Thanks!", " Thank you so much.", " That would be great.", " Bye for now.", " Have fun."),
    ("en", "validation"): (" Thanks in advance.", " That is all."),
    ("en", "test"): (" Many thanks!", " That would help me a lot.", " Have a nice day."),
    ("zh-TW", "train"): ("謝謝！", "謝謝你。", "感恩。"),
    ("zh-TW", "validation"): ("多謝。",),
    ("zh-TW", "test"): ("辛苦了。",),
}
NUMBERS = {"minutes": range(1, 121), "percent": range(101), "degrees": range(41), "amount": range(1, 1001)}
TIME = re.compile(r"([01]\d|2[0-3]):[0-5]\d")
TYPABLE = re.compile(r"(?<![A-Za-z'])[A-Za-z]{5,}(?![A-Za-z'])")
Combination = tuple[str, tuple[str | int, ...]]  # an action and its values
KEYS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of a request; the words of a slot are never misspelled."""

    text: str
    slot: bool


@dataclass(frozen=True, slots=True)
class Drawn:
    """A row, and how it came about."""

    action: str
    values: Mapping[str, str | int]
    pieces: tuple[Piece, ...]
    language: str
    sentence: str
    typo: bool = False

    @property
    def prompt(self) -> str:
        return "".join(piece.text for piece in self.pieces)

    @property
    def combination(self) -> Combination:
        return self.action, tuple(self.values.values())

    @property
    def row(self) -> dict[str, str]:
        return {"prompt": self.prompt, "completion": as_json({"action": self.action, **self.values})}


def draw(seed: int) -> dict[str, list[Drawn]]:
    """All rows by split. The same seed gives the same rows on every machine."""
    taken: set[Combination] = set()
    return {split: _split(seed, split, size, taken) for split, size in SIZES.items()}


def check(row: Mapping[str, str]) -> None:
    """Raises ValueError unless the completion is a command whose words all stand in the prompt."""
    command: Any = json.loads(row["completion"])
    if not isinstance(command, dict) or not command or row["completion"] != as_json(command):
        raise ValueError(f"not a JSON object in the one way to write it: {row['completion']}")
    name, *slots = command
    if name != "action" or tuple(slots) not in _known_slots(command["action"]):
        raise ValueError(f"unknown action or keys: {row['completion']}")
    for slot in slots:
        _check_value(slot, command[slot], row["prompt"])


def as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(", ", ": "))


def lines(rows: Iterable[Drawn]) -> str:
    """The text of a JSONL file."""
    return "".join(as_json(drawn.row) + "\n" for drawn in rows)


def even(total: int, parts: int) -> list[int]:
    """Whole numbers that sum to `total` and differ by one at most."""
    return [total * (part + 1) // parts - total * part // parts for part in range(parts)]


def _split(seed: int, split: str, size: int, taken: set[Combination]) -> list[Drawn]:
    """The same number of rows for each action, and in Chinese for each that speaks it."""
    speakers = [action for action in ACTIONS if action.chinese]
    chinese = dict(zip(speakers, even(round(CHINESE * size), len(speakers)), strict=True))
    rows: list[Drawn] = []
    for action, count in zip(ACTIONS, even(size, len(ACTIONS)), strict=True):
        rng = Random(f"{seed} {split} {action.name}")
        foreign = chinese.get(action, 0)
        rows += _of_action(rng, action, split, "en", count - foreign, taken)
        rows += _of_action(rng, action, split, "zh-TW", foreign, taken)
    rng = Random(f"{seed} {split}")
    english = [place for place, drawn in enumerate(rows) if drawn.language == "en"]
    for place in sorted(rng.sample(english, round(TYPOS * size))):
        rows[place] = misspelled(rng, rows[place])
    rng.shuffle(rows)
    return rows


def _of_action(
    rng: Random, action: Action, split: str, language: str, count: int, taken: set[Combination]
) -> list[Drawn]:
    """Every sentence in turn, each time with values no other row has."""
    wording = action.english if language == "en" else action.chinese
    if not count or wording is None:
        return []
    sentences = wording.sentences(split)
    rng.shuffle(sentences)
    rows: list[Drawn] = []
    while len(rows) < count:
        sentence = sentences[len(rows) % len(sentences)]
        slots = wording.draw(rng)
        pieces = _with_small_talk(rng, _pieces(sentence, slots), language, split)
        values = {name: said.value for name, said in slots.items()}
        drawn = Drawn(action.name, values, tuple(pieces), language, sentence)
        if drawn.combination not in taken:
            taken.add(drawn.combination)
            rows.append(drawn)
    return rows


def _pieces(sentence: str, slots: Slots) -> list[Piece]:
    pieces = []
    for text, slot, _, _ in Formatter().parse(sentence):
        pieces.append(Piece(text, False))
        if slot is not None:
            pieces.append(Piece(slots[slot].text, True))
    return pieces


def _with_small_talk(rng: Random, pieces: list[Piece], language: str, split: str) -> list[Piece]:
    """Nothing is put behind a request without a full stop: it could be taken for part of a value."""
    opener, closer = rng.choice(OPENERS[language, split]), rng.choice(CLOSERS[language, split])
    before, behind = rng.random() < TALK, rng.random() < TALK
    if before:
        pieces = [Piece(opener, False), *pieces]
    if behind and pieces[-1].text.endswith((".", "?", "。", "？")):
        pieces = [*pieces, Piece(closer, False)]
    return pieces


def misspelled(rng: Random, drawn: Drawn) -> Drawn:
    """One word outside of the slots gets a wrong, missing or swapped letter; a row without such a word stays."""
    places = [
        (number, found)
        for number, piece in enumerate(drawn.pieces)
        if not piece.slot
        for found in TYPABLE.finditer(piece.text)
    ]
    if not places:
        return drawn
    number, found = rng.choice(places)
    text = drawn.pieces[number].text
    wrong = Piece(text[: found.start()] + _typo(rng, found.group()) + text[found.end() :], False)
    return replace(drawn, pieces=(*drawn.pieces[:number], wrong, *drawn.pieces[number + 1 :]), typo=True)


def _typo(rng: Random, word: str) -> str:
    """The first letter stays, as it mostly does."""
    place = rng.randrange(1, len(word))
    kind = rng.choice(["neighbour", "missing", "swapped"])
    if kind == "swapped" and place + 1 < len(word) and word[place] != word[place + 1]:
        return word[:place] + word[place + 1] + word[place] + word[place + 2 :]
    near = rng.choice(_neighbours(word[place].lower())) if kind == "neighbour" else ""
    return word[:place] + near + word[place + 1 :]


def _neighbours(letter: str) -> Sequence[str]:
    row = next(keys for keys in KEYS if letter in keys)
    place = row.index(letter)
    return row[max(0, place - 1) : place] + row[place + 1 : place + 2]


def _known_slots(name: Any) -> list[tuple[str, ...]]:
    wordings: list[Wording] = [action.english for action in ACTIONS if action.name == name]
    return [tuple(wording.draw(Random(0))) for wording in wordings]


def _check_value(slot: str, value: Any, prompt: str) -> None:
    if slot in NUMBERS:
        fine = type(value) is int and value in NUMBERS[slot]
    elif slot == "time":
        fine = isinstance(value, str) and TIME.fullmatch(value) is not None
    else:
        fine = isinstance(value, str) and value != "" and value in prompt
    if not fine:
        raise ValueError(f"{slot} cannot be {value!r} in answer to {prompt!r}")
