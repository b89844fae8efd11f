"""`tuneful predict` with a reward model: numbers for answers, and the best of several answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tuneful.cli.show import note
from tuneful.core.errors import InputError
from tuneful.core.types import Example

if TYPE_CHECKING:
    from tuneful.run.tuned import Tuned

TOGETHER = 32  # rows answered before they are judged
DIGITS = 5


def check(best_of: int | None, judge: str | None, **others: object) -> str | None:
    """The judge, if there is one. Raises InputError where it cannot be one, or beside what does not go with it."""
    from tuneful.run.rating import objection

    if (best_of is None) != (judge is None):
        given, missing = ("--judge", "--best-of") if best_of is None else ("--best-of", "--judge")
        raise InputError(f"{given}: several answers are drawn and a judge picks one; give {missing}, too")
    if judge is None:
        return None
    if beside := [name for name, value in others.items() if value is not None]:
        raise InputError(f"--best-of and --{beside[0]} were not made to go together in this version; leave one out")
    if (why := objection(judge)) is not None:
        raise InputError(f"--judge: {why}")
    return judge


def rated(name: str, model: Tuned, source: str, *, column: str | None) -> list[str]:
    """A line with a number for every row of a prompt with an answer, with two for one of a chosen and a rejected."""
    from tuneful.data.sources import read
    from tuneful.run.rating import Rater

    if source == "-" or column is not None:
        raise InputError(f"{name} gives an answer a number, so it needs rows of a prompt with an answer: a file with "
                         "columns prompt and completion, or messages")  # fmt: skip
    rater = Rater(model)
    tables = [table for table in read(source, encoding=model.encoding, learns=False).values() if table]
    return [_told(example, prediction=reward) for table in tables for example, reward in rater.of_rows(table)]


def best(
    model: Tuned,
    examples: Sequence[Example],
    judge: str,
    count: int,
    limit: int,
    temperature: float,
    stops: Sequence[str],
) -> list[str]:
    """A line with the best answer of each row and its number. A temperature of 0, at which all answers are the same, is
    taken for 1."""
    from tuneful.run.picked import picked
    from tuneful.run.rating import open_rater

    rater, found = open_rater(judge, note), []
    for start in range(0, len(examples), TOGETHER):
        part = examples[start : start + TOGETHER]
        found += picked(
            model, rater, part, count=count, temperature=temperature or 1.0, limit=limit, seed=start, stops=stops
        )
    known = [one for one in found if one.known]
    if known:
        one, most = (sum(values) / len(known) for values in zip(*((k.mean, k.reward) for k in known), strict=True))
        note(f"reward of one answer {one:.3g}, of the best of {count} {most:.3g} (means of {len(known)} rows)")
    return [
        _told(example, prediction=one.answer, reward=one.reward if one.known else None)
        for example, one in zip(examples, found, strict=True)
    ]


def _told(example: Example, **found: Any) -> str:
    from tuneful.cli.using import shown

    told = {name: round(value, DIGITS) if isinstance(value, float) else value for name, value in found.items()}
    return json.dumps({"row": str(example.place), "input": shown(example), **told}, ensure_ascii=False)
