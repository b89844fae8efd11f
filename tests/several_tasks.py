"""What test_affinity.py has done by one process and by two: run by itself under torchrun, it writes what it found."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tuneful.core.device import is_first, join_ranks
from tuneful.recipe import from_mapping
from tuneful.run.affinity import looked_ahead
from tuneful.run.build import build
from tuneful.run.prepare import prepare


def looked(given: dict[str, Any]) -> dict[str, float]:
    """A look before the first update; micro-batches of one row or two."""
    built = build(prepare(from_mapping(given)[0]))
    (record,) = looked_ahead(built, 1)
    return {name: value for name, value in record.metrics.items() if name != "seconds"}


if __name__ == "__main__":
    join_ranks()
    place = Path(sys.argv[1])
    found = looked(json.loads((place / "recipe.json").read_text(encoding="utf-8")))
    if is_first():
        (place / "found.json").write_text(json.dumps(found), encoding="utf-8")
