"""What stands against the repairs of a recipe, said before anything is trained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tuneful.core.errors import RecipeError
from tuneful.core.types import Layout, Row, Said
from tuneful.data.labels import LabelSet
from tuneful.data.rows import NAMES, Rows
from tuneful.evaluation.treatment import rarer
from tuneful.models.size import head_has_bias
from tuneful.recipe import Recipe
from tuneful.repairs import Thresholds, cells, thresholds
from tuneful.run.groups import names_of, not_comparable
from tuneful.run.resolve import Resolved, pools

SHOWN = 4  # cells that are too small, listed one by one


def told_apart(rows: Sequence[Row]) -> list[Row]:
    """Those whose class and group are known."""
    known = (row for row in rows if row.target is not None and row.example.group is not None)
    return [row for row in known if row.example.place.source != NAMES]


def fitted_on(built: Mapping[str, Rows]) -> str:
    """The part whose rows thresholds are fitted on: of rows that were learned the scores are too sure."""
    return "validation" if built["validation"].rows else "train"


def positive_of(part: Thresholds, rows: Sequence[Row], labels: LabelSet) -> int:
    """The class that is a yes."""
    if part.positive is not None:
        return labels.names.index(part.positive)
    found = rarer(Counter(int(row.target) for row in rows if row.target is not None), 2)
    assert found is not None
    return found


def check_repair(
    resolved: Resolved, labels: LabelSet | None, built: Mapping[str, Rows], folder: Path, *, streams: bool
) -> list[Said]:
    """What a report has to say of them. Raises RecipeError where they cannot be done, with all that is wrong."""
    recipe = resolved.recipe
    if not recipe.repair:
        return []
    problems = list(_unfit(resolved, labels, streams=streams))
    if not problems:
        assert labels is not None
        kinds = ", ".join(part.kind for part in recipe.repair)
        ungrouped = not_comparable(names_of(told_apart(built["train"].rows)), f"repair: {kinds}")
        problems = [*([ungrouped] if ungrouped else []), *_headless(resolved, folder)]
        problems = problems or [*_small(recipe, labels, built), *_undecidable(recipe, labels, built)]
    if problems:
        raise RecipeError(problems)
    learned = any(isinstance(part, Thresholds) for part in recipe.repair) and fitted_on(built) == "train"
    return [Said("thresholds_learned", {"n": len(told_apart(built["train"].rows))})] if learned else []


def _unfit(resolved: Resolved, labels: LabelSet | None, *, streams: bool) -> Iterator[str]:
    """What is to be repaired is no classifier, or not whole."""
    recipe = resolved.recipe
    given = [part.kind for part in recipe.repair]
    kinds = ", ".join(given)
    if resolved.objective.layout is not Layout.LABELS or labels is None or labels.kind != "class":
        yield f"repair: {kinds} is about a classifier that gives each row one class, and this is none; leave it out"
    if recipe.sharded:
        yield f"repair: {kinds} needs the whole model in one process; leave out sharded"
    if streams:
        yield f"repair: {kinds} counts the rows of each group, which are held; --set data.streaming=false"
    if repeated := sorted({kind for kind in given if given.count(kind) > 1}):
        yield f"repair: {', '.join(repeated)} is given twice; give each once"


def _headless(resolved: Resolved, folder: Path) -> Iterator[str]:
    """The last layer cannot hold what is found."""
    mends = [part.kind for part in resolved.recipe.repair if part.mends]
    if not mends or pools(resolved.objective):
        return
    trust = resolved.recipe.trust_remote_code
    if not (folder / "config.json").exists() or not head_has_bias(folder, trust_remote_code=trust):
        yield (f"repair: {', '.join(mends)} needs a last layer that adds a constant, and the class head of this "
               "architecture adds none; take an encoder such as minilm-l6, or leave it out")  # fmt: skip


def _small(recipe: Recipe, labels: LabelSet, built: Mapping[str, Rows]) -> Iterator[str]:
    """Cells from which no last layer is found."""
    mends = [part.kind for part in recipe.repair if part.mends]
    if not mends:
        return
    rows = told_apart(built["train"].rows)
    counts = Counter((row.example.group, int(row.target)) for row in rows)
    wanted = [(group, place) for group in names_of(rows) for place in range(len(labels.names))]
    few = [cell for cell in wanted if counts[cell] < cells.LEAST]
    for group, place in few[:SHOWN]:
        yield (f"repair: {', '.join(mends)} needs {cells.LEAST} training rows of every class in every group, and "
               f"{counts[group, place]} of class '{labels.names[place]}' are of group '{group}'; bring more, or "
               f"{_way_out(recipe)}")  # fmt: skip
    if len(few) > SHOWN:
        yield f"repair: so are {len(few) - SHOWN} more classes of groups"


def _way_out(recipe: Recipe) -> str:
    """Of a group that is too small. What a text mentions is in no field that could be left empty."""
    if recipe.task.data.mentions is None:
        return "leave the field of that group empty"
    return ("name other kinds of people in data.mentions, or give the groups in a column instead (data.group), empty "
            "for rows that are to be left out")  # fmt: skip


def _undecidable(recipe: Recipe, labels: LabelSet, built: Mapping[str, Rows]) -> Iterator[str]:
    """What stands against thresholds."""
    part = next((part for part in recipe.repair if isinstance(part, Thresholds)), None)
    if part is None:
        return
    if len(labels.names) != 2:
        yield f"repair: thresholds are for two classes, and there are {len(labels.names)}; leave them out"
        return
    if part.positive is not None and part.positive not in labels.names:
        yield f"repair.positive: found '{part.positive}', expected {' or '.join(labels.names)}"
        return
    where, rows = fitted_on(built), told_apart(built[fitted_on(built)].rows)
    counts = Counter((row.example.group, int(row.target)) for row in rows)
    groups = names_of([*told_apart(built["train"].rows), *rows])
    few = [(group, place) for group in groups for place in (0, 1) if counts[group, place] < thresholds.LEAST]
    for group, place in few[:SHOWN]:
        more = "data.validation=0.3 holds out more, data.validation=0 takes the training rows; or bring more rows"
        yield (f"repair: thresholds need {thresholds.LEAST} {where} rows of both classes in every group, and "
               f"{counts[group, place]} of class '{labels.names[place]}' are of group '{group}'; "
               f"{'bring more' if where == 'train' else more}, or {_way_out(recipe)}")  # fmt: skip
    if len(few) > SHOWN:
        yield f"repair: so are {len(few) - SHOWN} more classes of groups"
