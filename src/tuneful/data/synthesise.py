"""What a model is asked for when it is to write labelled texts, and what of its answer can be used.

Self-instruct (Wang et al. 2023, arXiv:2212.10560) with the label given first, so that every class gets its share.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tuneful.core.types import Message

SHOWN = 4  # rows of the class that a request shows
EACH = 5  # texts that a request asks for
LONGEST = 2  # a text may be so many times as long as the longest row of its class
MARK = re.compile(r"^\s*(?:[-*•]|\(?\d{1,3}[.):](?!\d)|[\"'“”「]\s*(?=\S))\s*")
ASK = (
    'Here are texts of the kind "{name}":\n{shown}\n\nWrite {count} other texts of the same kind, in the same language '
    "and style, each about something different. One text a line, nothing else."
)


@dataclass(frozen=True, slots=True)
class Request:
    """One question to the model that writes; `shown` are places among the rows of the seed data."""

    label: str
    shown: tuple[int, ...]
    messages: tuple[Message, ...]
    turn: int  # of the class

    @property
    def key(self) -> str:
        """The same for the same question in the same turn, so that none is asked twice."""
        told = json.dumps([self.turn, *(message.template() for message in self.messages)], ensure_ascii=False)
        return hashlib.sha256(told.encode()).hexdigest()[:16]


def requests_for(rows: Sequence[tuple[str, str]], said: Mapping[str, str], *, count: int, seed: int) -> list[Request]:
    """Enough requests for `count` texts of each class, from (text, label) rows; `said` puts each label in words. Every
    request shows rows drawn anew."""
    places = defaultdict(list)
    for place, (_, label) in enumerate(rows):
        places[label].append(place)
    rng = np.random.default_rng(seed)
    found = []
    for label in sorted(places):
        for turn in range(-(-count // EACH)):
            shown = tuple(int(place) for place in rng.permutation(places[label])[:SHOWN])
            text = ASK.format(
                name=said[label], shown="\n".join(f"- {_one_line(rows[place][0])}" for place in shown), count=EACH
            )
            found.append(Request(label, shown, (Message("user", text),), turn))
    return found


def texts_in(answer: str) -> list[str]:
    """The texts of an answer: a JSON list, or lines without their numbers, bullets and quotation marks. What is no
    text (an introduction that ends in a colon, a line without a letter) is left out."""
    try:
        listed = json.loads(answer)
    except ValueError:
        listed = answer.splitlines()
    if not isinstance(listed, list):
        return []
    lines = [MARK.sub("", str(line)).strip().strip("\"'“”「」").strip() for line in listed if isinstance(line, str)]
    return [line for line in lines if any(letter.isalpha() for letter in line) and not line.endswith((":", "："))]


def fits(text: str, rows: Sequence[str]) -> bool:
    """Neither much longer than the longest of these rows nor much shorter than the shortest."""
    lengths = [len(row) for row in rows]
    return min(lengths) / LONGEST <= len(text) <= max(lengths) * LONGEST


def _one_line(text: str) -> str:
    return " ".join(text.split())
