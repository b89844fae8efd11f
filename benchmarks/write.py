"""Our side of writing: 16 prompts, 64 new tokens each, greedy, nothing stops early. Prints one JSON line."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.sft import asked
from tuneful.adapters import Lora
from tuneful.core.device import peak_memory_mb, precision, prepare_process, seed_everything
from tuneful.core.policy import Policy
from tuneful.core.types import Message
from tuneful.models.load import load
from tuneful.models.sampling import Generator


def main() -> None:
    args = arguments()
    prepare_process()
    seed_everything(args.seed)
    loaded = load(args.model, dtype=precision(args.precision))
    policy = Policy(loaded.network, Lora().attach(loaded.module, labels=False))
    for name, parameter in policy.trainable().items():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=1e-3)
    raw = json.loads(Path(args.data).read_text(encoding="utf-8"))[: args.batch_size]
    prompts = [loaded.processor.prompt([Message("user", asked(item))], ()).ids for item in raw]
    generator = Generator(replace(loaded.processor, stop_ids=frozenset()))
    times = []
    for _ in range(args.repeat + 1):
        begin = time.perf_counter()
        answers = generator.sample(policy, prompts, limit=args.new_tokens, original=not args.adapter)
        times.append(time.perf_counter() - begin)
    new, seconds = sum(len(answer.ids) for answer in answers), statistics.median(times[1:])
    assert new == args.batch_size * args.new_tokens
    report = {
        "peer": "tuneful", "work": "generate", "adapter": args.adapter, "new_tokens": new, "seconds": round(seconds, 3),
        "new_tokens_per_second": round(new / seconds, 1), "peak_rss_mb": peak_memory_mb(),
    }  # fmt: skip
    print(json.dumps(report), flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--precision", choices=["auto", "fp32", "bf16"], default="auto")
    parser.add_argument("--adapter", action="store_true", help="with a LoRA adapter that is not merged")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
