"""python -m benchmarks.effects NAME --data FOLDER [--seeds N]: one effect, its seeds one line each, then the means."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path

from benchmarks.effects import coach
from benchmarks.effects.augment import augment
from benchmarks.effects.cost import cost, cost_fair
from benchmarks.effects.curriculum import curriculum
from benchmarks.effects.curve import curve
from benchmarks.effects.erasure import erasure
from benchmarks.effects.fairness import planted
from benchmarks.effects.four_kinds import four_kinds
from benchmarks.effects.gate import gate
from benchmarks.effects.imbalance import imbalance, only_head
from benchmarks.effects.lifelong import lifelong, lifelong_few, lifelong_lora
from benchmarks.effects.merging import merging, merging_halves, merging_lora
from benchmarks.effects.packed_adapters import packed_adapters
from benchmarks.effects.regularisers import default_set, regularisers
from benchmarks.effects.select import select, select_encoder
from benchmarks.effects.toxicity import toxicity
from benchmarks.effects.unlearn import unlearn
from benchmarks.effects.writer import writer
from benchmarks.effects.writing_tasks import writing_tasks

EFFECTS: dict[str, Callable[[Path, int], Iterable[str] | None]] = {
    "augment": augment,
    "coach": coach.effect,
    "coach_fit": coach.effect_of_fit,
    "cost": cost,
    "cost_fair": cost_fair,
    "curriculum": curriculum,
    "curve": curve,
    "default_set": default_set,
    "erasure": erasure,
    "four_kinds": four_kinds,
    "gate": gate,
    "imbalance": imbalance,
    "imbalance_head": only_head,
    "lifelong": lifelong,
    "lifelong_few": lifelong_few,
    "lifelong_lora": lifelong_lora,
    "packed_adapters": packed_adapters,
    "merging": merging,
    "merging_halves": merging_halves,
    "merging_lora": merging_lora,
    "planted": planted,
    "regularisers": regularisers,
    "select": select,
    "select_encoder": select_encoder,
    "toxicity": toxicity,
    "unlearn": unlearn,
    "writer": writer,
    "writing_tasks": writing_tasks,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("effect", choices=list(EFFECTS))
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args()
    for line in EFFECTS[args.effect](args.data, args.seeds) or ():
        print(line, flush=True)


if __name__ == "__main__":
    main()
