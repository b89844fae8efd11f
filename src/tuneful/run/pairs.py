"""Queries and documents before training: what stands before them, and whether there is anything to tell apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from tuneful.core.errors import DataError, RecipeError
from tuneful.core.types import Layout, Row, Said
from tuneful.data.layouts import Collator
from tuneful.data.rows import Rows
from tuneful.data.splits import Split
from tuneful.evaluation.retrieval import Corpus
from tuneful.models.processors import TextProcessor
from tuneful.models.prompts import Prompts
from tuneful.objectives import Retrieve
from tuneful.recipe import Recipe
from tuneful.run.resolve import Resolved
from tuneful.schedules import SelfTrain
from tuneful.schedules.epochs import cut_up

TRIED = 1000  # rows that are cut as training would cut them
ALONE = 0.25  # share of them that may be computed one by one; a few long ones are


def with_prompts(objective: Retrieve, processor: TextProcessor) -> tuple[Retrieve, TextProcessor]:
    """Both knowing what stands before queries and documents: as the person says, else as the model's folder says."""
    known = processor.prompts.told_apart()
    query = known.query if objective.query_prompt is None else objective.query_prompt
    document = known.document if objective.document_prompt is None else objective.document_prompt
    found = objective.model_copy(update={"query_prompt": query, "document_prompt": document})
    return found, replace(processor, prompts=Prompts(known.text, query, document))


def check_settings(recipe: Recipe) -> None:
    """Raises RecipeError where a setting would change nothing."""
    data, problems = recipe.task.data, []
    for part in ("unlabelled", "generated", "teacher"):
        if getattr(data, part) is not None:
            problems.append(f"data.{part}: goes with labels, and queries and documents have none; leave it out")
    if data.labels is not None:
        problems.append("data.labels: queries and documents have no labels; leave it out")
    if data.learn == "all":
        problems.append(
            "data.learn: chooses turns of a conversation, and queries and documents have none; leave it out"
        )
    if isinstance(recipe.schedule, SelfTrain):
        problems.append("schedule: 'selftrain' labels texts, and there are no labels here; leave schedule out")
    if problems:
        raise RecipeError(problems)


def check_pairs(split: Split) -> None:
    """Raises DataError where there is nothing to tell apart."""
    documents = {text for example in split.train for text in (example.positive, *example.negatives)}
    if len(documents) < 2:
        raise DataError(
            "all training rows ask for one and the same document, so there is nothing to tell apart; "
            "give rows with other documents, or a column 'negative'"
        )


def check_together(resolved: Resolved, rows: Sequence[Row]) -> None:
    """Raises RecipeError where many pairs would be computed one by one, each without a wrong document beside it."""
    if resolved.objective.layout is not Layout.PAIRS or any(len(row.lengths) > 2 for row in rows):
        return
    most = resolved.recipe.optimiser.micro_tokens
    if min(resolved.rows_per_step, len(rows)) < 2:
        raise RecipeError([
            "optimiser.rows_per_step: pairs are told apart from those of the same update, so it takes two rows or "
            "more, or a column 'negative'"
        ])  # fmt: skip
    order = np.random.default_rng(0).permutation(len(rows))[:TRIED]
    steps = np.array_split(order, -(-len(order) // resolved.rows_per_step))
    alone = sum(_alone([rows[index] for index in step], most) for step in steps) / len(order)
    if alone > ALONE:
        raise RecipeError([
            f"optimiser.micro_tokens: {alone:.0%} of the pairs have no other beside them in the {most} tokens that are "
            "computed at once, so there is nothing to tell them apart from; give more, or set data.max_tokens"
        ])  # fmt: skip


def _alone(rows: list[Row], most: int) -> int:
    """How many rows of a step are computed one by one."""
    rows.sort(key=lambda row: row.ids.tolist())
    return sum(len(part) == 1 for part in cut_up(rows, Collator(Layout.PAIRS), most, even=True))


def searched(built: Mapping[str, Rows], *, sampled: bool = False) -> Said:
    """Among how many documents the test queries search, and how many of these training has seen; of rows that are not
    held (`sampled`) those that were looked at."""
    corpus = Corpus.of(built["test"].rows, [*built["validation"].rows, *built["train"].rows])
    learned = {row.example.positive for row in built["train"].rows}
    wanted = {place for right in corpus.right for place in right}
    known = sum(corpus.documents[place] in learned for place in wanted)
    facts = {"n": len(corpus.documents), "wanted": len(wanted), "known": known}
    return Said("searched_sample", facts) if sampled else Said("searched", facts)
