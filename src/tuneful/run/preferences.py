"""Runs that learn which answers are better: what does not go with that, and what the data say of the objective."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from tuneful.core.device import world
from tuneful.core.errors import RecipeError
from tuneful.core.protocols import Objective
from tuneful.core.types import Example, Layout, Row, Said
from tuneful.data.formats import Format
from tuneful.data.rows import Rows
from tuneful.objectives import Dpo, Kto
from tuneful.recipe import Recipe
from tuneful.schedules import Epochs, Mixture

FORMS = {Layout.PREFERENCES: "preference", Layout.JUDGED: "kto", Layout.REWARDS: "preference"}  # of the data
WANTS = {
    "preference": "a prompt with two answers: --set data.prompt=..., beside columns called chosen and rejected",
    "kto": "an answer that is wanted or not: --set data.prompt=... --set data.completion=... --set data.label=...",
}
KEPT = {  # why rows stay as they are, for whole answers that get a number, and that do not
    True: "rewards are learned of answers that people compared",
    False: "what the model said of a row before tuning is kept",
}
EVEN = (0.75, 4 / 3)  # weights of wanted and unwanted rows in all, of which none outweighs the other (arXiv:2402.01306)


def usual(form: Format) -> Objective | None:
    """The objective made for data of this form, if it is about preferences."""
    return Dpo() if form.name == "preference" else Kto() if form.name == "kto" else None


def check_form(objective: Objective, form: Format, *, writes: bool) -> None:
    """Raises RecipeError where this is no data for the objective, or no model that writes."""
    wanted = FORMS.get(objective.layout)
    if wanted is None:
        return
    kind = objective.kind  # type: ignore[attr-defined]
    if form.name != wanted:
        raise RecipeError([
            f"tasks.0.objective: '{kind}' needs rows of {WANTS[wanted]}; the data is in the layout '{form.name}'"
        ])  # fmt: skip
    if not writes and not objective.layout.rates:
        raise RecipeError([
            f"model: '{kind}' tunes what a model writes, and this is an encoder; leave --model out, or name one that "
            "writes"
        ])  # fmt: skip


def check_settings(recipe: Recipe, layout: Layout, *, streams: bool) -> None:
    """Raises RecipeError for what means nothing here, or was not made for it yet."""
    if problems := list(_problems(recipe, layout, streams)):
        raise RecipeError(problems)


def _problems(recipe: Recipe, layout: Layout, streams: bool) -> Iterator[str]:
    data, what = recipe.task.data, "preferences"
    for name in ("select", "balance", "generated", "patch", "mentions"):
        if getattr(data, name, None) not in (None, [], False):
            yield f"data.{name}: was not made for {what} in this version; leave it out"
    if data.learn == "all":
        yield f"data.learn: of {what} whole answers are told, and nothing of the prompt; leave it out"
    if recipe.augment:
        yield f"augment: {KEPT[layout.rates]}, so {what} stay as they are; leave it out"
    if not isinstance(recipe.schedule, Epochs | Mixture):
        yield f"schedule: '{recipe.schedule.kind}' was not made for {what} in this version; take epochs, or mixture"
    if recipe.sharded:
        kept = "a head that gives answers a number" if layout.rates else "what a model said before tuning"
        yield f"sharded: {kept} is not shared out in this version; leave it out for {what}"
    if recipe.evaluate.canaries:
        yield f"evaluate.canaries: are learned as text, and this run learns {what}; leave them out"
    if recipe.start is not None:
        yield f"start: {what} are learned beside the model a run begins with; name the earlier one, merged, as `model`"
    if layout is Layout.JUDGED and streams:
        yield "data.streaming: an answer is set beside those to other prompts, of rows that are held; set it to false"
    if layout is Layout.JUDGED and world() > 1:
        yield "objective: 'kto' sets an answer beside those computed with it; this objective takes one process"


def check_judged(train: Sequence[Example]) -> None:
    """Raises RecipeError where there is nothing an answer could be set beside."""
    labels = {example.label for example in train}
    if len(labels) < 2:
        only = "wanted" if True in labels else "unwanted"
        raise RecipeError([
            f"data.label: every answer is {only}, so there is nothing to tell apart; give both, or learn wanted "
            "answers with objective=next_token"
        ])  # fmt: skip
    if len({example.messages[:-1] for example in train}) < 2:
        raise RecipeError([
            "data.prompt: all rows ask the same, and 'kto' sets an answer beside those to other prompts; give rows "
            "with other prompts"
        ])  # fmt: skip


def completed(objective: Objective, train: Sequence[Example]) -> Objective:
    """The same, with the weight at which wanted and unwanted answers count alike. Raises RecipeError."""
    if not isinstance(objective, Kto):
        return objective
    check_judged(train)
    if objective.wanted is not None:
        return objective
    right = sum(example.label is True for example in train)
    return objective.model_copy(update={"wanted": objective.unwanted * (len(train) - right) / right})


def notes(objective: Objective, built: Mapping[str, Rows]) -> list[Said]:
    """What a report says of the rows: how often the chosen answer is the longer one, which is learned with the rest;
    or how wanted and unwanted answers count."""
    rows = built["train"].rows
    if objective.layout in (Layout.PREFERENCES, Layout.REWARDS) and rows:
        longer = sum(_longer(row) for row in rows)
        facts = {"percent": round(100 * longer / len(rows)), "n": len(rows)}
        return [Said("chosen_longer_rated", facts) if objective.layout.rates else Said("chosen_longer", facts)]
    if isinstance(objective, Kto):
        right = sum(row.example.label is True for row in rows)
        facts = {"wanted": right, "unwanted": len(rows) - right}
        weight = 1.0 if objective.wanted is None else objective.wanted
        ratio = weight * right / max(1e-9, objective.unwanted * (len(rows) - right))
        even = EVEN[0] <= ratio <= EVEN[1]
        return [Said("judged", facts) if even else Said("judged_uneven", {**facts, "ratio": round(ratio, 2)})]
    return []


def _longer(row: Row) -> bool:
    return row.lengths[0] > row.lengths[1]
