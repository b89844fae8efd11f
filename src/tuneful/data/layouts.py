"""Rows -> batches: packed, prefixes shared, with the targets each kind of objective reads."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tuneful.core.grouped import ADAPTERS
from tuneful.core.types import Batch, Layout, Row, Share
from tuneful.data.played import Played
from tuneful.data.tree import Forest, added, plant


@dataclass(frozen=True, slots=True)
class Collator:
    """How the rows of one task become a batch."""

    layout: Layout
    task: str | None = "main"  # None: that of the rows, which are all of one
    share: bool = False  # the model can read shared prefixes
    groups: tuple[str, ...] = ()  # names of sensitive groups, in the order of their ids
    each: tuple[str, ...] = ()  # tasks that have an adapter of their own, in the order of these

    def __call__(self, rows: Sequence[Row]) -> Batch:
        own, rows = len(rows), [*rows, *(row.twin for row in rows if row.twin is not None)]
        owners = self._owners(rows)
        forest = plant([text for row in rows for text in row.texts], share=self.share, owners=owners)
        inputs = {
            "input_ids": _tensor(np.concatenate(forest.ids))[None],
            "position_ids": _tensor(np.concatenate(forest.positions))[None],
            "segments": _tensor(np.asarray(forest.segments)),
            "rows": _tensor(np.asarray(forest.last)),
        }
        targets, weights = TARGETS[self.layout](rows, forest)
        stretches = _stretches(owners, forest, targets)
        if stretches:
            inputs[ADAPTERS] = torch.tensor([[one.adapter, one.token, one.row] for one in stretches])
        if len(rows) > own:
            targets["twin"] = _twins(rows[:own], len(rows))
            weights = weights * (targets.get("rows", torch.arange(len(rows))) < own)
        units = float(targets.pop("units", weights).sum())
        task = rows[0].example.task if self.task is None else self.task
        beside = tuple(Share(self.each[one.adapter], one.units, float(weights[one.units].sum())) for one in stretches)
        return Batch(inputs, targets, weights, units, forest.tokens, task, self._group_ids(rows), beside=beside)

    def added(self, row: Row, before: Row | None) -> int:
        """How many tokens the model reads more because of `row`, behind its neighbour in token order."""
        twin = 0 if row.twin is None else len(row.twin)
        if self.each and before is not None and before.example.task != row.example.task:
            before = None
        if not self.share:
            return twin + len(row)
        first, *others = row.texts
        more = added(first, None if before is None else before.texts[0])
        return twin + more + sum(added(text, first) for text in others)

    def _owners(self, rows: Sequence[Row]) -> list[int]:
        """Of each row the adapter that reads it; empty where rows do not say whose they are."""
        if not self.each or not any(row.example.task in self.each for row in rows):
            return []
        return [self.each.index(row.example.task) for row in rows]

    def _group_ids(self, rows: Sequence[Row]) -> Tensor | None:
        if not self.groups:
            return None
        known = {name: index for index, name in enumerate(self.groups)}
        return torch.tensor([known.get(row.example.group or "", -1) for row in rows])


class _Stretch(NamedTuple):
    """Rows of one owner behind one another: the first of them, its first token, and which units are theirs."""

    adapter: int
    token: int
    row: int
    units: slice


def _stretches(owners: Sequence[int], forest: Forest, targets: Mapping[str, Tensor]) -> list[_Stretch]:
    rows_U = targets["rows"].numpy() if "rows" in targets else np.arange(len(owners))  # a unit each, if nobody says
    found = []
    for owner, numbers in groupby(range(len(owners)), key=lambda number: owners[number]):
        own = list(numbers)
        first, last = np.searchsorted(rows_U, [own[0], own[-1] + 1]).tolist()
        token = min(int(forest.places[number][0]) for number in own)
        found.append(_Stretch(owner, token, own[0], slice(first, last)))
    return found


def _twins(rows: Sequence[Row], count: int) -> Tensor:
    """(R,) int64 where in the batch each row's twin stands, behind all `rows`; -1 where there is none, as of a twin."""
    found, place = torch.full((count,), -1), len(rows)
    for number, row in enumerate(rows):
        if row.twin is not None:
            found[number], place = place, place + 1
    return found


def _token_targets(rows: Sequence[Row], forest: Forest, before: int = 1) -> tuple[dict[str, Tensor], Tensor]:
    """One unit a learned token: `where` (M,) the packed place that predicts it, which lies so many places `before` it,
    `tokens` (M,), `rows` (M,)."""
    where, tokens, weights, owners = [], [], [], []
    for number, row in enumerate(rows):
        learned = np.flatnonzero(row.learn[before:]) + before
        where.append(forest.places[number][learned - before])
        tokens.append(row.ids[learned])
        weights.append(row.learn[learned])
        owners.append(np.full(len(learned), number))
    targets = {"where": where, "tokens": tokens, "rows": owners}
    return {name: _tensor(np.concatenate(parts)) for name, parts in targets.items()}, torch.from_numpy(
        np.concatenate(weights).astype(np.float32)
    )


def _masked_targets(rows: Sequence[Row], forest: Forest) -> tuple[dict[str, Tensor], Tensor]:
    """The same, each token told at its own place."""
    return _token_targets(rows, forest, before=0)


def _text_targets(rows: Sequence[Row], forest: Forest) -> tuple[dict[str, Tensor], Tensor]:
    """One unit a row; `where`, `tokens` and `rows` (M,) are those of its own tokens, special ones left out."""
    targets, _ = _masked_targets(rows, forest)
    return targets, torch.ones(len(rows))


