"""Tables and coloured text on the terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tuneful.core.errors import InputError

# Labels, paths and answers may hold `[/x]` or `:smile:`; nothing that is printed is markup.
console = Console(highlight=False, markup=False, emoji=False)
errors = Console(stderr=True, highlight=False, markup=False, emoji=False)


def note(text: str) -> None:
    """A line about what was decided; on standard error, so that output stays clean."""
    errors.print(Text(text, style="dim"))


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Numbers to the right, words to the left."""
    made = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="dim")
    for index, column in enumerate(columns):
        numeric = all(isinstance(row[index], int | float) or row[index] is None for row in rows)
        made.add_column(column, justify="right" if numeric and rows else "left", overflow="fold")
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else number(cell) for cell in row))
    console.print(made)


def listed(word: str, rows: Sequence[tuple[str, str]], most: int = 10) -> None:
    """Rows and reasons, the first `most` of them."""
    for row, reason in rows[:most]:
        console.print(Text(f"{word}: {row}: {reason}", style="yellow"))
    if len(rows) > most:
        console.print(Text(f"... and {len(rows) - most} more; --json lists all", style="yellow"))


def number(value: Any) -> str:
    """A value as a person reads it."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def learned_text(pieces: Sequence[tuple[str, bool]]) -> Text:
    """What is learned stands out in colour, and in brackets where there is no colour."""
    text = Text()
    for words, learned in pieces:
        if learned:
            text.append("⟦", style="green dim")
            text.append(words, style="bold green")
            text.append("⟧", style="green dim")
        else:
            text.append(words, style="dim")
    return text


def minutes(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def quality_table(title: str, quality: Mapping[str, Mapping[str, Any]]) -> None:
    """The quality block; a system that nothing was asked of has no column."""
    rows = _quality_rows(quality)
    used = [place for place in range(len(QUALITY_COLUMNS)) if any(row[place] is not None for row in rows)]
    table(title, [QUALITY_COLUMNS[place] for place in used], [[row[place] for place in used] for row in rows])


def tasks_table(title: str, tasks: Mapping[str, Mapping[str, Any]]) -> None:
    """The tasks block, a row a task."""
    rows = [
        [task, *(found.get(name) for name in TASK_COLUMNS), _interval(found.get("ci95")), found["n"], found["rows"]]
        for task, found in tasks.items()
    ]
    table(title, ("task", *TASK_COLUMNS, "95 % interval", "rows", "training rows"), rows)


def _interval(ends: Sequence[float] | None) -> str | None:
    return f"{ends[0]:+.3g} to {ends[1]:+.3g}" if ends else None


def _quality_rows(quality: Mapping[str, Mapping[str, Any]]) -> list[list[Any]]:
    rows = []
    for name, found in quality.items():
        rows.append(
            [
                name,
                found["base"],
                found["kshot"],
                found["trivial"],
                found["tuned"],
                found["delta"],
                _interval(found["ci95"]),
                found["n"],
            ]
        )
    return rows


TASK_COLUMNS = ("metric", "base", "tuned", "delta")
QUALITY_COLUMNS = ("metric", "base", "k-shot", "trivial", "tuned", "delta", "95 % interval", "rows")


def named_columns(columns: Sequence[str]) -> dict[str, str]:
    """`label=category`, ... -> which column plays which part."""
    found = {}
    for column in columns:
        part, equals, name = column.partition("=")
        if not equals:
            raise InputError(f"--column {column}: expected part=column, for example label=category")
        found[part] = name
    return found
