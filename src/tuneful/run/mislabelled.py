"""Which labels are likely wrong: of classes, of several labels a row, of numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tuneful.core.types import Example, Layout, Said
from tuneful.data.folds import folds
from tuneful.data.labels import LabelSet, as_number, name_of
from tuneful.data.patch import Line
from tuneful.models.confident import joint, thresholds
from tuneful.models.doubts import (
    Beliefs,
    Doubts,
    beliefs,
    beliefs_of,
    doubts,
    flipped,
    memberships,
    neighbours,
    unseen,
    votes,
)
from tuneful.models.landscape import robust
from tuneful.run.looked import Looked
from tuneful.run.oddities import FAR, tail

FOLDS = 5
LEAST = 10  # rows; of fewer, nothing is said
KNOWN = 2  # rows of a class outside a row's own fold from which something can be said of its label
ACCEPTED = 0.9  # how sure a suggestion is that is accepted unless the person says otherwise (docs/concepts/coach.md)
ENOUGH = 20  # rows of the median class from which suggestions are accepted: with fewer they cost as much as they bring
TELLING = 10  # pairs of classes that are taken for one another most often


@dataclass(frozen=True, slots=True)
class Judged:
    """`belief` (N, C) shares each row out among the classes, where a row has one; `silent` says what nothing could be
    said of."""

    lines: list[Line] = field(default_factory=list)
    held_out: list[Line] = field(default_factory=list)
    belief: Tensor | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    silent: list[Said] = field(default_factory=list)


def judge(looked: Looked) -> Judged:
    labels = looked.labels
    if labels is None or looked.prepared.layout is not Layout.LABELS:
        return Judged(silent=[Said("coach_no_labels")])
    known = [place for place, row in enumerate(looked.rows) if row.label is not None]
    if len(known) < LEAST:
        return Judged(silent=[Said("coach_too_few", {"n": len(known)})])
    judges = {"class": _classes, "labels": _several, "number": _numbers}
    return judges[labels.kind](looked, labels)


def _classes(looked: Looked, labels: LabelSet) -> Judged:
    given = torch.tensor([labels.target(row) for row in looked.rows])
    units = looked.units
    dealt = folds(given.tolist(), FOLDS, looked.prepared.recipe.seed, units)
    found = beliefs(looked.vectors, given, dealt, units, classes=len(labels.names))
    judged = _judged(given, dealt, len(labels.names))
    limits = thresholds(found.shares[judged], given[judged]) if judged.any() else torch.ones(len(labels.names))
    doubted = doubts(found.shares, given, limits)
    doubted = replace(doubted, wrong=doubted.wrong & judged)
    enough = float(torch.bincount(given).float().median()) >= ENOUGH
    lines = list(_class_lines(looked, looked.rows, found, (given, doubted), given))
    if not enough:
        lines = [line.model_copy(update={"accept": False}) for line in lines]
    silent = [Said("coach_unjudged", {"n": int((~judged).sum())})] if not judged.all() else []
    counted = joint(found.shares[judged], given[judged])
    pairs = Counter((str(line.label), str(line.to)) for line in lines)
    facts = {
        "kind": "class", "judged": int(judged.sum()),
        "wrong_share": round(1 - float(counted.trace() / counted.sum().clamp(min=1)), 4),
        "confused": [{"is": own, "suggested": other, "rows": count}
                     for (own, other), count in pairs.most_common(TELLING)],
    }  # fmt: skip
    held, unknown = _held_out(looked, labels, given, limits)
    silent += [Said("coach_held_few", {"n": unknown})] if unknown else []
    silent += [] if enough else [Said("coach_few", {"n": ENOUGH})]
    return Judged(lines, held, found.shares, facts, silent)


def _judged(given_N: Tensor, folds_N: np.ndarray, classes: int) -> Tensor:
    """(N,) True where enough rows of the same label are outside a row's fold."""
    total, judged = torch.bincount(given_N, minlength=classes), torch.zeros(len(given_N), dtype=torch.bool)
    for fold in np.unique(folds_N):
        own = torch.from_numpy(folds_N == fold)
        others = total - torch.bincount(given_N[own], minlength=classes)
        judged[own] = others[given_N[own]] >= KNOWN
    return judged


