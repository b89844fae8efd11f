"""A run that a fairer way is looked for: read from its folder, and refused where nothing could be compared."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuneful.autopilot.apart import Questions, questions
from tuneful.autopilot.measuring import MEASURES, Yardstick, check_measurable, yardstick
from tuneful.autopilot.trial import prepared_for
from tuneful.core.errors import DataError, InputError, ModelError, RunFolderError
from tuneful.core.spec import unknown
from tuneful.recipe import Recipe
from tuneful.repairs import Thresholds
from tuneful.run.folder import RunFolder
from tuneful.run.lock import recipe_of
from tuneful.run.prepare import Prepared

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Case:
    folder: RunFolder
    base: Recipe  # as it was, with every default
    prepared: Prepared
    asked: Questions
    by: Yardstick

    @property
    def classes(self) -> int:
        assert self.prepared.labels is not None
        return len(self.prepared.labels.names)

    @property
    def identity(self) -> dict[str, Any]:
        """What answers are about."""
        recipe = hashlib.sha256(self.base.model_dump_json().encode()).hexdigest()
        return {"recipe_sha256": recipe, "data_sha256": self.prepared.data_sha256, "rows": len(self.asked.rows),
                "folds": self.asked.deal.count, "asked": len(self.asked.deal.asked)}  # fmt: skip


def opened(path: Path, measure: str, say: Say) -> Case:
    """Raises InputError where the run is no classifier, names no groups, or has too few rows of them."""
    if measure not in MEASURES:
        raise InputError(unknown("measure", measure, MEASURES))
    folder = RunFolder(path)
    lock = _lock(folder)
    base = recipe_of(lock)
    if base.task.data.group is None and base.task.data.mentions is None:
        raise DataError(f"{path}: its recipe names no groups, so there is no gap between any; tune it again with "
                        "--set data.group=COLUMN, or --set data.mentions=all where texts mention people")  # fmt: skip
    prepared = prepared_for(base, say)
    _check(folder, lock, prepared)
    asked = questions(prepared)
    by = yardstick(measure, prepared, asked)
    assert prepared.labels is not None
    check_measurable(by, len(prepared.labels.names))
    return Case(folder, base, prepared, asked, by)


def _lock(folder: RunFolder) -> Mapping[str, Any]:
    path = folder.path
    if not folder.exists():
        raise RunFolderError(f"{path} is not the folder of a run; ways to make a run fairer are tried on its recipe, "
                             "so name one (tuneful runs lists them)")  # fmt: skip
    if not folder.report.exists():
        raise RunFolderError(f"{path} has not ended; go on with: tuneful fit {path} --resume")
    lock = folder.read_json(folder.lock)
    if lock.get("label_kind") != "class":
        raise ModelError(f"{path} tells no classes apart, so ways to treat groups alike cannot be compared; it takes a "
                         "run on texts with one label each")  # fmt: skip
    return lock


def _check(folder: RunFolder, lock: Mapping[str, Any], prepared: Prepared) -> None:
    path = folder.path
    if prepared.stream is not None:
        raise DataError(f"{path}: its rows are read from disk, and none of them can be set apart; tune it again with "
                        "--set data.streaming=false")  # fmt: skip
    if not prepared.tells_classes:
        raise ModelError(f"{path} knows its classes by their names alone, so no rows with labels can be set apart")
    if any(isinstance(part, Thresholds) for part in prepared.recipe.repair):
        raise ModelError(f"{path} answers by thresholds of groups, and the ways that are compared answer by the model "
                         "alone; tune it without repair: thresholds")  # fmt: skip
    if prepared.data_sha256 != lock["data_sha256"]:
        raise DataError(f"{path}: its data has changed since it was tuned, so other rows would be held out; restore "
                        "the data, or tune a new run")  # fmt: skip
