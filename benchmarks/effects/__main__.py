"""python -m benchmarks.effects EFFECT --data FOLDER [--seeds N]: measures one effect and prints a table."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.effects import coach

EFFECTS = {
    "coach": coach.effect,
    "coach-fit": coach.effect_of_fit,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("effect", choices=list(EFFECTS))
    parser.add_argument("--data", type=Path, required=True, help="folder of public data")
    parser.add_argument("--seeds", type=int, default=5)
    given = parser.parse_args()
    if not given.data.is_dir():
        parser.error(f"--data {given.data} is no folder")
    for line in EFFECTS[given.effect](given.data, given.seeds):
        print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
