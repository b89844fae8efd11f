"""Baselines where every task has an adapter of its own: they are told whose a row is, as the tuned model is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from tuneful.core.order import answered
from tuneful.core.types import Row

Answer = TypeVar("Answer")


def by_own_task(
    train: Sequence[Row],
    test: Sequence[Row],
    tasks: Sequence[str],
    answer: Callable[[Sequence[Row], Sequence[Row]], Sequence[Answer]],
) -> list[Answer]:
    """What `answer` makes of training and test rows, in the order of these; of each of `tasks` apart, from its own
    training rows or, where it has none, from all. All at once where there are no tasks."""
    if not tasks:
        return list(answer(train, test))

    def of(task: str, places: list[int]) -> Sequence[Answer]:
        known = [row for row in train if row.example.task == task] or train
        return answer(known, [test[place] for place in places])

    return answered([row.example.task for row in test], of)
