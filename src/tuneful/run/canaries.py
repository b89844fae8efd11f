"""Random sequences planted in the training rows, so that a run can say how well the model knows them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tuneful.core.errors import RecipeError
from tuneful.core.protocols import Processor
from tuneful.core.types import Example, Layout, Place, Row
from tuneful.data.rows import build
from tuneful.recipe import Recipe

Say = Callable[[str], None]
CANARIES = "canaries"  # the source of these rows
DIGITS = 6
CANDIDATES = 128  # sequences of which one is planted
MOST = 0.2  # of the training rows, so that what is learned stays the person's data


def canary_rows(
    recipe: Recipe, layout: Layout, processor: Processor, limit: int, learned: int | None, say: Say
) -> list[Row]:
    """What `evaluate.canaries` plants beside `learned` rows; None: these are not held. Raises RecipeError."""
    count = recipe.evaluate.canaries
    if not count:
        return []
    _check(count, layout, learned, measures=recipe.evaluate.enabled)
    say(f"{count} canaries are planted: random sequences that are learned beside your rows, to be asked about after")
    first = [candidates(recipe.seed, number, processor, limit) for number in range(1, count + 1)]
    if any(len(rows) != CANDIDATES for rows in first):
        raise RecipeError([f"evaluate.canaries: a canary does not fit into data.max_tokens: {limit}; expected one row"])
    return [rows[0] for rows in first]


def _check(count: int, layout: Layout, learned: int | None, *, measures: bool) -> None:
    problems = []
    if not layout.writes:
        problems.append(
            f"evaluate.canaries: {count} random sequences were to be planted, and this model reads and writes nothing; "
            "expected a model that writes. Leave it out"
        )
    if not measures:
        problems.append("evaluate.canaries: nothing is measured after this run (evaluate: none), so they would only be "
                        "learned; leave them out, or measure")  # fmt: skip
    if learned is None:
        problems.append(
            "evaluate.canaries: are planted among rows that are held, these are streamed; --set data.streaming=false"
        )
    elif layout.writes and count > MOST * learned:
        problems.append(
            f"evaluate.canaries: {count} beside {learned} training rows, of which expected are at most "
            f"{int(MOST * learned)}, a fifth; plant fewer"
        )
    if problems:
        raise RecipeError(problems)


def candidates(seed: int, number: int, processor: Processor, limit: int) -> list[Row]:
    """The canary of that number, then the others it might as well have been, all different."""
    drawn = np.random.default_rng([seed, 13, number]).choice(10**DIGITS, CANDIDATES, replace=False)
    texts = [f"Canary {number}: the secret number is {value:0{DIGITS}d}." for value in drawn]
    examples = [Example(Place(CANARIES, number), text=text) for text in texts]
    return build(examples, Layout.TOKENS, processor, limit).rows
