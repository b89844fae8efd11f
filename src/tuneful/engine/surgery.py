"""Tasks that pull apart: what becomes of their gradients where these conflict.

Two gradients conflict where their product is negative: a small step along one makes the other's loss larger. Products
are taken over the parameters that at least two tasks use. What one task has for itself, such as its own head, is
nobody else's, and is learned as it would be alone.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Literal

import numpy as np

from tuneful.core.policy import Policy
from tuneful.core.sharded import is_sharded
from tuneful.core.spec import Spec, kind_of
from tuneful.core.types import MEMORY
from tuneful.engine.apart import Apart, Joined, plain


class Surgery(Spec):
    """A rule by what the tasks' gradients are to one another. It keeps `Objects` and `Starts` (`core.protocols`)."""

    def problems(self, policy: Policy) -> list[str]:
        if not any(map(is_sharded, policy.trainable().values())):
            return []
        return [f"gradient: {kind_of(type(self))} keeps the gradient of each task by itself, and ranks that share "
                "weights out add up those of whatever tasks they read; leave out sharded"]  # fmt: skip

    def at_work(self, done: int) -> Apart:
        return Apart(self.join, done)

    @abstractmethod
    def join(self, tasks: Sequence[str], products_TT: np.ndarray, number: int) -> Joined: ...


class PCGrad(Surgery):
    """What in a task's gradient conflicts with another's is projected away (Yu et al. 2020, arXiv:2001.06782,
    algorithm 1): where g_i g_j < 0, g_i <- g_i - (g_i g_j / g_j g_j) g_j, over the other tasks one after another.

    Differs: the order of the others is drawn from the number of the update alone, so a run that goes on finds it again.
    The sum may still conflict with a task where there are three or more.
    """

    kind: Literal["pcgrad"] = "pcgrad"

    def join(self, tasks: Sequence[str], products_TT: np.ndarray, number: int) -> Joined:
        chance = np.random.default_rng(number)
        mixed_TT = np.eye(len(tasks))  # row i: of which gradients that of task i is made by now
        projected = 0
        for own, mixed_T in enumerate(mixed_TT):
            for other in chance.permutation(len(tasks)):
                product = float(mixed_T @ products_TT[other])
                if other != own and product < 0:
                    mixed_T[other] -= product / products_TT[other, other]
                    projected += 1
        return Joined(mixed_TT.sum(0), np.ones(len(tasks)), {"projected": float(projected)})


class UPGrad(Surgery):
    """Each task's gradient becomes the nearest that conflicts with no task, then they are added (Quinton and Rey 2024,
    arXiv:2406.16232, equation 3 and proposition 1). So no task's loss rises by a small enough step.

    Differs: the sum, not the mean, as the loss of an update is the sum of the tasks' losses.
    """

    kind: Literal["upgrad"] = "upgrad"

    def join(self, tasks: Sequence[str], products_TT: np.ndarray, number: int) -> Joined:
        norms_T = np.sqrt(products_TT.diagonal())
        moving = np.flatnonzero(norms_T > 0)
        weights_T = np.ones(len(tasks))
        # With gradients of length one, a task of small slopes counts in the solution as exactly as one of large ones.
        norms_M = norms_T[moving]
        more_MM = raised(products_TT[np.ix_(moving, moving)] / np.outer(norms_M, norms_M))
        weights_T[moving] += (more_MM * np.divide.outer(norms_M, norms_M)).sum(0)
        return Joined(weights_T, np.ones(len(tasks)))


class AGem(Surgery):
    """What conflicts with rows of earlier tasks is projected away (A-GEM; Chaudhry et al. 2019, arXiv:1812.00420,
    equation 11): where g m < 0, g <- g - (g m / m m) m; g is the sum of the new tasks' gradients, m that of the task
    `(memory)`, which itself is not learned. A step without memory is a plain sum, one of memory alone learns nothing.
    """

    kind: Literal["a_gem"] = "a_gem"

    def join(self, tasks: Sequence[str], products_TT: np.ndarray, number: int) -> Joined:
        if MEMORY not in tasks:
            return plain(tasks)
        memory = tasks.index(MEMORY)
        new_T = np.array([float(task != MEMORY) for task in tasks])
        product = float(new_T @ products_TT[memory])
        weights_T = new_T.copy()
        if product < 0:
            weights_T[memory] = -product / products_TT[memory, memory]
        return Joined(weights_T, new_T, {"projected": float(product < 0)})


def raised(products_TT: np.ndarray) -> np.ndarray:
    """(T, T), none below zero: row i says how much of each gradient brings that of task i into the cone of vectors that
    conflict with no task, by the shortest way.

    That way is v >= 0 with (e_i + v)' G (e_i + v) least (proposition 1). With R'R = G this is |R v + R e_i|: least
    squares without negative numbers, which Lawson and Hanson's active sets solve exactly.
    """
    from scipy.optimize import nnls  # type: ignore[import-untyped]

    values_T, vectors_TT = np.linalg.eigh(products_TT)
    root_TT = np.sqrt(values_T.clip(min=0))[:, None] * vectors_TT.T
    found = [nnls(root_TT, -root_T)[0] for root_T in root_TT.T]
    return np.array(found).reshape(products_TT.shape)
