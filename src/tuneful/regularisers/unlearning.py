"""Making rows as unlikely as they would be had they never been learned."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor
from torch.nn import functional as F

from tuneful.core.earlier import Earlier
from tuneful.core.policy import Outputs, Policy
from tuneful.core.spec import Spec
from tuneful.core.types import FORGOTTEN, Answer, Batch, Boundary, Terms
from tuneful.regularisers.units import ONE_OF_MANY, mean_over_units


class Forget(Spec):
    """In place of the loss of rows that are to be forgotten, (2 / beta) * log(1 + (p / p_then)^beta) of each: negative
    preference optimisation (Zhang et al. 2024, arXiv:2404.05868, equation 3). p is the probability of a row's class, or
    of its whole answer, p_then what it was before. Unlike the ascent of their loss, which has no end, it fades as p
    becomes small. Rows of other tasks are learned as they are. For `tuneful unlearn`, which calls them `(forgotten)`.

    Differs from the paper: the sum over rows is divided as the loss is that it replaces, by classes or learned tokens
    instead of rows, so that how an update is cut changes nothing; and a row whose own loss, dropout off, is above its
    `level` is let be, until it is below again. It takes two more passes without a slope over these rows.
    """

    replaces: ClassVar[bool] = True
    in_turn: ClassVar[bool] = True
    measures_weights: ClassVar[bool] = True
    suits: ClassVar[frozenset[Answer]] = ONE_OF_MANY

    kind: Literal["forget"] = "forget"
    beta: PositiveFloat = 0.1
    """How soon it fades; near 0 it is the ascent of the loss."""
    level: NonNegativeFloat | None = None
    """Loss of a row, in nats of its class or of a learned token in the mean, at which it is let be. None: each row has
    that of a test row of its own, drawn by lot, so that all rows together come to be as test rows are and not alike;
    found anew once an epoch, and 0 while they are as unlikely as these."""

    def begin(self, counts_GC: np.ndarray) -> RunningForget:
        """At work in one run."""
        return RunningForget(self)


class RunningForget:
    """The model as it was before, and the level, in one run."""

    replaces: ClassVar[bool] = True

    def __init__(self, settings: Forget) -> None:
        self._settings = settings
        self._levels = None if settings.level is None else [settings.level]
        self._earlier: Earlier | None = None

    def aim(self, levels: Sequence[float]) -> None:
        """The losses of rows that were never learned, unless the settings say what it is to be."""
        if self._settings.level is None:
            self._levels = sorted(levels)

    def consolidate(self, policy: Policy, boundary: Boundary) -> None:
        self._earlier = Earlier(policy)

    def __call__(self, policy: Policy, batch: Batch, terms: Terms) -> Tensor:
        nothing = terms.losses.new_zeros(())
        if not batch.task.startswith(FORGOTTEN) or self._earlier is None or not batch.units:
            return nothing
        # Of classes without what the objective adds to their scores, as the earlier model is asked.
        now_R = _by_row(_losses(terms.outputs, batch) if "labels" in batch.targets else terms.losses, batch)
        then_R = _by_row(_losses(self._earlier(batch), batch), batch).detach()
        beta = self._settings.beta
        away_R = 2 / beta * F.softplus(beta * (then_R - now_R))
        counted_R = self._counted(policy, batch)
        return (away_R * counted_R).sum() / batch.units - mean_over_units(terms.losses, batch)

    def _counted(self, policy: Policy, batch: Batch) -> Tensor:
        """(R,) how much each row counts: nothing where it is as unlikely as it is to become, or is no row to learn."""
        units_R = _by_row(batch.weights, batch)
        counted_R = units_R if "labels" in batch.targets else (units_R > 0).float()
        if self._levels is None:
            return counted_R
        learning = policy.module.training
        policy.module.eval()
        losses_U = _losses(policy.through(policy.module, batch), batch)
        policy.module.train(learning)
        own_R = _by_row(losses_U * batch.weights, batch) / units_R.clamp(min=1e-12)
        levels_R = np.quantile(self._levels, drawn(batch))
        return counted_R * (own_R < torch.from_numpy(levels_R).to(own_R))

    def state(self) -> Mapping[str, Any]:
        return {"levels": self._levels}

    def load(self, state: Mapping[str, Any]) -> None:
        self._levels = state.get("levels")

    def tensors(self) -> Mapping[str, Tensor]:
        return {} if self._earlier is None else self._earlier.tensors()

    def restore(self, policy: Policy, tensors: Mapping[str, Tensor]) -> None:
        self._earlier = Earlier(policy) if tensors else None
        if self._earlier is not None:
            self._earlier.load(tensors)


def drawn(batch: Batch) -> np.ndarray:
    """(R,) a number from 0 to 1 of each row, drawn by lot once for all: told by its tokens alone."""
    ids, segments, found = batch.inputs["input_ids"][0].cpu().numpy(), batch.inputs["segments"].tolist(), []
    for place in batch.inputs["rows"].tolist():
        told = b""
        while place >= 0:
            start, end, place = segments[place]
            told = ids[start:end].tobytes() + told
        found.append(zlib.crc32(told) / 0xFFFFFFFF)
    return np.array(found)


def _losses(outputs: Outputs, batch: Batch) -> Tensor:
    """(U,) nats of each class or token."""
    if "labels" in batch.targets:
        return F.cross_entropy(outputs.class_logits(), batch.targets["labels"], reduction="none")
    return -outputs.token_logprobs(batch.targets["tokens"], batch.targets["where"])


def _by_row(losses_U: Tensor, batch: Batch) -> Tensor:
    """(R,) nats of whole answers."""
    if "labels" in batch.targets:
        return losses_U
    owners_U = batch.targets["rows"]
    return losses_U.new_zeros(int(owners_U.max()) + 1).index_add(0, owners_U, losses_U)