def _class_lines(
    looked: Looked, rows: Sequence[Example], found: Beliefs, asked: tuple[Tensor, Doubts], near_N: Tensor
) -> Iterator[Line]:
    """`asked` are the rows' labels and what is thought of them, `near_N` labels of the rows that neighbours are of."""
    given, doubted = asked
    names = looked.labels.names if looked.labels else ()
    for place in doubted.wrong.nonzero()[:, 0].tolist():
        to, label, sure = int(doubted.other[place]), int(given[place]), float(doubted.sure[place])
        around = [int(near_N[one]) for one in found.near[place].tolist() if one >= 0]
        own, other = (round(100 * float(found.shares[place, number])) for number in (label, to))
        why = Said("coach_label", {
            "to": names[to], "label": names[label], "share": other, "own": own, "n": len(around),
            "near": around.count(to), "same": around.count(label),
        })  # fmt: skip
        yield looked.line(rows[place], "label", sure, why, to=names[to], accept=sure >= ACCEPTED)


def _held_out(looked: Looked, labels: LabelSet, given_N: Tensor, limits_C: Tensor) -> tuple[list[Line], int]:
    """Rows held out, judged by those that are learned; and how many have a label that none of these has."""
    known = [place for place, (_, row) in enumerate(looked.held)
             if row.label is not None and name_of(row.label) in labels.names]  # fmt: skip
    if not known:
        return [], len(looked.held)
    rows = [looked.held[place][1] for place in known]
    wanted = torch.tensor([labels.target(row) for row in rows])
    found = beliefs_of(looked.held_vectors[known], looked.vectors, given_N, classes=len(labels.names))
    lines = _class_lines(looked, rows, found, (wanted, doubts(found.shares, wanted, limits_C)), given_N)
    told = [line.model_copy(update={"accept": False}) for line in lines]
    return sorted(told, key=lambda line: -line.sure), len(looked.held) - len(known)


def _several(looked: Looked, labels: LabelSet) -> Judged:
    """Each label is a question of yes or no, with a threshold for either answer (confident learning, one against the
    rest); a row is named once, with all labels of it that are likely wrong."""
    given = torch.from_numpy(np.stack([labels.target(row) for row in looked.rows]))
    units = looked.units
    dealt = folds([str(row) for row in given.tolist()], FOLDS, looked.prepared.recipe.seed, units)
    numbers: dict[object, int] = {}
    near = neighbours(looked.vectors, looked.vectors,
                      torch.tensor([numbers.setdefault(unit, len(numbers)) for unit in units]))  # fmt: skip
    yes = memberships(unseen(looked.vectors, given, dealt), votes(given, *near))
    wrong = flipped(yes, given, KNOWN)
    lines = []
    for place in wrong.any(1).nonzero()[:, 0].tolist():
        row, flips = looked.rows[place], wrong[place].nonzero()[:, 0].tolist()
        after = [name for number, name in enumerate(labels.names)
                 if bool(given[place, number] > 0.5) != (number in flips)]  # fmt: skip
        belief = {number: float(1 - yes[place, number] if given[place, number] > 0.5 else yes[place, number])
                  for number in flips}  # fmt: skip
        worst = max(belief, key=lambda number: belief[number])
        missing = "missing" if given[place, worst] < 0.5 else "wrong"
        why = Said("coach_labels", {"share": round(100 * belief[worst]), "name": labels.names[worst],
                                    "given": missing})  # fmt: skip
        lines.append(looked.line(row, "label", belief[worst], why, to=after or None))
    return Judged(lines, facts={"kind": "labels", "judged": len(looked.rows)})


def _numbers(looked: Looked, labels: LabelSet) -> Judged:
    """Rows whose number is far from what a line over the vectors gives for them, unseen."""
    values = torch.tensor([as_number(row) for row in looked.rows], dtype=torch.float64)
    scaled = ((values - values.mean()) / values.std().clamp(min=1e-12)).float()[:, None]
    dealt = folds([0] * len(values), FOLDS, looked.prepared.recipe.seed, looked.units)
    wanted = unseen(looked.vectors, scaled, dealt)
    errors = robust((scaled - wanted)[:, 0])
    lines = []
    for place in (errors.abs() > FAR).nonzero()[:, 0].tolist():
        times = float(errors[place].abs())
        told = float(wanted[place, 0] * values.std() + values.mean())
        why = Said("coach_number", {"given": f"{float(values[place]):g}", "wanted": f"{told:.3g}",
                                    "times": f"{times:.1f}"})  # fmt: skip
        lines.append(looked.line(looked.rows[place], "outlier", tail(times), why))
    return Judged(lines, facts={"kind": "number", "judged": len(looked.rows)})
