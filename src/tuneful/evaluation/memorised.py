"""Does a model write its training text out again? It is shown how a row begins and goes on by itself.

Carlini et al. 2023, arXiv:2202.07646, section 3: a text is extractable if the likeliest continuation of what stands
before it is that text, 50 tokens of it. Differs from the paper: a request with an answer is begun by the whole request,
and beside copies to the letter stand near ones. What the model before tuning goes on with, and what the tuned one makes
of rows it has not learned, say how much of that is only what anybody would write."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tuneful.core.policy import Policy
from tuneful.core.protocols import Processor
from tuneful.core.types import Row, Said
from tuneful.evaluation.compare import Difference, apart, difference
from tuneful.evaluation.metrics import METRICS
from tuneful.models.sampling import Generator

TOKENS = 50  # shown of a text without a request, and compared at most
LEAST = 8  # tokens; to write fewer as they were is to be right, not to remember
NEAR = 0.5  # share of the text that the longest run of it covers in a near copy
ENOUGH = 8  # held-out rows, to be compared with
Begun = tuple[np.ndarray, np.ndarray, str]  # what is shown of a row, what stood behind it, and its task


def begun(row: Row, stop_ids: frozenset[int]) -> tuple[np.ndarray, np.ndarray] | None:
    """What is shown of a row, and what stood behind it; None where that is too short to be remembered."""
    first = row.prompt or min(TOKENS, len(row) // 2)
    learned = np.flatnonzero(row.learn[first:] == 0)
    end = first + int(learned[0]) if len(learned) else len(row)
    wanted = row.ids[first:end][:TOKENS]
    stops = np.flatnonzero(np.isin(wanted, list(stop_ids)))
    wanted = wanted[: int(stops[0])] if len(stops) else wanted
    return (row.ids[:first], wanted) if first and len(wanted) >= LEAST else None


def longest_run(one: Sequence[int], other: Sequence[int]) -> int:
    """Tokens of the longest stretch that stands in both."""
    best, before = 0, [0] * (len(other) + 1)
    for token in one:
        row = [0] * (len(other) + 1)
        for place, candidate in enumerate(other, 1):
            if token == candidate:
                row[place] = before[place - 1] + 1
                best = max(best, row[place])
        before = row
    return best


def copied(wanted: Sequence[int], written: Sequence[int]) -> tuple[bool, bool]:
    """To the letter, and nearly: the longest run of the text covers half of it."""
    exact = list(written[: len(wanted)]) == list(wanted)
    return exact, longest_run(wanted, written) >= NEAR * len(wanted)


def examine_memorised(
    policy: Policy, processor: Processor, train: Sequence[Row], held: Sequence[Row], count: int, *, seed: int = 0
) -> dict[str, Any]:
    """Shares of exact and of near copies among `count` training rows, by the tuned model and by the model before
    tuning, and among as many rows that were held out."""
    known, unseen = (_some(rows, count, seed, processor) for rows in (train, held))
    if not known:
        return {"rows": 0, "advice": _told(Said("memorised_short", {"tokens": LEAST}))}
    learned = _copies(policy, processor, known)
    before = _copies(policy, processor, known, original=True)
    others = _copies(policy, processor, unseen) if unseen else None
    found = {
        "tuned": _shares(learned),
        "base": _shares(before),
        "held_out": None if others is None else _shares(others),
    }
    more = _excess(learned, before, others)
    against = "base" if others is None or len(others) < ENOUGH else "held_out"
    return {
        "rows": len(known),
        "held_out_rows": len(unseen),
        "tokens": TOKENS,
        **found,
        "against": against,
        "excess": more.as_json(),
        "advice": _told(_advice(found, against, more)),
    }


def _excess(learned: np.ndarray, before: np.ndarray, others: np.ndarray | None) -> Difference:
    """How much oftener a training row is nearly copied than a held-out one; where there are hardly any of these, than
    the model before tuning copies it."""
    metric = METRICS["accuracy"]
    near = [np.stack([rows[:, 1], np.ones(len(rows))], 1) for rows in (learned, before)]
    if others is None or len(others) < ENOUGH:
        return difference(metric, near[0], near[1])
    return apart(near[0], np.stack([others[:, 1], np.ones(len(others))], 1), metric.value)


def _some(rows: Sequence[Row], count: int, seed: int, processor: Processor) -> list[Begun]:
    """A seeded sample of those that are long enough."""
    long = [(*found, row.example.task) for row in rows if (found := begun(row, processor.stop_ids)) is not None]
    if len(long) <= count:
        return long
    return [long[place] for place in sorted(np.random.default_rng(seed).choice(len(long), count, replace=False))]


def _copies(policy: Policy, processor: Processor, texts: Sequence[Begun], *, original: bool = False) -> np.ndarray:
    """(R, 2) exact, near."""
    limit = max(len(wanted) for _, wanted, _ in texts)
    written = Generator(processor).sample(
        policy, [shown for shown, _, _ in texts], limit=limit, original=original, owners=[task for _, _, task in texts]
    )
    return np.array([
        copied(wanted.tolist(), found.ids[: len(wanted)])
        for (_, wanted, _), found in zip(texts, written, strict=True)
    ], dtype=np.float64)  # fmt: skip


def _shares(copies: np.ndarray) -> dict[str, float]:
    exact, near = copies.mean(0)
    return {"exact": round(float(exact), 5), "near": round(float(near), 5)}


def _advice(found: dict[str, Any], against: str, more: Difference) -> Said:
    facts = {"exact": round(100 * found["tuned"]["exact"]), "near": round(100 * found["tuned"]["near"]),
             "other": round(100 * found[against]["near"])}  # fmt: skip
    if more.low <= 0:
        return Said("memorised_little", facts)
    return Said("memorised", facts) if against == "held_out" else Said("memorised_against_base", facts)


def _told(sentence: Said) -> dict[str, Any]:
    return {"key": sentence.key, **sentence.facts}
