"""Forward passes over many rows, for every evaluation there is."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np
import torch

from tuneful.core.device import place
from tuneful.core.policy import Outputs, Policy
from tuneful.core.protocols import Objective
from tuneful.core.ranks import gathered, totals
from tuneful.core.types import Batch, Row
from tuneful.models.last import last_of, listening

Collate = Callable[[Sequence[Row]], Batch]
TOGETHER = 2048  # tokens read at once
Item = TypeVar("Item")


def some(items: Sequence[Item], count: int) -> list[Item]:
    """At most so many, a seeded sample in their order: a file may be sorted by difficulty."""
    if len(items) <= count:
        return list(items)
    chosen = np.random.default_rng(0).choice(len(items), count, replace=False)
    return [items[place] for place in sorted(chosen)]


def batches(rows: Sequence[Row], collate: Collate, tokens: int = TOGETHER) -> Iterator[tuple[list[int], Batch]]:
    """Every row once, neighbours in token order together; with the number of each row of a batch."""
    part: list[int] = []
    held = 0
    for index in sorted(range(len(rows)), key=lambda index: rows[index].ids.tolist()):
        if part and held + len(rows[index]) > tokens:
            yield part, collate([rows[number] for number in part])
            part, held = [], 0
        part.append(index)
        held += len(rows[index])
    if part:
        yield part, collate([rows[number] for number in part])


def outputs(
    policy: Policy, rows: Sequence[Row], collate: Collate, *, original: bool = False
) -> Iterator[tuple[list[int], Batch, Outputs]]:
    """Reads every row, dropout off; call inside no_grad to use the outputs."""
    policy.module.eval()
    for part, batch in batches(rows, collate):
        batch = place(batch, policy.device)
        yield part, batch, policy.read(batch.inputs, original=original)


def token_losses(policy: Policy, rows: Sequence[Row], collate: Collate, *, original: bool = False) -> np.ndarray:
    """(R, 2): the summed loss of each row's learned tokens, and how many they are."""
    found = np.zeros((len(rows), 2))
    with torch.no_grad():
        for part, batch, read in outputs(policy, rows, collate, original=original):
            losses = -read.token_logprobs(batch.targets["tokens"], batch.targets["where"])
            sums = torch.zeros(len(part), dtype=torch.float64)
            counts = torch.zeros(len(part), dtype=torch.float64)
            owners = batch.targets["rows"].cpu()
            sums.index_add_(0, owners, losses.double().cpu())
            counts.index_add_(0, owners, torch.ones(len(owners), dtype=torch.float64))
            found[part] = torch.stack([sums, counts], 1).numpy()
    return found


def class_logits(policy: Policy, rows: Sequence[Row], collate: Collate) -> np.ndarray:
    """(R, C)"""
    return _gather(policy, rows, collate, lambda read: read.class_logits())


def embeddings(policy: Policy, rows: Sequence[Row], collate: Collate, *, original: bool = False) -> np.ndarray:
    """(R, D), unit length."""
    return _gather(policy, rows, collate, lambda read: read.embeddings(), original=original)


def read_last(policy: Policy, rows: Sequence[Row], collate: Collate) -> tuple[torch.nn.Linear, torch.Tensor]:
    """The last layer of a classifier, and the vectors (R, D) float32 that it reads of rows. Raises ModelError."""
    found: dict[int, torch.Tensor] = {}
    with torch.no_grad(), listening(policy.module) as heard:
        for part, _, read in outputs(policy, rows, collate):
            layer, vectors = last_of(heard, read.class_logits())
            found.update(zip(part, vectors.float().cpu(), strict=True))
            heard.clear()
    return layer, torch.stack([found[place] for place in range(len(rows))])


def mean_loss(
    policy: Policy, objective: Objective, rows: Sequence[Row], collate: Collate, *, rank: int = 0, ranks: int = 1
) -> dict[str, float]:
    """The objective's loss a unit over all rows, as training sees it but without dropout; its metrics too. `ranks` that
    ask together read a part each, and all get the same answer."""
    found = _summed(policy, objective, _dealt(rows, collate, rank, ranks))
    return _means(totals(found) if ranks > 1 else found)


def mean_loss_of(policy: Policy, objective: Objective, given: Iterable[Batch]) -> dict[str, float]:
    """The same over batches that are made already, where what is read together matters."""
    return _means(_summed(policy, objective, given))


def _summed(policy: Policy, objective: Objective, given: Iterable[Batch]) -> dict[str, float]:
    policy.module.eval()
    found: dict[str, float] = defaultdict(float)
    with torch.no_grad():
        for batch in given:
            batch = place(batch, policy.device)
            terms = objective(policy, batch)
            policy.forget()
            found["loss"] += float((terms.losses * batch.weights).sum())
            found["units"] += batch.units
            for name, value in terms.metrics.items():
                found[name] += value * batch.units
    return found


def _means(found: dict[str, float]) -> dict[str, float]:
    units = found.pop("units")
    return {name: value / units for name, value in found.items()}


def _dealt(rows: Sequence[Row], collate: Collate, rank: int, ranks: int) -> Iterator[Batch]:
    """A rank's part of the rows, neighbours in token order, about as many tokens as the others have; as many batches as
    the others, which sharded weights ask for."""
    if ranks == 1:
        yield from (batch for _, batch in batches(rows, collate))
        return
    ordered = sorted(rows, key=lambda row: row.ids.tolist())
    behind = np.cumsum([len(row) for row in ordered])
    own = [row for row, end in zip(ordered, behind, strict=True) if (end - 1) * ranks // behind[-1] == rank]
    found = [batch for _, batch in batches(own, collate)]
    spare = max(gathered(len(found))) - len(found)
    yield from found + [collate(rows[:1]).silent()] * spare


def _gather(
    policy: Policy,
    rows: Sequence[Row],
    collate: Collate,
    what: Callable[[Outputs], torch.Tensor],
    *,
    original: bool = False,
) -> np.ndarray:
    found: dict[int, np.ndarray] = {}
    with torch.no_grad():
        for part, _, read in outputs(policy, rows, collate, original=original):
            found.update(zip(part, what(read).cpu().numpy(), strict=True))
    return np.stack([found[index] for index in range(len(rows))])
