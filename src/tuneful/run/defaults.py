"""Which regularisers a run gets that names none: those that were measured to help with as few rows.

`python -m benchmarks.effects default_set` and docs/concepts/regularisation.md hold the evidence."""

from __future__ import annotations

from collections.abc import Sequence

from tuneful.adapters import Full
from tuneful.core.protocols import Adapter
from tuneful.core.types import Answer, Row, Said
from tuneful.engine.average import Ema
from tuneful.engine.update import Sum
from tuneful.models.size import Size
from tuneful.recipe import Recipe
from tuneful.regularisers import LabelSmoothing
from tuneful.schedules.epochs import Epochs

FEW = 500  # training rows; 200 were measured
LOWEST = 0.2  # of the head's rate, that the embeddings get
NAMED = {"regularisers", "average", "soup", "gradient", "interpolate"}


def by_amount(recipe: Recipe, adapter: Adapter, answer: Answer, rows: Sequence[Row], count: int, size: Size) -> Recipe:
    """The recipe with what helps an encoder of this size to tell classes apart by `count` rows, of which `rows`
    are some. As it is where the person has named any regulariser, or said that there be none, and where none was
    measured: for decoders, other answers, adapters, schedules and pairs of texts, and with evened classes."""
    named = recipe.model_fields_set & NAMED or "layer_decay" in recipe.optimiser.model_fields_set
    evened = recipe.task.data.balance is not None or getattr(recipe.task.objective, "offsets", None)
    if named or evened or size.causal or not _measured(recipe, adapter, answer, rows, count):
        return recipe
    optimiser = recipe.optimiser.model_copy(update={"layer_decay": decay(size.layers)})
    return recipe.model_copy(update={"optimiser": optimiser, "average": Ema(), "regularisers": [LabelSmoothing()]})


def decay(layers: int) -> float:
    """So that the embeddings, below all layers, get LOWEST of the head's rate."""
    return round(LOWEST ** (1 / (layers + 1)), 3)


def _measured(recipe: Recipe, adapter: Adapter, answer: Answer, rows: Sequence[Row], count: int) -> bool:
    single = all(row.example.second is None for row in rows[:1])
    return (
        answer is Answer.CLASS and single and count <= FEW
        and isinstance(adapter, Full) and type(recipe.schedule) is Epochs
    )  # fmt: skip


def told(resolved: Recipe, adapter: Adapter, answer: Answer, rows: Sequence[Row], count: int, size: Size) -> list[Said]:
    """What the report says of them, of a run that goes on as of one that was never stopped."""
    found = (resolved.average, resolved.regularisers, resolved.optimiser.layer_decay)
    facts = {"decay": decay(size.layers)}
    if found == (Ema(), [LabelSmoothing()], decay(size.layers)):
        return [Said("few_rows", facts)]
    plain = found == (None, [], 1.0) and not (resolved.soup or resolved.interpolate) and resolved.gradient == Sum()
    evened = plain and resolved.task.data.balance is not None and not size.causal
    if evened and _measured(resolved, adapter, answer, rows, count):
        return [Said("few_rows_evened", facts)]
    return []
