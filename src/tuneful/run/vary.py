"""Rows as they are at each visit: how the augmentations of a recipe reach its schedule."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from tuneful import objectives
from tuneful.core.protocols import ChangesTogether
from tuneful.core.types import Example, Layout, Row
from tuneful.data.augment.reread import Change, Reader, all_texts, asked_texts, with_all_texts, with_texts
from tuneful.data.balance import Jtt
from tuneful.data.layouts import Collator
from tuneful.data.rows import NAMES
from tuneful.run.augment import MADE
from tuneful.run.judge import Pool
from tuneful.run.prepare import Prepared
from tuneful.run.regularised import comparing_twins
from tuneful.schedules.episodes import EpisodeSteps
from tuneful.schedules.epochs import Cut, EpochSteps
from tuneful.schedules.selftrain import SelfTrainSteps

Steps = TypeVar("Steps", EpochSteps, SelfTrainSteps, EpisodeSteps)
MARK = 17  # in the key of a visit, so that its chance is no other's


@dataclass(frozen=True, slots=True)
class Asked:
    """Changes each text that asks something, by itself."""

    change: Change

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        return with_texts(example, self.change, rng)


@dataclass(frozen=True, slots=True)
class Together:
    """Changes all texts of an example, those that are learned too."""

    change: Callable[[Sequence[str], np.random.Generator], Sequence[str]]

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        return with_all_texts(example, self.change(all_texts(example), rng))


Changes = Asked | Together


@dataclass(frozen=True, slots=True)
class Varied:
    """A row at a visit: one augmentation after the other changes it, each in its share of the visits."""

    reader: Reader
    changes: Sequence[tuple[float, Changes]]

    def __call__(self, row: Row, key: Sequence[int]) -> Row:
        if not self.varies(row):
            return row
        example = self.example(row, key)
        return row if example is row.example else self.reader.read(row, example)

    def varies(self, row: Row) -> bool:
        return any(self._takes(change, row) for _, change in self.changes)

    def _takes(self, change: Changes, row: Row) -> bool:
        """Of a row all of which is learned only what changes answers too can change anything; names of classes stay."""
        if isinstance(change, Together) and row.example.place.source != NAMES:
            return any(all_texts(row.example))
        return self.reader.varies(row)

    def example(self, row: Row, key: Sequence[int]) -> Example:
        """The row's own, the same object, where nothing is changed."""
        rng = np.random.default_rng([*self._place(row, key), MARK])
        example = row.example
        for share, change in self.changes:
            if rng.random() < share and self._takes(change, row):
                example = change(example, rng)
        return row.example if all_texts(example) == all_texts(row.example) else example

    def _place(self, row: Row, key: Sequence[int]) -> Sequence[int]:
        """Equal queries are changed alike, or a document that is right for one would be wrong for the other."""
        same = self.reader.layout is Layout.PAIRS
        return [*key[:-1], zlib.crc32((row.example.text or "").encode())] if same else key


def varied(prepared: Prepared) -> Varied | None:
    """None where the recipe names no augmentation."""
    named: list[Any] = prepared.recipe.augment
    if not named:
        return None
    reader = reader_of(prepared)
    texts = [text for row in prepared.repeated if reader.varies(row) for text in asked_texts(row.example)]
    made = [(one.share, Asked(picked(prepared.variants.get(number, {})))) for number, one in enumerate(named)
            if isinstance(one, MADE)]  # fmt: skip
    # These know the texts as they stand, so they come first.
    return Varied(reader, [*made, *((one.share, _changes(one, texts)) for one in named if not isinstance(one, MADE))])


def _changes(one: Any, texts: Sequence[str]) -> Changes:
    return Together(one.together) if isinstance(one, ChangesTogether) else Asked(one.over(texts))


def picked(pool: Pool) -> Change:
    """One of the variants of a text; itself where it has none."""

    def change(text: str, rng: np.random.Generator) -> str:
        variants = pool.get(text)
        return variants[int(rng.integers(len(variants)))] if variants else text

    return change


def on_the_way(schedule: Steps, prepared: Prepared) -> Steps:
    """The schedule, whose rows are varied where the recipe asks for it."""
    vary = varied(prepared)
    return schedule if vary is None else replace(schedule, vary=vary)


def tokens_seen(prepared: Prepared) -> np.ndarray | None:
    """(U,) every token that will be learned from, as rows stand or will be said; None where that is not known before a
    row is drawn."""
    objective, recipe = prepared.resolved.objective, prepared.recipe
    if prepared.stream is not None:
        return None
    seen = set(np.concatenate([row.ids for row in prepared.repeated]).tolist())
    if isinstance(objective, objectives.Masked) and objective.token is not None:
        seen.add(objective.token)
    # By further runs, by the second training, or in an order that is known once the model has read the rows.
    curriculum = getattr(recipe.schedule, "curriculum", None)
    redrawn = recipe.soup or isinstance(recipe.task.data.balance, Jtt) or curriculum is not None
    if comparing_twins(recipe) or (recipe.augment and redrawn):
        return None
    if recipe.augment:
        cut = Cut(prepared.resolved.rows_per_step, recipe.optimiser.micro_tokens)
        steps = recipe.schedule.over(
            prepared.repeated, Collator(prepared.layout), cut, total=prepared.resolved.steps, seed=recipe.seed
        )
        if not isinstance(steps, EpochSteps):
            return None
        rows = recipe.schedule.learns(prepared.repeated)
        for step in on_the_way(steps, prepared).visits(rows):
            seen.update(*(row.ids.tolist() for row in step))
    return np.array(sorted(seen), dtype=np.int64)


def reader_of(prepared: Prepared) -> Reader:
    limit = prepared.recipe.task.data.max_tokens
    assert limit is not None
    return Reader(prepared.layout, prepared.processor, limit)


def samples(prepared: Prepared, count: int) -> Iterator[tuple[Example, Example]]:
    """Training rows, and what each is at its first visit, those that are changed there."""
    if (vary := varied(prepared)) is None or not count:
        return
    seed, rows = prepared.recipe.seed, prepared.repeated
    for place in np.random.default_rng([seed, MARK]).permutation(len(rows)).tolist():
        if count and vary.varies(rows[place]):
            example = vary.example(rows[place], [seed, 0, place])
            if example is not rows[place].example:
                count -= 1
                yield rows[place].example, example
