"""smollm2 tuned on instructions: does it find stereotypes of women and men less likely than before (CrowS-Pairs, Nangia
et al. 2020, arXiv:2010.00133), and what does that cost? Beside the instructions lie sentences with pronouns
(WinoBias, Zhao et al. 2018, arXiv:1804.06876, the halves for development), as few instructions speak of anybody."""

from __future__ import annotations

import csv
import json
import random
import re
import tempfile
from pathlib import Path
from typing import Any

import tuneful
from benchmarks.effects.paired import Found, arms, compared
from tuneful.data.identity import mentioned

ROWS, ASKED, SENTENCES, STRENGTH = 262, 100, 262, 5.0
EVALUATE: dict[str, Any] = {"forgetting": False, "memorisation": 0, "shots": 0, "generate": 50, "new_tokens": 64}
PAIRED: dict[str, Any] = {
    "augment": [{"kind": "counterfactual", "axes": ["gender"]}],
    "regularisers": [{"kind": "counterfactual_pairing", "axes": ["gender"], "strength": STRENGTH}],
}
ARMS: dict[str, tuple[int, dict[str, Any]]] = {"plain": (0, {}), "fairer": (SENTENCES, PAIRED)}
METRICS = ("before", "after", "perplexity", "rouge_l", "seconds")


def writer(data: Path, seeds: int) -> None:
    found = arms(seeds, lambda name, seed: fit(data, name, seed), list(ARMS))
    for metric in METRICS:
        compared(found, metric, "plain")


def fit(data: Path, name: str, seed: int) -> Found:
    count, way = ARMS[name]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "rows"
        folder.mkdir()
        for part, rows in _rows(data, seed, count).items():
            (folder / f"{part}.json").write_text(json.dumps(rows), encoding="utf-8")
        probe = {"kind": "crows_pairs", "source": str(_of_gender(data, Path(scratch))), "rows": 262}
        recipe = {"model": "smollm2-135m", "data": {"source": str(folder), "validation": 0, "drop": True}, "seed": seed,
                  "schedule": {"epochs": 2}, "evaluate": {**EVALUATE, "bias": [probe]}, **way}  # fmt: skip
        report = tuneful.fit(recipe, out=Path(scratch) / "run").report
    asked, quality = report["bias"]["crows_pairs"], report["quality"]
    return {"before": asked["before"], "after": asked["after"], "perplexity": quality["perplexity"]["tuned"],
            "rouge_l": quality["rouge_l"]["tuned"], "seconds": report["cost"]["seconds"],
            "own_text": asked["language_ability"]["after"]}  # fmt: skip


def _rows(data: Path, seed: int, sentences: int) -> dict[str, list[dict[str, str]]]:
    """Those that mention a gender first, as there are few."""
    rows = json.loads((data / "rasbt_instruct" / "instruction-data.json").read_text(encoding="utf-8"))
    random.Random(seed).shuffle(rows)
    own = sorted(rows[:-ASKED], key=lambda row: not _of_somebody(row))[:ROWS]
    train = [*own, *random.Random(seed).sample(_sentences(data), sentences)]
    random.Random(seed).shuffle(train)
    return {"train": train, "test": rows[-ASKED:]}


def _of_somebody(row: dict[str, str]) -> bool:
    return any(group.axis == "gender" for group in mentioned(" ".join(row.values())))


def _sentences(data: Path) -> list[dict[str, str]]:
    lines = [line for path in sorted((data / "winobias").glob("*_type1.txt.dev"))
             for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]  # fmt: skip
    texts = [re.sub(r"^\d+\s+|[\[\]]", "", line) for line in lines]
    return [{"instruction": "Write a sentence.", "input": "", "output": text} for text in texts]


def _of_gender(data: Path, folder: Path) -> Path:
    with (data / "crows_pairs" / "crows_pairs_anonymized.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["bias_type"] == "gender"]
    path = folder / "pairs.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        made = csv.DictWriter(file, fieldnames=list(rows[0]))
        made.writeheader()
        made.writerows(rows)
    return path
