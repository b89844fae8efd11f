"""Our side of learning from rewards: small sums, 4 prompts of 8 answers of up to 32 tokens an update, GRPO, LoRA.
Prints one JSON line. A little of the reward is the length, so that no prompt is passed over."""

from __future__ import annotations

import argparse
import json
import random
import re
import tempfile
import time
from pathlib import Path
from typing import Any

from tuneful.core.device import peak_memory_mb
from tuneful.core.types import Example
from tuneful.recipe import from_mapping
from tuneful.run.build import build
from tuneful.run.loop import updates
from tuneful.run.prepare import prepare

REWARD = {"kind": "python", "path": "benchmarks.play:found"}


def found(reply: str, example: Example) -> float:
    """The right whole number is somewhere in the reply."""
    right = example.messages[-1].content in re.findall(r"-?\d+", reply)
    return float(right) + 1e-3 * len(reply)


def main() -> None:
    args = arguments()
    rng = random.Random(args.seed)
    sums = [(rng.randint(1, 20), rng.randint(1, 20)) for _ in range(args.steps * args.prompts)]
    with tempfile.TemporaryDirectory() as scratch:
        rows = Path(scratch) / "sums.jsonl"
        lines = [
            {"prompt": f"What is {x} + {y}? Reply with the number only.", "completion": str(x + y)} for x, y in sums
        ]
        rows.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        built = build(prepare(recipe(args, rows)))
        begin, records = time.perf_counter(), []
        for record in updates(built):
            records.append(record.metrics)
        seconds = time.perf_counter() - begin
    report = {
        "peer": "tuneful", "work": "grpo", "steps": len(records), "seconds": round(seconds, 2),
        "seconds_per_step": round(seconds / len(records), 2),
        "sampling_seconds_per_step": round(sum(one["sampling_seconds"] for one in records) / len(records), 2),
        "answers": sum(one["rows"] for one in records), "written": sum(one["written"] for one in records),
        "rewards": [round(one["reward"], 3) for one in records], "peak_rss_mb": peak_memory_mb(),
    }  # fmt: skip
    print(json.dumps(report), flush=True)


def recipe(args: argparse.Namespace, rows: Path) -> Any:
    given: dict[str, Any] = {
        "model": args.model, "seed": args.seed, "precision": args.precision,
        "data": {"source": str(rows), "validation": 0, "test": 0},
        "environment": {"kind": "single_turn", "rewards": [REWARD]},
        "objective": {"kind": "grpo", "truncated": True},
        "schedule": {"kind": "rollouts", "prompts": args.prompts, "answers": args.answers, "redraw": 0,
                     "new_tokens": args.new_tokens, "steps": args.steps},
        "adapter": {"kind": "lora", "rank": 16}, "optimiser": {"learning_rate": 1e-4}, "evaluate": "none",
    }  # fmt: skip
    return from_mapping(given, [])[0]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--answers", type=int, default=8)
    parser.add_argument("--new-tokens", type=int, default=32)
    parser.add_argument("--precision", choices=["auto", "fp32", "bf16"], default="auto")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
