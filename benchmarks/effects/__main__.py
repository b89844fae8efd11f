"""python -m benchmarks.effects NAME --data FOLDER [--seeds N]: one JSON line a seed, then a table."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.effects.augment import augment

EFFECTS = {"augment": augment}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=sorted(EFFECTS))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    given = parser.parse_args()
    EFFECTS[given.name](given.data, given.seeds)


if __name__ == "__main__":
    main()
