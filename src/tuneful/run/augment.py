"""Which recipes can be augmented, and what the report says of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tuneful.core.errors import RecipeError
from tuneful.core.protocols import ChangesTogether
from tuneful.core.types import Layout, Row, Said
from tuneful.data.augment import Masked, Paraphrase
from tuneful.data.augment.reread import all_texts, asked_texts, has_request
from tuneful.data.rows import NAMES
from tuneful.recipe import Recipe
from tuneful.run.resolve import Resolved

MADE = (Masked, Paraphrase)  # before training, by a model
LOOKED = 200  # rows at which it is tried whether an augmentation changes any


def check_augment(recipe: Recipe, resolved: Resolved, rows: Sequence[Row], *, streams: bool) -> None:
    """Raises RecipeError where rows cannot be said otherwise, or saying them otherwise would change nothing. `rows` are
    those that are learned."""
    if not recipe.augment:
        return
    problems = list(_problems(recipe, resolved, rows, streams)) or list(_idle(recipe, rows))
    if problems:
        raise RecipeError(problems)


def _problems(recipe: Recipe, resolved: Resolved, rows: Sequence[Row], streams: bool) -> Iterator[str]:
    layout = resolved.objective.layout
    if recipe.choose.enabled is True and layout is Layout.LABELS:
        yield (
            "augment: ways of learning few labels are compared on texts as they stand, and a head that is solved sees "
            "each but once; leave choose out, or augment"
        )
    elif not resolved.steps:
        yield "augment: this head is solved at one go, so no row is visited twice; leave augment out"
    if layout in (Layout.MASKED, Layout.REBUILT):
        yield (
            f"augment: objective '{getattr(resolved.objective, 'kind', '')}' learns the texts themselves, and what is "
            "learned is never changed; leave augment out"
        )
    only_asked = [one for one in recipe.augment if not isinstance(one, ChangesTogether)]
    if layout is Layout.TOKENS and only_asked and recipe.task.data.learn == "all":
        yield "augment: data.learn=all learns the requests too, and what is learned is never changed; leave one out"
    elif layout is Layout.TOKENS and only_asked and not any(has_request(row.example) for row in rows):
        yield (
            "augment: no training row has a request, only text that is learned, and what is learned is never changed; "
            "leave augment out"
        )
    for number, one in enumerate(recipe.augment):
        if layout is Layout.PAIRS and isinstance(one, ChangesTogether):
            yield (
                f"augment.{number}: this changes texts that belong together, and of queries and documents only queries "
                "are changed; leave it out"
            )
        if one.modality != "text":
            yield f"augment.{number}: '{one.kind}' is for {one.modality}, and these rows are text; leave it out"
        if streams and isinstance(one, MADE):
            yield (
                f"augment.{number}: '{one.kind}' makes its variants before training, of rows that are held; "
                "--set data.streaming=false holds them"
            )


def _idle(recipe: Recipe, rows: Sequence[Row]) -> Iterator[str]:
    """Augmentations that leave every row as it is."""
    order = np.random.default_rng([recipe.seed, 19]).permutation(len(rows))[:LOOKED]
    looked = [rows[place].example for place in order.tolist() if rows[place].example.place.source != NAMES]
    for number, one in enumerate(recipe.augment):
        if isinstance(one, MADE):  # whether it changes any is seen when they are made
            continue
        told = all_texts if isinstance(one, ChangesTogether) else asked_texts
        texts = [text for example in looked for text in told(example)]
        if not _changes(one, [told(example) for example in looked], np.random.default_rng(recipe.seed)):
            yield (
                f"augment.{number}: '{one.kind}' changes none of {len(texts)} texts that were looked at, the first of "
                f"them {texts[0][:60]!r}; it changes words and characters, but no numbers, names and addresses. "
                "Leave it out"
            )


def _changes(one: Any, examples: Sequence[list[str]], rng: np.random.Generator) -> bool:
    """Whether any text of these examples becomes another that is not empty."""
    if isinstance(one, ChangesTogether):
        return any(list(one.together(texts, rng)) != texts for texts in examples)
    texts = [text for own in examples for text in own]
    change = one.over(texts)
    return any((new := change(text, rng)) != text and new.strip() for text in texts)


def augmented(recipe: Recipe) -> list[Said]:
    """What the report says."""
    named: list[Any] = recipe.augment
    if not named:
        return []
    stays = float(np.prod([1 - one.share for one in named]))
    facts = {"how": ", ".join(one.kind for one in named), "percent": round(100 * (1 - stays))}
    return [Said("augmented", facts)]
