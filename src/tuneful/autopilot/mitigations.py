"""The table of mitigations: each is a few settings on top of a recipe. To add one, write one line."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tuneful.core.errors import RecipeError
from tuneful.core.types import Row
from tuneful.evaluation.fairness import LEAST
from tuneful.evaluation.treatment import FLIPS
from tuneful.recipe import Recipe, from_mapping
from tuneful.run.regularised import comparing, comparing_twins
from tuneful.run.resolve import PAIRED_TOKENS

SAMPLED = {"data.balance": "group_sampling"}
PENALTIES = ("mmd", "parity_gap", "hsic")
STRENGTHS = (3.0, 0.3)


@dataclass(frozen=True, slots=True)
class Way:
    """Settings by dotted path. A list joins the list that the recipe has, in the place of components of its kind."""

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    cost: float = 1.0  # seconds for each second of the plain way, before any was tried


PLAIN = Way("plain")
ACROSS = {"across": True}  # a group of one kind may stand for one of another


def mitigations(measure: str) -> list[Way]:
    """What is tried to make `measure` small, the cheapest and most promising first. Penalties compare groups within a
    class, but for demographic parity, which is about whole groups."""
    given = "nothing" if measure == "demographic_parity_difference" else "label"
    swaps: dict[str, Any] = {"augment": ["counterfactual"]}
    found = [
        Way("group_sampling", SAMPLED),
        Way("reweighing", {"data.balance": "reweighing"}),
        Way("balanced_head", {"repair": ["balanced_head"]}),
        Way("group_dro", {**SAMPLED, "regularisers": [{"kind": "group_dro", "by": "group_label"}]}, 1.1),
        *(Way(f"{kind} {strength:g}", {**SAMPLED, "regularisers": [penalty(kind, strength, given)]}, 1.2)
          for strength in STRENGTHS for kind in PENALTIES),
        Way("jtt", {"data.balance": "jtt"}, 1.3),
        Way("erase", {"repair": ["erase"]}),
        Way("counterfactual", swaps, 1.1),
        Way("counterfactual_pairing", {**swaps, "regularisers": ["counterfactual_pairing"]}, 2.0),
        Way("counterfactual_pairing across", {"augment": [{"kind": "counterfactual", **ACROSS}],
                                              "regularisers": [{"kind": "counterfactual_pairing", **ACROSS}]}, 2.0),
    ]  # fmt: skip
    # Only a text about others can make an answer about others alike, so where that is measured they come first.
    return sorted(found, key=lambda way: "augment" not in way.settings) if measure == FLIPS else found


def penalty(kind: str, strength: float, given: str) -> dict[str, Any]:
    return {"kind": kind, "strength": strength, "given": given}


def recipe_with(base: Recipe, way: Way, rows: Sequence[Row]) -> Recipe:
    """The recipe of a run with the settings of a way, and updates large enough for it; `rows` are those of training.
    Raises RecipeError."""
    plain = base.model_dump(mode="json")
    settings = {path: _joined(plain.get(path), value) for path, value in way.settings.items()}
    if "data.balance" in settings and getattr(base.task.objective, "offsets", None):
        settings["objective.offsets"] = []  # a head start that another balance had given the classes
    recipe = _with(base, settings)
    wanted = _least_rows(recipe, rows)
    if wanted <= (base.optimiser.rows_per_step or 0):
        return recipe
    return _with(base, {**settings, **_larger_updates(base, wanted)})


def check_texts(recipe: Recipe, exchanged: Sequence[Row]) -> None:
    """Raises RecipeError where texts are to speak of other groups and hardly any can: the way would be plain."""
    swaps = comparing_twins(recipe) or any(one.kind == "counterfactual" for one in recipe.augment)
    if swaps and len(exchanged) < LEAST:
        raise RecipeError([f"{len(exchanged)} of the texts mention a group that can be exchanged; below {LEAST} this "
                           "is not tried"])  # fmt: skip


def _with(base: Recipe, settings: Mapping[str, Any]) -> Recipe:
    given = [f"{path}={json.dumps(value)}" for path, value in settings.items()]
    return from_mapping(base.model_dump(mode="json"), given)[0]


def _joined(there: Any, value: Any) -> Any:
    if not isinstance(value, list) or not there:
        return value
    kinds = {_kind(one) for one in value}
    return [*(one for one in there if _kind(one) not in kinds), *value]


def _kind(component: Any) -> str:
    return component if isinstance(component, str) else str(component["kind"])


def _least_rows(recipe: Recipe, rows: Sequence[Row]) -> int:
    """Of an update that has what each penalty needs of every class of every group, where these are drawn alike."""
    known = [row for row in rows if row.example.group is not None]
    cells = len({(row.example.group, row.target) for row in known})
    least = max((part.least for part in comparing(recipe)), default=0)
    return math.ceil(least * cells * len(rows) / max(1, len(known)))


def _larger_updates(base: Recipe, rows: int) -> dict[str, Any]:
    """As many epochs in updates of so many rows, computed at once if memory allows it, as a penalty is a statistic of
    what is; with as many looks at the validation rows as there are by default."""
    return {
        "optimiser.rows_per_step": rows,
        "optimiser.micro_tokens": max(base.optimiser.micro_tokens, PAIRED_TOKENS),
        "schedule.epochs": base.schedule.epochs,
        "evaluate.every": None,
        "checkpoint.every": None,
    }
