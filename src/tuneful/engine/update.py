"""From gradients to new weights: the optimiser, its rate over time, and how tasks' gradients are joined."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn

from tuneful.core.sharded import for_saving, like, whole
from tuneful.core.spec import Spec
from tuneful.engine.average import RunningAverage

AVERAGE = "average"  # among the entries of a saved state
Share = Annotated[float, Field(ge=0, lt=1)]


class AdamW(Spec):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019, arXiv:1711.05101), warm-up and decay."""

    kind: Literal["adamw"] = "adamw"
    learning_rate: PositiveFloat | None = None
    """Highest rate. None: the adapter's own."""
    head_rate: PositiveFloat = 1.0
    """Multiplies the rate of a classification head, which starts from nothing, as does the decoder of `denoise`, which
    learns at 1e-3 if nobody says."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Multiplies the rate of the highest layer, of the next one below twice, and so on down to the embeddings: what
    lies deeper learns more carefully (Clark et al. 2020, arXiv:2003.10555, appendix A). 1 = all alike."""
    weight_decay: NonNegativeFloat = 0.0
    """Decay of matrices, never of norms and biases."""
    beta1: Share = 0.9
    """Memory of the gradient."""
    beta2: Share = 0.999
    """Memory of its square."""
    epsilon: PositiveFloat = 1e-8
    """Keeps small squares from making large steps."""
    clip: NonNegativeFloat = 1.0
    """Largest norm of the whole gradient; 0 = any."""
    warmup: NonNegativeFloat = 0.05
    """Rising rate at the start: a share of the run below 1, else steps."""
    decay: Literal["cosine", "linear", "constant"] = "cosine"
    """How the rate falls after the warm-up."""
    tokens_per_step: PositiveInt | None = None
    """Size of an update in tokens. None: about a hundred updates an epoch, at most 4,096 tokens each."""
    rows_per_step: PositiveInt | None = None
    """Size of an update in rows; given, it stands instead of `tokens_per_step`."""
    micro_tokens: PositiveInt = 1024
    """Tokens computed at once, at most; a memory setting that does not change the result."""
    gradient_checkpointing: bool | None = None
    """Compute layers again in the backward pass instead of keeping what they found: less memory, a third more time.
    None: where the run would not fit into `memory` otherwise; false: never."""

    def rate(self, step: int, steps: int) -> float:
        """Share of the highest rate at step 1..steps."""
        rising = self.warmup if self.warmup >= 1 else math.floor(self.warmup * steps)
        if step <= rising:
            return step / (rising + 1)
        done = (step - rising - 1) / max(1, steps - rising)
        if self.decay == "cosine":
            return 0.5 * (1 + math.cos(math.pi * done))
        return 1 - done if self.decay == "linear" else 1.0


