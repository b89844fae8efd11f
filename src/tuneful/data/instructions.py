"""What a model is asked for when it is to write requests with answers: first requests like those there are, then the
answer to each.

Self-instruct (Wang et al. 2023, arXiv:2212.10560, section 2.2). Differs from the paper: every request shows rows that
people wrote and none that a model did, and an answer is asked for after the same rows, answered.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tuneful.core.types import Example, Message
from tuneful.data.duplicates import normal, said_in
from tuneful.data.synthesise import EACH, SHOWN, key_of, one_line

CUT = "cut to the first turn"  # such a row is still used
ASK = (
    "Here are requests that people make:\n{shown}\n\nWrite {count} other requests of the same kind, in the same "
    "language and style, each about something different. One request a line, nothing else; do not answer them."
)


@dataclass(frozen=True, slots=True)
class Seed:
    """A request and its answer, as people wrote them. `said` is what `fit` knows the row by."""

    asked: str
    answer: str
    system: str | None
    said: str

    def before(self) -> list[Message]:
        """What stands before the request."""
        return [] if self.system is None else [Message("system", self.system)]


@dataclass(frozen=True, slots=True)
class Instruction:
    """One question to the model that writes; `shown` are places among the seeds, whose system message is the same."""

    about: str  # "requests", or the request that is to be answered
    shown: tuple[int, ...]
    messages: tuple[Message, ...]
    turn: int

    def key(self, model: str, temperature: float) -> str:
        return key_of(self, model, temperature)


def half_of(said: str) -> int:
    """0 or 1, by what a row says and nothing else. What was written from one half can be learned where the other is
    asked about, whichever rows stand beside them."""
    return hashlib.sha256(normal(said).encode()).digest()[0] % 2


def seeds_in(examples: Sequence[Example]) -> tuple[list[Seed], Counter[str]]:
    """The first turn of each conversation, and how many rows were left out or cut, by reason."""
    found, told = [], Counter[str]()
    for example in examples:
        if example.tools or any(message.role == "tool" or message.tool_calls for message in example.messages):
            told["left out, as they call tools"] += 1
        elif (seed := _first_turn(example)) is None:
            told["left out, as they do not begin with a request and an answer to be learned"] += 1
        else:
            found.append(seed)
            told[CUT] += sum(message.role == "assistant" for message in example.messages) > 1
    return found, +told


def _first_turn(example: Example) -> Seed | None:
    turns = [message for message in example.messages if message.role != "system"]
    system = "\n".join(message.content for message in example.messages if message.role == "system")
    if [message.role for message in turns[:2]] != ["user", "assistant"] or not turns[1].learned:
        return None
    asked, answer = (message.content.strip() for message in turns[:2])
    return Seed(asked, answer, system or None, said_in(example)) if asked and answer else None


def asking_for_requests(seeds: Sequence[Seed], *, count: int, seed: int) -> list[Instruction]:
    """Enough questions for `count` requests. Each shows few seeds that share a system message and a half
    (`half_of`); every seed leads before any leads again."""
    alike: dict[tuple[str | None, int], list[int]] = defaultdict(list)
    for place, one in enumerate(seeds):
        alike[one.system, half_of(one.said)].append(place)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(seeds))
    found = []
    for turn in range(-(-count // EACH)):
        lead = int(order[turn % len(seeds)])
        others = [
            int(place)
            for place in rng.permutation(alike[seeds[lead].system, half_of(seeds[lead].said)])
            if place != lead
        ]
        shown = (lead, *others[: SHOWN - 1])
        listed = "\n".join(f"- {one_line(seeds[place].asked)}" for place in shown)
        found.append(Instruction("requests", shown, (Message("user", ASK.format(shown=listed, count=EACH)),), turn))
    return found


def asking_for_answer(seeds: Sequence[Seed], by: Instruction, asked: str) -> Instruction:
    """The answer to a request that was written, asked for after the rows that its writer was shown, answered."""
    messages = seeds[by.shown[0]].before()
    for place in by.shown:
        messages += [Message("user", seeds[place].asked), Message("assistant", seeds[place].answer)]
    return Instruction(asked, by.shown, (*messages, Message("user", asked)), by.turn)


def as_row(seeds: Sequence[Seed], by: Instruction, answer: str, origin: Mapping[str, object]) -> dict[str, object]:
    """A line of the file, with where it comes from; `by` is the question that was answered."""
    system = seeds[by.shown[0]].system
    told = {**origin, "shown": [seeds[place].said for place in by.shown]}
    return {**({} if system is None else {"system": system}), "prompt": by.about, "completion": answer, "origin": told}
