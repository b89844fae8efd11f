"""Whether rows that a model wrote are worth learning beside those that people wrote: found out before a run of a model
that writes, by two short ones.

Both begin alike, make the same number of updates, half as many as the run would, and are asked about rows that people
wrote and neither learned. One learns the rows people wrote alone, and so sees them more often; the other learns both.
What is compared is each one's best look, as a run keeps its best weights too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tuneful.core.types import Layout, Row
from tuneful.data.duplicates import said_in
from tuneful.data.instructions import half_of
from tuneful.data.rows import is_generated
from tuneful.evaluation.compare import Difference, difference
from tuneful.evaluation.metrics import METRICS
from tuneful.evaluation.reading import token_losses
from tuneful.recipe import Recipe
from tuneful.run.build import Built, build, build_on
from tuneful.run.choose import Choice
from tuneful.run.further import unseen
from tuneful.run.loop import tried, undone
from tuneful.run.prepare import Prepared
from tuneful.run.settle import averaged

Say = Callable[[str], None]
LEAST_ASKED, MOST_ASKED = 20, 200  # validation rows: with fewer the training rows are asked about, by halves
MOST_UPDATES = 200  # of a short run
LOOKS = 4  # at the rows that are asked about, a short run


@dataclass(frozen=True, slots=True)
class Part:
    """What a short run learns, and what it is asked about."""

    own: Sequence[Row]
    generated: Sequence[Row]
    asked: Sequence[Row]


@dataclass(frozen=True, slots=True)
class Weighed:
    """A source of rows, tried."""

    generated: bool
    losses: np.ndarray  # (R, 2) of the rows asked about: summed loss, learned tokens
    seconds: float

    @property
    def loss(self) -> float:
        """A token."""
        return float(self.losses[:, 0].sum() / self.losses[:, 1].sum())


def to_weigh(prepared: Prepared) -> bool:
    """A model that writes is to learn generated rows if they help."""
    asks = prepared.layout is Layout.TOKENS and prepared.recipe.choose.enabled is not False
    return asks and any(map(is_generated, prepared.repeated))


def weigh(given: Recipe, prepared: Prepared, say: Say, should_stop: Callable[[], bool] = lambda: False) -> Choice:
    """The recipe as it was given, with the generated rows or without; without where there are too few rows to ask
    about. Raises Interrupted."""
    parts = parts_of(prepared)
    if not parts:
        say(
            "too few rows that people wrote to find out whether generated rows help: these are left out "
            "(--set choose=none learns them unasked)"
        )
        return Choice(_recipe(given, helps=False), {}, {})
    built = build(prepared, say)
    updates = [_updates(prepared, part) for part in parts]
    asked = sum(len(part.asked) for part in parts)
    say(f"do generated rows help? {2 * len(parts)} short runs of {max(updates)} updates, asked about {asked} rows:")
    tried = [_tried(built, parts, updates, should_stop, generated=generated) for generated in (False, True)]
    gap = _gap(tried[1], tried[0])
    helps = gap.delta < 0
    for way in tried:
        said = "with the generated rows" if way.generated else "rows that people wrote"
        say(f"  {said}: perplexity {np.exp(way.loss):.4g}, {way.seconds:.0f} s")
    chance = ", though that may be chance" if helps and gap.high >= 0 else ""
    learned = f"they are {'' if helps else 'not '}learned{chance}"
    say(f"  difference {gap.delta:+.3g} ({gap.low:+.3g} to {gap.high:+.3g}): {learned}")
    return Choice(_recipe(given, helps=helps), _facts(tried, helps, len(parts), asked, max(updates)), {})


def parts_of(prepared: Prepared) -> list[Part]:
    """One part, asked about the validation rows; where those are few, one for each half of the training rows, which
    learns the other half and what was written from it. None where a half is empty."""
    learned = [row for row in prepared.repeated if row.counts]
    own = [row for row in learned if not is_generated(row)]
    made = [row for row in learned if is_generated(row)]
    validation = prepared.rows("validation")
    if len(validation) >= LEAST_ASKED:
        drawn = np.random.default_rng([prepared.recipe.seed, 13]).permutation(len(validation))[:MOST_ASKED]
        return [Part(own, made, [validation[place] for place in sorted(drawn)])]
    return list(_halves(own, made, prepared.rows("train"))) if _halved(own) else []


def _halved(own: Sequence[Row]) -> bool:
    return {half_of(said_in(row.example)) for row in own} == {0, 1}


def _halves(own: Sequence[Row], made: Sequence[Row], train: Sequence[Row]) -> Iterator[Part]:
    for half in (0, 1):
        asked = [row for row in train if half_of(said_in(row.example)) == half and row.counts][:MOST_ASKED]
        others = [row for row in own if half_of(said_in(row.example)) != half]
        yield Part(others, unseen(made, asked), asked)


def _updates(prepared: Prepared, part: Part) -> int:
    """Half as many as the run would make, if it learned this part."""
    share = (len(part.own) + len(part.generated)) / len(prepared.repeated)
    return int(np.clip(round(prepared.resolved.steps * share / 2), 1, MOST_UPDATES))


def _tried(
    built: Built, parts: Sequence[Part], updates: Sequence[int], should_stop: Callable[[], bool], *, generated: bool
) -> Weighed:
    began = time.perf_counter()
    found = []
    for part, count in zip(parts, updates, strict=True):
        rows = [*part.own, *part.generated] if generated else part.own
        with undone(built.policy):
            trial = short_run(built, rows, count)
            found.append(best_look(trial, part.asked, _losses, should_stop))
    return Weighed(generated, np.concatenate(found), time.perf_counter() - began)


def short_run(built: Built, rows: Sequence[Row], updates: int) -> Built:
    """The same policy about to learn these rows in so many updates."""
    short = replace(built.prepared, repeated=list(rows), resolved=replace(built.prepared.resolved, steps=updates))
    return build_on(built.policy, short)


def best_look(
    trial: Built,
    asked: Sequence[Row],
    measured: Callable[[Built, Sequence[Row]], np.ndarray],
    should_stop: Callable[[], bool],
) -> np.ndarray:
    """What is measured of the rows asked about, (R, ...) with the loss in front, at the look where that is lowest.
    Raises Interrupted."""
    updates = len(trial.schedule)
    looks: list[np.ndarray] = []
    for record in tried(trial, should_stop):
        if record.step % max(1, updates // LOOKS) == 0 or record.step == updates:
            with averaged(trial):
                looks.append(measured(trial, asked))
    return min(looks, key=lambda losses: float(losses[:, 0].sum()))


def _losses(trial: Built, asked: Sequence[Row]) -> np.ndarray:
    """(R, 2) summed loss, learned tokens."""
    return token_losses(trial.policy, asked, trial.collate)


def _gap(ours: Weighed, theirs: Weighed) -> Difference:
    return difference(METRICS["perplexity"], ours.losses, theirs.losses)


def _recipe(given: Recipe, *, helps: bool) -> Recipe:
    """With nothing left to ask. What the recipe leaves open is decided anew, by the rows that are learned."""
    recipe = given if helps else given.with_data(generated=None)
    return recipe.model_copy(update={"choose": given.choose.model_copy(update={"enabled": False})})


def _facts(tried: Sequence[Weighed], helps: bool, folds: int, asked: int, updates: int) -> Mapping[str, Any]:
    """The report's `choice` block; `ci95` is of a source's perplexity minus that of the first."""
    return {
        "folds": folds,
        "rows": asked,
        "updates": updates,
        "ways": [
            {
                "way": "write",
                "label_names": False,
                "generated": way.generated,
                "perplexity": round(float(np.exp(way.loss)), 4),
                "loss": round(way.loss, 4),
                "delta": round(gap.delta, 4),
                "ci95": [round(gap.low, 4), round(gap.high, 4)],
                "seconds": round(way.seconds, 1),
                "taken": way.generated is helps,
            }
            for way in tried
            for gap in [_gap(way, tried[0])]
        ],
    }
