"""Thresholds by group of a run: kept beside the model as `decisions.json`, and asked wherever the run answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tuneful.core.errors import RunFolderError
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
        """Of how many the group is known."""
        return sum(self.group_of(example) is not None for example in examples)

    def said(self, examples: Sequence[Example], logits_R2: np.ndarray) -> np.ndarray:
        """(R,) class ids. A coin falls alike for whoever says the same, whenever it is asked."""
        found = logits_R2.argmax(1)
        groups = [self.group_of(example) for example in examples]
        known = [place for place, group in enumerate(groups) if group is not None]
        scores = shares(logits_R2.astype(np.float64))[known, self.positive].clip(0, 1)
        keys = [f"{examples[place].text or ''}\n{examples[place].second or ''}" for place in known]
        yes = self.rule.decide(scores, [groups[place] for place in known], keys, seed=self.seed)
        found[known] = np.where(yes, self.positive, 1 - self.positive)
        return found

    def of_rows(self, rows: Sequence[Row], logits_R2: np.ndarray) -> np.ndarray:
        """The same for rows."""
        return self.said([row.example for row in rows], logits_R2)

    def ignored(self, examples: Sequence[Example]) -> str | None:
        """What there is to say where groups are not known."""
        missing = len(examples) - self.known(examples)
        if not missing:
            return None
        where = f"their column was '{self.column}'; --group COLUMN names another" if self.column else "name it: --group"
        return (f"{missing} of {len(examples)} rows do not say their group, by which this run cuts scores: they are "
                f"answered as the model answers, without the thresholds ({where})")  # fmt: skip

    def as_json(self) -> dict[str, Any]:
        return {"classes": list(self.classes), "positive": self.positive, "column": self.column,
                "mentions": sorted(self.axes), "seed": self.seed, "rule": self.rule.as_json()}  # fmt: skip


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
