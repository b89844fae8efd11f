"""A finished reward model in use: a number for an answer to a prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from tuneful.core.errors import DataError, RunFolderError
from tuneful.core.types import Example, Layout, Message, Place, Row
from tuneful.data.formats import detect, present, understand
from tuneful.data.layouts import Collator
from tuneful.data.rewards import rated_answer
from tuneful.data.sources import Raw
from tuneful.evaluation.reward_model import read_rewards
from tuneful.run.folder import RunFolder
from tuneful.run.lock import recipe_of
from tuneful.run.tuned import Tuned, open_model

Say = Callable[[str], None]
Asked = str | Sequence[Message]
DIGITS = 5
ONLY = "answer"  # the one of a row


@dataclass(frozen=True, slots=True)
class Rater:
    """Gives numbers; larger is better. Whoever asks from several threads waits for the others."""

    model: Tuned
    _alone: Lock = field(default_factory=Lock)

    def __call__(self, prompt: Sequence[Message], reply: str) -> float:
        """Raises DataError for what it cannot read."""
        return float(self._read([self.row(Example(Place("input", 1), messages=tuple(prompt)), reply)])[0])

    def rate(self, answered: Sequence[tuple[Asked, str]]) -> list[float]:
        """A number for each prompt (a request, or turns) with an answer. Raises DataError for what it cannot read."""
        rows = [self.row(Example(Place("input", n), messages=turns(asked)), answer)
                for n, (asked, answer) in enumerate(answered, 1)]  # fmt: skip
        return [float(reward) for reward in self._read(rows)]

    def best(self, example: Example, answers: Sequence[str]) -> list[float]:
        """A number for each answer to one prompt, minus infinity for what it cannot read; equal ones are read once."""
        rows: dict[str, Row] = {}
        for answer in dict.fromkeys(answers):
            try:
                rows[answer] = self.row(example, answer)
            except DataError:
                continue
        found = dict(zip(rows, self._read(list(rows.values())), strict=True))
        return [float(found.get(answer, -np.inf)) for answer in answers]

    def of_rows(self, table: Sequence[Raw]) -> list[tuple[Example, Any]]:
        """Rows of a prompt with an answer, each with its number; with one for each answer where they hold two. Raises
        DataError."""
        form, columns = detect(table, present(self.model.columns, table))
        examples, unusable = understand(table, form, columns)
        if unusable:
            raise DataError(f"{unusable[0].place}: {unusable[0].reason}")
        found = [_parted(example) for example in examples]
        rows = [self.row(asked, answer) for asked, answers in found for answer in answers.values()]
        rewards = iter(round(float(reward), DIGITS) for reward in self._read(rows))
        numbered = [{name: next(rewards) for name in answers} for _, answers in found]
        return [(example, numbers.get(ONLY, numbers)) for example, numbers in zip(examples, numbered, strict=True)]

    def row(self, asked: Example, answer: str | Sequence[Message]) -> Row:
        """What is read of an answer to a prompt. Raises DataError."""
        processor = self.model.processor
        said = (Message("assistant", answer),) if isinstance(answer, str) else answer
        try:
            return rated_answer(asked, said, processor, processor.max_tokens)
        except DataError as problem:
            raise DataError(f"{asked.place}: {problem}") from None

    def _read(self, rows: Sequence[Row]) -> np.ndarray:
        policy = self.model.policy
        with self._alone:
            return read_rewards(policy, rows, Collator(Layout.REWARDS, share=policy.network.shares))


def _parted(example: Example) -> tuple[Example, dict[str, Sequence[Message]]]:
    """What is asked, and the answers by name. Raises DataError."""
    if example.chosen:
        return example, {"chosen": example.chosen, "rejected": example.rejected}
    *asked, last = example.messages or (Message("user", ""),)
    if last.role != "assistant":
        raise DataError(f"{example.place}: a reward model gives an answer a number, and there is none; give a column "
                        "completion, or messages that end with the assistant's")  # fmt: skip
    return replace(example, messages=tuple(asked)), {ONLY: (last,)}


def turns(asked: Asked) -> tuple[Message, ...]:
    return (Message("user", asked),) if isinstance(asked, str) else tuple(asked)


def rate(run: str | Path, answered: Sequence[tuple[Asked, str]]) -> list[float]:
    """What a run that learned `reward_model` gives each prompt with an answer; larger is better."""
    return open_rater(str(run)).rate(answered)


def open_rater(name: str, say: Say = lambda _: None) -> Rater:
    """Raises RunFolderError where this is no run that learned to give answers a number."""
    if (why := objection(name)) is not None:
        raise RunFolderError(why)
    return Rater(open_model(name, say))


def objection(name: str) -> str | None:
    """Why this folder can give answers no number; None where it can."""
    folder = RunFolder(Path(name))
    if not name or not folder.exists():
        return (
            f"'{name}' is no run folder; learn a reward model first: "
            "tuneful fit pairs.jsonl --set objective=reward_model"
        )
    objective = recipe_of(folder.read_json(folder.lock)).task.objective
    if objective is None or not objective.layout.rates:
        kind = getattr(objective, "kind", "nothing")
        return f"the run {name} learned {kind} and gives answers no number; name one that learned reward_model"
    if not folder.adapter.exists() and not folder.model.exists():
        return f"the run {name} holds no model yet; it did not end: go on with --resume"
    return None
