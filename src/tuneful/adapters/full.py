"""Tuning the weights themselves: all of them, the top layers, or the head alone."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from tuneful.adapters.used import fold_rows, rows_before, use_rows
from tuneful.adapters.weights import Learning, Pull, head_names, put_body, vocabulary_head
from tuneful.core.layers import as_written, blocks
from tuneful.core.linear import make_plain
from tuneful.core.spec import Spec


class Full(Spec):
    """Every weight learns."""

    freezes: ClassVar[bool] = False

    kind: Literal["full"] = "full"

    def rate(self, width: int) -> float:
        return _rate(width)

    def attach(self, module: nn.Module, *, labels: bool) -> AttachedWeights:
        return AttachedWeights(module, list(module.parameters()), labels=labels)


class TopLayers(Spec):
    """The last layers and the head learn; what lies below stays, and costs no backward pass."""

    freezes: ClassVar[bool] = False

    kind: Literal["top_layers"] = "top_layers"
    layers: PositiveInt = 2
    """How many transformer layers, counted from the top."""

    def rate(self, width: int) -> float:
        return _rate(width)

    def attach(self, module: nn.Module, *, labels: bool) -> AttachedWeights:
        stack = blocks(module)
        learn = [parameter for block in stack[-self.layers :] for parameter in block.parameters()]
        return AttachedWeights(module, learn + _above(module, stack), labels=labels)


class Head(Spec):
    """Only what lies above the layers learns: the class head, or the vocabulary head of a generator, which in many
    models is the input embedding as well."""

    freezes: ClassVar[bool] = False

    kind: Literal["head"] = "head"

    def rate(self, width: int) -> float:
        return 1e-3

    def attach(self, module: nn.Module, *, labels: bool) -> AttachedWeights:
        learn = [*_above(module, blocks(module)), *vocabulary_head(module)]
        return AttachedWeights(module, learn, labels=labels)


def _rate(width: int) -> float:
    """5e-4 for 384 wide models, falling with the square of the width: 1e-4 for BERT-base, 2e-5 for 2,048."""
    return float(f"{5e-4 * (384 / width) ** 2:.1e}")


def _above(module: nn.Module, stack: nn.ModuleList) -> list[nn.Parameter]:
    """What is registered behind the stack, which is the order of the computation: final norms, poolers, class heads.
    The vocabulary head is as large as many layers, so it learns only when it is asked for."""
    parameters = list(module.parameters())
    inside = {id(parameter) for parameter in stack.parameters()}
    last = max(index for index, parameter in enumerate(parameters) if id(parameter) in inside)
    vocabulary = {id(parameter) for parameter in vocabulary_head(module)}
    return [parameter for parameter in parameters[last + 1 :] if id(parameter) not in vocabulary]


class AttachedWeights(Learning):
    """A module some of whose own weights learn, and a frozen copy of those as they were."""

    def __init__(self, module: nn.Module, learn: list[nn.Parameter], *, labels: bool = False) -> None:
        """`labels`: the module's head is new."""
        self._new = set(head_names(module)) if labels else set()
        chosen = {id(parameter) for parameter in learn}
        for parameter in module.parameters():
            parameter.requires_grad_(id(parameter) in chosen)
            if id(parameter) in chosen:
                parameter.data = parameter.data.float()
        # Frozen weights are shared with the copy: it costs as much memory as what learns, no more.
        shared = {id(p): p for p in module.parameters() if not p.requires_grad}
        self._original = copy.deepcopy(module, memo=dict(shared)).eval().requires_grad_(False)
        self._module: nn.Module = module

    @contextmanager
    def original(self) -> Iterator[nn.Module]:
        yield self._original

    def stand_on(self, first: Any) -> None:
        """The body that learns is that of `first`; the head stays."""
        put_body(self._module, first.module.base_model)
        put_body(self._original, first._original.base_model)

    def see(self, ids: Tensor) -> None:
        """These (U,) are all the tokens there will be to learn from: of the embedding, nothing else need learn."""
        if use_rows(self._module, ids):
            theirs = self._original.get_input_embeddings()  # type: ignore[operator]
            theirs.weight = self._module.get_input_embeddings().weight  # type: ignore[operator]

    def distance(self) -> Tensor:
        total = torch.zeros((), device=next(self._module.parameters()).device)
        for parameter, start in self._changed():
            total = total + (parameter - start).square().sum()
        return total

    def nearer(self, share: float) -> None:
        with torch.no_grad():
            for parameter, start in self._changed():
                parameter.lerp_(start, 1 - share)

    @contextmanager
    def sloped(self) -> Iterator[dict[str, nn.Parameter]]:
        yield self.trainable()

    def pull(self, since: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> Tensor:
        total = torch.zeros((), device=next(self._module.parameters()).device)
        for name, parameter in self.trainable().items():
            if name in weights:
                total = total + Pull.apply(parameter, since[name], weights[name])
        return total

    def _changed(self) -> Iterator[tuple[nn.Parameter, Tensor]]:
        """What learns and is not new, and what it was."""
        starts = dict(self._original.named_parameters())
        for name, parameter in self.trainable().items():
            if name.split(".")[0] not in self._new:
                start = starts[name] if name in starts else rows_before(self._module, name)
                yield parameter, start.detach()

    def merged(self) -> nn.Module:
        plain = copy.deepcopy(self._module).float().eval()
        make_plain(plain)
        fold_rows(plain)
        as_written(plain)
        plain.set_attn_implementation("sdpa")  # type: ignore[operator]
        return plain

    def save(self, folder: str, weights: Mapping[str, Tensor] | None = None) -> None:
        if weights is None:
            self.merged().save_pretrained(folder)  # type: ignore[operator]
        else:  # all of them, so the module gives its shape alone
            named = {**dict(self._module.named_buffers()), **weights}
            kept = {name: named[name] for name in self._module.state_dict() if name in named}
            self._module.save_pretrained(folder, state_dict=kept)  # type: ignore[operator]


class FinishedWeights(AttachedWeights):
    """Weights in use, none of which learns; the model they came from is fetched when somebody asks for it."""

    def __init__(self, module: nn.Module, find_original: Callable[[], nn.Module]) -> None:
        self._module = module.eval().requires_grad_(False)
        self._find = find_original
        self._found: nn.Module | None = None

    @contextmanager
    def original(self) -> Iterator[nn.Module]:
        if self._found is None:
            self._found = self._find().eval().requires_grad_(False)
        yield self._found
