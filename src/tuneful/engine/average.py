"""Weights averaged over the updates of a run, which often generalise better than the last ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Literal, Protocol

import torch
from pydantic import Field
from torch import Tensor, nn

from tuneful.core.spec import Spec, Table

LEAST = 2.0  # updates that an exponential average looks back over when nobody says otherwise
REACH = 0.1  # of a run, that an exponential average looks back over when nobody says otherwise


class Weighs(Protocol):
    """How an average is kept."""

    def share(self, number: int, steps: int) -> float: ...  # of the newest weights, after update `number` of `steps`


class Ema(Spec):
    """Exponential moving average: average <- decay * average + (1 - decay) * weights.

    Polyak and Juditsky 1992; Tarvainen and Valpola 2017, arXiv:1703.01780, section 2.
    Differs: the first averages are plain means, so that the start does not weigh on them.
    """

    kind: Literal["ema"] = "ema"
    decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    """How slowly. None: so that it looks back over a tenth of the run, two updates at least."""

    def share(self, number: int, steps: int) -> float:
        decay = 1 - 1 / max(LEAST, REACH * steps) if self.decay is None else self.decay
        return max(1 - decay, 1 / number)


class Swa(Spec):
    """The plain mean of the weights after each update of the last part of the run (Izmailov et al. 2018,
    arXiv:1803.05407, algorithm 1).

    Differs: the rate falls as the optimiser says instead of going up and down, and every update counts.
    """

    kind: Literal["swa"] = "swa"
    start: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Share of the run that is over when averaging begins."""

    def share(self, number: int, steps: int) -> float:
        return 1 / max(1, number - int(self.start * steps))


class RunningAverage:
    """The average of named weights, in float32."""

    def __init__(self, settings: Weighs) -> None:
        self._settings = settings
        self.weights: dict[str, Tensor] = {}

    @torch.no_grad()
    def add(self, parameters: Mapping[str, nn.Parameter], number: int, steps: int) -> None:
        """After update `number`, counted from 1."""
        share = self._settings.share(number, steps)
        if share >= 1 or not self.weights:
            self.weights = {name: parameter.detach().float().clone() for name, parameter in parameters.items()}
            return
        # By name: what was read from a checkpoint stands in another order.
        kept, new = zip(*((self.weights[name], parameter.detach().float()) for name, parameter in parameters.items()),
                        strict=True)  # fmt: skip
        torch._foreach_lerp_(kept, new, share)

    @contextmanager
    def in_place(self, parameters: Mapping[str, nn.Parameter]) -> Iterator[None]:
        """The parameters are the average for as long as the context."""
        learned = {name: parameter.detach().clone() for name, parameter in parameters.items()}
        self.put(parameters)
        try:
            yield
        finally:
            _copy(learned, parameters)

    def put(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """The parameters are the average from now on; as they are where nothing has been averaged yet."""
        _copy(self.weights, parameters)

    def forget(self) -> None:
        self.weights = {}


def _copy(weights: Mapping[str, Tensor], parameters: Mapping[str, nn.Parameter]) -> None:
    with torch.no_grad():
        for name, weight in weights.items():
            parameters[name].copy_(weight)


AVERAGES: Table[Spec] = Table("average", [Ema, Swa], group="tuneful.averages")
