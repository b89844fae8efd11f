"""Rows that somebody wants forgotten: a copy of them, and of what a run keeps of its tasks without them, from which it
unlearns. Both are in `next` and go with it; what the run itself keeps is left alone until it has unlearned."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from tuneful.core.errors import RunFolderError
from tuneful.core.files import write_text
from tuneful.core.spec import did_you_mean
from tuneful.core.types import Example
from tuneful.data.duplicates import alike, normal, said_in
from tuneful.data.labels import name_of
from tuneful.data.written import example_of, fields_of, write_examples
from tuneful.recipe import Data, Recipe
from tuneful.run.exchange import ASKED
from tuneful.run.folder import RunFolder
from tuneful.run.gather import of_all_parts
from tuneful.run.inherited import labels_of
from tuneful.run.memory import read_memory
from tuneful.run.unlearning import refused

ROWS = "rows.jsonl"


def asked_for(recipe: Recipe) -> list[Example]:
    """All rows that the last task's source holds, those that are the same once. Raises DataError where one of them
    cannot be unlearned."""
    rows, dropped = of_all_parts(recipe, recipe.tasks[-1], lambda _: None)
    faults = [f"{row.place}: {row.reason}" for row in dropped]
    faults += _of_no_class(rows, labels_of(recipe.start))
    if faults:
        raise refused(faults)
    return list({_whole(example): example for example in rows}.values())


def _of_no_class(rows: Sequence[Example], known: Sequence[str]) -> Iterator[str]:
    for row in rows if known else ():
        name = "" if row.label is None else name_of(row.label)
        if not name:
            yield f"{row.place}: has no label, and a row is unlearned as one of the class that it was learned as"
        elif name not in known:
            yield f"{row.place}: the label '{name}' is none that this run has learned.{did_you_mean(name, known)}"


def _whole(example: Example) -> str:
    """What a row says, its answer included."""
    fields = fields_of(example)
    told = [turn["content"] for turn in fields["messages"]] if "messages" in fields else [said_in(example)]
    return repr((*map(normal, told), name_of(fields.get("label", ""))))


def same_as_begun(following: Path, asked: Sequence[Example]) -> bool:
    """What was stopped in this folder is about these rows."""
    file = following / ASKED / ROWS
    return file.exists() and file.read_text(encoding="utf-8").splitlines() == list(map(_line, asked))


def _line(example: Example) -> str:
    return json.dumps(fields_of(example), ensure_ascii=False)


def set_apart(folder: RunFolder, following: Path, recipe: Recipe, asked: Sequence[Example]) -> tuple[Recipe, int]:
    """The recipe with copies as its sources, and how many rows the folder keeps that are asked for. Raises
    RunFolderError where nothing would be left of a task."""
    gone, place, found = {alike(example) for example in asked}, following / ASKED, 0
    tasks = []
    for task, kept in zip(recipe.tasks, read_memory(folder).tasks, strict=False):
        own = place / kept.folder
        own.mkdir(parents=True)
        for file in sorted((folder.memory / kept.folder).glob("*.jsonl")):
            lines = file.read_text(encoding="utf-8").splitlines()
            left = [line for line in lines if alike(example_of(json.loads(line))) not in gone]
            found += len(lines) - len(left)
            if left:
                write_text(own / file.name, "".join(f"{line}\n" for line in left))
        if not (own / "train.jsonl").exists():
            raise RunFolderError(
                f"all rows that are kept of task {kept.name} are among those to be forgotten, so nothing would hold "
                "what else it knows; tune it anew without them"
            )
        tasks.append(task.model_copy(update={"data": _copied(task.data, own)}))
    write_examples(place / ROWS, asked)
    last = recipe.tasks[-1]
    tasks.append(last.model_copy(update={"data": _copied(last.data, place / ROWS)}))
    return recipe.model_copy(update={"tasks": tasks}), found


def _copied(data: Data, source: Path) -> Data:
    """Of what was said of the rows, that which is about copies of them, too."""
    return Data(source=str(source), validation=0, test=0, learn=data.learn, max_tokens=data.max_tokens, drop=data.drop)
