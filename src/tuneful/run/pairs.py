"""Queries and documents before training: what stands before them, and whether there is anything to tell apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from tuneful.core.errors import DataError, RecipeError
from tuneful.core.types import Layout, Row, Said
from tuneful.data.rows import Rows
from tuneful.data.splits import Split
from tuneful.evaluation.retrieval import Corpus
from tuneful.models.processors import TextProcessor
from tuneful.models.prompts import Prompts
from tuneful.objectives import Retrieve
from tuneful.recipe import Recipe
from tuneful.run.resolve import Resolved
from tuneful.schedules import SelfTrain


def with_prompts(objective: Retrieve, processor: TextProcessor) -> tuple[Retrieve, TextProcessor]:
    """Both knowing what stands before queries and documents: as the person says, else as the model's folder says."""
    known = processor.prompts.told_apart()
    query = known.query if objective.query_prompt is None else objective.query_prompt
    document = known.document if objective.document_prompt is None else objective.document_prompt
    found = objective.model_copy(update={"query_prompt": query, "document_prompt": document})
    return found, replace(processor, prompts=Prompts(known.text, query, document))


def check_pairs(recipe: Recipe, split: Split) -> None:
    """Raises an InputError where there is nothing to tell apart, or where a setting would change nothing."""
    data, problems = recipe.task.data, []
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
    documents = {text for example in split.train for text in (example.positive, *example.negatives)}
    if len(documents) < 2:
        raise DataError(
            "all training rows ask for one and the same document, so there is nothing to tell apart; "
            "give rows with other documents, or a column 'negative'"
        )


def check_together(resolved: Resolved, rows: Sequence[Row]) -> None:
    """Raises RecipeError where pairs are computed one by one, each without a wrong document beside it."""
    if resolved.objective.layout is not Layout.PAIRS or any(len(row.lengths) > 2 for row in rows):
        return
    most, shortest = resolved.recipe.optimiser.micro_tokens, sorted(map(len, rows))[:2]
    if min(resolved.rows_per_step, len(rows)) < 2:
        raise RecipeError([
            "optimiser.rows_per_step: pairs are told apart from those of the same update, so it takes two rows or "
            "more, or a column 'negative'"
        ])  # fmt: skip
    if sum(shortest) > most:
        raise RecipeError([
            f"optimiser.micro_tokens: no two pairs fit into the {most} tokens that are computed at once, so there is "
            "nothing to tell them apart from; give more, or set data.max_tokens"
        ])  # fmt: skip


def searched(built: Mapping[str, Rows]) -> Said:
    """Among how many documents the test queries search, and how many of these training has seen."""
    corpus = Corpus.of(built["test"].rows, [*built["validation"].rows, *built["train"].rows])
    learned = {row.example.positive for row in built["train"].rows}
    wanted = {place for right in corpus.right for place in right}
    known = sum(corpus.documents[place] in learned for place in wanted)
    return Said("searched", {"n": len(corpus.documents), "wanted": len(wanted), "known": known})
