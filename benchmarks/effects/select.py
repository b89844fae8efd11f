"""RDS+ beside random rows and all of them: a tenth of a mixture for one of its tasks, another task a seed. Queries are
neither learned nor tested, and what choosing took is counted. smollm2 makes as many updates in every arm."""

from __future__ import annotations

import json
import random
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import tuneful
from benchmarks.effects.paired import Found, arms, compared
from benchmarks.shots import Pairs, clinc, write

KEEP = "10%"
ARMS = ("random", "rds", "length", "all")
END = "<|endoftext|>"
SHORT = ("app_reviews", "common_gen", "commonsense_qa", "cosmos_qa", "glue_qqp", "kilt_tasks", "qasc", "quarel",
         "quartz", "rotten_tomatoes", "sciq", "social_i_qa", "wiki_qa")  # fmt: skip
TARGETS = ("commonsense_qa", "app_reviews", "glue_qqp", "quarel", "social_i_qa")
POOL, QUERIES, TESTED = 30, 15, 30  # rows of a task
INTENT_ROWS, INTENT_QUERIES = 20, 2  # rows of an intent


def select(data: Path, seeds: int) -> None:
    """smollm2-135m, LoRA, 16 updates of 4 rows: 13 tasks of P3 whose rows are short, 30 rows each; loss of 30 rows."""
    tasks = {name: p3(next((data / "p3_t0_subset").glob(f"{name}*.jsonl"))) for name in SHORT}
    settings = {"model": "smollm2-135m", "schedule": {"steps": 16}, "optimiser": {"rows_per_step": 4},
                "evaluate": {"forgetting": False, "shots": 0, "generate": 1, "primary": "perplexity"}}  # fmt: skip

    def run(arm: str, seed: int) -> Found:
        target = TARGETS[seed % len(TARGETS)]
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            for name, rows in tasks.items():
                (folder / name).mkdir()
                lines(folder / name / "train.jsonl", rows[:POOL])
            lines(folder / "queries.jsonl", tasks[target][POOL : POOL + QUERIES])
            lines(folder / target / "test.jsonl", tasks[target][POOL + QUERIES :][:TESTED])
            report = fit(folder, [str(folder / name) for name in tasks], arm, seed, settings)
        quality = report["quality"]["perplexity"]
        found = {"loss": log(quality["tuned"]), "base_loss": log(quality["base"])}
        return {**found, **kept(report, "train.jsonl" if target == SHORT[0] else target)}

    found = arms(seeds, run, ARMS)
    compared(found, "loss", "random")
    compared({name: found[name] for name in ("all", "rds")}, "loss", "all")


def select_encoder(data: Path, seeds: int) -> None:
    """MiniLM under a solved head: 150 intents of CLINC150, 20 rows each; wanted are the 15 of one area."""
    train, test, _ = clinc(data)
    areas = json.loads((data / "clinc150" / "domains.json").read_text(encoding="utf-8"))
    by_intent: dict[str, list[str]] = defaultdict(list)
    for text, intent in train:
        by_intent[intent].append(text)
    pool = [(text, intent) for intent in sorted(by_intent) for text in by_intent[intent][:INTENT_ROWS]]
    settings = {"model": "minilm-l6", "adapter": "head", "objective": {"kind": "classify", "pooling": "mean"},
                "choose": "none", "evaluate": {"forgetting": False}}  # fmt: skip

    @cache
    def by_area() -> dict[str, Found]:
        """All rows, learned once and asked about every area: nothing of it depends on what is wanted."""
        with tempfile.TemporaryDirectory() as scratch:
            report, answers = learned(Path(scratch), (pool, test, []), "all", 0, settings)
        right = {area: [answer["tuned"] == answer["expected"] for answer in answers if answer["expected"] in intents]
                 for area, intents in areas.items()}  # fmt: skip
        return {area: {"accuracy": sum(found) / len(found), **kept(report, "")} for area, found in right.items()}

    def run(arm: str, seed: int) -> Found:
        area = sorted(areas)[seed % len(areas)]
        if arm == "all":
            return by_area()[area]
        asked = [text for intent in areas[area]
                 for text in by_intent[intent][INTENT_ROWS : INTENT_ROWS + INTENT_QUERIES]]  # fmt: skip
        held = [pair for pair in test if pair[1] in areas[area]]
        with tempfile.TemporaryDirectory() as scratch:
            report, _ = learned(Path(scratch), (pool, held, asked), arm, seed, settings)
        counts = report["data"]["balance"]
        wanted = sum(counts.get(intent, 0) for intent in areas[area]) / sum(counts.values())
        accuracy = report["quality"]["accuracy"]["tuned"]
        return {"accuracy": accuracy, **kept(report, ""), "wanted": round(wanted, 3)}

    found = arms(seeds, run, ARMS)
    compared(found, "accuracy", "random")
    compared({name: found[name] for name in ("all", "rds")}, "accuracy", "all")


def learned(
    folder: Path, work: tuple[Pairs, Pairs, list[str]], arm: str, seed: int, settings: Mapping[str, Any]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The report, and the answer to each test row; `work` is what may be learned, what is tested, and queries."""
    pool, test, asked = work
    (folder / "data").mkdir()
    write(folder / "data" / "train.csv", pool)
    write(folder / "data" / "test.csv", test)
    lines(folder / "queries.jsonl", [{"text": text} for text in asked])
    report = fit(folder, str(folder / "data"), arm, seed, settings)
    told = (folder / "run" / "answers.jsonl").read_text(encoding="utf-8")
    return report, [json.loads(line) for line in told.splitlines()]


def fit(folder: Path, sources: str | Sequence[str], arm: str, seed: int, settings: Mapping[str, Any]) -> dict[str, Any]:
    """One run's report."""
    given: dict[str, Any] = {"source": sources, "validation": 0}
    if arm != "all":
        given["select"] = {"kind": arm, "keep": KEEP, "target": str(folder / "queries.jsonl")}
    run = tuneful.fit({"data": given, "seed": seed, **settings}, out=folder / "run")
    return run.report


def kept(report: Mapping[str, Any], source: str) -> Found:
    """What was learned, and what that took."""
    chosen = report["data"].get("selection")
    cost = {"seconds": report["cost"]["seconds"], "selecting": report["cost"].get("selecting_seconds", 0.0)}
    if chosen is None:
        return {**cost, "wanted": 0.0, "rows": report["data"]["rows"]["train"]}
    of_target = sum(found["kept"] for name, found in chosen["sources"].items() if source in name) / chosen["kept"]
    return {**cost, "wanted": round(of_target, 3), "rows": chosen["kept"], "coverage": chosen["coverage"]["kept"],
            "coverage_random": chosen["coverage"]["random"]}  # fmt: skip


def p3(file: Path) -> list[dict[str, str]]:
    """Rows of a task in an order drawn by lot, each request once."""
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    found = {row["prompt"]: {**row, "completion": row["completion"].removesuffix(END).strip()} for row in rows}
    shuffled = [row for row in found.values() if row["completion"]]
    random.Random(0).shuffle(shuffled)
    return shuffled


def lines(file: Path, rows: Sequence[Mapping[str, str]]) -> None:
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def log(perplexity: float) -> float:
    from math import log as natural

    return round(natural(perplexity), 4)
