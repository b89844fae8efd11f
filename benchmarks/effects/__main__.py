"""python -m benchmarks.effects NAME --data FOLDER: does a technique do what it is there for? One line a trial."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from benchmarks.effects.curve import curve

EFFECTS: dict[str, Callable[[Path], None]] = {"curve": curve}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=list(EFFECTS))
    parser.add_argument("--data", type=Path, required=True)
    given = parser.parse_args()
    EFFECTS[given.name](given.data)


if __name__ == "__main__":
    main()
