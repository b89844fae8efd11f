"""Classes or groups of uneven size: how often a row is drawn, how much it counts, or what is added to the logits, from
how many training rows each has."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field, PositiveFloat

from tuneful.core.spec import Spec, Table


class Sampling(Spec):
    """An epoch draws as many rows as there are, of each class as many: rare rows are seen again and again, of common
    ones another part each time."""

    draws: ClassVar[bool] = True
    grouped: ClassVar[bool] = False

    kind: Literal["sampling"] = "sampling"
    power: Annotated[float, Field(gt=0, le=1)] = 1.0
    """1: every class as often as any other; 0.5: as often as the root of its share of the rows."""

    def weights(self, counts_C: np.ndarray) -> np.ndarray:
        """(C,) how often a row of each class is drawn, beside others: its class is drawn as often as its share to the
        power 1 - `power`."""
        return np.where(counts_C > 0, np.maximum(counts_C, 1.0) ** -self.power, 0.0)

    def offsets(self, counts_C: np.ndarray) -> tuple[float, ...]:
        return ()


class Weights(Spec):
    """A row counts the less the more rows its class has: by the effective number of rows, (1 - beta^n) / (1 - beta)
    (Cui et al. 2019, arXiv:1901.05555, equations 2 and 4)."""

    draws: ClassVar[bool] = False
    grouped: ClassVar[bool] = False

    kind: Literal["weights"] = "weights"
    beta: Annotated[float, Field(gt=0, lt=1)] = 0.999
    """Near 1: a row of a class counts as one over its rows; near 0: all rows count alike."""

    def weights(self, counts_C: np.ndarray) -> np.ndarray:
        """(C,) how much a row of each class counts, beside others."""
        return np.where(counts_C > 0, (1 - self.beta) / (1 - self.beta ** np.maximum(counts_C, 1.0)), 0.0)

    def offsets(self, counts_C: np.ndarray) -> tuple[float, ...]:
        return ()


class Logits(Spec):
    """While it learns, a class has a head start of log(its share of the rows), so that without it rare classes are
    answered as readily as common ones (Menon et al. 2021, arXiv:2007.07314, equation 10)."""

    draws: ClassVar[bool] = False
    grouped: ClassVar[bool] = False

    kind: Literal["logits"] = "logits"
    tau: PositiveFloat = 1.0
    """How much of the head start there is; 1 is right for the mean over classes."""

    def weights(self, counts_C: np.ndarray) -> np.ndarray:
        return np.ones(len(counts_C))

    def offsets(self, counts_C: np.ndarray) -> tuple[float, ...]:
        """(C,) added to the logits while learning; a class without rows is taken for one with a single row."""
        shares = np.maximum(counts_C, 1.0) / counts_C.sum()
        return tuple((self.tau * np.log(shares)).tolist())


class GroupSampling(Spec):
    """An epoch draws as many rows as there are: of each group (`data.group`) as many, or of each class of it."""

    draws: ClassVar[bool] = True
    grouped: ClassVar[bool] = True

    kind: Literal["group_sampling"] = "group_sampling"
    by: Literal["cell", "group"] = "cell"
    """cell: of each class of each group as many; group: of each group, its classes as often as they come there."""

    def weights(self, counts_GC: np.ndarray) -> np.ndarray:
        """(G, C) how often a row of each cell is drawn, beside others; C is 1 where there are no classes."""
        own = counts_GC if self.by == "cell" else np.broadcast_to(counts_GC.sum(1, keepdims=True), counts_GC.shape)
        return np.where(counts_GC > 0, 1.0 / np.maximum(own, 1.0), 0.0)

    def offsets(self, counts_GC: np.ndarray) -> tuple[float, ...]:
        return ()


class Reweighing(Spec):
    """Rows count as if group and class had nothing to do with each other: n(group) n(class) / (n n(group, class))
    (Kamiran and Calders 2012, doi 10.1007/s10115-011-0463-8, algorithm 3)."""

    draws: ClassVar[bool] = False
    grouped: ClassVar[bool] = True

    kind: Literal["reweighing"] = "reweighing"

    def weights(self, counts_GC: np.ndarray) -> np.ndarray:
        """(G, C) how much a row of each cell counts, beside others."""
        wanted = counts_GC.sum(1, keepdims=True) * counts_GC.sum(0, keepdims=True) / max(1, counts_GC.sum())
        return np.where(counts_GC > 0, wanted / np.maximum(counts_GC, 1.0), 0.0)

    def offsets(self, counts_GC: np.ndarray) -> tuple[float, ...]:
        return ()


class Jtt(Spec):
    """Trains twice: rows that a first, short training gets wrong are drawn more often by the second. For groups that
    are not known (Liu et al. 2021, "Just Train Twice", arXiv:2107.09044)."""

    grouped: ClassVar[bool] = False

    kind: Literal["jtt"] = "jtt"
    epochs: PositiveFloat = 1.0
    """Of the first training; short, so that only what is easy has been learned."""
    times: Annotated[float, Field(gt=1)] = 6.0
    """How often such a row is drawn, where others are drawn once; the paper takes 4 to 100."""


BALANCES: Table[Spec] = Table("balance", [Sampling, Weights, Logits, GroupSampling, Reweighing, Jtt])
