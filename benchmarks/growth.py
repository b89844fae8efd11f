"""How time and memory grow with the length of rows, their number and the vocabulary, and whether the engine's ways
change what is learned; drawn in growth.svg and curves.svg."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.results import HERE, Line, at_most
from benchmarks.sitting import Sitting
from benchmarks.speed import work_of

LENGTHS, VOCABULARIES, UPDATES = (256, 512, 1024, 2048, 4096), (8192, 32768, 131072, 262144), (4, 8, 16)
CLOSE = {"fp32": 1e-5, "bf16": 1e-3}  # of the loss, relative


def growth(data: Path, peers: Path, rounds: int) -> list[Line]:
    """LoRA on ten layers of a 135M model's shape, 4,096 tokens an update."""
    point = [sys.executable, "-m", "benchmarks.grow"]
    sitting = Sitting()
    lengths = {f"length {n}": [*point, "--length", str(n)] for n in LENGTHS}
    words = {f"vocabulary {n}": [*point, "--vocabulary", str(n)] for n in VOCABULARIES}
    tokens = {f"tokens {n * 1024}": [*point, "--tokens", str(n * 1024)] for n in UPDATES}
    sitting.run({**lengths, **words, **tokens}, rounds)
    _draw_growth(sitting, [tuple(lengths), tuple(words), tuple(tokens)])
    memory = {name: sitting.median(name, "beside_vocabulary_mb") for name in words}
    first, *_, last = tokens
    time = sitting.median(last, "seconds") / sitting.median(first, "seconds") / (UPDATES[-1] / UPDATES[0])
    return [
        *[Line(name, f"{sitting.spread(name, 'tokens_per_second')} tokens/s, "
                     f"{sitting.spread(name, 'peak_rss_mb')} MB") for name in sitting.runs],
        at_most("vocabulary 262,144 / 8,192: memory beside the matrix itself",
                memory[f"vocabulary {VOCABULARIES[-1]}"] / memory[f"vocabulary {VOCABULARIES[0]}"], 1.1),
        at_most("four times the tokens: time over four times the time", time, 1.1),
        at_most("four times the tokens: memory",
                sitting.median(last, "peak_rss_mb") / sitting.median(first, "peak_rss_mb"), 1.1),
    ]  # fmt: skip


def curves(data: Path, peers: Path, rounds: int) -> list[Line]:
    """The losses of 24 updates with everything on (packed, shared, joined, fused), and with transformers' own layers
    on padded rows; same seed."""
    work = work_of(data / "rasbt_instruct" / "instruction-data.json")
    ours = [sys.executable, "-m", "benchmarks.sft", *work, "--heldout", "0", "--epochs", "2", "--losses"]
    sitting = Sitting()
    ways = {
        f"{precision} {way}": [*ours, "--precision", precision, *flags]
        for precision in CLOSE for way, flags in (("on", []), ("off", ["--plain"]))
    }  # fmt: skip
    sitting.run(ways, 1)
    losses = {name: runs[0]["losses"] for name, runs in sitting.runs.items()}
    _draw_curves(losses)
    rounding = [
        Line(f"bf16 {way}: largest and mean difference from fp32, relative",
             " and ".join(f"{figure:.2g}" for figure in _apart(losses[f"bf16 {way}"], losses["fp32 off"])))
        for way in ("on", "off")
    ]  # fmt: skip
    return [
        *(at_most(f"{precision}: largest difference of a loss, on from off, relative",
                  _apart(losses[f"{precision} on"], losses[f"{precision} off"])[0], close)
          for precision, close in CLOSE.items()),
        *rounding,
    ]  # fmt: skip


def _apart(one: Sequence[float], other: Sequence[float]) -> tuple[float, float]:
    """Largest and mean."""
    found = [abs(here - there) / there for here, there in zip(one, other, strict=True)]
    return max(found), statistics.fmean(found)


def _draw_growth(sitting: Sitting, series: Sequence[Sequence[str]]) -> None:
    figure, axes = _figure(3)
    for axis, names in zip(axes, series, strict=True):
        sizes = [int(name.split()[1]) for name in names]
        axis.plot(sizes, [sitting.median(name, "tokens_per_second") for name in names], "o-", color="tab:blue")
        axis.set(xscale="log", xlabel=names[0].split()[0], ylabel="tokens a second", ylim=(0, None))
        beside = axis.twinx()
        beside.plot(sizes, [sitting.median(name, "peak_rss_mb") for name in names], "s--", color="tab:orange")
        beside.set(ylabel="peak memory, MB", ylim=(0, None))
    figure.savefig(HERE / "growth.svg", metadata={"Date": None})


def _draw_curves(losses: dict[str, list[float]]) -> None:
    figure, axes = _figure(len(CLOSE))
    for axis, precision in zip(axes, CLOSE, strict=True):
        axis.plot(losses[f"{precision} off"], "-", linewidth=4, alpha=0.4, label="transformers' own layers, padded")
        axis.plot(losses[f"{precision} on"], "-", linewidth=1, color="black", label="packed, shared, joined")
        axis.set(title=precision, xlabel="update", ylabel="loss")
        axis.legend()
    figure.savefig(HERE / "curves.svg", metadata={"Date": None})


def _figure(parts: int) -> tuple[Any, Any]:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot.subplots(1, parts, figsize=(4.5 * parts, 3.2), layout="constrained")
