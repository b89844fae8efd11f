"""Tweets that are rude or not, and what was learned of them asked about made-up sentences on fifty groups of people
(Dixon et al. 2018, doi 10.1145/3278721.3278729): who is taken for rude because of the group alone?"""

from __future__ import annotations

import csv
import random
import re
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import tuneful
from benchmarks.effects.paired import Found, arms, compared, half_of
from benchmarks.effects.tweets import tweets

ROWS, OF_EACH, LEAST = 2500, 40, 30  # tweets; sentences of a term, class and template; of a class that an area needs
HALF = 0  # of the sentences; ways were tried out on the other
COMMON: dict[str, Any] = {
    "model": "minilm-l6", "adapter": {"kind": "top_layers", "layers": 2}, "choose": "none", "regularisers": "none",
    "optimiser": {"rows_per_step": 64}, "schedule": {"epochs": 2},
    "evaluate": {"forgetting": False, "robustness": False, "learning_curve": False, "by_group": False},
}  # fmt: skip
SWAPPED = {"augment": ["counterfactual"]}
PAIRED = {**SWAPPED, "regularisers": ["counterfactual_pairing"]}
ACROSS = {"augment": [{"kind": "counterfactual", "across": True}],
          "regularisers": [{"kind": "counterfactual_pairing", "across": True}]}  # fmt: skip
EVEN = {"balance": "group_sampling", "mentions": "all"}
ARMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "group_sampling": {"data": EVEN},
    "pairing": PAIRED,
    "across": ACROSS,
    "all": {"data": EVEN, **PAIRED},
}


@dataclass(frozen=True, slots=True)
class Sentence:
    term: str
    text: str
    rude: bool


def toxicity(data: Path, seeds: int) -> None:
    """Sentences are cut in two by all but the group they name; what was tried out was asked about the other half."""
    rows, asked = read(data), sentences(data)

    def run(name: str, seed: int) -> Found:
        with tempfile.TemporaryDirectory() as scratch:
            return fit(rows, asked, Path(scratch), ARMS[name], seed)

    found = arms(seeds, run, list(ARMS))
    for metric in ("worst_bpsn", "subgroup_gap", "auc", "seconds"):
        compared(found, metric, "plain")


def fit(
    rows: Sequence[tuple[str, str]], asked: Sequence[Sentence], folder: Path, way: dict[str, Any], seed: int
) -> Found:
    path = folder / "tweets.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *random.Random(seed).sample(rows, ROWS)])
    recipe = {**COMMON, **way, "seed": seed}
    recipe["data"] = {"source": str(path), "validation": 0, "test": 300, **way.get("data", {})}
    done = tuneful.fit(recipe, out=folder / "run")
    model = done.load()
    scores = model.scores([sentence.text for sentence in asked])
    rude = list(model.labels.names).index("rude")  # type: ignore[union-attr]
    return {**areas(scores[:, rude] - scores[:, 1 - rude], asked), "seconds": done.report["cost"]["seconds"]}


def areas(scores: np.ndarray, asked: Sequence[Sentence]) -> Found:
    """Areas under the curve: of all sentences; of each term's own; of each term's harmless ones beside the rude ones of
    all others (BPSN)."""
    terms, rude = np.array([one.term for one in asked]), np.array([one.rude for one in asked])
    subgroup, bpsn = [], []
    for term in sorted(set(terms.tolist())):
        own = terms == term
        if min(rude[own].sum(), (~rude[own]).sum()) >= LEAST:
            both = np.where(own, ~rude, rude)
            subgroup.append(area(scores[own], rude[own]))
            bpsn.append(area(scores[both], rude[both]))
    return {"auc": area(scores, rude), "worst_bpsn": min(bpsn), "subgroup_gap": max(subgroup) - min(subgroup),
            "worst_subgroup": min(subgroup), "terms": len(bpsn)}  # fmt: skip


def area(scores: np.ndarray, truth: np.ndarray) -> float:
    from sklearn.metrics import roc_auc_score  # type: ignore[import-untyped]

    return float(roc_auc_score(truth, scores))


def read(data: Path) -> list[tuple[str, str]]:
    return [(text, "fine" if kind == "neither" else "rude") for text, kind in tweets(data)]


def sentences(data: Path, half: int = HALF) -> list[Sentence]:
    """Of one half: sentences of one template and class as many for each term, as far as there are."""
    with (data / "bias_madlibs" / "en_sentence_templates.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    terms = {row["phrase"].split(" ", 2)[2] for row in rows if row["template"] == "am_hate_adj"}
    longest_first = sorted(terms, key=lambda term: (-len(term), term))
    pattern = re.compile(rf"\b({'|'.join(map(re.escape, longest_first))})\b", re.IGNORECASE)
    cells: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for row in rows:
        found = pattern.search(row["phrase"])
        if found and half_of(pattern.sub("X", row["phrase"])) == half:
            cells[found[1].lower(), row["toxicity"], row["template"]].append(row["phrase"])
    return [
        Sentence(term, text, toxicity == "toxic")
        for (term, toxicity, template), texts in sorted(cells.items())
        for text in random.Random(f"{term}{template}").sample(sorted(texts), min(OF_EACH, len(texts)))
    ]
