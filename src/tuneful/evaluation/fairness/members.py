"""Which row belongs to which group: a column that says it, or columns that each say whether a text mentions one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tuneful.core.errors import DataError
from tuneful.core.types import Said

MOST = 50  # groups of a column that are compared
MENTIONS = "mentions"  # what all columns of true and false are called together
OTHER, REST = "other", "rest"

Columns = Mapping[str, Sequence[Any] | np.ndarray]


@dataclass(frozen=True, slots=True)
class Members:
    """The groups of one column, the largest first. Groups of `MENTIONS` may overlap."""

    feature: str
    names: tuple[str, ...]
    mask: np.ndarray  # (K, G) bool, over rows whose group is known
    known: np.ndarray  # (R,) bool
    pooled: int = 0  # so many groups share the last name, which is measured and not compared

    @property
    def compared(self) -> int:
        """How many of the names, from the first, are compared."""
        return len(self.names) - bool(self.pooled)

    @property
    def overlap(self) -> bool:
        """A row may be of several groups, or of none."""
        return bool((self.mask.sum(1) != 1).any())


def memberships(groups: Columns, rows: int) -> tuple[list[Members], list[Said]]:
    """One for each column of names, and one for all columns of true and false together; and what there is to say of
    them. None, NaN and empty names are unknown. A row of which one true-or-false column is unknown is unknown to all
    of them. Columns in which there is nothing to compare are left out. Raises DataError."""
    columns = {name: _column(name, values, rows) for name, values in groups.items()}
    flags = {name: values for name, values in columns.items() if _is_flag(values)}
    named = {name: values for name, values in columns.items() if name not in flags}
    if flags and MENTIONS in named:
        raise DataError(f"groups: the column '{MENTIONS}' has the name that all columns of true and false get "
                        "together; call it otherwise")  # fmt: skip
    parts = [_of_names(name, values) for name, values in named.items()]
    parts += [_of_flags(flags)] if flags else []
    notes = [note for part in parts for note in _notes(part)]
    return [part for part in parts if len(part.names) > 1], notes


def _column(name: str, values: Sequence[Any] | np.ndarray, rows: int) -> list[Any]:
    found = list(values)
    if len(found) != rows:
        raise DataError(f"groups: the column '{name}' has {len(found)} values, and there are {rows} rows; give one of "
                        "each, None where it is unknown")  # fmt: skip
    return [None if value is None or value != value or str(value).strip() == "" else value for value in found]


def _is_flag(values: Sequence[Any]) -> bool:
    known = [value for value in values if value is not None]
    return bool(known) and all(isinstance(value, bool | np.bool_) for value in known)


def _of_names(feature: str, values: Sequence[Any]) -> Members:
    """A group that is itself called "other" is pooled with those that are too many."""
    known = np.array([value is not None for value in values], dtype=bool)
    names = np.array([str(value) for value in values if value is not None], dtype=object)
    order = [name for name, _ in sorted(Counter(names).items(), key=lambda pair: (-pair[1], pair[0]))]
    if len(order) <= MOST:
        return Members(feature, tuple(order), _masks(names, order), known)
    kept = [name for name in order if name != OTHER][:MOST]
    mask = _masks(names, kept)
    mask = np.column_stack([mask, ~mask.any(1)])
    return Members(feature, (*kept, OTHER), mask, known, len(order) - len(kept))


def _masks(names: np.ndarray, wanted: Sequence[str]) -> np.ndarray:
    return np.stack([names == name for name in wanted], 1).astype(bool) if wanted else np.zeros((0, 0), dtype=bool)


def _of_flags(flags: Mapping[str, Sequence[Any]]) -> Members:
    """One column alone is compared with the rows that do not have it."""
    known = np.logical_and.reduce([[value is not None for value in values] for values in flags.values()])
    mask = np.array([[bool(value) for value in values] for values in flags.values()]).T[known]
    names = list(flags)
    if len(names) == 1:
        names, mask = [*names, REST], np.column_stack([mask, ~mask[:, 0]])
    order = [n for n in np.argsort(-mask.sum(0), kind="stable") if mask[:, n].any()]
    kept, left = order[:MOST], order[MOST:]
    picked = np.column_stack([mask[:, kept], mask[:, left].any(1)]) if left else mask[:, kept]
    return Members(MENTIONS, (*(names[n] for n in kept), *([OTHER] if left else [])), picked, known, len(left))


def _notes(part: Members) -> list[Said]:
    notes, unknown = [], int((~part.known).sum())
    if not part.names:
        return [Said("fairness_none_known", {"feature": part.feature, "rows": len(part.known)})]
    if len(part.names) == 1:
        return [Said("fairness_one_group", {"feature": part.feature, "group": part.names[0], "unknown": unknown})]
    if unknown:
        notes.append(Said("fairness_unknown", {"feature": part.feature, "n": unknown, "rows": len(part.known)}))
    if part.pooled:
        facts = {"feature": part.feature, "found": part.compared + part.pooled, "kept": part.compared,
                 "pooled": part.pooled, "rows": int(part.mask[:, -1].sum())}  # fmt: skip
        notes.append(Said("fairness_many_groups", facts))
    return notes


def tells_label(part: Members, truth: np.ndarray) -> bool:
    """Every group has rows of one class only, and together they have several: whatever differs between groups may as
    well differ between classes. `truth` (K,) of the rows whose group is known."""
    alone = all(len(np.unique(truth[mask])) == 1 for mask in part.mask.T)
    return alone and len(np.unique(truth[part.mask.any(1)])) > 1
