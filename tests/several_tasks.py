"""What test_affinity.py has done by one process and by two: run by itself under torchrun, it writes what it found."""

from __future__ import annotations

import json
import sys
from itertools import islice
from pathlib import Path
from typing import Any

from tuneful.core.device import is_first, join_ranks
from tuneful.recipe import from_mapping
from tuneful.run.affinity import drawings, looked_ahead
from tuneful.run.build import build
from tuneful.run.prepare import prepare
from tuneful.schedules.epochs import EpochSteps


def looked(given: dict[str, Any]) -> dict[str, Any]:
    """A look before the first update, in micro-batches of one row or two; and the rows that the first updates draw."""
    built = build(prepare(from_mapping(given)[0]))
    (record,) = looked_ahead(built, 1, drawings(built))
    schedule = built.schedule
    assert isinstance(schedule, EpochSteps)
    steps = list(islice(schedule.visits(schedule.rows), 5))  # type: ignore[arg-type]
    drawn = [sorted(str(row.example.place) for row in rows) for rows in steps]
    return {"drawn": drawn, **{name: value for name, value in record.metrics.items() if name != "seconds"}}


if __name__ == "__main__":
    join_ranks()
    place = Path(sys.argv[1])
    found = looked(json.loads((place / "recipe.json").read_text(encoding="utf-8")))
    if is_first():
        (place / "found.json").write_text(json.dumps(found), encoding="utf-8")
