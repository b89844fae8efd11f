"""Predicted and measured peak memory of whole runs, evaluation included, on rows of random words."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.results import Line, at_most

WORDS = ("stone", "light", "walk", "green", "house", "under", "before", "after", "letter", "music", "water", "garden")
CLOSE = 0.15


class Case(NamedTuple):
    """Rows of `shortest` to `longest` words, so many an update."""

    model: str
    shortest: int
    longest: int
    rows: int
    settings: tuple[str, ...] = ()


WRITER, READER = "smollm2-135m", "minilm-l6"
CASES = (
    Case(WRITER, 20, 40, 8),
    Case(WRITER, 10, 400, 4),
    Case(WRITER, 10, 400, 4, ("optimiser.micro_tokens=4096",)),
    Case(WRITER, 600, 900, 2),
    Case(WRITER, 10, 400, 4, ("optimiser.gradient_checkpointing=true",)),
    Case(WRITER, 10, 200, 4, ("precision=fp32",)),
    Case(WRITER, 10, 100, 4, ("adapter=full",)),
    Case(WRITER, 10, 200, 4, ("adapter.kind=lora", "adapter.top_layers=6")),
    Case(READER, 5, 40, 32),
    Case(READER, 5, 40, 32, ("precision=fp32",)),
    Case(READER, 5, 40, 32, ("adapter=lora",)),
    Case(READER, 100, 200, 32),
)
SMALL = ("schedule.steps=8", "evaluate.every=8", "data.validation=8")


def memory(data: Path, peers: Path, rounds: int) -> list[Line]:
    """`tuneful fit`, eight updates, with all its measuring."""
    with tempfile.TemporaryDirectory() as folder:
        return [_line(case, _cost(case, Path(folder) / str(number))) for number, case in enumerate(CASES)]


def _line(case: Case, cost: dict[str, Any]) -> Line:
    predicted, measured = cost["predicted"]["memory_mb"], cost["peak_memory_mb"]
    what = f"{case.model}, rows of {case.shortest}-{case.longest} words, {case.rows} an update"
    shown = f", predicted {predicted:,} MB, measured {measured:,} MB"
    off = abs(predicted - measured) / measured
    return at_most(f"{', '.join((what, *case.settings))}: error", off, CLOSE, shown=shown)


def _cost(case: Case, folder: Path) -> dict[str, Any]:
    draw = random.Random(0)
    folder.mkdir()
    file = folder / "rows.jsonl"
    file.write_text("\n".join(json.dumps(_row(case, draw)) for _ in range(120)), encoding="utf-8")
    command = [sys.executable, "-m", "tuneful", "fit", str(file), "--model", case.model, "--json"]
    command += ["--out", str(folder / "run")]
    for setting in (f"optimiser.rows_per_step={case.rows}", *SMALL, *case.settings):
        command += ["--set", setting]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout)["cost"]
    print(case, found["predicted"]["memory_mb"], found["peak_memory_mb"], file=sys.stderr, flush=True)
    return found


def _row(case: Case, draw: random.Random) -> dict[str, str]:
    words = [draw.choice(WORDS) for _ in range(draw.randint(case.shortest, case.longest))]
    if case.model == READER:
        return {"text": " ".join(words), "label": draw.choice("abcd")}
    return {"prompt": " ".join(words), "completion": " ".join(words[: max(3, len(words) // 3)][::-1])}
