"""Learning for the group that is served worst."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from tuneful.core.policy import Policy
from tuneful.core.ranks import add_up
from tuneful.core.spec import Spec
from tuneful.core.types import Answer, Batch, Terms
from tuneful.regularisers.cells import compared, nothing
from tuneful.regularisers.units import OF_ROWS, mean_over_units


class GroupDro(Spec):
    """Groups count by how badly they are served: sum over groups of q * mean loss, and after each update
    q <- q * exp(eta * (mean loss + adjustment / sqrt(rows))), scaled to sum to 1. Weak without strong regularisation
    or early stopping, as any model that knows its training rows by heart serves all their groups alike.

    Sagawa et al. 2020, arXiv:1911.08731, algorithm 1 with group adjustments. Differs: q weighs the update after
    the one whose losses moved it, and a row counts q / (share of its group among the rows seen before), which on
    average is the same and does not depend on how an update is cut; the first update, before which nothing was seen, is
    plain. Rows of no known group count as they do without it. The loss that is shown stays the plain one; the penalty
    is the rest.
    """

    replaces: ClassVar[bool] = True

    kind: Literal["group_dro"] = "group_dro"
    eta: PositiveFloat = 0.01
    """How fast q follows the losses; it moves once an update."""
    by: Literal["group", "group_label"] = "group"
    """group: whole groups; group_label: each class of each group by itself."""
    adjustment: NonNegativeFloat = 0.0
    """Small groups are learned by heart sooner, so they count as if their loss were higher: by this over the root of
    their training rows."""
    least: PositiveInt = 1
    """Rows of each group, and class where these are told apart, that an update must have."""

    @property
    def suits(self) -> frozenset[Answer]:
        return frozenset({Answer.CLASS}) if self.by_label else OF_ROWS

    @property
    def by_label(self) -> bool:
        return self.by == "group_label"

    def begin(self, counts_GC: np.ndarray) -> RunningGroupDro:
        """At work in one run, whose training rows have so many of each class of each group, in the order of their ids;
        C is 1 where there are no classes."""
        return RunningGroupDro(self, counts_GC)


class RunningGroupDro:
    """The weights of the groups, of one run. Whoever makes the updates says `advance` after each."""

    replaces: ClassVar[bool] = True

    def __init__(self, settings: GroupDro, counts_GC: np.ndarray) -> None:
        own = counts_GC if settings.by_label else counts_GC.sum(1, keepdims=True)
        self._settings, self._classes = settings, own.shape[1]
        self._sizes = torch.from_numpy(own.astype(np.float64)).flatten()  # (Q,), Q = G or G C
        self._logs = torch.zeros_like(self._sizes)  # of q, but for a constant
        self._seen = torch.zeros_like(self._sizes)  # weight of the rows of all updates
        self._losses = torch.zeros_like(self._sizes)  # of this update, summed
        self._weights = torch.zeros_like(self._sizes)

    @property
    def shares(self) -> Tensor:
        """(Q,) q: how much each group counts, groups without rows nothing."""
        return self._logs.masked_fill(self._sizes == 0, -torch.inf).softmax(0)

    def __call__(self, policy: Policy, batch: Batch, terms: Terms) -> Tensor:
        if batch.groups is None:
            return nothing(terms)
        known_R = compared(batch, batch.groups)
        places_K = self._places(batch, batch.groups)[known_R].cpu()
        weights_K = batch.weights[known_R].double().cpu()
        self._losses.index_add_(0, places_K, weights_K * terms.losses.detach()[known_R].double().cpu())
        self._weights.index_add_(0, places_K, weights_K)
        more_R = torch.zeros_like(terms.losses)
        more_R[known_R] = (self._factors()[places_K] - 1).to(more_R)
        return mean_over_units(more_R * terms.losses, batch)

    def advance(self) -> None:
        """An update was made. However often it was computed (`gradient: sam` does so twice) and however it was cut,
        q moves once, by the mean losses over all that was computed; said again, it does nothing. All ranks say so
        together."""
        add_up([self._losses, self._weights])
        means_Q = self._losses / self._weights.clamp(min=1e-12)
        means_Q += self._settings.adjustment / self._sizes.clamp(min=1).sqrt()
        self._logs += self._settings.eta * means_Q * (self._weights > 0)
        self._logs -= self._logs.max()
        self._seen += self._weights
        self.restart()

    def restart(self) -> None:
        self._losses.zero_()
        self._weights.zero_()

    def state(self) -> Mapping[str, Any]:
        return {"logs": self._logs.tolist(), "seen": self._seen.tolist()}

    def load(self, state: Mapping[str, Any]) -> None:
        self._logs, self._seen = (torch.tensor(state[name], dtype=torch.float64) for name in ("logs", "seen"))

    def _places(self, batch: Batch, groups_R: Tensor) -> Tensor:
        """(R,) the place of each row's group (and class)."""
        return groups_R * self._classes + batch.targets["labels"] if self._settings.by_label else groups_R

    def _factors(self) -> Tensor:
        """(Q,) how much a row counts, beside 1; 1 where its kind was never seen."""
        seen_Q = self._seen > 0
        expected_Q = self._seen / self._seen.sum().clamp(min=1e-12)
        return torch.where(seen_Q, self.shares / expected_Q.clamp(min=1e-12), 1.0)
