"""Answers from which a second model cannot tell the group."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor
from torch.nn import functional as F

from tuneful.core.layers import blocks, frozen_depth
from tuneful.core.policy import Policy
from tuneful.core.ranks import add_up
from tuneful.core.spec import Spec
from tuneful.core.types import Answer, Batch, Terms
from tuneful.regularisers.cells import compared, nothing
from tuneful.regularisers.units import OF_ROWS, mean_over_units


class Adversary(Spec):
    """A small head learns to tell the group of a row from its answer, and the model learns what the head cannot tell
    from: minus strength * the head's cross-entropy, of which the model gets the slope and the head the opposite.

    Zhang et al. 2018, arXiv:1801.07593, with the reversed gradient of Ganin and Lempitsky 2015,
    arXiv:1409.7495. Differs: without Zhang's projection of the slopes; the head makes one step of Adam an update.
    Unstable, as FFB (Han et al. 2023, arXiv:2306.09468) found of adversarial debiasing: try `hsic` or `mmd` first, and
    look at several seeds.
    """

    suits: ClassVar[frozenset[Answer]] = OF_ROWS

    kind: Literal["adversary"] = "adversary"
    strength: PositiveFloat = 1.0
    """Weight of a nat beside the loss; far above 1 the two run after one another in circles."""
    given: Literal["label", "nothing"] = "nothing"
    """nothing: answers tell no group (demographic parity); label: the head knows the right answer, so they tell nothing
    beyond it (equalised odds)."""
    reads: Literal["answers", "vector"] = "answers"
    """answers: the logits, of classes less their mean; vector: the mean of a row's hidden states at unit length, which
    is what a head with pooling mean reads, and near what others do."""
    hidden: NonNegativeInt = 32
    """Width of the head's hidden layer; 0: a linear head."""
    rate: PositiveFloat = 0.01
    """Learning rate of the head."""
    least: PositiveInt = 2
    """Rows of each group, and class where these are given, that an update must have."""

    @property
    def by_label(self) -> bool:
        return self.given == "label"

    def problems(self, policy: Policy) -> list[str]:
        """Vectors must learn to be told from."""
        if self.reads == "answers" or frozen_depth(policy.module) < len(blocks(policy.module)):
            return []
        return ["regularisers: adversary reads the vectors under the class head, and with this adapter these do not "
                "learn; use reads: answers, or an adapter that changes layers"]  # fmt: skip

    def begin(self, counts_GC: np.ndarray) -> RunningAdversary:
        """At work in one run, whose training rows have so many of each class of each group, in the order of ids."""
        return RunningAdversary(self, len(counts_GC))


class RunningAdversary:
    """The head of one run, made when the first batch says how much there is to read. Whoever makes the updates says
    `advance` after each."""

    def __init__(self, settings: Adversary, groups: int) -> None:
        self._settings, self._groups = settings, groups
        self._weights: list[Tensor] = []  # matrix and bias of each layer, float32, on the CPU
        self._optimiser: torch.optim.Adam | None = None
        self._heard = torch.zeros(1)  # weight of the rows of this update

    def __call__(self, policy: Policy, batch: Batch, terms: Terms) -> Tensor:
        if batch.groups is None:
            return nothing(terms)
        read_RF = self._read(batch, terms)
        if not self._weights:
            self._make(self._drawn(read_RF.shape[1]))
        known_R = compared(batch, batch.groups)
        groups_R = batch.groups.clamp(min=0)
        weights_R = batch.weights * known_R
        self._study(read_RF.detach(), groups_R, weights_R)
        fixed = [weight.detach() for weight in self._weights]
        losses_R = F.cross_entropy(_told(read_RF, fixed), groups_R, reduction="none")
        return -self._settings.strength * mean_over_units(losses_R * known_R, batch)

    def advance(self) -> None:
        """An update was made: the head makes one step, by the mean slope over all rows that were computed, however
        often (`gradient: sam` computes twice) and however the update was cut; said again, it does nothing. All ranks
        say so together."""
        if self._optimiser is None:
            return
        slopes = [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in self._weights]
        add_up([*slopes, self._heard])
        if float(self._heard) > 0:
            for weight, slope in zip(self._weights, slopes, strict=True):
                weight.grad = slope / self._heard
            self._optimiser.step()
        self.restart()

    def restart(self) -> None:
        if self._optimiser is not None:
            self._optimiser.zero_grad()
        self._heard.zero_()

    def state(self) -> Mapping[str, Any]:
        """Numbers that JSON can hold; float32 comes back as it was."""
        kept = [] if self._optimiser is None else [self._optimiser.state.get(weight, {}) for weight in self._weights]
        return {
            "weights": [weight.tolist() for weight in self._weights],
            "moments": [{name: value.tolist() for name, value in entry.items()} for entry in kept],
        }

    def load(self, state: Mapping[str, Any]) -> None:
        self._make([torch.tensor(weight) for weight in state["weights"]])
        for weight, entry in zip(self._weights, state["moments"], strict=True):
            if self._optimiser is not None and entry:
                self._optimiser.state[weight] = {name: torch.tensor(value) for name, value in entry.items()}

    def _read(self, batch: Batch, terms: Terms) -> Tensor:
        """(R, F) what the head reads of each row."""
        logits_RC, labels = terms.outputs.class_logits(), batch.targets["labels"]
        read_RF = _answers(logits_RC, labels) if self._settings.reads == "answers" else terms.outputs.embeddings()
        if not self._settings.by_label:
            return read_RF
        if labels.dim() == 1:
            labels = labels[:, None] if labels.is_floating_point() else F.one_hot(labels, logits_RC.shape[1])
        return torch.cat([read_RF, labels.to(read_RF)], 1)

    def _drawn(self, width: int) -> list[Tensor]:
        """A new head; its chance is its own, so that the rest of the run is what it would be."""
        chance = torch.Generator().manual_seed(0)
        widths = [width, *[self._settings.hidden] * (self._settings.hidden > 0), self._groups]
        found: list[Tensor] = []
        for inner, outer in pairwise(widths):
            found += [torch.randn(outer, inner, generator=chance) / inner**0.5, torch.zeros(outer)]
        return found

    def _make(self, weights: list[Tensor]) -> None:
        self._weights = [weight.requires_grad_() for weight in weights]
        self._optimiser = torch.optim.Adam(self._weights, lr=self._settings.rate) if weights else None

    def _study(self, read_RF: Tensor, groups_R: Tensor, weights_R: Tensor) -> None:
        """Adds what these rows say of the head to its slopes."""
        with torch.enable_grad():
            losses_R = F.cross_entropy(_told(read_RF, self._weights), groups_R, reduction="none")
            slopes = torch.autograd.grad((losses_R * weights_R).sum(), self._weights)
        for weight, slope in zip(self._weights, slopes, strict=True):
            weight.grad = slope if weight.grad is None else weight.grad + slope
        self._heard += float(weights_R.sum())


def _answers(logits_RC: Tensor, labels: Tensor) -> Tensor:
    """(R, C) what of the logits says anything: one of several classes is as likely when all logits rise alike, and the
    group could be hidden there for the head to find, while the answers stay what they are."""
    one_of_several = labels.dim() == 1 and not labels.is_floating_point()
    return logits_RC - logits_RC.mean(1, keepdim=True) if one_of_several else logits_RC


def _told(read_RF: Tensor, weights: list[Tensor]) -> Tensor:
    """(R, G) logits of the groups, computed where `read` is and as exactly."""
    *below, matrix, bias = [weight.to(read_RF) for weight in weights]
    states = F.linear(read_RF, *below).tanh() if below else read_RF
    return F.linear(states, matrix, bias)
