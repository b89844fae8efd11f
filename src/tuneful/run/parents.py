"""Runs that are to become one: whether they can, and what each of them learned."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

from tuneful.adapters import Head, Lora
from tuneful.core.errors import InputError, RecipeError, RunFolderError
from tuneful.core.types import FORGOTTEN, Example, Layout, Row
from tuneful.data.duplicates import alike
from tuneful.data.formats import detect, understand
from tuneful.data.rows import NAMES, is_generated
from tuneful.data.sources import read
from tuneful.models.load import fingerprint, locate
from tuneful.objectives import Classify, NextToken
from tuneful.recipe import Recipe, Task
from tuneful.run.folder import RunFolder
from tuneful.run.lock import recipe_of
from tuneful.run.memory import read_memory
from tuneful.run.prepare import prepare

Say = Callable[[str], None]
TAKEN = ("base", "merged", "tuned", "kshot", "trivial")  # what figures beside those of runs are called
OF_ROWS = ("learn", "max_tokens")  # what is said of data, and must be the same of all


@dataclass(frozen=True)
class Parent:
    """A finished run."""

    path: Path
    name: str  # in the report
    lock: Mapping[str, Any]
    recipe: Recipe  # with every default

    @property
    def folder(self) -> RunFolder:
        return RunFolder(self.path)

    @property
    def labels(self) -> tuple[str, ...]:
        """In the order of its head; none of a writer."""
        return tuple(self.lock["labels"] or ())

    @cached_property
    def objective(self) -> Any:
        """Without what is of one data set alone."""
        objective: Any = self.recipe.task.objective
        return objective.model_copy(update={"label_names": False, "offsets": ()}) if self.labels else objective


@dataclass(frozen=True, slots=True)
class Lesson:
    """A task, and the rows there still are of it."""

    task: Task
    train: Sequence[Example]
    test: Sequence[Example]
    whole: bool = True  # not only those that the run keeps


def parents_of(paths: Sequence[Path]) -> list[Parent]:
    """Raises RunFolderError with everything that stands against making one of these runs."""
    if len(paths) < 2:
        raise InputError("merge needs at least two runs of one base model: tuneful merge RUN RUN --out FOLDER")
    names = _names(paths)
    found = [_opened(path, name) for path, name in zip(paths, names, strict=True)]
    first, problems = found[0], [words for parent in found for words in _alone(parent)]
    problems += [words for other in found[1:] for words in _between(first, other)]
    if problems:
        raise RunFolderError("these runs cannot be merged:\n" + "\n".join(f"  {words}" for words in problems))
    return found


def check_labels(parents: Sequence[Parent], labels: str | None) -> None:
    """Raises RecipeError where runs have some labels in common and others not, and nobody says that they mean the
    same."""
    for one, other in combinations(parents, 2):
        common = set(one.labels) & set(other.labels)
        if common and set(one.labels) != set(other.labels) and labels != "shared":
            raise RecipeError([
                f"'{sorted(common)[0]}' is a label of {one.path} and of {other.path}, which otherwise have different "
                "ones; --labels shared if it means the same in both, else tune one of them with other names"
            ])  # fmt: skip


def lessons_of(parent: Parent, say: Say) -> dict[str, Lesson]:
    """By task. All rows where the data is what it was, else those that the run keeps. Raises RunFolderError where there
    are none."""
    recipe, own = parent.recipe, parent.recipe.tasks
    names = [task.name for task in own] if len(own) > 1 else [recipe.task.name or str(recipe.name)]
    tasks = dict(zip(names, own, strict=True))
    rows = _all_rows(parent)
    if rows is None:
        say(f"the data of {parent.path} is not what it was, so it is measured by the rows that it keeps of it")
        return _kept(parent, tasks)
    found = {}
    for name, task in tasks.items():
        if not name.startswith(FORGOTTEN):
            train, test = (_examples(rows[part], name if len(own) > 1 else None) for part in ("train", "test"))
            found[name] = Lesson(task, train, test)
    return found


def _all_rows(parent: Parent) -> dict[str, list[Row]] | None:
    """None where its data cannot be read, or has changed."""
    try:
        prepared = prepare(parent.recipe)
    except (InputError, OSError):
        return None
    same = prepared.data_sha256 == parent.lock["data_sha256"] and prepared.stream is None
    return {part: prepared.rows(part) for part in ("train", "test")} if same else None


def _examples(rows: Sequence[Row], task: str | None) -> list[Example]:
    """Those that a person wrote, each once; with the label that the run knows it by."""
    own = [row for row in rows if row.counts and not is_generated(row) and row.example.place.source != NAMES]
    asked = [row for row in own if task is None or row.example.task == task]
    return list({row.example.place: row.example for row in asked}.values())


def _kept(parent: Parent, tasks: Mapping[str, Task]) -> dict[str, Lesson]:
    if not parent.folder.memory.exists():
        raise RunFolderError(
            f"the data of {parent.path} has changed or is gone, and the run keeps no rows of it, so nothing could say "
            "what it was worth; put the data back where it was"
        )
    found = {}
    for kept in read_memory(parent.folder).tasks:
        parts = read(str(parent.folder.memory / kept.folder), learns=False)
        examples = {part: understand(rows, *detect(rows, {}, None))[0] for part, rows in parts.items() if rows}
        task = tasks.get(kept.name, parent.recipe.task)
        found[kept.name] = Lesson(task, examples.get("train", []), examples.get("test", []), whole=False)
    return found


def _names(paths: Sequence[Path]) -> list[str]:
    """The last part of each path, numbered where two are alike, and told from what is not a run."""
    names = [f"{path.resolve().name} (run)" if path.resolve().name in TAKEN else path.resolve().name for path in paths]
    return [
        name if names.count(name) == 1 else f"{name} ({1 + names[:place].count(name)})"
        for place, name in enumerate(names)
    ]


def _opened(path: Path, name: str) -> Parent:
    folder = RunFolder(path)
    if not folder.exists():
        raise RunFolderError(f"{path} is not the folder of a run; merge takes folders that tuneful fit has made")
    if not folder.report.exists():
        raise RunFolderError(f"{path} has not ended: go on with tuneful fit {path} --resume first")
    lock = folder.read_json(folder.lock)
    return Parent(path, name, lock, recipe_of(lock))


def _alone(parent: Parent) -> Iterator[str]:
    """What stands against one run, whatever the others are."""
    adapter, kinds = parent.recipe.adapter, {task.objective.kind for task in parent.recipe.tasks if task.objective}
    written = isinstance(parent.objective, NextToken) and parent.objective.layout is Layout.TOKENS
    if len(kinds) > 1 or (not written and not isinstance(parent.objective, Classify)):
        yield (f"{parent.path}: objective {' and '.join(sorted(kinds))}; runs can be merged that tell classes apart "
               "(classify) or learned to write (next_token)")  # fmt: skip
    elif parent.labels and parent.lock["label_kind"] != "class":
        yield f"{parent.path}: its labels are numbers, or several a row; runs with one class a row can be merged"
    if isinstance(adapter, Head):
        yield (f"{parent.path}: adapter head changed nothing but its head; teach one run what the other knows: "
               "tuneful learn RUN DATA")  # fmt: skip
    if isinstance(adapter, Lora) and adapter.each_task:
        yield (f"{parent.path}: each of its tasks has an adapter of its own, which are not merged; tune each task in a "
               "run of its own, and merge those runs")  # fmt: skip
    if isinstance(adapter, Lora) and adapter.dora:
        yield f"{parent.path}: dora learns directions and lengths apart, which do not add up; tune without it"


def _between(first: Parent, other: Parent) -> Iterator[str]:
    ours, theirs = first.recipe, other.recipe
    if first.lock["model_sha256"] != other.lock["model_sha256"]:
        yield (f"{other.path} was tuned from {theirs.model}, and {first.path} from {ours.model}: their weights differ, "
               "so what was changed does not add up; tune both from one model")  # fmt: skip
    if first.objective != other.objective:
        yield (f"{other.path}: objective {_told(other.objective)}, and {first.path} has {_told(first.objective)}; "
               "tune both by the same")  # fmt: skip
    if _where(first) != _where(other):
        yield (f"{other.path}: adapter {_where(other)}, and {first.path} has {_where(first)}; changes of different "
               "layers do not add up, so tune both alike (rank, alpha and dropout may differ)")  # fmt: skip
    if ours.quantise != theirs.quantise:
        yield (f"{other.path}: tuned over {theirs.quantise or 'whole'} weights, and {first.path} over "
               f"{ours.quantise or 'whole'} ones; tune both over the same")  # fmt: skip
    for name in OF_ROWS:
        if (one := getattr(ours.task.data, name)) != (their := getattr(theirs.task.data, name)):
            yield f"{other.path}: data.{name} is {their}, and {one} in {first.path}; tune both with the same"


def _told(objective: Any) -> str:
    given = objective.model_dump(exclude_defaults=True, exclude={"kind", "target"})
    return " ".join([objective.kind, *(f"{name}={value}" for name, value in given.items())])


def _where(parent: Parent) -> str:
    """Which weights learned."""
    adapter = parent.recipe.adapter
    assert adapter is not None
    kept = {"dropout", "rank", "alpha", "rslora", "turns"} if isinstance(adapter, Lora) else set()
    given = adapter.model_dump(exclude_defaults=True, exclude={"kind", *kept})
    return " ".join([adapter.kind, *(f"{name}={value}" for name, value in given.items())])


def check_base(parents: Sequence[Parent]) -> None:
    """Raises RunFolderError where the base model is no longer what it was."""
    recipe = parents[0].recipe
    folder = locate(str(recipe.model), trust_remote_code=recipe.trust_remote_code)
    if fingerprint(folder) != parents[0].lock["model_sha256"]:
        raise RunFolderError(f"{recipe.model} is not the model that {parents[0].path} was tuned from (its weights "
                             "differ); put that one back")  # fmt: skip


def told_apart(lessons: Sequence[tuple[Parent, Mapping[str, Lesson]]]) -> dict[str, Lesson]:
    """All tasks of all runs, under names of their own. Runs of the same data have the same tasks; no row stays a test
    row that any run learned."""
    found: dict[str, Lesson] = {}
    known: dict[tuple[str, int, str], str] = {}
    for parent, of_run in lessons:
        for place, (name, lesson) in enumerate(of_run.items()):
            key = (parent.lock["data_sha256"], place, _understood(lesson))
            if key in known:
                found[known[key]] = _both(found[known[key]], lesson)
                continue
            own = name if name not in found else f"{name} ({parent.name})"
            known[key] = own
            found[own] = lesson
    learned = {said for lesson in found.values() for said in map(alike, lesson.train)}
    return {
        name: replace(lesson, test=[row for row in lesson.test if alike(row) not in learned])
        for name, lesson in found.items()
    }


def _understood(lesson: Lesson) -> str:
    """What the columns of the data were taken for: another label of the same texts is another task."""
    data = lesson.task.data
    return repr((sorted(data.columns.items()), data.layout, data.learn))


def _both(one: Lesson, other: Lesson) -> Lesson:
    """The rows that either learned, and those that either held out."""
    train, test = ({alike(row): row for row in (*ours, *theirs)}
                   for ours, theirs in ((one.train, other.train), (one.test, other.test)))  # fmt: skip
    return replace(one, train=list(train.values()), test=list(test.values()))
