"""What is known of a run before its rows are split and rendered: the model, the objective, and how a way is found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tuneful.core.errors import DataError
from tuneful.core.protocols import Objective
from tuneful.core.types import Example, Layout
from tuneful.models.load import locate
from tuneful.models.size import Size, size_of
from tuneful.models.unlabelled import MOST
from tuneful.recipe import Recipe
from tuneful.run import preferences
from tuneful.run.embedded import with_model
from tuneful.run.few import check_used, chooses, to_be_chosen
from tuneful.run.gather import Gathered
from tuneful.run.objective import choose_objective, reads
from tuneful.run.pairs import check_settings
from tuneful.run.resolve import pools
from tuneful.run.rollouts import check_environment
from tuneful.run.select import check_select
from tuneful.run.unseen import check_classes, with_episodes

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Decided:
    """What is known before rows are split and rendered."""

    recipe: Recipe
    objective: Objective
    gathered: Gathered
    folder: Path
    size: Size

    @property
    def labelled(self) -> bool:
        return self.objective.layout is Layout.LABELS

    @property
    def unseen(self) -> bool:
        """Whole classes are held out."""
        return self.objective.layout is Layout.CLASSES


def decide(recipe: Recipe, gathered: Gathered, say: Say) -> Decided:
    """Which model, which objective, and whether the way of learning is chosen by trying."""
    train = gathered.examples.get("train", [])
    recipe = with_model(recipe, reads(recipe, gathered.form), train, say)
    if not train:
        first = gathered.dropped[0]
        raise DataError(f"no training row can be used; the first: {first.place}: {first.reason}")
    folder = locate(str(recipe.model), say, trust_remote_code=recipe.trust_remote_code)
    size = size_of(str(recipe.model), folder, trust_remote_code=recipe.trust_remote_code)
    objective = choose_objective(recipe, gathered.form, folder, say)
    recipe = with_episodes(recipe, objective, say)
    if objective.layout is Layout.CLASSES:
        check_classes(recipe, gathered)
    if objective.layout is Layout.PAIRS:
        check_settings(recipe)
    check_environment(recipe, objective.layout, writes=size.causal, streams=gathered.sampled is not None)
    if objective.layout.prefers or objective.layout.rates:
        preferences.check_settings(recipe, objective.layout, streams=gathered.sampled is not None)
    choosing = gathered.sampled is None and chooses(recipe, train, folder, objective.layout is Layout.LABELS)
    check_used(
        recipe, choosing=choosing, names_only=gathered.names_only, taught=gathered.teaches,
        streams=gathered.sampled is not None, writes=objective.layout.writes, pooled=_teaches_heads(objective, train),
    )  # fmt: skip
    check_select(recipe, objective.layout, streams=gathered.sampled is not None, choosing=choosing)
    if choosing:
        recipe, objective = to_be_chosen(recipe, size.layers, train, say)
        data = recipe.task.data
        gathered = replace(gathered, held_out={"validation": data.validation, "test": data.test})
    return Decided(recipe, objective, gathered, folder, size)


def _teaches_heads(objective: Objective, train: Sequence[Example]) -> bool:
    """A head over means can learn what single texts without labels seem to be."""
    return pools(objective) and train[0].second is None and len(train) <= MOST