class Updater:
    """torch's AdamW over named parameters, with a state that can be saved without pickling."""

    def __init__(
        self,
        settings: AdamW,
        parameters: Mapping[str, nn.Parameter],
        *,
        steps: int,
        heads: Sequence[str] = (),
        heights: Mapping[str, int] | None = None,
        average: RunningAverage | None = None,
        ends: Sequence[int] = (),
    ) -> None:
        """`heights` says of each parameter how many layers below the head it lies, None: 0. After each of `ends` all
        begins anew: the rate, and what the optimiser remembers."""
        if settings.learning_rate is None:
            raise ValueError("the learning rate must be resolved before training")
        self.settings, self.steps = settings, steps
        self._named = dict(parameters)
        self._peak = settings.learning_rate
        self._average = average
        self._ends = [0, *ends] if ends else [0, steps]
        groups: dict[tuple[bool, float], list[nn.Parameter]] = {}
        for name, parameter in parameters.items():
            is_head = any(head in name.split(".") for head in heads)
            height = (heights or {}).get(name, 0)
            share = settings.head_rate if is_head else settings.layer_decay**height
            groups.setdefault((parameter.dim() >= 2, share), []).append(parameter)
        self._optimiser = torch.optim.AdamW(
            [
                {
                    "params": members,
                    "weight_decay": settings.weight_decay if decays else 0.0,
                    "share": share,
                }
                for (decays, share), members in groups.items()
            ],
            lr=self._peak,
            betas=(settings.beta1, settings.beta2),
            eps=settings.epsilon,
            fused=True,
        )

    def clip(self, most: float) -> float:
        """The norm of the whole gradient, which is scaled down to `most` if it is longer (0 = never)."""
        return gradient_norm(list(self._named.values()), most)

    def step(self, number: int) -> float:
        """One update, number counted from 1; the rate it used."""
        begun = max(end for end in self._ends if end < number)
        if number == begun + 1 > 1:
            self._optimiser.state.clear()
        end = min((end for end in self._ends if end >= number), default=self.steps)
        rate = self._peak * self.settings.rate(number - begun, end - begun)
        for group in self._optimiser.param_groups:
            group["lr"] = rate * group["share"]
        self._optimiser.step()
        # The fused step does not count as a change of the tensors, and copies in another dtype are made by that count.
        torch.autograd.graph.increment_version(list(self._named.values()))
        self.clear()
        if self._average is not None:
            self._average.add(self._named, number, self.steps)
        return rate

    @property
    def average(self) -> RunningAverage | None:
        """Of the weights so far; None where none is kept."""
        return self._average

    def clear(self) -> None:
        self._optimiser.zero_grad(set_to_none=True)

    def forget(self) -> None:
        """Gives back gradients and moments: training is over."""
        self.clear()
        self._optimiser.state.clear()
        if self._average is not None:
            self._average.forget()

    def knows(self, name: str) -> bool:
        """This weight is one of its own."""
        return name in self._named

    def seen(self, name: str) -> tuple[float, Tensor | None]:
        """The highest rate of a weight, and the mean of the squares of its gradients so far, as Adam corrects it; None
        before the first."""
        parameter = self._named[name]
        held = self._optimiser.state.get(parameter)
        rate = self._peak * next(group["share"] for group in self._optimiser.param_groups
                                 if any(member is parameter for member in group["params"]))  # fmt: skip
        if not held:
            return rate, None
        squares: Tensor = held["exp_avg_sq"] / (1 - self.settings.beta2 ** float(held["step"]))
        return rate, squares

    def state(self) -> dict[str, Tensor]:
        averaged = self._average.weights if self._average is not None else {}
        return {
            f"{entry}/{name}": for_saving(torch.as_tensor(value))
            for name, parameter in self._named.items()
            for entry, value in self._optimiser.state.get(parameter, {}).items()
        } | {f"{AVERAGE}/{name}": for_saving(value) for name, value in averaged.items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        for key, value in state.items():
            entry, name = key.split("/", 1)
            parameter = self._named[name]
            if entry == AVERAGE:
                if self._average is not None:
                    self._average.weights[name] = like(parameter, value)
                continue
            # The fused AdamW keeps everything beside its weight, the count of steps too.
            self._optimiser.state[parameter][entry] = like(parameter, value)


class Summed(Spec):
    """A gradient that is added up in `.grad`."""

    def add(self, task: str, loss: Tensor, parameters: Sequence[nn.Parameter]) -> None:
        loss.backward()

    def finish(self, parameters: Sequence[nn.Parameter]) -> None:
        """Everything is in `.grad` already."""

    def restart(self, parameters: Sequence[nn.Parameter]) -> None:
        for parameter in parameters:
            parameter.grad = None


class Sum(Summed):
    """The gradient of the sum of the tasks' losses."""

    kind: Literal["sum"] = "sum"


def gradient_norm(parameters: Sequence[nn.Parameter], clip: float) -> float:
    """The norm of the whole gradient, which is scaled down to `clip` if it is longer (0 = never)."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = whole(torch.nn.utils.get_total_norm(gradients))
    if clip and math.isfinite(float(norm)):
        torch.nn.utils.clip_grads_with_norm_(parameters, clip, norm)
    return float(norm)
