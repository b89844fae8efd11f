"""The recommended way on the run's own test rows: tuned on all training rows, beside the run as it is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from tuneful.autopilot.case import Case
from tuneful.autopilot.measuring import System
from tuneful.autopilot.mitigations import Way
from tuneful.autopilot.trial import Say, Stop, ask, prepared_for, tuned
from tuneful.core.types import Layout
from tuneful.data.layouts import Collator
from tuneful.evaluation.reading import class_logits
from tuneful.evaluation.treatment import exchange, shares
from tuneful.recipe import Recipe
from tuneful.run.tuned import open_model
from tuneful.run.vary import reader_of


def retold(case: Case, way: Way, recipe: Recipe, say: Say, should_stop: Stop) -> dict[str, Any]:
    """Quality and gap before and after, paired. No test row had a part in what was recommended. Raises Interrupted."""
    test = case.prepared.rows("test")
    say(f"'{way.name}' once more, on all training rows: asked about {len(test)} test rows, which had no part in this")
    exchanged = exchange(test, reader_of(case.prepared).read, seed=case.base.seed)
    rows = [*test, *exchanged.rows]
    run = open_model(str(case.folder.path))
    old = shares(class_logits(run.policy, rows, Collator(Layout.LABELS)))
    del run
    new = ask(tuned(prepared_for(recipe, lambda _: None), should_stop), rows)
    before, after = (System(own[: len(test)], own[len(test) :]) for own in (old, new))
    column = next(iter(case.by.groups))
    by = replace(case.by, truth=np.array([int(row.target) for row in test]), exchanged=exchanged,
                 groups={column: [row.example.group for row in test]})  # fmt: skip
    quality = by.quality(after, before)
    change = quality.against["base"]
    return {
        "way": way.name, "settings": dict(way.settings), "measure": by.measure, "n": len(test),
        "quality": {"metric": by.metric, "before": quality.values["base"], "after": quality.values["tuned"],
                    **change.as_json()},
        "gap": by.gap(after, before),
    }  # fmt: skip
