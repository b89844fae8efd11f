"""Arms of one experiment, run for each seed and compared by pairs."""

from __future__ import annotations

import hashlib
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

Found = dict[str, float]


def arms(seeds: int, run: Callable[[str, int], Found], names: Sequence[str]) -> dict[str, list[Found]]:
    """What each arm gives for each seed, one line printed for each as it comes."""
    found: dict[str, list[Found]] = {name: [] for name in names}
    for seed in range(seeds):
        for name in names:
            found[name].append(run(name, seed))
            print(json.dumps({"arm": name, "seed": seed, **found[name][-1]}), flush=True)
    return found


def compared(found: Mapping[str, Sequence[Found]], metric: str, base: str) -> None:
    """Mean of each arm, and of its difference from the base, with the 95 % interval of that mean by Student's t."""
    for name, runs in found.items():
        values = [run[metric] for run in runs]
        gaps = [run[metric] - other[metric] for run, other in zip(runs, found[base], strict=True)]
        told: dict[str, Any] = {"metric": metric, "arm": name, "mean": round(statistics.mean(values), 4),
                                "lowest": round(min(values), 4), "highest": round(max(values), 4)}  # fmt: skip
        if name != base:
            told |= {"against": base, **interval(gaps)}
        print(json.dumps(told), flush=True)


def interval(gaps: Sequence[float]) -> dict[str, Any]:
    from scipy.stats import t

    mean = statistics.mean(gaps)
    if len(gaps) < 2:
        return {"gap": round(mean, 4), "seeds": 1}
    half = float(t.ppf(0.975, len(gaps) - 1) * np.std(gaps, ddof=1) / np.sqrt(len(gaps)))
    return {"gap": round(mean, 4), "ci95": [round(mean - half, 4), round(mean + half, 4)], "seeds": len(gaps)}


def half_of(text: str) -> int:
    """0 or 1: ways are tried out on one half, and figures are of the other."""
    return hashlib.sha256(text.encode()).digest()[0] % 2
