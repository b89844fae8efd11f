"""Small made-up work for tests that run the whole way."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from click.testing import CliRunner, Result

from tuneful.cli.main import main

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
