"""Data sets larger than memory: seconds to the first update and peak memory, by number of rows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.results import Line, at_most
from benchmarks.sitting import wait_until_quiet
from benchmarks.start import TUNEFUL
from tuneful.models.load import locate

COUNTS = (1_000, 100_000, 1_000_000, 5_000_000)
COMPARED = (1_000, 1_000_000, 5_000_000)  # whose memory should be the same
WORDS = ("time", "year", "people", "way", "day", "man", "thing", "woman", "life", "child", "world", "school", "state")
SETTINGS = ("schedule.steps=3", "evaluate=none", "optimiser.rows_per_step=8", "precision=fp32", "checkpoint.every=3")


def rows(data: Path, peers: Path, rounds: int) -> list[Line]:
    """JSONL of about 230 bytes a row; three updates of 8 rows, SmolLM2-135M or TUNEFUL_MODEL, LoRA, fp32."""
    model = os.environ.get("TUNEFUL_MODEL") or str(locate("smollm2-135m", lambda _: None))
    found: dict[int, list[dict[str, float]]] = {count: [] for count in COUNTS}
    with tempfile.TemporaryDirectory() as folder:
        for count in COUNTS:
            write(Path(folder, f"{count}.jsonl"), count)
        for number in range(rounds):
            for count in COUNTS:
                wait_until_quiet()
                found[count].append(measure(Path(folder, f"{count}.jsonl"), model, Path(folder, f"{number}-{count}")))
                print(f"round {number + 1} {count:,} rows: {found[count][-1]}", file=sys.stderr, flush=True)
    lines = [Line(f"{count:,} rows", f"{_spread(found[count], 'seconds')} s to the first update, "
                  f"{_spread(found[count], 'mb')} MB at most") for count in COUNTS]  # fmt: skip
    peaks = [float(np.median([run["mb"] for run in found[count]])) for count in COMPARED]
    slowest = max(run["seconds"] for run in found[COUNTS[-1]])
    return [
        *lines,
        at_most("command to the end of the first update, most rows, slowest", slowest, 15, unit=" s"),
        at_most("peak memory of 1e3, 1e6 and 5e6 rows, largest / smallest", max(peaks) / min(peaks), 1.1),
    ]


def write(path: Path, count: int) -> None:
    """Requests that differ by a number and by words drawn by lot."""
    rng = np.random.default_rng(0)
    with path.open("w", encoding="utf-8") as stream:
        for start in range(0, count, 10_000):
            drawn = rng.integers(len(WORDS), size=(min(10_000, count - start), 26))
            for number, places in enumerate(drawn.tolist(), start):
                asked, said = (" ".join(WORDS[place] for place in part) for part in (places[:12], places[12:]))
                row = {"prompt": f"Question {number}: what does {asked} mean?", "completion": f"It means {said}."}
                stream.write(json.dumps(row) + "\n")


def measure(source: Path, model: str, out: Path) -> dict[str, float]:
    """Seconds to the end of the first update, and the most memory the whole command held."""
    command = [*TUNEFUL, "fit", str(source), "--model", model, "--out", str(out), "--json"]
    command += [word for setting in SETTINGS for word in ("--set", setting)]
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    records, seconds = out / "records.jsonl", 0.0
    while process.poll() is None:
        if not seconds and records.exists() and '"train"' in records.read_text(encoding="utf-8"):
            seconds = time.perf_counter() - begin
        time.sleep(0.02)
    if process.returncode or not seconds:
        raise RuntimeError(f"{' '.join(command)} failed:\n{process.stderr.read()[-2000:] if process.stderr else ''}")
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    return {"seconds": round(seconds, 1), "mb": report["cost"]["peak_memory_mb"]}


def _spread(runs: list[dict[str, float]], what: str) -> str:
    values = sorted(run[what] for run in runs)
    return f"{values[0]:,.5g} / **{np.median(values):,.5g}** / {values[-1]:,.5g}"
