"""python -m benchmarks [SECTION...] [--rounds N]: measures and rewrites RESULTS.md. No section = all of them."""

from __future__ import annotations

import argparse
import sys

from benchmarks.few import few, few_clinc, unlabelled
from benchmarks.growth import curves, growth
from benchmarks.memory import memory
from benchmarks.parts import classify, layers, prompt, quantised, rewards, writing
from benchmarks.quality import banking77, chinese, perplexity
from benchmarks.results import keep
from benchmarks.sitting import outside, wait_until_quiet
from benchmarks.speed import heldout, mixed, sft
from benchmarks.start import start
from benchmarks.streaming import rows

MEASURED = (
    start, sft, mixed, prompt, layers, quantised, classify, writing, rewards, heldout, curves, growth, rows, memory,
    banking77, perplexity, chinese, few, few_clinc, unlabelled,
)  # fmt: skip
SECTIONS = {function.__name__: function for function in MEASURED}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"of {', '.join(SECTIONS)}")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    unknown = set(given.sections) - set(SECTIONS)
    if unknown:
        parser.error(f"unknown section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    data, peers = outside("TUNEFUL_DATA", "data"), outside("TUNEFUL_PEERS", "peers")
    if data is None or peers is None:
        print("set TUNEFUL_DATA and TUNEFUL_PEERS to the folders of public data and peer scripts", file=sys.stderr)
        return 2
    for name in given.sections or SECTIONS:
        wait_until_quiet()
        lines = SECTIONS[name](data, peers, given.rounds)
        keep(name, f"python -m benchmarks {name} --rounds {given.rounds}", lines)
        for line in lines:
            print(f"{name}: {line.work}: {line.measured}  {line.goal}  {line.reached}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
