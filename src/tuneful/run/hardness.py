"""How hard each row is to a model that has not learned it yet, for a curriculum."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tuneful.core.device import rank, world
from tuneful.core.errors import RecipeError
from tuneful.core.policy import Policy
from tuneful.core.ranks import gathered
from tuneful.core.types import Answer, Layout, Place, Row, Said
from tuneful.data.folds import folds, usual
from tuneful.data.layouts import Collator
from tuneful.evaluation.heads import targets, vectors
from tuneful.evaluation.reading import token_losses
from tuneful.models.probe import STRENGTHS, best_strength, losses, out_of_fold
from tuneful.recipe import Recipe
from tuneful.run.regularised import answer_of
from tuneful.schedules.curriculum import Curriculum, Loss, Pace
from tuneful.schedules.epochs import EpochSteps

if TYPE_CHECKING:
    from tuneful.run.prepare import Prepared
    from tuneful.run.resolve import Resolved

KEY = "schedule.curriculum"


@dataclass(frozen=True, slots=True)
class Known:
    """What was measured of each row; of several rows of one example, their mean."""

    losses: Mapping[Place, float]

    def __call__(self, row: Row) -> float:
        return self.losses[row.example.place]


def curriculum_of(recipe: Recipe) -> Curriculum | None:
    found: Curriculum | None = getattr(recipe.schedule, "curriculum", None)
    return found


def check_curriculum(recipe: Recipe, layout: Layout, rows: Sequence[Row], *, streams: bool) -> None:
    """Raises RecipeError where rows are not held, or no loss can be told before anything is learned."""
    curriculum = curriculum_of(recipe)
    if curriculum is None:
        return
    problems = []
    if streams:
        problems.append(f"{KEY}: puts rows in order, so they are held; --set data.streaming=false, or leave it out")
    if isinstance(curriculum, Loss):
        if answer_of(layout, rows) not in (Answer.CLASS, Answer.LABELS) and layout is not Layout.TOKENS:
            problems.append(f"{KEY}: loss is that of a text to write, or of classes by a head over the encoder as it "
                            "is; here take length, or leave it out")  # fmt: skip
        if recipe.sharded:
            problems.append(f"{KEY}: loss reads all rows before they are learned, which is not done while the model is "
                            "sharded; take length, or leave one of the two out")  # fmt: skip
    if problems:
        raise RecipeError(problems)


def told_curriculum(resolved: Resolved) -> list[Said]:
    """For the report."""
    curriculum = curriculum_of(resolved.recipe)
    if curriculum is None:
        return []
    updates = int(np.ceil(curriculum.until * resolved.steps))
    facts = {"start": round(100 * curriculum.start), "updates": updates}
    by_loss = isinstance(curriculum, Loss)
    return [Said("curriculum_loss", facts) if by_loss else Said("curriculum_length", facts)]


def paced(schedule: Any, prepared: Prepared, policy: Policy, collate: Collator) -> Any:
    """The schedule, which knows how hard its rows are where the recipe asks for their loss; all ranks ask together. A
    run that goes on asks again, before it takes up the weights that it had."""
    if not isinstance(schedule, EpochSteps) or schedule.pace is None or not isinstance(schedule.pace.settings, Loss):
        return schedule
    assert isinstance(schedule.rows, Sequence)
    of_rows: Callable[..., np.ndarray] = _of_tokens if prepared.layout is Layout.TOKENS else _of_classes
    found: dict[Place, list[float]] = defaultdict(list)
    for row, loss in zip(schedule.rows, of_rows(prepared, policy, schedule.rows, collate).tolist(), strict=True):
        found[row.example.place].append(loss)
    known = Known({place: float(np.mean(values)) for place, values in found.items()})
    return replace(schedule, pace=Pace(schedule.pace.settings, known))


def _of_tokens(prepared: Prepared, policy: Policy, rows: Sequence[Row], collate: Collator) -> np.ndarray:
    """(R,) nats of a learned token, in the mean. Each rank reads a part."""
    part = range(rank(), len(rows), world())
    sums = token_losses(policy, [rows[place] for place in part], collate)
    return _joined(len(rows), sums[:, 0] / np.maximum(sums[:, 1], 1))


def _of_classes(prepared: Prepared, policy: Policy, rows: Sequence[Row], collate: Collator) -> np.ndarray:
    """(R,) nats by a linear head over the vectors of the encoder, solved without the row's fold: that of the model
    itself starts from nothing, and says nothing of a row. The same on all ranks: what the first has found."""
    assert prepared.labels is not None
    read, wanted, count = vectors(policy, rows, collate), targets(rows), len(prepared.labels.names)
    dealt = folds([str(target) for target in wanted.tolist()], usual(len(rows)), prepared.recipe.seed)
    logits = out_of_fold(read, wanted, dealt, STRENGTHS, classes=count)
    found: np.ndarray = losses(logits[best_strength(logits, wanted)], wanted).numpy()
    return gathered(found)[0]


def _joined(count: int, own: np.ndarray) -> np.ndarray:
    """What each rank has found of every so-manieth row."""
    found = np.zeros(count)
    for number, values in enumerate(gathered(own)):
        found[number :: world()] = values
    return found