def _label_targets(rows: Sequence[Row], forest: Forest) -> tuple[dict[str, Tensor], Tensor]:
    """One unit a row: `labels` (R,) int64 classes, (R, C) float32 memberships, or (R,) float32 numbers. A row without a
    label counts nothing, another as much as it says."""
    known = [row.target for row in rows if row.target is not None]
    nothing = np.zeros_like(known[0]) if known else 0
    labels = torch.from_numpy(np.asarray([nothing if row.target is None else row.target for row in rows]))
    if labels.is_floating_point():
        labels = labels.float()
    return {"labels": labels}, torch.tensor([0.0 if row.target is None else row.weight for row in rows])


def _class_targets(rows: Sequence[Row], forest: Forest) -> tuple[dict[str, Tensor], Tensor]:
    """One unit a row: `labels` (R,) int64. A row that is the only one of its class here counts nothing."""
    labels = torch.tensor([int(row.target) for row in rows])
    _, own, counts = labels.unique(return_inverse=True, return_counts=True)
    return {"labels": labels}, (counts[own] > 1).float()


def _pair_targets(rows: Sequence[Row], forest: Forest) -> tuple[dict[str, Tensor], Tensor]:
    """One unit a row; one that has no wrong document here counts nothing. Of all T texts `queries` (R,) and `documents`
    (D,) say which are which; `positives` (R,) is the place of each row's own document among these, and `right` (R, D)
    bool all that are right for its query: equal texts are one, and what is right for a query in one row is right for it
    in every other."""
    told = [[text.tobytes() for text in row.texts] for row in rows]
    sizes = np.array(list(map(len, told)))
    queries = np.cumsum(sizes) - sizes
    documents = np.setdiff1d(np.arange(sizes.sum()), queries)
    positives = queries - np.arange(len(rows))  # every row before this one has a query, which is no document
    wanted: dict[bytes, set[bytes]] = defaultdict(set)
    for query, positive, *_ in told:
        wanted[query].add(positive)
    said = [document for _, *found in told for document in found]
    right = np.array([[document in wanted[query] for document in said] for query, *_ in told])
    targets = {"queries": queries, "documents": documents, "positives": positives}
    found = {name: _tensor(value) for name, value in targets.items()}
    return {**found, "right": torch.from_numpy(right)}, torch.from_numpy((~right).any(1).astype(np.float32))


def _answer_targets(rows: Sequence[Row], forest: Forest) -> tuple[dict[str, Tensor], Tensor]:
    """One unit a row. Of the M tokens of all answers `where` (M,) is the packed place that predicts it, `tokens` (M,),
    and `texts` (M,) the number of its text among all T; `names` (T,) are the same for the same text with the same
    answer in every batch."""
    where, tokens, owners = [], [], []
    names: list[int] = []
    for text, learned in (told for row in rows for told in _answers(row)):
        places = forest.places[len(names)]
        where.append(places[learned - 1])
        tokens.append(text[learned])
        owners.append(np.full(len(learned), len(names)))
        told = text.astype(np.int64).tobytes() + learned.astype(np.int64).tobytes()
        names.append(int.from_bytes(hashlib.blake2b(told, digest_size=8).digest(), "little", signed=True))
    joined = {"where": where, "tokens": tokens, "texts": owners}
    targets = {name: _tensor(np.concatenate(parts)) for name, parts in joined.items()}
    return {**targets, "names": torch.tensor(names)}, torch.ones(len(rows))


def _answers(row: Row) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Each text with the places of its answer: what is learned of it, and where nothing is, what stands behind the
    row's prompt."""
    for part in row.parts:
        text, learned = row.ids[part], np.flatnonzero(row.learn[part][1:]) + 1
        yield text, learned if len(learned) else np.arange(row.prompt, len(text))


def _reward_targets(rows: Sequence[Row], forest: Forest) -> tuple[dict[str, Tensor], Tensor]:
    """One unit a row, told by a number for each of its texts, which follow one another."""
    return {}, torch.ones(len(rows))


def _judged_targets(rows: Sequence[Row], forest: Forest) -> tuple[dict[str, Tensor], Tensor]:
    """The same; `own` (R,) are the numbers of the rows' texts, `mates` (K,) of those whose answer belongs to another
    prompt, `wanted` (R,) bool."""
    targets, weights = _answer_targets(rows, forest)
    sizes = np.array([len(row.texts) for row in rows])
    own = np.cumsum(sizes) - sizes
    targets["own"], targets["mates"] = _tensor(own), _tensor(np.setdiff1d(np.arange(sizes.sum()), own))
    targets["wanted"] = torch.tensor([row.example.label is True for row in rows])
    return targets, weights


def _rollout_targets(rows: Sequence[Row], forest: Forest) -> tuple[dict[str, Tensor], Tensor]:
    """One unit a token that the model wrote: as of `_token_targets`, with `advantages` (M,) and `drawn` (M,) float32;
    `units` (R,) is what each row adds to the denominator."""
    played = [row for row in rows if isinstance(row, Played)]
    targets, weights = _token_targets(played, forest)
    for name in ("advantages", "drawn"):
        targets[name] = torch.from_numpy(np.concatenate([getattr(row, name) for row in played]).astype(np.float32))
    return {**targets, "units": torch.tensor([row.units for row in played], dtype=torch.float64)}, weights


TARGETS = {
    Layout.TOKENS: _token_targets,
    Layout.MASKED: _masked_targets,
    Layout.TEXTS: _text_targets,
    Layout.REBUILT: _text_targets,
    Layout.LABELS: _label_targets,
    Layout.CLASSES: _class_targets,
    Layout.PAIRS: _pair_targets,
    Layout.PREFERENCES: _answer_targets,
    Layout.JUDGED: _judged_targets,
    Layout.REWARDS: _reward_targets,
    Layout.ROLLOUTS: _rollout_targets,
}


def _tensor(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values.astype(np.int64))
