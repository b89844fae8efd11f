"""Thresholds by group of a run: kept beside the model as `decisions.json`, and asked wherever the run answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tuneful.core.errors import DataError, RunFolderError
from tuneful.core.types import Example, Row
from tuneful.evaluation.treatment import shares
from tuneful.repairs.thresholds import Rule
from tuneful.run.folder import RunFolder
from tuneful.run.mentions import group_in


@dataclass(frozen=True, slots=True)
class Decisions:
    """A rule of two classes, and where the group of a row is found."""

    rule: Rule
    classes: tuple[str, ...]
    positive: int  # which of the classes is a yes
    column: str | None = None  # of the group
    axes: frozenset[str] = frozenset()  # kinds of people whose mention makes the group, where no column does
    seed: int = 0  # of the coins

    def group_of(self, example: Example) -> str | None:
        """None: not known, so the row is answered as the model answers it."""
        if self.axes and example.text is not None:
            return group_in(example.text, example.second, self.axes)
        return example.group

    def known(self, examples: Sequence[Example]) -> int:
        """How many are of a group that has thresholds."""
        return sum(self.group_of(example) in self.rule.groups for example in examples)

    def strange(self, examples: Sequence[Example]) -> int:
        """How many say a group that has none: it was not there when they were found, or is spelt otherwise."""
        return len(self._strange(examples))

    def _strange(self, examples: Sequence[Example]) -> list[str]:
        groups = map(self.group_of, examples)
        return [group for group in groups if group is not None and group not in self.rule.groups]

    def check(self, examples: Sequence[Example]) -> None:
        """Raises DataError where rows say their groups and not one of them has thresholds."""
        strange = self._strange(examples)
        if self.axes or not strange or self.known(examples):
            return
        raise DataError(f"thresholds by group: none of {len(examples)} rows is of a group that has any: found "
                        f"{_few(strange)}, expected one of: {', '.join(sorted(self.rule.groups))}; name the column of "
                        "these groups, and spell them as the training rows did")  # fmt: skip

    def said(self, examples: Sequence[Example], logits_R2: np.ndarray, originals: Sequence[Example] = ()) -> np.ndarray:
        """(R,) class ids. A coin falls alike for whoever says the same, whenever it is asked; for a changed text as for
        its original, where `originals` (R) are given, so that chance makes no difference between the two."""
        keyed = originals or examples
        found = logits_R2.argmax(1)
        groups = [self.group_of(example) for example in examples]
        known = [place for place, group in enumerate(groups) if group is not None]
        scores = shares(logits_R2.astype(np.float64))[known, self.positive].clip(0, 1)
        keys = [f"{keyed[place].text or ''}\n{keyed[place].second or ''}" for place in known]
        yes = self.rule.decide(scores, [groups[place] for place in known], keys, seed=self.seed)
        found[known] = np.where(yes, self.positive, 1 - self.positive)
        return found

    def of_rows(self, rows: Sequence[Row], logits_R2: np.ndarray, originals: Sequence[Row] = ()) -> np.ndarray:
        """The same for rows."""
        return self.said([row.example for row in rows], logits_R2, [row.example for row in originals])

    def ignored(self, examples: Sequence[Example]) -> str | None:
        """What there is to say where groups are not known, or have no thresholds."""
        missing = sum(self.group_of(example) is None for example in examples)
        told = [self._missing(missing, len(examples))] if missing else []
        if strange := self._strange(examples):
            told.append(f"{len(strange)} of {len(examples)} rows are of groups without thresholds ({_few(strange)}; "
                        f"known: {', '.join(sorted(self.rule.groups))}): they are answered by the one cut that is best "
                        "over all groups")  # fmt: skip
        return "; ".join(told) or None

    def _missing(self, missing: int, whole: int) -> str:
        where = (
            f"their column was '{self.column}'; predict takes another: --group" if self.column else "name it: --group"
        )
        return (f"{missing} of {whole} rows do not say their group, by which this run cuts scores: they are "
                f"answered as the model answers, without the thresholds ({where})")  # fmt: skip

    def as_json(self) -> dict[str, Any]:
        return {"classes": list(self.classes), "positive": self.positive, "column": self.column,
                "mentions": sorted(self.axes), "seed": self.seed, "rule": self.rule.as_json()}  # fmt: skip


def _few(groups: Sequence[str]) -> str:
    """The first three that differ."""
    names = list(dict.fromkeys(groups))
    return ", ".join(f"'{name}'" for name in names[:3]) + (", ..." if len(names) > 3 else "")


def read_decisions(folder: RunFolder) -> Decisions | None:
    """Of a run that has any. Raises RunFolderError where the file is damaged."""
    if not folder.decisions.exists():
        return None
    found: Mapping[str, Any] = folder.read_json(folder.decisions)
    try:
        return Decisions(
            Rule.from_json(found["rule"]), tuple(found["classes"]), int(found["positive"]), found["column"],
            frozenset(found["mentions"]), int(found["seed"]),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise RunFolderError(
            f"{folder.decisions} is damaged ({error!r}): expected thresholds by group as a run writes them; restore "
            "the file, or remove it to be answered by the model alone"
        ) from None
