"""Writes train.jsonl, validation.jsonl and test.jsonl beside itself, or into another folder.

python examples/commands/make.py --seed 7
"""

from __future__ import annotations

import argparse
from pathlib import Path

from grammar import check, draw, lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=7, help="7 gives the files that are committed")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder the three files go to")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    for split, rows in draw(given.seed).items():
        for drawn in rows:
            check(drawn.row)
        (given.out / f"{split}.jsonl").write_bytes(lines(rows).encode("utf-8"))
        print(f"{split}: {len(rows)} rows")


if __name__ == "__main__":
    main()
