"""Few labels and none: the tool's own choice beside its floor and SetFit, another seed a round, paired by seed."""

from __future__ import annotations

import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.results import Line, at_least, at_most
from benchmarks.sitting import Sitting
from benchmarks.speed import PEER_PYTHON
from tuneful.models.load import locate

SETFIT_ROUNDS = 1  # it takes ten minutes a round on two cores


def few(data: Path, peers: Path, rounds: int) -> list[Line]:
    """Banking77, 5 and 10 rows a class."""
    lines = []
    for shots in (5, 10):
        ours = seeds(data, rounds, "--set", "banking", "--shots", str(shots))
        lines += compared(f"Banking77, {shots} shots", ours)
        if shots == 10:
            lines.append(at_least("Banking77, 10 shots, accuracy", mean(ours, "accuracy"), 89.0, unit=" %"))
        theirs = setfit(data, peers, shots)
        paired = [100 * one["accuracy"] - 100 * other["accuracy"] for one, other in zip(ours, theirs, strict=False)]
        seconds = statistics.median(run["seconds"] for run in theirs)
        shown = f"{mean(theirs, 'accuracy'):.1f} %, {seconds:.0f} s, {len(theirs)} seeds"
        lines.append(Line(f"SetFit, {shots} shots", shown))
        lines.append(at_least(f"above SetFit, {shots} shots", statistics.mean(paired), 5.0, unit=" points"))
    return lines


def few_clinc(data: Path, peers: Path, rounds: int) -> list[Line]:
    """CLINC150, 1, 3 and 5 rows a class; the best logit against 1,000 texts of no class."""
    lines = []
    for shots in (1, 3, 5):
        ours = seeds(data, rounds, "--set", "clinc", "--shots", str(shots))
        lines += compared(f"CLINC150, {shots} shots", ours)
        found = statistics.mean(run["auroc"] for run in ours)
        lines.append(at_least(f"CLINC150, {shots} shots, AUROC of texts of no class", found, 0.9))
    return lines


def unlabelled(data: Path, peers: Path, rounds: int) -> list[Line]:
    """Banking77, 3 rows a class, without and with 5,000 texts without labels."""
    work = ("--set", "banking", "--shots", "3")
    alone, both = seeds(data, rounds, *work), seeds(data, rounds, *work, "--unlabelled", "5000")
    paired = [100 * two["accuracy"] - 100 * one["accuracy"] for one, two in zip(alone, both, strict=True)]
    return [
        Line("labels only", spread(alone, "accuracy")),
        Line("with 5,000 texts", spread(both, "accuracy")),
        at_least("gain", statistics.mean(paired), 4.0, unit=" points", shown=interval(paired)),
        Line("seconds with texts", f"{statistics.median(run['seconds'] for run in both):.0f}"),
    ]


def seeds(data: Path, rounds: int, *work: str) -> list[dict[str, Any]]:
    """One run for each seed."""
    sitting = Sitting()
    for seed in range(rounds):
        command = [sys.executable, "-m", "benchmarks.shots", "--data", str(data), *work, "--seed", str(seed)]
        sitting.run({"tuneful": command}, 1)
    return sitting.runs["tuneful"]


def setfit(data: Path, peers: Path, shots: int) -> list[dict[str, Any]]:
    sitting = Sitting()
    for seed in range(SETFIT_ROUNDS):
        command = [PEER_PYTHON, str(peers / "fewshot_setfit.py"), "--model", str(locate("minilm-l6")), "--data",
                   str(data / "banking77"), "--shots", str(shots), "--seed", str(seed)]  # fmt: skip
        sitting.run({"setfit": command}, 1)
    return sitting.runs["setfit"]


def compared(work: str, ours: list[dict[str, Any]]) -> list[Line]:
    """Beside the floor: the frozen encoder under a head with a tuned penalty."""
    gains = [100 * (run["accuracy"] - run["base"]) for run in ours]
    taken = ", ".join(run["taken"] for run in ours)
    return [
        Line(f"{work}, accuracy", f"{spread(ours, 'accuracy')}; floor {spread(ours, 'base')}; taken: {taken}"),
        at_least(f"{work}, above the floor", statistics.mean(gains), 2.5, unit=" points", shown=interval(gains)),
        at_most(f"{work}, seconds", statistics.median(run["seconds"] for run in ours), 60, unit=" s"),
    ]


def mean(runs: list[dict[str, Any]], what: str) -> float:
    return 100 * statistics.mean(run[what] for run in runs)


def spread(runs: list[dict[str, Any]], what: str) -> str:
    values = sorted(100 * run[what] for run in runs)
    return f"{values[0]:.1f} / **{statistics.median(values):.1f}** / {values[-1]:.1f} %"


def interval(gains: list[float]) -> str:
    """Of the mean over seeds, by Student's t; nothing for a single one."""
    if len(gains) < 2:
        return ", one seed"
    from scipy.stats import t

    half = float(t.ppf(0.975, len(gains) - 1) * np.std(gains, ddof=1) / np.sqrt(len(gains)))
    return f" ({statistics.mean(gains) - half:+.1f} to {statistics.mean(gains) + half:+.1f}, {len(gains)} seeds)"
