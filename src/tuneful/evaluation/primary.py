"""Which metrics a run measures, known before it is trained, so that what is not measured is refused in time."""

from __future__ import annotations

from collections.abc import Sequence

from tuneful.core.errors import RecipeError
from tuneful.core.types import Layout, Row
from tuneful.data.episodes import by_class
from tuneful.data.labels import Kind, LabelSet
from tuneful.evaluation.generators import TEXT_METRICS
from tuneful.evaluation.metrics import JUDGED_METRICS, PREFERENCE_METRICS, REWARD_METRICS, SEARCH_METRICS
from tuneful.evaluation.prototypes import SHOTS, enough
from tuneful.evaluation.readers import READER_METRICS
from tuneful.evaluation.settings import Evaluate

BY_LAYOUT = {
    Layout.TEXTS: ("accuracy",),
    Layout.REBUILT: ("accuracy",),
    Layout.CLASSES: tuple(SHOTS),
    Layout.PAIRS: SEARCH_METRICS,
    Layout.PREFERENCES: PREFERENCE_METRICS,
    Layout.JUDGED: JUDGED_METRICS,
    Layout.REWARDS: PREFERENCE_METRICS[:1],
    Layout.ROLLOUTS: REWARD_METRICS,
}
DATA = {
    Layout.CLASSES: "classes that were never learned", Layout.PAIRS: "queries and documents",
    Layout.PREFERENCES: "pairs of answers", Layout.JUDGED: "answers that are wanted or not",
    Layout.REWARDS: "pairs of answers", Layout.ROLLOUTS: "a model's own answers",
}  # fmt: skip
SAID = {"class": "labels, one a row", "labels": "labels, any number a row", "number": "labels that are numbers"}


def metrics_for(kind: Kind | None, *, asked: bool = True) -> tuple[str, ...]:
    """`kind` of the labels, None for text to write; `asked` False for plain texts, which answer no request."""
    if kind is not None:
        return READER_METRICS[kind]
    return (*TEXT_METRICS, "perplexity") if asked else ("perplexity",)


def measured(layout: Layout, labels: LabelSet | None, *, asked: bool) -> tuple[str, ...]:
    """The metrics of a run, that of the verdict first."""
    return BY_LAYOUT.get(layout) or metrics_for(labels.kind if labels else None, asked=asked)


def check_primary(settings: Evaluate, layout: Layout, labels: LabelSet | None, test: Sequence[Row]) -> None:
    """Raises RecipeError when `evaluate.primary` is not among what the test rows are measured by."""
    asked = layout.writes and (not test or any(row.prompt for row in test))
    known = measured(layout, labels, asked=asked)
    if layout is Layout.CLASSES and test:
        known = tuple(name for name in known if enough(by_class(test), SHOTS[name]))
    if settings.primary is None or settings.primary in known:
        return
    data = DATA.get(layout) or (SAID[labels.kind] if labels else "text to write" if asked else "plain text")
    raise RecipeError([
        f"evaluate.primary: {settings.primary} is not measured for {data}. "
        f"Known here: {', '.join(known)}; or leave it out"
    ])  # fmt: skip


def check_curve(settings: Evaluate, layout: Layout, labels: LabelSet | None) -> None:
    """Raises RecipeError when a learning curve is asked for where none is measured: a model that writes would have to
    be trained anew for every size."""
    if settings.learning_curve is not True or (
        layout is Layout.LABELS and labels is not None and labels.kind == "class"
    ):
        return
    data = DATA.get(layout) or (SAID[labels.kind] if labels else "text")
    raise RecipeError([
        f"evaluate.learning_curve: is measured for labels, one a row, and this run learns {data}. Leave it out, or "
        "train on a part of the rows (data.source: path#500) and compare the runs"
    ])  # fmt: skip
