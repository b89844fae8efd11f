"""LoRA for tasks that are learned one after the other: factors for each task side by side, or what all of them come to
in factors of one rank."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from tuneful.adapters.lowrank import AttachedLora, Lora
from tuneful.core.errors import RecipeError


def wide(lora: Lora, rank: int) -> Lora:
    """The same with another rank, by which its update is scaled as before."""
    more = rank / lora.rank
    return lora.model_copy(update={"rank": rank, "alpha": lora.alpha * (more**0.5 if lora.rslora else more)})


def attach_added(lora: Lora, module: nn.Module, *, labels: bool, before: int, first: int, tasks: int) -> AttachedAdded:
    """Factors of rank `lora.rank` for each of so many tasks, the first of which is number `first`, beside `before`
    that were learned in an earlier run."""
    plain = wide(lora, before + tasks * lora.rank).attach(module, labels=labels)
    return AttachedAdded(plain, before=before, rank=lora.rank, first=first)


def attach_merged(lora: Lora, module: nn.Module, *, labels: bool) -> AttachedMerged:
    """Raises RecipeError where no so many directions are apart."""
    attached = AttachedMerged(lora.attach(module, labels=labels))
    if (most := attached.most_rank()) < lora.rank:
        raise RecipeError([f"adapter.rank: {lora.rank} directions cannot be orthogonal in a layer that reads {most} "
                           f"numbers (adapter.turns=merged); give {most} at most"])  # fmt: skip
    return attached


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


MERGED, TUNED = "merged", "tuned"  # what B is kept beside the B at work, while a task is learned and when it has ended


class AttachedMerged(AttachedLora):
    """Merge before forget (SLAO, Qiao and Mahdavi 2025, arXiv:2512.23017, algorithm 1): one LoRA however many tasks.

    Task i starts from the factors that the task before ended with, its A made orthonormal by A' = Q R. When it has
    ended, A stays as tuned, and B <- B_merged + (B - B_merged) / sqrt(i), which is what is measured and saved. Differs
    from the paper: with A = Q' both B become B R', so that their products are what they were before; there B stays, and
    every product changes by R when a task begins."""

    def __init__(self, plain: AttachedLora) -> None:
        super().__init__(plain.module, plain.wrapped)
        self._kind = ""  # of what is kept: nothing before the first task has ended
        self._kept: dict[str, Tensor] = {}

    def most_rank(self) -> int:
        return min(down_KI.shape[1] for down_KI, _, _ in self._updates().values())

    def begin_task(self, number: int) -> None:
        if number == 0 or self._kind == MERGED:
            return
        tuned = self._kept
        self._kind, self._kept = MERGED, {}
        with torch.no_grad():
            for name, (down_KI, up_OK, _) in self._updates().items():
                turn_KK = orthonormal(down_KI)
                self._kept[name] = up_OK @ turn_KK
                up_OK.copy_(tuned[name] @ turn_KK if tuned else self._kept[name])

    def end_task(self, number: int) -> None:
        merged = self._kept if self._kind == MERGED else {}
        self._kind, self._kept = TUNED, {}
        with torch.no_grad():
            for name, (_, up_OK, _) in self._updates().items():
                self._kept[name] = up_OK.detach().clone()
                if merged:
                    up_OK.copy_(merged[name].lerp(up_OK, (number + 1) ** -0.5))

    def state(self) -> dict[str, Tensor]:
        return super().state() | {f"{self._kind}/{name}": tensor for name, tensor in self._kept.items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        kept = {name: tensor for name, tensor in state.items() if name.split("/")[0] in (MERGED, TUNED)}
        super().load({name: tensor for name, tensor in state.items() if name not in kept})
        place = next(self._module.parameters()).device
        self._kind = next((name.split("/")[0] for name in kept), "")
        self._kept = {name.split("/", 1)[1]: tensor.to(place).clone() for name, tensor in kept.items()}


def orthonormal(down_KI: Tensor) -> Tensor:
    """Makes the rows of A orthonormal, in place; R' (K, K), with which A was R' times what it is now. Of the ways to do
    so the one that turns no row around."""
    q_IK, r_KK = torch.linalg.qr(down_KI.T)
    signs_K = torch.where(r_KK.diagonal() < 0, -1.0, 1.0)
    down_KI.copy_((q_IK * signs_K).T)
    return (signs_K[:, None] * r_KK).T
