"""Supervised fine-tuning beside transformers.Trainer with PEFT and TRL: the same rows, the same number of updates."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from benchmarks.results import Line, at_least, at_most
from benchmarks.sitting import Sitting
from tuneful.models.load import locate

# A peer may live in an environment of its own.
PEER_PYTHON = os.environ.get("TUNEFUL_PEER_PYTHON", sys.executable)
FLATTENED = ["--dtype", "bf16-pure", "--batch-size", "8", "--flatten"]
GROUPED = ["--dtype", "bf16-pure", "--batch-size", "8", "--group-by-length"]
SEEDS = ("0", "1", "2")


def sft(data: Path, peers: Path, rounds: int) -> list[Line]:
    """First 96 rows of rasbt_instruct, LoRA of rank 16 on every linear layer, one epoch of 8 rows an update."""
    work = work_of(data / "rasbt_instruct" / "instruction-data.json")
    ours = [sys.executable, "-m", "benchmarks.sft", *work]
    sitting = Sitting()
    sitting.run(
        {
            "tuneful": ours,
            "tuneful unshared": [*ours, "--no-share"],
            "trainer flattened": peer(peers, "sft_hf.py", work, *FLATTENED),
            "trainer grouped": peer(peers, "sft_hf.py", work, *GROUPED),
            "trl": peer(peers, "sft_trl.py", work, "--dtype", "autocast", "--group-by-length"),
        },
        rounds,
    )
    lines = _shown(sitting)
    best = max(("trainer flattened", "trainer grouped"), key=lambda name: sitting.median(name, "tokens_per_second"))
    least = min(sitting.median(name, "peak_rss_mb") for name in ("trainer flattened", "trainer grouped", "trl"))
    for name, goals in {"tuneful": (3.4, 5.0), "tuneful unshared": (2.2, 3.4)}.items():
        speed = sitting.median(name, "tokens_per_second")
        lines += [
            at_least(f"{name} / best trainer, tokens/s", speed / sitting.median(best, "tokens_per_second"), goals[0]),
            at_least(f"{name} / TRL, tokens/s", speed / sitting.median("trl", "tokens_per_second"), goals[1]),
            at_most(f"{name} / smallest peer, memory", sitting.median(name, "peak_rss_mb") / least, 0.7),
        ]
    used = sitting.median("tuneful unshared", "utilisation")
    return [*lines, at_least("model-FLOP utilisation, unshared", 100 * used, 65, unit=" %")]


def heldout(data: Path, peers: Path, rounds: int) -> list[Line]:
    """Held-out loss after the same rows in the same order against the float32 peer, three seeds."""
    work = work_of(data / "rasbt_instruct" / "instruction-data.json")
    sitting = Sitting()
    for seed in SEEDS:
        sitting.run(
            {
                f"tuneful seed {seed}": [sys.executable, "-m", "benchmarks.sft", *work, "--seed", seed, "--peer-order"],
                f"trainer fp32 seed {seed}": peer(
                    peers, "sft_hf.py", work, "--dtype", "fp32", "--flatten", "--seed", seed
                ),
            },
            1,
        )
    lines = []
    means = {}
    for name in ("tuneful", "trainer fp32"):
        found = [sitting.median(f"{name} seed {seed}", "heldout_nll") for seed in SEEDS]
        means[name] = sum(found) / len(found)
        lines.append(
            Line(f"held-out loss, {name}, seeds {', '.join(SEEDS)}", " ".join(f"{loss:.4f}" for loss in found))
        )
    return [*lines, at_most("mean held-out loss, tuneful / fp32 peer", means["tuneful"] / means["trainer fp32"], 1.0)]


def mixed(data: Path, peers: Path, rounds: int) -> list[Line]:
    """Rows of very different length, 4 an update."""
    work = [*work_of(peers / "mixed_lengths.json"), "--examples", "1000", "--heldout", "0"]
    ours = [sys.executable, "-m", "benchmarks.sft", *work, "--rows-per-step", "4"]
    options = ["--dtype", "bf16-pure", "--batch-size", "4"]
    sitting = Sitting()
    sitting.run(
        {
            "tuneful": ours,
            "trainer flattened": peer(peers, "sft_hf.py", work, *options, "--flatten"),
            "trainer padded": peer(peers, "sft_hf.py", work, *options),
        },
        rounds,
    )
    speed = sitting.median("tuneful", "tokens_per_second") / sitting.median("trainer flattened", "tokens_per_second")
    memory = sitting.median("tuneful", "peak_rss_mb") / sitting.median("trainer flattened", "peak_rss_mb")
    return [
        *_shown(sitting),
        at_least("tuneful / flattened trainer, tokens/s", speed, 2.5),
        at_most("tuneful / flattened trainer, memory", memory, 0.5),
    ]


def work_of(rows: Path) -> list[str]:
    return ["--model", str(locate("smollm2-135m", lambda _: None)), "--data", str(rows)]


def peer(peers: Path, script: str, work: list[str], *options: str) -> list[str]:
    return [PEER_PYTHON, str(peers / script), *work, *options]


def _shown(sitting: Sitting) -> list[Line]:
    return [
        Line(name, f"{sitting.spread(name, 'tokens_per_second')} tokens/s, {sitting.spread(name, 'peak_rss_mb')} MB")
        for name in sitting.runs
    ]
