"""`tuneful eval`, `predict`, `chat`, `compare`: using what there is."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tuneful.cli.show import console, listed, named_columns, note, print_json, quality_table, table
from tuneful.core.errors import DataError, InputError
from tuneful.core.files import write_text
from tuneful.core.types import Example, Message, Place

if TYPE_CHECKING:
    from tuneful.run.tuned import Tuned
    from tuneful.run.unwanted import Unwanted

TOGETHER = 256  # rows answered before they are written
SHOTS = 4  # rows shown before a request


def eval_command(name: str, data: str, *, columns: Sequence[str], generate: int, as_json: bool) -> None:
    from tuneful.evaluation.settings import Evaluate
    from tuneful.run.assess import assess

    named = named_columns(columns)
    try:
        found = assess(name, data, named, Evaluate(generate=generate), (lambda _: None) if as_json else note)
    except DataError as error:  # written for recipes; here columns are named with --column
        raise DataError(str(error).replace("--set data.", "--column ")) from None
    if as_json:
        print_json(found)
    else:
        listed("left out", [(row["row"], row["reason"]) for row in found["dropped"]])
        quality_table(f"Quality of {name} on {data}", found["quality"])


def predict_command(
    name: str,
    source: str,
    *,
    out: Path | None,
    column: str | None,
    limit: int,
    temperature: float,
    stops: Sequence[str],
    labels: Sequence[str] | None = None,
    group: str | None = None,
    shots: str | None = None,
    shown: int | None = None,
    less: str | None = None,
    language: str | None = None,
    task: str | None = None,
    best_of: int | None = None,
    judge: str | None = None,
) -> None:
    from tuneful.cli import judging
    from tuneful.run.incontext import with_examples

    _check_out(out)
    judge = judging.check(best_of, judge, labels=labels, group=group, shots=shots, less=less)
    unwanted = _unwanted(less, language)
    if shown is not None and shots is None:
        raise InputError("--shown says how many rows of --shots are shown; name those too")
    if labels is not None:
        _refuse_beside_labels(shots=shots, group=group, less=less, task=task)
        _predict_by_name(name, source, labels, out=out, column=column)
        return
    model = _that_answers(name, task)
    if model.rates:
        _put(judging.rated(name, model, source, column=column), out)
        return
    examples = _inputs(source, model, column, group)
    if judge is not None and best_of is not None:
        _put(judging.best(model, examples, judge, best_of, limit, temperature, stops), out)
        return
    _tell_groups(name, model, examples, group)
    asked = examples if shots is None else with_examples(model, examples, shots, shown or SHOTS, limit, note)
    given = {"limit": limit, "temperature": temperature, "stops": stops, "less": unwanted}
    lines: list[str] = []
    for start in range(0, len(examples), TOGETHER):
        part = slice(start, start + TOGETHER)
        lines += _answered(model, examples[part], asked[part], echo=out is None, **given)
    if out is not None:
        _write(lines, out)


def _answered(
    model: Tuned, examples: Sequence[Example], asked: Sequence[Example], *, echo: bool, **given: Any
) -> list[str]:
    """A line for each example, told as they come with `echo`."""
    tasks = model.tasks_of(examples)
    answers = model.answers_to(asked, tasks=tasks, **given)
    lines = [
        _line(example, answer, whose)
        for example, answer, whose in zip(examples, answers, tasks or [""] * len(examples), strict=True)
    ]
    for line in lines if echo else ():
        click.echo(line)
    return lines


def _refuse_beside_labels(*, shots: str | None, group: str | None, less: str | None, task: str | None) -> None:
    if task is not None:
        raise InputError("--task: classes known by name are told apart without any adapter of a task; leave it out")
    if shots is not None:
        raise InputError("--labels and --shots: names of classes, or rows to be shown; leave one out")
    if group is not None:
        raise InputError("--group: classes known by name have no thresholds by group; leave it out")
    if less is not None:
        raise InputError("--labels and --less: labels are not written, so they have no less of anything; leave one out")


def _unwanted(less: str | None, language: str | None) -> Unwanted:
    from tuneful.run.unwanted import Unwanted

    if less is None and language is not None:
        raise InputError("--language says in which language a model is told of --less; name that too, or leave it out")
    found = Unwanted(less or "", language)
    if less is not None and not found:
        raise InputError("--less: found no attribute; expected some of those that --help lists, or all")
    return found


def _check_out(out: Path | None) -> None:
    if out is not None and out.exists():
        raise InputError(f"{out} exists; choose another file with --out, or remove it")
    if out is not None and out.suffix not in (".jsonl", ".json", ".ndjson"):
        raise InputError(f"--out {out}: one JSON object a line is written; name a .jsonl file")


def _that_answers(name: str, task: str | None) -> Tuned:
    """A model that writes, or gives labels. Raises InputError for others."""
    from tuneful.run.tuned import open_model

    model = open_model(name, note, task=task, routes=True)
    if model.finds:
        raise InputError(
            f"{name} finds documents and answers nothing by itself; its README.md shows how to search with it. "
            "To tell classes apart with it, name them: --labels A,B,C"
        )
    if model.labels is None and not model.writes and not model.rates:
        raise InputError(f"{name} reads texts and was tuned for no labels; name the classes: --labels A,B,C")
    return model


def _tell_groups(name: str, model: Tuned, examples: Sequence[Example], group: str | None) -> None:
    """Whether thresholds by group, where the model has any, answer all rows. Raises InputError where a column of groups
    is named for nothing."""
    decisions = model.decisions
    if group is not None and decisions is None:
        raise InputError(f"--group: {name} has no thresholds by group (repair: thresholds); leave it out")
    if group is not None and decisions is not None and decisions.axes:
        raise InputError(f"--group: {name} cuts scores by the group that a text mentions; leave it out")
    if decisions is not None:
        decisions.check(examples)
    if decisions is not None and (words := decisions.ignored(examples)):
        note(words)


def _predict_by_name(name: str, source: str, labels: Sequence[str], *, out: Path | None, column: str | None) -> None:
    """All rows at once: what they have in common is what calibrates the model."""
    from tuneful.data.labels import LabelSet
    from tuneful.run.named import answers_by_name

    examples = _inputs(source, None, column)
    found = answers_by_name(name, examples, LabelSet.of_names(labels), note)
    _put([_line(example, answer) for example, answer in zip(examples, found, strict=True)], out)


def _line(example: Example, answer: Any, task: str = "") -> str:
    """`task`: whose adapter it was sent to."""
    sent = {"task": task} if task else {}
    found = {"row": str(example.place), "input": shown(example), **sent, "prediction": _plain(answer)}
    return json.dumps(found, ensure_ascii=False)


def _put(lines: Sequence[str], out: Path | None) -> None:
    if out is None:
        click.echo("\n".join(lines))
    else:
        _write(lines, out)


def _write(lines: Sequence[str], out: Path) -> None:
    write_text(out, "".join(line + "\n" for line in lines))
    note(f"{len(lines)} rows written to {out}")


def chat_command(
    name: str,
    *,
    temperature: float,
    system: str | None,
    limit: int,
    stops: Sequence[str],
    less: str | None,
    language: str | None,
    task: str | None,
) -> None:
    from tuneful.run.tuned import open_model

    unwanted = _unwanted(less, language)
    model = open_model(name, note, task=task, routes=True)
    turns = [Message("system", system)] if system else []
    note("an empty line ends the chat")
    while words := click.prompt("you", default="", show_default=False).strip():
        turns.append(Message("user", words))
        answer = model.generate(
            turns, limit=limit, temperature=temperature, seed=len(turns), stops=stops, less=unwanted
        )
        turns.append(Message("assistant", answer))
        console.print(answer, markup=False)


def compare_command(paths: Sequence[Path], *, as_json: bool) -> None:
    from tuneful.run.assess import compare

    if len(paths) < 2:
        raise InputError("compare needs at least two runs")
    found = compare(paths)
    if as_json:
        print_json({"comparisons": found})
        return
    rows = [
        [
            f["metric"],
            *f["values"],
            f["delta"],
            f"{f['ci95'][0]:+.3g} to {f['ci95'][1]:+.3g}",
            f["n"],
            f["other"],
        ]
        for f in found
    ]
    columns = ("metric", "first", "other", "delta", "95 % interval", "rows", "other run")
    table(f"Against {paths[0]}", columns, rows)


def _inputs(source: str, model: Tuned | None, column: str | None, group: str | None = None) -> list[Example]:
    """What is to be answered, in the order it stands; `-` reads lines of text. Without a model that was tuned the texts
    are to be told apart. `group` is the column that says whose a row is."""
    from tuneful.data.inputs import inputs
    from tuneful.data.sources import Raw, read

    labelled = model is None or model.labels is not None
    columns, encoding = (model.columns, model.encoding) if model is not None else ({}, "utf-8")
    if source == "-":
        lines = (line.rstrip("\n") for line in sys.stdin if line.strip())
        tables = [
            [Raw(Place("standard input", number, "line"), {"text": line}) for number, line in enumerate(lines, 1)]
        ]
    else:
        tables = list(read(source, encoding=encoding, learns=False).values())
    rows = [table for table in tables if table]
    if group is not None:
        columns = {**columns, "group": group}
        if not any(group in raw.fields for table in rows for raw in table):
            there = ", ".join(rows[0][0].fields)
            raise InputError(f"--group: {source} has no column '{group}'; its columns are {there}")
    return [example for table in rows for example in inputs(table, columns, labelled=labelled, column=column)]


def shown(example: Example) -> Any:
    """The input as it comes back beside its answer."""
    if example.messages:
        only = len(example.messages) == 1 and example.messages[0].role == "user"
        return example.messages[0].content if only else [message.template() for message in example.messages]
    return example.text if example.second is None else [example.text, example.second]


def _plain(answer: Any) -> Any:
    return sorted(answer) if isinstance(answer, frozenset) else answer
