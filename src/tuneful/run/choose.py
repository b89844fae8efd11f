"""With few labels: which way of learning them answers best about labels it has not seen.

Every way is tried by cross-validation inside the training rows: the frozen encoder under a solved head, which is the
floor; the same with what may be learned beside the rows, one thing after another; the encoder tuned with its head. What
is no better than what is simpler is not taken, but for texts without labels, which have to be worse to be left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import yaml
from torch import Tensor

from tuneful.adapters import Head
from tuneful.core.spec import Spec, kind_of
from tuneful.core.types import Row
from tuneful.data.folds import folds, usual
from tuneful.data.rows import is_generated, name_rows
from tuneful.data.splits import units_of
from tuneful.engine.update import Sum
from tuneful.evaluation.compare import Difference, difference
from tuneful.evaluation.heads import targets
from tuneful.evaluation.metrics import METRICS
from tuneful.models.probe import losses
from tuneful.objectives import Classify
from tuneful.recipe import Recipe
from tuneful.run.build import build
from tuneful.run.heads import texts_of
from tuneful.run.prepare import Prepared
from tuneful.run.ways import Beside, Trial, Tried, probe, probe_with_texts, tuned

Say = Callable[[str], None]
ENOUGH = 10  # texts a class, from which on they are believed to help


@dataclass(frozen=True, slots=True)
class Choice:
    """The recipe that is run, and why."""

    recipe: Recipe
    facts: Mapping[str, Any]
    answers: Mapping[str, Sequence[int]]  # out of fold, for each training row: "tuned" the way chosen, "base" the floor


def to_choose(prepared: Prepared) -> bool:
    return prepared.recipe.choose.enabled is True and prepared.pooled


def choose(prepared: Prepared, say: Say, should_stop: Callable[[], bool] = lambda: False) -> Choice:
    """Tries the ways on the training rows of `prepared`, whose recipe is that of the costliest. Raises Interrupted."""
    built = build(prepared, say)
    rows, wanted = prepared.rows("train"), targets(prepared.rows("train"))
    count = prepared.recipe.choose.folds or usual(len(rows))
    dealt = folds(wanted.tolist(), count, prepared.recipe.seed, units_of([row.example for row in rows]))
    trial = Trial(built, rows, wanted, dealt, should_stop)
    generated = Beside(generated=_generated(prepared))
    if generated.generated and not any(extra for _, extra in trial.parts(generated)):
        say("generated rows know of rows of every fold, so none can be tried: write them with the seed of this run")
    if len(set(wanted.tolist())) == len(rows):
        say("one row a class: no fold has seen the class it is asked about, so only names tell anything")
    say(f"each way of learning is asked {len(rows)} times about rows it has not seen:")
    tried, best = _tried(trial, wanted)
    for way in tried:
        say(f"  {said(way)}: {float(way.right(wanted).mean()):.3f} right, {way.seconds:.0f} s")
    say(f"  taken: {said(best)}")
    answers = {"tuned": best.logits.argmax(1).tolist(), "base": tried[0].logits.argmax(1).tolist()}
    return Choice(_recipe(prepared, best), _facts(tried, best, wanted, count), answers)


def _generated(prepared: Prepared) -> list[Row]:
    return [row for row in prepared.repeated if is_generated(row)]


def _tried(trial: Trial, wanted: Tensor) -> tuple[list[Tried], Tried]:
    """All ways, and the one to take."""
    prepared, labels = trial.built.prepared, trial.built.prepared.labels
    assert labels is not None
    names = name_rows(labels, prepared.processor, prepared.processor.max_tokens)
    generated = _generated(prepared)
    texts = texts_of(prepared)
    tried = [probe(trial, Beside())]
    best = tried[0]
    if names:
        tried.append(probe(trial, Beside(names)))
        best = tried[-1] if tried[-1].better(best, wanted) else best
    if generated:
        tried.append(probe(trial, Beside(best.beside.names, generated)))
        best = tried[-1] if tried[-1].better(best, wanted) else best
    beside = replace(best.beside, texts=texts)
    costlier = [probe_with_texts(trial, beside)] if texts else []
    for adapter in (None, *prepared.recipe.choose.adapters):
        costlier += tuned(trial.under(adapter) if adapter else trial, beside)
    for way in costlier:
        if not way.texts:
            best = way if way.better(best, wanted) else best
    return [*tried, *costlier], _with_texts_or_not(best, [way for way in costlier if way.texts], wanted)


def _with_texts_or_not(best: Tried, taught: Sequence[Tried], wanted: Tensor) -> Tried:
    """The best way without texts, the same with them, or another with them that is better than either."""
    for way in taught:
        if (way.way, way.adapter) == (best.way, best.adapter) and _not_worse(way, best, wanted):
            best = way
            break
    for way in taught:
        best = way if way.better(best, wanted) else best
    return best


def _not_worse(with_texts: Tried, without: Tried, wanted: Tensor) -> bool:
    """A few dozen answers cannot tell a few points, and enough texts helped nearly wherever they were tried
    (docs/log.md), so they are taken unless they are worse by more than the difference's standard error; too few have to
    be better."""
    gap = with_texts.right(wanted) - without.right(wanted)
    if len(with_texts.beside.texts) < ENOUGH * with_texts.logits.shape[1]:
        return float(gap.mean()) > 0
    return float(gap.mean()) >= -float(gap.std(correction=0)) / len(gap) ** 0.5


def _recipe(prepared: Prepared, best: Tried) -> Recipe:
    """The recipe as it was prepared, for the way that is taken, and nothing left to choose. Texts and generated rows
    that bring nothing are left out."""
    given = prepared.recipe
    objective = prepared.resolved.objective
    assert isinstance(objective, Classify)
    data = given.task.data
    data = data.model_copy(update={
        "unlabelled": data.unlabelled if best.texts else None,
        "generated": data.generated if best.generated else None,
    })  # fmt: skip
    objective = objective.model_copy(update={"label_names": best.label_names})
    task = given.task.model_copy(update={"objective": objective, "data": data})
    changes: dict[str, Any] = {
        "tasks": [task],
        "choose": given.choose.model_copy(update={"enabled": False, "adapters": []}),
    }
    if best.adapter is not None:
        changes["adapter"] = best.adapter
    if best.way == "probe":
        # A head that is solved makes no updates, so nothing changes them.
        changes |= {"adapter": Head(), "regularisers": [], "average": None, "soup": None, "gradient": Sum()}
    return given.model_copy(update=changes)


def _facts(tried: Sequence[Tried], best: Tried, wanted: Tensor, count: int) -> dict[str, Any]:
    """The report's `choice` block; `ci95` is of a way's accuracy minus that of the first, which had labels alone."""
    return {
        "folds": count,
        "rows": len(wanted),
        "texts": _texts(tried, best, wanted),
        "ways": [
            {
                "way": way.way,
                "label_names": way.label_names,
                "generated": way.generated,
                "texts": way.texts,
                "adapter": way.adapter.model_dump() if isinstance(way.adapter, Spec) else None,
                "accuracy": round(float(way.right(wanted).mean()), 4),
                "loss": round(float(losses(way.logits, wanted).mean()), 4),
                "delta": round(gap.delta, 4),
                "ci95": [round(gap.low, 4), round(gap.high, 4)],
                "seconds": round(way.seconds, 1),
                "taken": way is best,
            }
            for way in tried
            for gap in [_gap(way, tried[0], wanted)]
        ],
    }


def _texts(tried: Sequence[Tried], best: Tried, wanted: Tensor) -> dict[str, Any] | None:
    """What texts without labels changed in the way that is taken, or would have changed; None where there are none."""
    for way in tried:
        for other in tried:
            if way.texts and other.is_without_texts(way) and (way is best or other is best):
                gap, count = _gap(way, other, wanted), len(way.beside.texts)
                return {"count": count, "enough": count >= ENOUGH * way.logits.shape[1], "taken": way is best,
                        "delta": round(gap.delta, 4), "ci95": [round(gap.low, 4), round(gap.high, 4)]}  # fmt: skip
    return None


def _gap(way: Tried, first: Tried, wanted: Tensor) -> Difference:
    statistics = [np.stack([one := tried.right(wanted).numpy(), np.ones_like(one)], 1) for tried in (way, first)]
    return difference(METRICS["accuracy"], *statistics)


def said(way: Tried) -> str:
    what = {
        "probe": "frozen encoder, solved head",
        "tune": f"encoder tuned with its head{_named(way.adapter)}",
    }[way.way]
    what += ", names of classes as texts" if way.label_names else ""
    what += ", generated rows beside them" if way.generated else ""
    return what + (", then texts without labels" if way.texts else "")


def _named(adapter: object) -> str:
    """An adapter as it stands in a recipe."""
    if not isinstance(adapter, Spec):
        return ""
    given = {"kind": kind_of(type(adapter)), **adapter.model_dump(exclude_defaults=True)}
    return f" ({yaml.safe_dump(given, default_flow_style=True, sort_keys=False, width=1000).strip()})"
