"""Made-up preferences for tests: answers of some letters are chosen, of others rejected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tuneful.core.types import Batch

GOOD, BAD = "abcd", "wxyz"


def pairs(count: int = 80) -> list[dict[str, str]]:
    rng = np.random.default_rng(0)
    return [
        {"prompt": f"say {rng.integers(1000, 9999)} {number}", "chosen": _of(GOOD, rng), "rejected": _of(BAD, rng)}
        for number in range(count)
    ]


def verdicts(count: int = 80) -> list[dict[str, Any]]:
    """The same with one answer each; two of three are wanted."""
    return [
        {"prompt": row["prompt"], "completion": row["chosen" if place % 3 else "rejected"], "label": bool(place % 3)}
        for place, row in enumerate(pairs(count))
    ]


def _of(letters: str, rng: np.random.Generator) -> str:
    return " ".join(rng.choice(list(letters), rng.integers(3, 7)))


class Says:
    """A model that finds the tokens of answers as likely as it is told, now and before tuning."""

    def __init__(self, now: Sequence[Sequence[float]], before: Sequence[Sequence[float]]) -> None:
        self.now = torch.tensor([value for text in now for value in text], requires_grad=True)
        self.before = torch.tensor([value for text in before for value in text])
        self.known: dict[int, float] = {}
        self.asked = 0

    def __call__(self, batch: Batch) -> Any:
        return SimpleNamespace(token_logprobs=lambda tokens, where: self.now[where])

    def reference(self, batch: Batch) -> Any:
        self.asked += 1
        return SimpleNamespace(token_logprobs=lambda tokens, where: self.before[where])


def batch_of(texts: Sequence[Sequence[float]], rows: int, more: Mapping[str, Tensor] | None = None) -> Batch:
    """So many answers as there are texts, each as long as its text."""
    lengths = torch.tensor(list(map(len, texts)))
    tokens = torch.arange(int(lengths.sum()))
    targets = {
        "where": tokens, "tokens": tokens, "texts": torch.arange(len(texts)).repeat_interleave(lengths),
        "names": torch.arange(len(texts)), **(more or {}),
    }  # fmt: skip
    return Batch({}, targets, torch.ones(rows), float(rows), len(tokens))
