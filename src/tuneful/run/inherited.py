"""What a run that goes on from a finished one takes over from it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tuneful.run.folder import RunFolder

# Of the recipe as it was given, what a run that goes on does alike; the rest is decided anew.
INHERITED = ("trust_remote_code", "precision", "memory", "optimiser", "evaluate", "save", "regularisers", "gates")
TOGETHER = ("affinity", "affinity_every")  # of `evaluate`, what is about tasks that are learned together
NOTES, PLACE = "memory.json", "inherits"


def inherited(folder: RunFolder) -> Mapping[str, Any]:
    """Of a run that unlearned rows, what the one before did: how rows are unlearned is no way of learning."""
    notes = folder.read_json(folder.memory / NOTES) if (folder.memory / NOTES).exists() else {}
    if PLACE in notes:
        kept: Mapping[str, Any] = notes[PLACE]
        return kept
    given = given_of(folder)
    taken = {key: given[key] for key in INHERITED if key in given}
    if isinstance(taken.get("evaluate"), Mapping):  # a task that is taught by itself is not learned together with any
        taken["evaluate"] = {key: value for key, value in taken["evaluate"].items() if key not in TOGETHER}
    return taken


def given_of(folder: RunFolder) -> Mapping[str, Any]:
    """The recipe as it was given."""
    given: Mapping[str, Any] = yaml.safe_load(folder.recipe.read_text(encoding="utf-8"))
    return given


def labels_of(start: str | None) -> tuple[str, ...]:
    """The classes that a run tells apart, in the order of its head; none without a run, or where it writes."""
    if start is None:
        return ()
    folder = RunFolder(Path(start))
    lock = folder.read_json(folder.lock)
    return tuple(lock["labels"] or ()) if lock["label_kind"] == "class" else ()
