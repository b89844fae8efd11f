"""Rows of the kind that is wanted, by which others are chosen: named by the person, or half of the validation rows;
never a test row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tuneful.core.errors import DataError
from tuneful.core.types import Example, Layout, Row
from tuneful.data.duplicates import clusters, said_in
from tuneful.data.formats import detect, understand
from tuneful.data.inputs import inputs
from tuneful.data.rows import Rows
from tuneful.data.select import Select
from tuneful.data.sources import Raw, read
from tuneful.data.splits import Split
from tuneful.recipe import Recipe

Say = Callable[[str], None]
MOST = 500  # queries; more are drawn from by lot
LEAST_ASKED, MOST_ASKED = 20, 200  # validation rows, about which kept and random rows are compared
HALF = 23  # in a seed, of the validation rows that stand for the wanted ones


@dataclass(frozen=True, slots=True)
class Selecting:
    """What a choice is made from."""

    recipe: Recipe
    select: Select
    layout: Layout
    folder: Path  # of the model
    split: Split
    built: Mapping[str, Rows]
    encode: Callable[[Sequence[Example]], Rows]  # texts, with or without labels


def queries_of(given: Selecting, say: Say) -> list[Row]:
    """None where the person names no file and there are no validation rows. Raises DataError."""
    target, seed = given.select.target, given.recipe.seed
    if target is None:
        rows = asked_apart(given.built["validation"].rows, seed)[0]
        known = {example.place for example in _untested([row.example for row in rows], given.split)}
        return [row for row in rows if row.example.place in known]
    tables = read(target, encoding=given.recipe.task.data.encoding, seed=seed, learns=False, say=say)
    found = [example for table in tables.values() if table for example in _understood(given, table)]
    wanted = _untested(found, given.split)
    if lost := len(found) - len(wanted):
        say(f"{lost} rows of data.select.target repeat test rows and choose nothing")
    rows = given.encode(wanted).rows
    if not rows:
        raise DataError(f"data.select.target: no row of {target} can be used as one of the data; give rows in the "
                        "layout of the training rows that are not for the test")  # fmt: skip
    if len(rows) > MOST:
        say(f"of the {len(rows):,} rows of data.select.target, {MOST} drawn by lot are chosen by")
        rows = [rows[place] for place in _drawn(len(rows), seed)[:MOST]]
    return rows


def asked_apart(validation: Sequence[Row], seed: int) -> tuple[list[Row], list[Row]]:
    """Half of the validation rows, by which rows are chosen, and the others, which know nothing of the choice."""
    order = _drawn(len(validation), seed)
    half = min(MOST, (len(order) + 1) // 2)
    return [validation[place] for place in order[:half]], [validation[place] for place in order[half:]]


def told_apart(select: Select, validation: Sequence[Row], seed: int) -> list[Row]:
    """Validation rows that can tell kept rows from random ones, as none of them has chosen any. Raises DataError where
    there are too few."""
    chose = select.asks and select.target is None
    rows = asked_apart(validation, seed)[1] if chose else list(validation)
    rows = [row for row in rows if row.counts][:MOST_ASKED]
    if len(rows) < LEAST_ASKED:
        raise DataError(f"data.select.compare: asks about validation rows that did not choose, and there are "
                        f"{len(rows)}; at least {LEAST_ASKED} are needed. Hold out more with data.validation, or leave "
                        "compare out")  # fmt: skip
    return rows


def _drawn(count: int, seed: int) -> list[int]:
    return np.random.default_rng([seed, HALF]).permutation(count).tolist()


def _understood(given: Selecting, table: Sequence[Raw]) -> list[Example]:
    """Labels are not asked for: what is wanted is known by its texts."""
    data = given.recipe.task.data
    named = {part: name for part, name in data.columns.items() if name in table[0].fields}
    if given.layout is Layout.LABELS:
        return inputs(table, named, labelled=True, column=None, option="--set data.text=NAME")
    good, bad = understand(table, *detect(table, named, data.layout))
    if bad:
        raise DataError(f"data.select.target: {bad[0].place}: {bad[0].reason}")
    return good


def _untested(examples: Sequence[Example], split: Split) -> list[Example]:
    """Without those that nearly repeat a test row: chosen by them, training would know what is asked."""
    tested = [said_in(example) for example in split.test]
    found = clusters([*tested, *(said_in(example) for example in examples)])
    secret = set(found[: len(tested)])
    return [one for one, cluster in zip(examples, found[len(tested) :], strict=True) if cluster not in secret]
