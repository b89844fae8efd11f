"""`tuneful eval`, `predict`, `chat`, `compare`: using what there is."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from tuneful.cli.show import QUALITY_COLUMNS, console, note, print_json, quality_rows, table
from tuneful.core.errors import DataError, InputError
from tuneful.core.files import write_text
from tuneful.core.types import Message

TOGETHER = 256  # rows answered before they are written


def eval_command(name: str, data: str, *, columns: Sequence[str], generate: int, as_json: bool) -> None:
    from tuneful.evaluation.settings import Evaluate
    from tuneful.run.assess import assess

    named = dict(_pair(column) for column in columns)
    found = assess(name, data, named, Evaluate(generate=generate), (lambda _: None) if as_json else note)
    if as_json:
        print_json(found)
    else:
        table(f"Quality of {name} on {data}", QUALITY_COLUMNS, quality_rows(found["quality"]))


def predict_command(
    name: str, source: str, *, out: Path | None, column: str | None, limit: int, temperature: float
) -> None:
    from tuneful.run.tuned import open_model

    rows = list(_inputs(source, column))
    model = open_model(name, note)
    lines: list[str] = []
    for start in range(0, len(rows), TOGETHER):
        part = rows[start : start + TOGETHER]
        if model.labels is not None:
            answers = model.classify([_text(row) for row in part])
        else:
            answers = model.answer([_turns(row) for row in part], limit=limit, temperature=temperature)
        for row, answer in zip(part, answers, strict=True):
            line = json.dumps({"input": row, "prediction": _plain(answer)}, ensure_ascii=False)
            lines.append(line)
            if out is None:
                click.echo(line)
    if out is not None:
        write_text(out, "".join(line + "\n" for line in lines))
        note(f"{len(lines)} rows written to {out}")


def chat_command(name: str, *, temperature: float, system: str | None, limit: int) -> None:
    from tuneful.run.tuned import open_model

    model = open_model(name, note)
    turns = [Message("system", system)] if system else []
    note("an empty line ends the chat")
    while words := click.prompt("you", default="", show_default=False).strip():
        turns.append(Message("user", words))
        answer = model.generate(turns, limit=limit, temperature=temperature, seed=len(turns))
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


def _inputs(source: str, column: str | None) -> Iterator[Any]:
    """Texts, pairs or conversations, in the order they stand."""
    if source == "-":
        yield from (line.rstrip("\n") for line in sys.stdin if line.strip())
        return
    from tuneful.data.sources import read

    for table_rows in read(source).values():
        for raw in table_rows:
            yield _input(raw.fields, column, str(raw.place))


def _input(fields: Any, column: str | None, place: str) -> Any:
    from tuneful.data.formats import NAMES

    lowered = {name.lower(): name for name in fields}
    if column is not None:
        if column not in fields:
            raise DataError(f"{place} has no column '{column}'. Columns: {', '.join(fields)}")
        return fields[column]
    for part in ("messages", "text", "prompt"):
        for name in NAMES[part]:
            if name in lowered and fields[lowered[name]]:
                found = fields[lowered[name]]
                extra = fields.get(lowered.get("input", ""), "") if name == "instruction" else ""
                return f"{found}\n{extra}" if extra else found
    if len(fields) == 1:
        return next(iter(fields.values()))
    raise DataError(f"{place}: say which column holds the text with --column. Columns: {', '.join(fields)}")


def _turns(row: Any) -> list[Message]:
    if isinstance(row, str):
        return [Message("user", row)]
    from tuneful.data.turns import RowProblem, conversation

    try:
        turns = list(conversation(row))
    except RowProblem as problem:
        raise DataError(str(problem)) from None
    while turns and turns[-1].role == "assistant":
        turns.pop()
    return turns


def _text(row: Any) -> str:
    return row if isinstance(row, str) else json.dumps(row, ensure_ascii=False)


def _pair(column: str) -> tuple[str, str]:
    part, equals, name = column.partition("=")
    if not equals:
        raise InputError(f"--column {column}: expected part=column, for example label=category")
    return part, name


def _plain(answer: Any) -> Any:
    return sorted(answer) if isinstance(answer, frozenset) else answer
