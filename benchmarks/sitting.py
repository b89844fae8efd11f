"""Commands run in turn, A B C A B C, alone on the machine: what they print, medians and spread."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

QUIET, PATIENCE = 15.0, 600  # percent of the processors others may use, and how many seconds that is waited for


@dataclass
class Sitting:
    """Everything that was measured together."""

    runs: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def run(self, commands: Mapping[str, Sequence[str]], rounds: int, *, cwd: Path | None = None) -> None:
        """Each command once a round; the last line each prints is its JSON report."""
        for number in range(rounds):
            for name, command in commands.items():
                wait_until_quiet()
                report = last_json(subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False))
                self.runs.setdefault(name, []).append(report)
                shown = {key: report.get(key) for key in ("tokens_per_second", "seconds", "peak_rss_mb", "heldout_nll")}
                print(f"round {number + 1} {name}: {shown}", file=sys.stderr, flush=True)

    def median(self, name: str, what: str) -> float:
        return statistics.median(run[what] for run in self.runs[name])

    def spread(self, name: str, what: str) -> str:
        values = sorted(run[what] for run in self.runs[name])
        return f"{values[0]:,.5g} / **{statistics.median(values):,.5g}** / {values[-1]:,.5g}"


def last_json(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        raise RuntimeError(f"{' '.join(done.args[:3])} failed:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(lines[-1])
    return found


def wait_until_quiet() -> None:
    """Two heavy processes at once ruin each other: timings start on a quiet machine or say that they did not."""
    deadline = time.monotonic() + PATIENCE
    busy = psutil.cpu_percent(interval=2)
    while busy > QUIET and time.monotonic() < deadline:
        busy = psutil.cpu_percent(interval=5)
    if busy > QUIET:
        print(f"the processors are still {busy:.0f} % busy: this timing may be slow", file=sys.stderr)


def outside(name: str, default: str) -> Path | None:
    """Public data and the peers' scripts are no part of the project: TUNEFUL_DATA and TUNEFUL_PEERS say where."""
    path = Path(os.environ.get(name, Path(__file__).parents[2] / "shared" / default))
    return path if path.exists() else None
