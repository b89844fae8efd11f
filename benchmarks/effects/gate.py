"""Does the gate stop a run that made groups be treated more unequally, and let one pass that did not? Tweets and
branches as in `planted`; where it is fair, each class comes from both branches as often."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import tuneful
from benchmarks.effects.fairness import COMMON, Texts, drawn, told_apart
from tuneful.core.errors import GateBroken

LIMIT = 0.02
NEUTRAL = 2  # runs for each that is biased on purpose


def gate(data: Path, seeds: int) -> None:
    """`seeds` runs of which 95 % of a class come from one branch, and twice as many of which half do."""
    texts = told_apart(data)
    for share, count in ((0.95, seeds), (0.5, NEUTRAL * seeds)):
        broken = []
        for seed in range(count):
            with tempfile.TemporaryDirectory() as scratch:
                found = stopped(texts, Path(scratch), share, seed)
            broken.append(found["stopped"])
            print(json.dumps({"share": share, "seed": seed, **found}), flush=True)
        print(json.dumps({"share": share, "stopped": sum(broken), "of": count}), flush=True)


def stopped(texts: Texts, scratch: Path, share: float, seed: int) -> dict[str, object]:
    folder = drawn(texts, scratch / "data", seed, share)
    recipe = {**COMMON, "seed": seed, "gates": {"bias_gap_increase": LIMIT},
              "data": {"source": str(folder), "group": "branch", "validation": 0}}  # fmt: skip
    try:
        tuneful.fit(recipe, out=scratch / "run")
        broken = False
    except GateBroken:
        broken = True
    bias = json.loads((scratch / "run" / "report.json").read_text(encoding="utf-8"))["bias"]
    rises = {name: round(gap["delta"], 3) for name, gap in bias.items() if gap.get("gap") and gap.get("measurable")}
    return {"stopped": broken, "rises": rises}
