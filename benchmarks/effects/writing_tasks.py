"""Five tasks of text to write (P3), one after the other, smollm2 with LoRA: 100 training rows and 50 test rows each,
two epochs; another order a seed. What counts is the loss of answers in nats a token, so differences are comparable
between tasks, and the perplexity of general text (C4, of which nothing is learned), tuned over untuned.

`joint` learns all at once; `plain` one after the other with nothing kept; `replay` keeps 2 % of the rows; `own` keeps
none and learns what the untuned model writes; `both`."""

from __future__ import annotations

import json
import math
import random
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.effects.paired import Found, arms, compared
from tuneful.core.types import Example, Place, Row
from tuneful.evaluation.reading import token_losses
from tuneful.evaluation.transfer import summary
from tuneful.recipe import from_mapping
from tuneful.run.build import Built, build
from tuneful.run.folder import RunFolder
from tuneful.run.prepare import prepare
from tuneful.run.progress import Progress
from tuneful.run.train import train
from tuneful.run.turns import ENDED, scores

TASKS = {
    "sentence": "common_gen_topic_to_sentence",
    "science": "sciq_Direct_Question_Closed_Book_",
    "social": "social_i_qa_Generate_answer",
    "headline": "gigaword_reverse_writing",
    "process": "wiqa_what_might_be_the_last_step_of_the_process",
}
ROWS, EPOCHS, END = 100, 2.0, "<|endoftext|>"
GENERAL, TOKENS, OWN = 60, 128, 64  # texts of C4, of so many tokens; texts of the model's own
ARMS: dict[str, dict[str, Any]] = {
    "joint": {"schedule": {"kind": "mixture", "temperature": 1, "epochs": EPOCHS}},
    "plain": {"schedule": {"kind": "lifelong", "replay": 0, "epochs": EPOCHS}},
    "replay": {"schedule": {"kind": "lifelong", "epochs": EPOCHS}},
    "own": {"schedule": {"kind": "lifelong", "replay": 0, "own_text": OWN, "epochs": EPOCHS}},
    "both": {"schedule": {"kind": "lifelong", "own_text": OWN, "epochs": EPOCHS}},
}


def writing_tasks(data: Path, seeds: int) -> None:
    """Prints a line an arm and seed, then the means."""
    with tempfile.TemporaryDirectory() as scratch:
        written(data, Path(scratch))

        def run(name: str, seed: int) -> Found:
            order = list(TASKS)
            random.Random(seed).shuffle(order)
            return learned([(task, Path(scratch) / task) for task in order], ARMS[name], seed, data)

        found = arms(seeds, run, list(ARMS))
    for metric in ("loss", "backward_transfer", "learning", "general"):
        compared(found, metric, "joint" if metric == "loss" else "plain")


def written(data: Path, folder: Path) -> None:
    """A folder with train.jsonl and test.jsonl of each task; prompts that occur twice once."""
    for task, name in TASKS.items():
        lines = (data / "p3_t0_subset" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        found = {row["prompt"]: row["completion"].removesuffix(END).strip() for row in map(json.loads, lines)}
        rows = [json.dumps({"prompt": prompt, "completion": answer}) for prompt, answer in found.items() if answer]
        random.Random(0).shuffle(rows)
        (folder / task).mkdir()
        (folder / task / "test.jsonl").write_text("\n".join(rows[:50]), encoding="utf-8")
        (folder / task / "train.jsonl").write_text("\n".join(rows[50 : 50 + ROWS]), encoding="utf-8")


def learned(tasks: list[tuple[str, Path]], arm: Mapping[str, Any], seed: int, data: Path) -> Found:
    """Trains without the other measurements of a run."""
    recipe, _ = from_mapping(
        {"name": "writing", "model": "smollm2-135m", "seed": seed, "checkpoint": {"every": 10**6},
         "tasks": [{"name": name, "data": {"source": str(place), "validation": 0}} for name, place in tasks], **arm},
        [],
    )  # fmt: skip
    built = build(prepare(recipe))
    progress = Progress()
    with tempfile.TemporaryDirectory() as scratch:
        records = list(train(built, RunFolder(Path(scratch) / "run"), progress))
    rows = {record.task: nats(record.metrics) for record in records if record.kind == ENDED}
    told = {"seconds": round(progress.seconds, 1), "general": general(built, data)}
    if not rows:
        last = nats(scores(built, None))
        return {"loss": sum(last.values()) / len(last), "backward_transfer": 0.0, "learning": 0.0, **told}
    found = summary(rows, higher_is_better=False)
    return {"loss": found["average"], "backward_transfer": found["backward_transfer"], "learning": found["learning"],
            **told}  # fmt: skip


def nats(perplexities: Mapping[str, float]) -> dict[str, float]:
    return {task: math.log(value) for task, value in perplexities.items()}


def general(built: Built, data: Path) -> float:
    """Perplexity of texts of C4, tuned over untuned."""
    lines = (data / "llamafactory_demo" / "c4_demo.jsonl").read_text(encoding="utf-8").splitlines()[:GENERAL]
    rows = []
    for number, line in enumerate(lines):
        known = built.prepared.processor.passage(json.loads(line)["text"])
        rows.append(Row(Example(Place("c4", number)), known.ids[:TOKENS], known.learn[:TOKENS]))
    before, after = (token_losses(built.policy, rows, built.collate, original=o).sum(0) for o in (True, False))
    return math.exp(after[0] / after[1] - before[0] / before[1])
