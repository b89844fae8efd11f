"""LoRA for tasks that are learned one after the other: factors for each task, side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from tuneful.adapters.lowrank import AttachedLora, Lora


def wide(lora: Lora, rank: int) -> Lora:
    """The same with another rank, by which its update is scaled as before."""
    more = rank / lora.rank
    return lora.model_copy(update={"rank": rank, "alpha": lora.alpha * (more**0.5 if lora.rslora else more)})


def attach_added(lora: Lora, module: nn.Module, *, labels: bool, before: int, first: int, tasks: int) -> AttachedAdded:
    """Factors of rank `lora.rank` for each of so many tasks, the first of which is number `first`, beside `before`
    that were learned in an earlier run."""
    plain = wide(lora, before + tasks * lora.rank).attach(module, labels=labels)
    return AttachedAdded(plain, before=before, rank=lora.rank, first=first)


def widened(values: Mapping[str, Tensor], parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """Values by the names of parameters; factors that are narrower than theirs come first, and the rest is as it is."""
    found = dict(values)
    for name, parameter in parameters.items():
        value, factor = values.get(name), next((key for key in ("lora_A", "lora_B") if key in name.split(".")), None)
        if value is None or factor is None or value.shape == parameter.shape:
            continue
        whole = parameter.detach().clone()
        rows, columns = value.shape
        if rows <= len(whole) and columns <= whole.shape[1]:
            whole[:rows, :columns] = value
            found[name] = whole
    return found


class AttachedAdded(AttachedLora):
    """One plain LoRA to whoever reads it: sum of B_t A_t over tasks t = [B_1 B_2 ...] [A_1; A_2; ...]. Of its factors
    those of one task learn at a time; those of tasks to come have B = 0, and add nothing."""

    def __init__(self, plain: AttachedLora, *, before: int, rank: int, first: int) -> None:
        super().__init__(plain.module, plain.wrapped)
        self._before, self._rank, self._first = before, rank, first
        self.begin_task(first)
        for down_KI, up_OK, _ in self._updates().values():
            down_KI.register_hook(partial(self._of_task, dim=0))
            up_OK.register_hook(partial(self._of_task, dim=1))

    def begin_task(self, number: int) -> None:
        start = self._before + (number - self._first) * self._rank
        self._learn = slice(start, start + self._rank)

    def end_task(self, number: int) -> None:
        """What it learned stays where it is."""

    def factors(self) -> Iterator[tuple[Tensor, Tensor]]:
        for down_KI, _, _ in self._updates().values():
            yield down_KI[: self._learn.start].detach(), down_KI[self._learn]

    def _of_task(self, slope: Tensor, *, dim: int) -> Tensor:
        """A slope that is zero for all other tasks: Adam, whose memory begins anew with each, does not move them."""
        kept = torch.zeros_like(slope)
        part: Any = (self._learn,) if dim == 0 else (slice(None), self._learn)
        kept[part] = slope[part]
        return kept
