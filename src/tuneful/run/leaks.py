"""Rows of one kind of task that another kind is asked about: nobody learns them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from tuneful.core.types import Said
from tuneful.data.duplicates import alike
from tuneful.run.prepare import Prepared

HELD_OUT = ("validation", "test")


def apart(kinds: Mapping[str, Prepared]) -> dict[str, Prepared]:
    """The same kinds, of each of which the training rows are left out that say what another kind has held out, as each
    was split by itself. Rows that are read from disk are not looked through."""
    held = {name: {alike(row.example) for part in HELD_OUT for row in kind.rows(part)} for name, kind in kinds.items()}
    return {
        name: _without(kind, set().union(*(rows for other, rows in held.items() if other != name)))
        for name, kind in kinds.items()
    }


def _without(kind: Prepared, asked: set[str]) -> Prepared:
    if kind.stream is not None:
        return kind
    stay = [row for row in kind.repeated if alike(row.example) not in asked]
    kept = [row for row in kind.rows("train") if alike(row.example) not in asked]
    gone = len(kind.rows("train")) - len(kept)
    if not gone or not stay:
        return kind
    notes = [*kind.xray.notes, Said("kinds_apart", {"n": gone})]
    built = {**kind.built, "train": replace(kind.built["train"], rows=kept)}
    return replace(kind, repeated=stay, built=built, xray=replace(kind.xray, notes=notes))
