"""How long a person waits before anything happens."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.results import Line, at_most

TUNEFUL = [sys.executable, "-m", "tuneful"]


def start(data: Path, peers: Path, rounds: int) -> list[Line]:
    """`tuneful --help`, and from the command to the end of the first update with the model in the cache."""
    helped = [_timed([*TUNEFUL, "--help"]) for _ in range(4 * rounds)]
    example = Path(__file__).parents[1] / "examples" / "commands" / "train.jsonl"
    first = [_first_update(example) for _ in range(rounds)]
    return [
        at_most("tuneful --help, median", statistics.median(helped), 0.3, unit=" s", shown=_range(helped)),
        at_most("command to first update, median", statistics.median(first), 8, unit=" s", shown=_range(first)),
    ]


def _timed(command: list[str]) -> float:
    begin = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - begin


def _first_update(source: Path) -> float:
    with tempfile.TemporaryDirectory() as out:
        command = [*TUNEFUL, "fit", str(source), "--out", f"{out}/run", "--set", "evaluate=none", "--json"]
        begin = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        records = Path(out, "run", "records.jsonl")
        while process.poll() is None:
            if records.exists() and any(json.loads(line)["kind"] == "train" for line in _whole_lines(records)):
                break
            time.sleep(0.02)
        seconds = time.perf_counter() - begin
        process.kill()
        process.communicate()
    return seconds


def _whole_lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").split("\n")[:-1]


def _range(values: list[float]) -> str:
    return f" ({min(values):.3g} to {max(values):.3g})"
