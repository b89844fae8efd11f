"""Whole runs through the command line, on public data that is no part of the project."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.results import Line, at_least, at_most


def banking77(data: Path, peers: Path, rounds: int) -> list[Line]:
    """All 10,003 training rows, every default, the whole test set once."""
    with tempfile.TemporaryDirectory() as scratch:
        for part in ("train", "test"):
            shutil.copy(data / "banking77" / f"{part}.csv", Path(scratch) / f"{part}.csv")
        report = fit(scratch)
    accuracy = report["quality"]["accuracy"]
    cost = report["cost"]
    return [
        at_least("Banking77 test accuracy, minilm-l6", 100 * accuracy["tuned"], 92.0, unit=" %"),
        Line("the same, nearest neighbours of the untuned model", f"{100 * accuracy['base']:.1f} %"),
        Line("seconds", f"{cost['seconds']:.0f}, predicted {cost['predicted']['seconds']:.0f}"),
        Line("memory", f"{cost['peak_memory_mb']} MB, predicted {cost['predicted']['memory_mb']}"),
    ]


def perplexity(data: Path, peers: Path, rounds: int) -> list[Line]:
    """All rows of rasbt_instruct, split by the tool, every default."""
    report = fit(str(data / "rasbt_instruct" / "instruction-data.json"), "--set", "evaluate.generate=40")
    found, cost = report["quality"]["perplexity"], report["cost"]
    return [
        at_most("rasbt_instruct perplexity, tuned / base", found["tuned"] / found["base"], 0.75),
        Line("perplexity", f"{found['base']:.2f} -> {found['tuned']:.2f} on {found['n']} rows"),
        Line("verdict", report["verdict"]["sentence"]),
        Line("seconds", f"{cost['seconds']:.0f}, predicted {cost['predicted']['seconds']:.0f}"),
        Line("memory", f"{cost['peak_memory_mb']} MB, predicted {cost['predicted']['memory_mb']}"),
    ]


def chinese(data: Path, peers: Path, rounds: int) -> list[Line]:
    """belle's seed tasks: what is learned is the answer to the letter, and training lowers the loss."""
    source = data / "belle" / "zh_seed_tasks.json"
    report = fit(str(source), "--set", "evaluate.generate=10", "--set", "schedule.epochs=2")
    shown = report["data"]["shown"]
    answers = {answer for task in _json_lines(source) for answer in _answers(task)}
    right = sum("".join(text for text, learned in row["pieces"] if learned) in answers for row in shown)
    found = report["quality"]["perplexity"]
    return [
        Line("belle rows whose learned text is the answer and the stop token", f"{right} of {len(shown)} shown",
             "all", right == len(shown)),
        at_most("belle perplexity, tuned / base", found["tuned"] / found["base"], 1.0),
    ]  # fmt: skip


def fit(source: str, *options: str) -> dict[str, Any]:
    """`tuneful fit` in a process of its own; its report."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "tuneful", "fit", source, "--out", f"{out}/run", *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
        report: dict[str, Any] = json.loads(Path(out, "run", "report.json").read_text(encoding="utf-8"))
    return report


def _json_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _answers(task: dict[str, Any]) -> list[str]:
    return [f"{instance['output'].strip()}<|im_end|>" for instance in task["instances"]]
