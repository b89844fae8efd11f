"""What a model is asked for when it is to write labelled texts, and what of its answer can be used.

Self-instruct (Wang et al. 2023, arXiv:2212.10560) with the label given first, so that every class gets its share.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from tuneful.core.types import Message
from tuneful.data.duplicates import clusters
from tuneful.data.folds import folds, usual

SHOWN = 4  # rows of the class that a request shows
EACH = 5  # texts that a request asks for
LONGEST = 2  # a text may be so many times as long as the longest row of its class
MARK = re.compile(r"^\s*(?:[-*•]|\(?\d{1,3}[.):](?!\d))\s*")
FENCE = re.compile(r"^[^\S\n]*```.*$", re.MULTILINE)
WHOLE = re.compile(r'"(?:[^"\\\n]|\\.)*"')
QUOTES = ('""', "''", "“”", "「」", "‘’")
ASK = (
    'Here are texts of the kind "{name}":\n{shown}\n\nWrite {count} other texts of the same kind, in the same language '
    "and style, each about something different. One text a line, nothing else."
)


class Question(Protocol):
    """Anything a model that writes is asked."""

    @property
    def about(self) -> str: ...
    @property
    def messages(self) -> tuple[Message, ...]: ...
    @property
    def turn(self) -> int: ...
    def key(self, model: str, temperature: float) -> str: ...


def key_of(question: Question, model: str, temperature: float) -> str:
    """The same for the same question to the same model in the same turn, so that none is asked twice."""
    turns = [message.template() for message in question.messages]
    told = json.dumps([model, temperature, question.turn, turns], ensure_ascii=False)
    return hashlib.sha256(told.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Request:
    """One question to the model that writes; `shown` are places among the rows of the seed data."""

    label: str
    shown: tuple[int, ...]
    messages: tuple[Message, ...]
    turn: int  # of the class
    group: int  # the fold that all rows it shows are of

    @property
    def about(self) -> str:
        return self.label

    def key(self, model: str, temperature: float) -> str:
        return key_of(self, model, temperature)


def requests_for(rows: Sequence[tuple[str, str]], said: Mapping[str, str], *, count: int, seed: int) -> list[Request]:
    """Enough requests for `count` texts of each class, from (text, label) rows; `said` puts each label in words. Every
    request shows rows of one fold, dealt as cross-validation deals them, so that what comes of it can be learned where
    the other folds are asked about."""
    dealt = groups(rows, seed)
    places: dict[str, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    for place, (_, label) in enumerate(rows):
        places[label][int(dealt[place])].append(place)
    rng = np.random.default_rng(seed)
    found = []
    for label in sorted(places):
        parts = sorted(places[label])
        for turn in range(-(-count // EACH)):
            group = parts[turn % len(parts)]
            shown = tuple(int(place) for place in rng.permutation(places[label][group])[:SHOWN])
            text = ASK.format(
                name=said[label], shown="\n".join(f"- {one_line(rows[place][0])}" for place in shown), count=EACH
            )
            found.append(Request(label, shown, (Message("user", text),), turn, group))
    return found


def groups(rows: Sequence[tuple[str, str]], seed: int) -> np.ndarray:
    """(N,) fold of each (text, label) row."""
    together = clusters([text for text, _ in rows])
    return folds([label for _, label in rows], usual(len(rows)), seed, together)


def texts_in(answer: str, *, cut: bool = False) -> list[str]:
    """The texts of an answer: those of a JSON list, or lines without their numbers, bullets and quotation marks. What
    is no text (an introduction that ends in a colon, a line without a letter) is left out, and the last one where the
    answer was `cut` by its limit."""
    plain = FENCE.sub("", answer).strip()
    if plain.startswith(("[", "{")):
        found = _listed(plain)
    else:
        found = [_bare(line) for line in plain.splitlines()]
        found = found[:-1] if cut else found
    return [text for text in found if any(letter.isalpha() for letter in text) and not text.endswith((":", "："))]


def _listed(answer: str) -> list[str]:
    """Of a list that was cut, those texts that are whole."""
    try:
        told = json.loads(answer)
    except (ValueError, RecursionError):
        told = list(_strings(answer))
    return [text.strip() for text in told if isinstance(text, str)] if isinstance(told, list) else []


def _strings(answer: str) -> Iterator[str]:
    for text in WHOLE.findall(answer):
        with suppress(ValueError):
            yield json.loads(text)


def _bare(line: str) -> str:
    text = MARK.sub("", line.replace("**", "")).strip()
    quoted = len(text) > 1 and text[0] + text[-1] in QUOTES
    return text[1:-1].strip() if quoted else text


def fits(text: str, rows: Sequence[str]) -> bool:
    """Neither much longer than the longest of these rows nor much shorter than the shortest."""
    lengths = [len(row) for row in rows]
    return min(lengths) / LONGEST <= len(text) <= max(lengths) * LONGEST


def one_line(text: str) -> str:
    return " ".join(text.split())
