"""Which rows of a batch are compared between sensitive groups, and by which numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from tuneful.core.policy import Policy
from tuneful.core.types import Answer, Batch, Terms
from tuneful.regularisers.units import OF_ROWS

Given = Literal["label", "positive", "negative", "nothing"]
LABELLED = frozenset({Answer.CLASS, Answer.LABELS})


@dataclass(frozen=True, slots=True)
class Cell:
    """Rows that should be answered alike whatever their group; two groups at least."""

    scores: Tensor  # (K, S) probabilities; of one class where there are two, of numbers the answer itself
    groups: Tensor  # (K,) ids


def mean_over_cells(batch: Batch, terms: Terms, given: Given, apart: Callable[[Cell], Tensor]) -> Tensor:
    """The mean of what `apart` says of each cell of the batch; zero where there is none."""
    found = [apart(cell) for cell in cells(batch, terms, given)]
    return torch.stack(found).mean() if found else nothing(terms)


def cells(batch: Batch, terms: Terms, given: Given) -> Iterator[Cell]:
    """One for each class that `given` names, of independent labels for each label and being so or not.

    Rows of unknown group are of none, and rows that count nothing (twins, rows without a label) are left out; all
    others count alike."""
    if batch.groups is None:
        return
    known_R = compared(batch, batch.groups)
    for scores_RS, labels_R in _answers(terms.outputs.class_logits(), batch.targets["labels"]):
        for value in _values(labels_R[known_R], given):
            rows_R = known_R if value is None else known_R & (labels_R == value)
            groups_K = batch.groups[rows_R]
            if len(groups_K.unique()) > 1:
                yield Cell(scores_RS[rows_R], groups_K)


def compared(batch: Batch, groups_R: Tensor) -> Tensor:
    """(R,) bool: of a known group, and counted."""
    return (groups_R >= 0) & (batch.weights > 0)


def nothing(terms: Terms) -> Tensor:
    """Zero, with a slope of zero."""
    return 0.0 * terms.losses.sum()


def suited(given: Given) -> frozenset[Answer]:
    """A number has no class to compare within."""
    return OF_ROWS if given == "nothing" else LABELLED


def problems_of_given(kind: str, given: Given, policy: Policy) -> list[str]:
    """One of several classes is neither the positive one nor the negative one."""
    config: Any = policy.module.config
    several = config.problem_type == "single_label_classification" and config.num_labels > 2
    if given in ("label", "nothing") or not several:
        return []
    return [f"regularisers: {kind} compares rows of the {given} class, and here are {config.num_labels} classes; "
            "use given: label, or given: nothing"]  # fmt: skip


def _answers(logits_RC: Tensor, labels: Tensor) -> list[tuple[Tensor, Tensor]]:
    """(R, S) scores and (R,) labels of each answer."""
    if labels.dim() == 2:
        yes_RC, wanted_RC = logits_RC.sigmoid(), (labels > 0.5).long()
        return [(yes_RC[:, [place]], wanted_RC[:, place]) for place in range(labels.shape[1])]
    if labels.is_floating_point():
        return [(logits_RC[:, :1], labels)]
    shares_RC = logits_RC.softmax(-1)
    # Of two probabilities one says all; so a kernel's width means what it means for a single score.
    return [(shares_RC[:, 1:] if shares_RC.shape[1] == 2 else shares_RC, labels)]


def _values(labels_K: Tensor, given: Given) -> list[int] | list[None]:
    if given == "nothing":
        return [None]
    return {"positive": [1], "negative": [0]}.get(given) or labels_K.unique().tolist()
