"""What is done to a trained classifier before it is measured and saved, as a recipe says it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from tuneful.core.spec import Spec
from tuneful.models.erasure import fit_eraser
from tuneful.repairs.balanced_head import fit_balanced_head
from tuneful.repairs.cells import cells_of, even
from tuneful.repairs.thresholds import Constraint, Objective


@dataclass(frozen=True, slots=True)
class Seen:
    """What the last layer reads of rows whose label and group are known."""

    vectors: Tensor  # (N, D) float32
    labels: Tensor  # (N,) 0..C-1
    groups: Tensor  # (N,) ids
    units: Sequence[Hashable]  # (N,) rows of one belong together
    classes: int
    seed: int


@dataclass(frozen=True, slots=True)
class Mended:
    """The layer that takes the place of the last one, and what a report tells of how it came about."""

    layer: nn.Linear
    facts: Mapping[str, Any]


class BalancedHead(Spec):
    """The last layer solved anew over the tuned body, from rows in which every class comes as often in every group.

    Kirichenko, Izmailov and Wilson 2023 (arXiv:2204.02937); see `fit_balanced_head` for what differs."""

    mends: ClassVar[bool] = True

    kind: Literal["balanced_head"] = "balanced_head"

    def mend(self, layer: nn.Linear, seen: Seen) -> Mended:
        found = fit_balanced_head(
            seen.vectors, seen.labels, seen.groups, classes=seen.classes, seed=seen.seed, units=seen.units
        )
        facts = {"rows": len(seen.labels), "rows_of_each_cell": found.rows, "strength": found.strength,
                 "worst_cell_by_folds": round(found.worst, 5)}  # fmt: skip
        return Mended(_layer(found.probe.weight, found.probe.bias), facts)


class Erase(Spec):
    """The group taken out of the vectors that the last layer reads, by LEACE, folded into that layer.

    Belrose et al. 2023 (arXiv:2306.03819). It is fitted on rows in which every class comes as often in every group, so
    that the class is left whole."""

    mends: ClassVar[bool] = True

    kind: Literal["erase"] = "erase"

    def mend(self, layer: nn.Linear, seen: Seen) -> Mended:
        cells = cells_of(seen.labels, seen.groups, seen.classes)
        drawn = even(cells, np.random.default_rng([seen.seed, 2]))
        eraser = fit_eraser(seen.vectors[drawn], seen.groups[drawn])
        whole = _layer(layer.weight.detach().cpu().float(), layer.bias.detach().cpu().float())
        return Mended(eraser.folded(whole), {"rows": len(drawn), "directions": eraser.rank})


class Thresholds(Spec):
    """A cut of the scores for each group, so that groups are treated alike by one measure; two classes. The model stays
    as it is: the cuts are kept beside it, and need the group of whoever is decided about.

    Hardt, Price and Srebro 2016 (arXiv:1610.02413), as fairlearn's ThresholdOptimizer."""

    mends: ClassVar[bool] = False

    kind: Literal["thresholds"] = "thresholds"
    constraint: Constraint = "equalised_odds"
    """What is made alike: how often either class is recognised (equalised_odds), how often the positive one is
    (equal_opportunity), or how often it is answered (demographic_parity)."""
    objective: Objective = "balanced_accuracy"
    """What is best among the cuts that do so: with balanced_accuracy both classes count alike, however rare one is."""
    positive: str | None = None
    """The class that is a yes. None: the rarer of the training rows."""


def _layer(weight_CD: Tensor, bias_C: Tensor) -> nn.Linear:
    made = nn.Linear(weight_CD.shape[1], weight_CD.shape[0])
    with torch.no_grad():
        made.weight.copy_(weight_CD)
        made.bias.copy_(bias_C)
    return made
