"""Our side of supervised fine-tuning: rows of {instruction, input, output}, LoRA on every linear layer, one epoch.

Prints one JSON line with the peers' fields: training seconds without loading or tokenising, real tokens a second,
peak memory of the process, and the loss an answer token of rows that were not trained on, in float32.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from tuneful.adapters import Lora
from tuneful.adapters.lowrank import attach_saved
from tuneful.core.device import machine, peak_memory_mb, precision, prepare_process, seed_everything
from tuneful.core.policy import Policy
from tuneful.core.quantised import KINDS
from tuneful.core.types import Example, Layout, Message, Place, Row
from tuneful.data.layouts import Collator
from tuneful.engine.fit import fit
from tuneful.engine.update import AdamW, Updater
from tuneful.engine.work import operations
from tuneful.models.block import part, prepare_training
from tuneful.models.load import Loaded, load
from tuneful.models.network import Network
from tuneful.models.size import size_of
from tuneful.objectives import NextToken
from tuneful.run.build import with_frozen_layers_kept
from tuneful.schedules.epochs import Cut, EpochSteps


def main() -> None:
    args = arguments()
    prepare_process()
    load_before = os.getloadavg()[0]
    seed_everything(args.seed)
    raw = json.loads(Path(args.data).read_text(encoding="utf-8"))
    train, held = raw[: args.examples], raw[args.examples : args.examples + args.heldout]
    loaded = load(args.model, dtype=precision(args.precision), quantise=args.quantise)
    rows = [row for item in train for row in rows_of(loaded, item)]
    if args.preamble:
        rows = behind_one_beginning(rows, args.preamble)
    if args.peer_order:
        rows = in_peer_order(rows, args.seed)
    network = as_transformers_wrote_it(loaded) if args.plain else loaded.network
    policy = Policy(network, Lora(top_layers=args.layers).attach(loaded.module, labels=False))
    if args.layers:
        policy.network = with_frozen_layers_kept(loaded, "bench")
    collate = Collator(Layout.TOKENS, share=args.share and network.shares)
    epoch = -(-len(rows) // args.rows_per_step)
    steps = args.epochs * epoch
    schedule = EpochSteps(rows, collate, Cut(args.rows_per_step, args.micro_tokens), steps, args.seed)
    settings = AdamW(learning_rate=args.learning_rate, warmup=0, decay="linear")
    optimiser = Updater(settings, policy.trainable(), steps=steps)
    prepare_training(policy.module)
    begin = time.perf_counter()
    records = list(fit(policy, {"main": NextToken()}, schedule, optimiser))
    seconds = time.perf_counter() - begin
    tokens = args.epochs * sum(map(len, rows))
    later = sum(record.metrics["seconds"] for record in records[epoch:])
    peak = peak_memory_mb()
    work = needed(policy, loaded, tokens, args.epochs * sum(row.learned for row in rows))
    rate = machine().bf16_gflops if precision(args.precision) == torch.bfloat16 else machine().fp32_gflops
    report = {
        "peer": "tuneful", "work": "sft", "precision": args.precision, "share": args.share, "seed": args.seed,
        "quantise": args.quantise, "rows_per_step": args.rows_per_step, "steps": steps,
        "tokens": tokens, "seconds": round(seconds, 2),
        "tokens_per_second": round(tokens / seconds, 1), "peak_rss_mb": peak, "layers": args.layers,
        "tokens_per_second_later": round(tokens * (1 - 1 / args.epochs) / later, 1) if later else None,
        "utilisation": round(work / seconds / rate / 1e9, 4), "gflops": round(rate),
        "first_loss": round(records[0].metrics["loss"], 4), "last_loss": round(records[-1].metrics["loss"], 4),
        "heldout_nll": round(heldout(policy, loaded, held), 4) if held else None, "load_before": round(load_before, 2),
    }  # fmt: skip
    if args.losses:
        report["losses"] = [record.metrics["loss"] for record in records]
    if held and args.quantise:
        report["heldout_nll_own"] = round(heldout(over_own_weights(policy, loaded), loaded, held), 4)
    print(json.dumps(report), flush=True)


def rows_of(loaded: Loaded, item: dict[str, str]) -> list[Row]:
    encoded = loaded.processor.conversation([Message("user", asked(item)), Message("assistant", item["output"])])
    return [Row(Example(Place("bench", 0)), text.ids, text.learn) for text in encoded]


def as_transformers_wrote_it(loaded: Loaded) -> Network:
    part(loaded.module)
    loaded.module.set_attn_implementation(loaded.network.native)  # type: ignore[operator]
    return replace(loaded.network, packed=False, shares=False, joined=False)


def needed(policy: Policy, loaded: Loaded, tokens: int, learned: int) -> float:
    """Floating-point operations of the work, each token read by itself, attention left out."""
    size, update = size_of(loaded.name, loaded.folder), sum(p.numel() for p in policy.trainable().values())
    return tokens * operations(size.body, update, frozen=True) + learned * 4.0 * size.vocabulary


def behind_one_beginning(rows: list[Row], tokens: int) -> list[Row]:
    """The same preamble before each row, of which the last 20 tokens are learned and the 10 before them kept."""
    preamble = np.concatenate([row.ids for row in rows])[:tokens]
    learn = np.concatenate([np.zeros(tokens + 10), np.ones(20)]).astype(np.float32)
    return [Row(row.example, np.concatenate([preamble, row.ids[-30:]]), learn) for row in rows if len(row) >= 30]


def in_peer_order(rows: list[Row], seed: int) -> list[Row]:
    """Arranged so that the schedule meets them in the order transformers.Trainer draws for this seed: which rows share
    an update moves the held-out loss of one epoch by 0.01, five times what is to be compared."""
    ours = np.random.default_rng([seed, 0]).permutation(len(rows))
    theirs = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))
    arranged = list(rows)
    for here, there in zip(ours.tolist(), theirs.tolist(), strict=True):
        arranged[here] = rows[there]
    return arranged


def asked(item: dict[str, str]) -> str:
    return item["instruction"] + ("\n" + item["input"] if item.get("input") else "")


def heldout(policy: Policy, loaded: Loaded, items: list[dict[str, str]]) -> float:
    """The peers' own measure: every token behind the prompt, the template's last line break included."""
    model: Any = policy.attached.merged()
    total, count = 0.0, 0
    with torch.no_grad():
        for item in items:
            turns = [Message("user", asked(item)), Message("assistant", item["output"])]
            prompt = loaded.processor.prompt(turns[:1]).ids
            whole = torch.from_numpy(loaded.processor.conversation(turns)[0].ids.astype(np.int64))[None]
            logits = model(whole).logits[0, len(prompt) - 1 : -1].float()
            losses = torch.nn.functional.cross_entropy(logits, whole[0, len(prompt) :], reduction="none")
            total, count = total + float(losses.sum()), count + len(losses)
    return total / count


def over_own_weights(policy: Policy, loaded: Loaded) -> Policy:
    """The same adapter on the model as it was published."""
    with TemporaryDirectory() as folder:
        policy.attached.save(folder)
        whole = load(loaded.name)
        return Policy(whole.network, attach_saved(whole.module, folder))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--examples", type=int, default=96)
    parser.add_argument("--heldout", type=int, default=32)
    parser.add_argument("--rows-per-step", type=int, default=8)
    parser.add_argument("--micro-tokens", type=int, default=AdamW().micro_tokens)
    parser.add_argument("--learning-rate", type=float, default=2e-4)
    parser.add_argument("--precision", choices=["auto", "fp32", "bf16"], default="auto")
    parser.add_argument("--quantise", choices=KINDS, help="keep the frozen layers so")
    parser.add_argument("--share", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--layers", type=int, help="only so many layers, counted from the top")
    parser.add_argument("--preamble", type=int, default=0, help="tokens all rows begin with")
    parser.add_argument("--plain", action="store_true", help="transformers' own layers, padded rows, nothing shared")
    parser.add_argument("--losses", action="store_true", help="report the loss of each update")
    parser.add_argument("--peer-order", action="store_true", help="rows in the order transformers.Trainer draws")
    return parser.parse_args()


if __name__ == "__main__":
    main()
