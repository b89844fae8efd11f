"""One point of a growth curve: LoRA on a decoder with random weights, rows of one length, one vocabulary.

Prints one JSON line: seconds an update, tokens a second, and peak memory with and without the output matrix.
"""

from __future__ import annotations

import argparse
import json
import statistics
from typing import Any

import numpy as np
import torch

from tuneful.adapters import Lora
from tuneful.core.device import peak_memory_mb, precision, prepare_process, seed_everything
from tuneful.core.policy import Policy
from tuneful.core.types import Example, Layout, Place, Row
from tuneful.data.layouts import Collator
from tuneful.engine.fit import fit
from tuneful.engine.update import AdamW, Updater
from tuneful.models.block import prepare_training
from tuneful.models.examine import examine
from tuneful.objectives import NextToken
from tuneful.schedules.epochs import Cut, EpochSteps

SHAPE = {  # SmolLM2-135M's layers, ten of them
    "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 10, "num_attention_heads": 9,
    "num_key_value_heads": 3, "tie_word_embeddings": True, "max_position_embeddings": 8192,
}  # fmt: skip


def main() -> None:
    args = arguments()
    prepare_process()
    seed_everything(0)
    module = decoder(args.vocabulary)
    policy = Policy(examine(module), Lora().attach(module, labels=False))
    rows = random_rows(args.tokens // args.length, args.length, args.vocabulary, args.learned)
    cut = Cut(len(rows), args.micro_tokens)
    updater = Updater(AdamW(learning_rate=1e-4), policy.trainable(), steps=args.updates)
    prepare_training(policy.module)
    schedule = EpochSteps(rows, Collator(Layout.TOKENS), cut, args.updates)
    records = list(fit(policy, {"main": NextToken()}, schedule, updater))
    seconds = statistics.median(record.metrics["seconds"] for record in records[1:])
    tokens = sum(map(len, rows))
    matrix = args.vocabulary * SHAPE["hidden_size"] * module.dtype.itemsize / 2**20  # type: ignore[operator]
    report = {
        "length": args.length, "vocabulary": args.vocabulary, "tokens": tokens, "seconds": round(seconds, 3),
        "tokens_per_second": round(tokens / seconds, 1), "peak_rss_mb": peak_memory_mb(),
        "beside_vocabulary_mb": round(peak_memory_mb() - matrix),
    }  # fmt: skip
    print(json.dumps(report), flush=True)


def decoder(vocabulary: int) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(vocab_size=vocabulary, **SHAPE)
    previous = torch.get_default_dtype()
    torch.set_default_dtype(precision("auto"))  # so that no float32 copy is the peak
    try:
        return LlamaForCausalLM(config)
    finally:
        torch.set_default_dtype(previous)


def random_rows(count: int, length: int, vocabulary: int, learned: float) -> list[Row]:
    """The last `learned` of each row is learned."""
    rng = np.random.default_rng(0)
    learn = (np.arange(length) >= (1 - learned) * length).astype(np.float32)
    return [
        Row(Example(Place("random", number)), rng.integers(5, vocabulary, length).astype(np.int32), learn)
        for number in range(count)
    ]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--vocabulary", type=int, default=49152)
    parser.add_argument("--tokens", type=int, default=4096, help="of an update")
    parser.add_argument("--micro-tokens", type=int, default=AdamW().micro_tokens)
    parser.add_argument("--learned", type=float, default=0.25, help="share of a row's tokens")
    parser.add_argument("--updates", type=int, default=4)
    return parser.parse_args()


if __name__ == "__main__":
    main()
