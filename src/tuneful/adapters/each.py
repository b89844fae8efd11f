"""Several LoRA adapters on one frozen base, each of which reads rows of its own, in training too (`core/grouped.py`).
PEFT builds, names and saves every one of them, so any tool that knows PEFT reads each by itself."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from peft.tuners.lora import Linear
from peft.utils import ModulesToSaveWrapper
from torch import Tensor, nn

from tuneful.adapters.fused import FusedLinear, fuse
from tuneful.adapters.lowrank import AttachedLora, Lora, known_to_peft, quiet
from tuneful.core.device import random_state, set_random_state
from tuneful.core.errors import RecipeError
from tuneful.core.grouped import ADAPTERS, Grouped, Routes
from tuneful.core.products import Product

NEVER = -1e4  # the logit of a class that is another task's: no share of it is left in float32, and no slope


def attach_each(lora: Lora, module: nn.Module, tasks: Sequence[str], *, labels: bool) -> AttachedEach:
    """An adapter a task, all of which begin as the only one of a run would. Raises RecipeError."""
    from peft import get_peft_model

    names, chance = _names(tasks), random_state()
    with quiet():
        wrapped = get_peft_model(known_to_peft(module), lora.config(module, labels=labels), adapter_name=names[0])
        found = wrapped.peft_config[names[0]]  # with the layers written out
        for name in names[1:]:
            set_random_state(chance)
            wrapped.add_adapter(name, copy.deepcopy(found))
    for name, parameter in module.named_parameters():
        if set(names).intersection(name.split(".")):
            parameter.requires_grad_(True)
            parameter.data = parameter.data.float()
    return _told_apart(module, wrapped, tasks)


def attach_saved_each(module: nn.Module, folder: Path, tasks: Sequence[str]) -> AttachedEach:
    """Saved adapters on their base, to be used and not trained."""
    from peft import PeftModel

    names = _names(tasks)
    with quiet():
        wrapped = PeftModel.from_pretrained(known_to_peft(module), str(folder / tasks[0]), adapter_name=names[0])
        for name, task in zip(names[1:], tasks[1:], strict=True):
            wrapped.load_adapter(str(folder / task), adapter_name=name)
    wrapped.requires_grad_(False)
    module.eval()
    return _told_apart(module, wrapped, tasks)


def _names(tasks: Sequence[str]) -> tuple[str, ...]:
    """PEFT's, which must be names of Python attributes."""
    return tuple(f"task{number}" for number in range(len(tasks)))


def _told_apart(module: nn.Module, wrapped: Any, tasks: Sequence[str]) -> AttachedEach:
    routes = Routes(_names(tasks))
    fuse(module)
    for layer in module.modules():
        if isinstance(layer, FusedLinear):
            layer.__class__ = EachLinear
        elif isinstance(layer, Linear):
            raise RecipeError(["adapter.each_task: rows of several tasks are read at once, which this model or kind of "
                               "LoRA (dora) does not allow; make one run of each task"])  # fmt: skip
        elif type(layer) is ModulesToSaveWrapper:
            layer.__class__ = EachHead
        if isinstance(layer, EachLinear | EachHead):
            layer.routes = routes
    return AttachedEach(module, wrapped, tasks, routes)


class EachLinear(FusedLinear):
    """A frozen linear layer and several low-rank updates, each for rows of its own."""

    routes: Routes

    @property
    def answering(self) -> str:
        return self.routes.name

    def product_for(self, x: Tensor) -> Product | Grouped:
        if not self.routes.several:
            return self.product()
        members = []
        for adapter, part in self.routes.parts(x):
            with self.routes.only(adapter):
                members.append((self.product(), part))
        return Grouped(members)


