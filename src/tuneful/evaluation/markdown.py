"""How a model card writes tables and lists."""

from __future__ import annotations

from collections.abc import Sequence

from tuneful.evaluation.phrases import Say


def listed(facts: Sequence[tuple[str, str]], say: Say) -> str:
    return "\n".join(f"- {say['pair'].format(name=name, value=value)}" for name, value in facts)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Numbers to the right, the first column to the left."""
    lines = [[plain(column) for column in columns], ["---", *["---:"] * (len(columns) - 1)]]
    lines += [[plain(cell) for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def plain(text: str) -> str:
    """One line that neither ends a table cell nor opens an HTML tag."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
