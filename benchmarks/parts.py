"""The parts of the engine's speed, each beside what it is to be compared with."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

from benchmarks.results import Line, at_least, at_most
from benchmarks.sitting import Sitting
from benchmarks.speed import peer, work_of
from tuneful.models.load import locate


def prompt(data: Path, peers: Path, rounds: int) -> list[Line]:
    """96 rows that begin with the same 300 tokens and answer with 20: shared, and each read by itself."""
    ours = [*_ours(data), "--preamble", "300"]
    sitting = Sitting()
    sitting.run({"shared": ours, "unshared": [*ours, "--no-share"]}, rounds)
    speed = sitting.median("shared", "tokens_per_second") / sitting.median("unshared", "tokens_per_second")
    return [*_speeds(sitting, "tokens_per_second", "tokens/s"), at_least("shared / unshared, tokens/s", speed, 4.0)]


def layers(data: Path, peers: Path, rounds: int) -> list[Line]:
    """LoRA on the top 6 of 30 layers, hidden states below kept, against LoRA on all: tokens/s from epoch 2 on."""
    ours = [*_ours(data), "--epochs", "3"]
    sitting = Sitting()
    sitting.run({"all layers": ours, "top 6": [*ours, "--layers", "6"]}, rounds)
    what = "tokens_per_second_later"
    speed = sitting.median("top 6", what) / sitting.median("all layers", what)
    return [*_speeds(sitting, what, "tokens/s"), at_least("top 6 / all layers, tokens/s from epoch 2", speed, 4.0)]


def writing(data: Path, peers: Path, rounds: int) -> list[Line]:
    """16 prompts, 64 new tokens each, greedy, beside transformers' generate."""
    work = work_of(data / "rasbt_instruct" / "instruction-data.json")
    ours = [sys.executable, "-m", "benchmarks.write", *work]
    sitting = Sitting()
    commands = {
        "tuneful": ours,
        "tuneful, adapter": [*ours, "--adapter"],
        "generate": peer(peers, "generate_hf.py", work, "--dtype", "bf16"),
        "generate, adapter": peer(peers, "generate_hf.py", work, "--dtype", "bf16", "--adapter", "unmerged"),
    }
    sitting.run(commands, rounds)
    what = "new_tokens_per_second"
    return [
        *_speeds(sitting, what, "new tokens/s"),
        at_least("tuneful / generate", sitting.median("tuneful", what) / sitting.median("generate", what), 3.0),
        at_least(
            "the same with an adapter that is not merged",
            sitting.median("tuneful, adapter", what) / sitting.median("generate, adapter", what),
            3.0,
        ),
    ]


def rewards(data: Path, peers: Path, rounds: int) -> list[Line]:
    """GRPO on small sums, 4 prompts of 8 answers of up to 32 tokens an update, LoRA of rank 16, beside TRL."""
    model = ["--model", str(locate("smollm2-135m", lambda _: None))]
    sitting = Sitting()
    commands = {
        "tuneful": [sys.executable, "-m", "benchmarks.play"],
        "trl": peer(peers, "grpo_trl.py", model, "--dtype", "fp32"),
        "trl, bf16": peer(peers, "grpo_trl.py", model, "--dtype", "bf16"),
    }
    sitting.run(commands, rounds)
    best = min(("trl", "trl, bf16"), key=lambda name: sitting.median(name, "seconds_per_step"))
    speed = sitting.median(best, "seconds_per_step") / sitting.median("tuneful", "seconds_per_step")
    memory = sitting.median("tuneful", "peak_rss_mb") / sitting.median(best, "peak_rss_mb")
    return [
        *_speeds(sitting, "seconds_per_step", "s an update"),
        at_least("TRL at its best / tuneful, seconds an update", speed, 5.0),
        at_most("tuneful / the same, memory", memory, 0.35),
    ]


def quantised(data: Path, peers: Path, rounds: int) -> list[Line]:
    """The work of `sft` over frozen layers in bf16, int8 and nf4: what that costs, spares and loses."""
    work = work_of(data / "rasbt_instruct" / "instruction-data.json")
    ours = [sys.executable, "-m", "benchmarks.sft", *work, "--precision", "bf16", "--heldout", "128"]
    kinds = ["int8", *(["nf4"] if find_spec("bitsandbytes") else [])]
    sitting = Sitting()
    sitting.run({"bf16": ours} | {kind: [*ours, "--quantise", kind] for kind in kinds}, rounds)
    lines = [
        Line(
            name,
            f"{sitting.spread(name, 'tokens_per_second')} tokens/s, {sitting.spread(name, 'peak_rss_mb')} MB, "
            f"held-out loss {sitting.median(name, 'heldout_nll'):.4f}",
        )
        for name in sitting.runs
    ]
    for kind in kinds:
        memory = sitting.median(kind, "peak_rss_mb") / sitting.median("bf16", "peak_rss_mb")
        lines.append(at_most(f"{kind} / bf16, memory of the process", memory, 0.85))
        for what, where in (("heldout_nll", "as tuned"), ("heldout_nll_own", "adapter on the model's own weights")):
            loss = sitting.median(kind, what) / sitting.median("bf16", "heldout_nll")
            lines.append(at_most(f"{kind} / bf16, held-out loss, {where}", loss, 1.01))
    return lines


def classify(data: Path, peers: Path, rounds: int) -> list[Line]:
    """MiniLM, every weight, ten rows a class of Banking77, ten epochs, beside transformers.Trainer at its best."""
    work = ["--model", str(locate("minilm-l6", lambda _: None)), "--data", str(data / "banking77")]
    best = ("--dtype", "autocast", "--group-by-length", "--epochs", "10", "--lr", "5e-4")
    sitting = Sitting()
    commands = {
        "tuneful": [sys.executable, "-m", "benchmarks.classify", *work],
        "trainer": peer(peers, "classify_hf.py", work, *best),
    }
    sitting.run(commands, rounds)
    speed = sitting.median("trainer", "seconds") / sitting.median("tuneful", "seconds")
    behind = sitting.median("trainer", "accuracy") - sitting.median("tuneful", "accuracy")
    return [
        *[Line(name, f"{sitting.spread(name, 'seconds')} s, accuracy {sitting.spread(name, 'accuracy')}")
          for name in sitting.runs],
        at_least("tuneful / trainer, rows/s", speed, 2.5),
        at_most("trainer's accuracy - tuneful's (standard error 0.007)", behind, 0.01),
    ]  # fmt: skip


def _ours(data: Path) -> list[str]:
    work = work_of(data / "rasbt_instruct" / "instruction-data.json")
    return [sys.executable, "-m", "benchmarks.sft", *work, "--heldout", "0"]


def _speeds(sitting: Sitting, what: str, unit: str) -> list[Line]:
    return [Line(name, f"{sitting.spread(name, what)} {unit}") for name in sitting.runs]