class EachHead(ModulesToSaveWrapper):  # type: ignore[misc]
    """A head above the layers, one for each task."""

    routes: Routes
    own: Mapping[str, Sequence[int]] = MappingProxyType({})  # by PEFT's name, classes that it may answer with

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        if self.disable_adapters:
            return self.original_module(x, *args, **kwargs)
        if not self.routes.several:
            return self._answer(self.routes.name, x, *args, **kwargs)
        inner = x[0].numel() // x.shape[-1]  # vectors of a row
        return torch.cat([
            self._answer(self.routes.names[adapter], x[part.start // inner : part.stop // inner], *args, **kwargs)
            for adapter, part in self.routes.parts(x)
        ])  # fmt: skip

    def close(self, name: str) -> None:
        """Whoever reads this head by itself, without our rule, gets the classes of its task as well. A head without a
        bias (Llama's `score`) cannot say so, and has the classes of all tasks for other readers."""
        last = [layer for layer in self.modules_to_save[name].modules() if isinstance(layer, nn.Linear)]
        if name in self.own and last and last[-1].bias is not None:
            others = sorted(set(range(len(last[-1].bias))) - set(self.own[name]))
            with torch.no_grad():
                last[-1].bias[others] = NEVER

    def _answer(self, name: str, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        answer: Tensor = self.modules_to_save[name](x, *args, **kwargs)
        if not self.own:
            return answer
        others = torch.ones(answer.shape[-1], dtype=torch.bool, device=answer.device)
        others[list(self.own[name])] = False
        return answer.masked_fill(others, NEVER)


class AttachedEach(AttachedLora):
    """A module whose linear layers carry an adapter for each task."""

    def __init__(self, module: nn.Module, wrapped: Any, tasks: Sequence[str], routes: Routes) -> None:
        super().__init__(module, wrapped)
        self.tasks, self._routes = tuple(tasks), routes

    @contextmanager
    def original(self) -> Iterator[nn.Module]:
        """As for one adapter; but PEFT, when it switches them on again, would let only the first of several learn."""
        layers = [layer for layer in self._module.modules() if isinstance(layer, EachLinear | EachHead)]
        was_training = self._module.training
        self._module.eval()
        for layer in layers:
            layer._disable_adapters = True
        try:
            yield self._module
        finally:
            for layer in layers:
                layer._disable_adapters = False
            self._module.train(was_training)

    def routed(self, inputs: Mapping[str, Tensor]) -> AbstractContextManager[None]:
        """A pass over these inputs, whose tokens are read by whoever they say."""
        return self._routes.along(inputs.get(ADAPTERS), len(inputs["rows"]) if "rows" in inputs else 0)

    def tell_apart(self, classes: Mapping[str, Sequence[int]]) -> None:
        """Of the classes of the head each task answers with these, its own."""
        heads = [layer for layer in self._module.modules() if isinstance(layer, EachHead)]
        if classes:
            heads[-1].own = {name: classes[task] for name, task in zip(self._routes.names, self.tasks, strict=True)}

    def of_task(self, task: str) -> AbstractContextManager[None]:
        """The model of one task for as long as the context, where rows do not say whose they are."""
        return self._routes.only(self.tasks.index(task))

    def learned_by(self, task: str) -> dict[str, nn.Parameter]:
        """What of `trainable` is this task's."""
        name = self._routes.names[self.tasks.index(task)]
        return {key: parameter for key, parameter in self.trainable().items() if name in key.split(".")}

    def _updates(self) -> dict[str, tuple[Tensor, Tensor, float]]:
        """Of all tasks."""
        return {
            f"{place}.{name}": (layer.lora_A[name].weight, layer.lora_B[name].weight, layer.scaling[name])
            for place, layer in self._module.named_modules()
            if isinstance(layer, EachLinear)
            for name in self._routes.names
        }

    def _merged_names(self) -> list[str]:
        """The task's that answers at the moment."""
        return [self._routes.name]

    def save(self, folder: str, weights: Mapping[str, Tensor] | None = None) -> None:
        """A folder a task, each an adapter of its own."""
        assert weights is None, "adapters of several tasks are never shared out"
        for head in (layer for layer in self._module.modules() if isinstance(layer, EachHead)):
            for name in self._routes.names:
                head.close(name)
        self._wrapped.save_pretrained(folder, save_embedding_layers=False)
        for name in self._routes.names:  # a task may be called what PEFT calls another one's
            (Path(folder) / name).rename(Path(folder) / f".{name}")
        for name, task in zip(self._routes.names, self.tasks, strict=True):
            (Path(folder) / f".{name}").rename(Path(folder) / task)
