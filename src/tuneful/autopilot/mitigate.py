"""Which way of learning makes a classifier fairer, and what does it cost? Ways are tuned within a budget, compared on
training rows set apart, and one of them is recommended, or none."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from tuneful.autopilot.budget import Budget, Done, foretold
from tuneful.autopilot.case import Case, opened
from tuneful.autopilot.journal import Entry, Journal
from tuneful.autopilot.measuring import MEASURES, Measured, measured
from tuneful.autopilot.mitigations import PLAIN, Way, check_texts, mitigations, recipe_with
from tuneful.autopilot.points import LIMIT, Point, front, reason_of, recommended
from tuneful.autopilot.retelling import retold
from tuneful.autopilot.trial import Say, Stop, answered, prepared_for
from tuneful.core.errors import DataError, Diverged, OutOfMemory, RecipeError
from tuneful.core.files import write_text
from tuneful.evaluation.mitigation_page import mitigation_page
from tuneful.recipe import Recipe

UNFIT = (RecipeError, DataError, Diverged, OutOfMemory)  # a way that cannot be tuned on these rows
JSON, PAGE, RECIPE = "mitigation.json", "mitigation.html", "recipe.fairer.yaml"
HEAD = "# The recipe of {path} with what makes it fairer ({way}): chosen by tuneful audit --mitigate.\n"


@dataclass(frozen=True, slots=True)
class Mitigation:
    """What came of a search; `report` is what mitigation.json holds of it, without the answers."""

    report: dict[str, Any]
    recipe: Recipe | None  # that is recommended
    path: Path | None  # where it lies


@dataclass(frozen=True, slots=True)
class Left:
    """A way that was not tuned, or failed, and why."""

    state: str  # "left_out" by recipe, rows or model, "not_tried" for want of time
    reason: str = ""


def mitigate(
    run: str | Path, *, measure: str = MEASURES[0], budget: float | None = None, limit: float = LIMIT,
    ways: Sequence[Way] | None = None, language: str = "en", should_stop: Stop = lambda: False,
    say: Say = lambda _: None,
) -> Mitigation:  # fmt: skip
    """Tries ways to make the gap of a finished run's classifier smaller, in `budget` seconds; the plain way is tuned
    whatever it takes. Writes mitigation.json, mitigation.html and, where one is recommended, recipe.fairer.yaml into
    the run's folder. Called again it goes on where it was.

    `limit` is how much quality fairness may cost; `ways` stand in place of the table's. Raises InputError, and
    Interrupted when `should_stop` says so."""
    began = time.perf_counter()
    case = opened(Path(run), measure, say)
    with case.folder.claimed():
        journal = Journal.opened(case.folder.path / JSON, case.identity)
        named = [PLAIN, *(mitigations(measure) if ways is None else ways)]
        allowed = Budget(budget, _whole(case), began)
        say(_ahead(case, named, journal, allowed))
        left = _tried(case, named, journal, allowed, say, should_stop)
        found = _measured(case, named, journal)
        chosen = recommended([one.point for one in found.values()], limit)
        way = next((way for way in named if chosen is not None and way.name == chosen.way), None)
        recipe = None if way is None else recipe_with(case.base, way, case.prepared.repeated)
        told, unfit = _retold(case, way, recipe, journal, say, should_stop)
        journal, recipe = replace(journal, retold=told), None if unfit else recipe
        report = {**_report(case, named, journal, left, found, chosen, limit), "unfit": unfit}
        path = _written(case, journal, report, way, recipe, language)
        return Mitigation(report, recipe, path)


def _ahead(case: Case, ways: Sequence[Way], journal: Journal, budget: Budget) -> str:
    """What is to come, by the seconds that the run took: each part that is asked about makes as many updates."""
    took = case.folder.read_json(case.folder.report)["cost"]["seconds"] * len(case.asked.deal.asked)
    wanted = [way for way in ways if journal.find(way) is None]
    done, spent, made = _done(ways, journal), 0.0, 0
    for way in wanted:
        seconds = foretold(way.cost, done) if done else took * way.cost
        if way is PLAIN or budget.allows(way.cost, done, spent):
            done, spent, made = [*done, (way.cost, seconds)], spent + seconds, made + 1
    words = f"{len(ways)} ways, {len(ways) - len(wanted)} of them known; the others would take about "
    words += f"{sum(way.cost for way in wanted) * took / 60:.1f} min"
    if made == len(wanted):
        return words
    return f"{words}; the budget is enough for about {made} of them" + (
        ", so nothing would be compared" if len(done) < 2 else "")  # fmt: skip


def _done(ways: Sequence[Way], journal: Journal) -> Done:
    """Of the ways that were tuned."""
    return [(one.cost, entry.seconds) for one in ways if (entry := journal.find(one)) and not entry.reason]


def _whole(case: Case) -> float:
    return 1 / len(case.asked.deal.asked) if case.prepared.rows("test") else 0.0


def _tried(
    case: Case, ways: Sequence[Way], journal: Journal, budget: Budget, say: Say, should_stop: Stop
) -> dict[str, Left]:
    """Tunes what the journal has not; what was left, by name. Raises Interrupted."""
    left: dict[str, Left] = {}
    for way in ways:
        done = _done(ways, journal)
        entry = journal.find(way)
        if entry is None and way is not PLAIN and not budget.allows(way.cost, done, time.perf_counter() - budget.began):
            left[way.name] = Left("not_tried")
        elif entry is None:
            try:
                entry = _entry(case, way, say, should_stop)
                journal.add(way, entry)
            except RecipeError as error:
                if way is PLAIN:
                    raise
                left[way.name] = Left("left_out", _why(error))
        if entry is not None and entry.reason:
            left[way.name] = Left("left_out", entry.reason)
        say(_told(way, left.get(way.name), entry))
    return left


def _entry(case: Case, way: Way, say: Say, should_stop: Stop) -> Entry:
    """Raises RecipeError where the recipe, its rows or its model do not take the way."""
    began = time.perf_counter()
    prepared = case.prepared
    if way is not PLAIN:
        recipe = recipe_with(case.base, way, case.prepared.repeated)
        if recipe == case.base:
            raise RecipeError([f"{way.name}: the recipe has it already"])
        check_texts(recipe, case.asked.exchanged.rows)
        prepared = prepared_for(recipe, lambda _: None)
    try:
        return Entry.of(way, answered(prepared, case.asked, should_stop))
    except UNFIT as error:
        if way is PLAIN:
            raise
        return Entry(way.settings, time.perf_counter() - began, reason=_why(error))


def _why(error: Exception) -> str:
    return "; ".join(error.problems) if isinstance(error, RecipeError) else str(error)


def _told(way: Way, left: Left | None, entry: Entry | None) -> str:
    if left is not None:
        return f"  {way.name}: " + (f"left out: {left.reason}" if left.reason else "not tried, as time would run out")
    return f"  {way.name}: {entry.seconds:.0f} s" if entry is not None else way.name


def _measured(case: Case, ways: Sequence[Way], journal: Journal) -> dict[str, Measured]:
    """By way."""
    plain = journal.entries[PLAIN.name].system(case.classes)
    found = {}
    for way in ways:
        entry = journal.find(way)
        if entry is not None and not entry.reason:
            one = plain if way is PLAIN else entry.system(case.classes)
            if (point := measured(case.by, way.name, one, plain)) is not None:
                found[way.name] = point
    return found


def _retold(
    case: Case, way: Way | None, recipe: Recipe | None, journal: Journal, say: Say, should_stop: Stop
) -> tuple[Mapping[str, Any] | None, str]:
    """From the journal where it stands there; and why it could not be tuned on all training rows."""
    if way is None or recipe is None or not case.prepared.rows("test"):
        return None, ""
    known = journal.retold or {}
    wanted = (way.name, dict(way.settings), case.by.measure)
    if (known.get("way"), known.get("settings"), known.get("measure")) == wanted:
        return known, ""
    try:
        return retold(case, way, recipe, say, should_stop), ""
    except UNFIT as error:
        return None, _why(error)


def _report(
    case: Case, ways: Sequence[Way], journal: Journal, left: Mapping[str, Left], found: Mapping[str, Measured],
    chosen: Point | None, limit: float,
) -> dict[str, Any]:  # fmt: skip
    points = [one.point for one in found.values()]
    ends = {point.way for point in front(points)}
    return {
        "schema_version": 1,
        "run": case.folder.path.name,
        "measure": case.by.measure,
        "metric": case.by.metric,
        "limit": limit,
        "asked": {"rows": len(case.asked.rows), "folds": case.asked.deal.count,
                  "all": len(case.asked.deal.asked) == case.asked.deal.count},
        "groups": next(iter(case.by.groups)),
        "ways": [_line(way, journal.find(way), left.get(way.name), found.get(way.name), ends, chosen) for way in ways],
        "recommended": chosen.way if chosen else None,
        "why": reason_of(points, chosen),
        "retold": journal.retold,
    }  # fmt: skip


def _line(
    way: Way, entry: Entry | None, left: Left | None, found: Measured | None, ends: set[str], chosen: Point | None
) -> dict[str, Any]:
    line: dict[str, Any] = {"way": way.name, "settings": dict(way.settings), "state": left.state if left else "tried"}
    if left is not None and left.reason:
        line["reason"] = left.reason
    if entry is not None:
        line["seconds"] = round(entry.seconds, 1)
    if found is not None:
        point = found.point
        line |= {
            "quality": round(point.quality, 5), "gap": round(point.gap, 5), "chance": found.chance,
            "quality_change": _rounded(point.quality_change), "gap_change": _rounded(point.gap_change),
            "front": way.name in ends, "recommended": chosen is not None and chosen.way == way.name,
        }  # fmt: skip
    return line


def _rounded(ends: tuple[float, float] | None) -> list[float] | None:
    return None if ends is None else [round(end, 5) for end in ends]


def _written(
    case: Case, journal: Journal, report: Mapping[str, Any], way: Way | None, recipe: Recipe | None, language: str
) -> Path | None:
    """Where the recipe lies. One that an earlier call recommended and this one does not goes."""
    folder, path = case.folder.path, case.folder.path / RECIPE
    write_text(folder / PAGE, mitigation_page(report, language))
    path.unlink(missing_ok=True)
    if recipe is not None and way is not None:
        given = yaml.safe_dump(recipe.model_dump(mode="json"), allow_unicode=True, sort_keys=False)
        write_text(path, HEAD.format(path=folder.name, way=way.name) + given)
    journal.write(report)
    return path if recipe is not None else None
