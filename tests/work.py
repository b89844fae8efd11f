"""Small made-up work for tests that run the whole way."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from tuneful.cli.main import main
from tuneful.recipe import Recipe
from tuneful.run.folder import RunFolder
from tuneful.run.loop import Interrupted
from tuneful.run.session import run

NAMES = ["Ada", "Bo", "Cy", "Di", "Ed", "Flo", "Gus", "Hal", "Ida", "Jo"]
MOODS = {"glad": "sunny warm bright cheerful sweet lovely", "sad": "grey cold dark gloomy bitter dreary"}


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def greetings(count: int = 40) -> list[dict[str, str]]:
    """A request and an answer that copies from it."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(count):
        name, place = rng.choice(NAMES), rng.integers(100, 999)
        rows.append({"prompt": f"greet {name} in room {place} {number}", "completion": f"hi {name}"})
    return rows


def moods(count: int = 60) -> list[dict[str, str]]:
    """A text whose words tell its label."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(count):
        mood = list(MOODS)[number % 2]
        words = rng.choice(MOODS[mood].split(), 4)
        rows.append({"text": f"{' '.join(words)} {number}", "label": mood})
    return rows


def typed(*arguments: object, cwd: Path, keys: str = "") -> Result:
    """What the command line answers, in this process, which has read torch already."""
    with contextlib.chdir(cwd):
        done = CliRunner().invoke(main, list(map(str, arguments)), input=keys)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


def whole_and_parts(recipe: Recipe, folder: Path, *, after: int) -> tuple[RunFolder, RunFolder]:
    """A run, and the same stopped when it has asked `after` times whether to stop, and gone on with."""
    for _ in run(recipe, folder / "whole"):
        pass
    asked = iter(range(10_000))
    with pytest.raises(Interrupted):
        for _ in run(recipe, folder / "parts", should_stop=lambda: next(asked) >= after):
            pass
    for _ in run(recipe, folder / "parts", resume=True):
        pass
    return RunFolder(folder / "whole"), RunFolder(folder / "parts")


def losses_of(folder: RunFolder, *kinds: str) -> list[tuple[int, float]]:
    """Step and loss of the records of these kinds."""
    return [(record.step, record.metrics["loss"]) for record in folder.read_records() if record.kind in kinds]
