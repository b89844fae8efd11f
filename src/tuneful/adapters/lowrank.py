"""LoRA and kin. PEFT builds, names and saves the adapters, so any tool that knows PEFT reads them; where the plain
form allows it, the layers compute their product in one piece (see `fused.py`)."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import torch
from peft.tuners.lora import Linear
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn

from tuneful.adapters.fused import forget_parts, fuse
from tuneful.adapters.weights import Learning, Pull, PullOfProduct, head_names, put_body
from tuneful.core.errors import RecipeError
from tuneful.core.layers import as_written, blocks
from tuneful.core.linear import make_plain
from tuneful.core.spec import Spec, did_you_mean

if TYPE_CHECKING:
    from peft import LoraConfig, TaskType

MOST_NAMES = 12  # of layers, in a message


class Lora(Spec):
    """Low-rank updates of frozen weights: W' = W + (alpha / rank) B A.

    Hu et al. 2021, arXiv:2106.09685, section 4.1. Defaults: all linear layers and a rate about ten times that of
    full tuning (Schulman et al. 2025, "LoRA Without Regret").
    """

    freezes: ClassVar[bool] = True

    kind: Literal["lora"] = "lora"
    rank: PositiveInt = 16
    """Width of the update; more holds more, at more cost."""
    alpha: PositiveFloat = 32.0
    """Strength of the update; it is divided by the rank, or by its square root with `rslora`."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of inputs of the update set to zero while training."""
    rslora: bool = False
    """Divide alpha by sqrt(rank) (Kalajdzievski 2023, arXiv:2312.03732)."""
    dora: bool = False
    """Learn direction and magnitude apart (Liu et al. 2024, arXiv:2402.09353); slower, not fused."""
    top_layers: PositiveInt | None = None
    """Only so many layers, counted from the top; what lies below is then computed once for each row. None: all."""
    targets: Literal["all-linear"] | list[str] = "all-linear"
    """Which layers: all linear ones, or a list of name endings such as [q_proj, v_proj]."""
    turns: Literal["same", "added", "merged"] = "same"
    """With schedule lifelong, and when a run learns one task more: what a task learns in. same: the LoRA of the tasks
    before, which goes on learning. added: a LoRA of its own of this rank beside theirs, which stay as they are; all of
    them are saved as one, of the sum of their ranks."""
    each_task: bool = False
    """With schedule mixture: every task learns an adapter of its own, as it would in a run of its own, all of them in
    one pass over the base; when the run answers, it is said which, or found out."""
    router: Literal["centroid", "learned"] = "centroid"
    """With `each_task`: how a text finds its adapter when nobody says whose it is. centroid: by the nearest mean of the
    tasks' training rows in the base model's space; learned: by a head solved on these rows."""

    def rate(self, width: int) -> float:
        """1e-3 below 4,096 wide, 3e-4 from there on (the measurements quoted in the guide)."""
        return 1e-3 if width < 4096 else 3e-4

    def attach(self, module: nn.Module, *, labels: bool) -> AttachedLora:
        from peft import get_peft_model

        with quiet():
            wrapped = get_peft_model(known_to_peft(module), self.config(module, labels=labels))
        for parameter in wrapped.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()
        fuse(module)
        return AttachedLora(module, wrapped)

    def config(self, module: nn.Module, *, labels: bool) -> LoraConfig:
        """What PEFT is told. Raises RecipeError where the targets are not in this module."""
        from peft import LoraConfig

        heads = head_names(module) if labels else []
        _check_targets(module, self.targets, heads)
        return LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            use_rslora=self.rslora,
            use_dora=self.dora,
            target_modules=self.targets
            if self.top_layers is None
            else _in_top(known_to_peft(module), self.targets, self.top_layers),
            exclude_modules=heads or None,
            modules_to_save=heads or None,
            task_type=_task(module, labels),
        )


def _task(module: nn.Module, labels: bool) -> TaskType:
    from peft import TaskType

    if known_to_peft(module) is not module:
        return TaskType.FEATURE_EXTRACTION
    return TaskType.SEQ_CLS if labels else TaskType.CAUSAL_LM


def known_to_peft(module: Any) -> Any:
    """A transformers model; of a module that only takes the mean of one, that one, so that the adapter's file is one of
    the encoder."""
    from transformers import PreTrainedModel

    return module if isinstance(module, PreTrainedModel) else module.base_model


def _in_top(module: nn.Module, targets: str | Sequence[str], layers: int) -> list[str]:
    """Full names of the targets in the last layers. Raises RecipeError when there are not so many layers."""
    stack = blocks(module)
    if layers > len(stack):
        raise RecipeError([f"adapter.top_layers: {layers} layers are asked for, and the model has {len(stack)}"])
    inside = {id(child) for block in stack[-layers:] for child in block.modules()}
    names = [name for name, child in module.named_modules() if id(child) in inside and isinstance(child, nn.Linear)]
    return names if isinstance(targets, str) else [n for n in names if any(_fits(target, [n]) for target in targets)]


def _check_targets(module: nn.Module, targets: str | Sequence[str], heads: Sequence[str]) -> None:
    """A list may hold the names of several architectures, but one of them must be here, and none may name a block of
    layers. Raises RecipeError with the names there are."""
    if isinstance(targets, str):
        return
    parts = [name for name, _ in module.named_modules() if name.split(".")[0] not in heads]
    layers = [name for name in parts if getattr(getattr(module.get_submodule(name), "weight", None), "ndim", 0) >= 2]
    odd = [target for target in targets if not _fits(target, layers)]
    if targets and len(odd) < len(targets):
        odd = [target for target in odd if _fits(target, parts)]
    known = sorted({name.rsplit(".", 1)[-1] for name in layers})
    listed = f"Known: {', '.join(known[:MOST_NAMES])}{', ...' if len(known) > MOST_NAMES else ''}"
    problems = [f"adapter.targets: no layer is called '{name}'.{did_you_mean(name, known)} {listed}" for name in odd]
    if problems or not targets:
        raise RecipeError(problems or [f"adapter.targets: is empty; leave it out, or name layers. {listed}"])


def _fits(target: str, names: Sequence[str]) -> bool:
    """PEFT's own rule: a whole name, or its last parts."""
    return any(f".{name}".endswith(f".{target}") for name in names)


def attach_saved(module: nn.Module, folder: str) -> AttachedLora:
    """A saved adapter on its base, to be used and not trained."""
    from peft import PeftConfig, PeftModel

    whole = set(PeftConfig.from_pretrained(folder).modules_to_save or ())
    for name, child in module.named_children():
        if name in whole:
            child.float()  # a class head, saved whole and in float32
    with quiet():
        wrapped = PeftModel.from_pretrained(known_to_peft(module), folder)
    wrapped.requires_grad_(False)
    fuse(module)
    module.eval()
    return AttachedLora(module, wrapped)


@contextmanager
def quiet() -> Iterator[None]:
    """PEFT asks for a property that transformers has renamed, and finds that most heads are left out anyway; nothing
    a person could do about either."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        warnings.filterwarnings("ignore", "You have passed exclude_modules", UserWarning)
        yield


class AttachedLora(Learning):
    """A module whose linear layers carry adapters."""

    def __init__(self, module: nn.Module, wrapped: Any) -> None:
        self._module, self._wrapped = module, wrapped

    @property
    def wrapped(self) -> Any:
        """The same as PEFT has it."""
        return self._wrapped

    @contextmanager
    def original(self) -> Iterator[nn.Module]:
        """The base weights are still there: the adapters step aside, and so does dropout."""
        was_training = self._module.training
        self._module.eval()
        try:
            with self._wrapped.disable_adapter():
                yield self._module
        finally:
            self._module.train(was_training)

    def distance(self) -> Tensor:
        """|s B A|^2 = s^2 sum((B' B) * (A A')), so that no update is ever made whole."""
        total = torch.zeros((), device=next(self._module.parameters()).device)
        for down_KI, up_OK, scale in self._updates().values():
            total = total + scale**2 * ((up_OK.T @ up_OK) * (down_KI @ down_KI.T)).sum()
        return total

    def nearer(self, share: float) -> None:
        with torch.no_grad():
            for _, up_OK, _ in self._updates().values():
                up_OK.mul_(share)

    @contextmanager
    def sloped(self) -> Iterator[dict[str, nn.Parameter]]:
        """The frozen weights, to which updates are added: their slope is that of the sum. Layers go PEFT's way then."""
        weights = {name: self._module.get_parameter(name) for name in self._updates()}
        others = self._besides()
        try:
            for weight in weights.values():
                weight.requires_grad_(True)
            forget_parts(self._module)
            yield {**weights, **others}
        finally:
            for weight in weights.values():
                weight.requires_grad_(False)
            forget_parts(self._module)

    def pull(self, since: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> Tensor:
        total = torch.zeros((), device=next(self._module.parameters()).device)
        named = {id(parameter): name for name, parameter in self.trainable().items()}
        for name, (down_KI, up_OK, scale) in self._updates().items():
            if name in weights:
                then = since[named[id(down_KI)]], since[named[id(up_OK)]]
                total = total + PullOfProduct.apply(down_KI, up_OK, then, scale, weights[name])
        for name, parameter in self._besides().items():
            if name in weights:
                total = total + Pull.apply(parameter, since[name], weights[name])
        return total

    def _updates(self) -> dict[str, tuple[Tensor, Tensor, float]]:
        """A (K, I), B (O, K) and what their product is scaled by, by the name of the weight that it is added to."""
        return {
            f"{place}.base_layer.weight": (layer.lora_A[name].weight, layer.lora_B[name].weight, layer.scaling[name])
            for place, layer in self._module.named_modules()
            if isinstance(layer, Linear)
            for name in layer.active_adapters
        }

    def _besides(self) -> dict[str, nn.Parameter]:
        """What learns by itself: a new head."""
        paired = {id(part) for down_KI, up_OK, _ in self._updates().values() for part in (down_KI, up_OK)}
        return {name: parameter for name, parameter in self.trainable().items() if id(parameter) not in paired}

    def stand_on(self, first: Any) -> None:
        """The adapter is that of `first`, and so is the body under it; the head stays."""
        body = first.module.base_model
        if known_to_peft(self._module) is not self._module:
            self._wrapped.base_model.model = body
        put_body(self._module, body)

    def merged(self) -> nn.Module:
        """W + (alpha / rank) B A in float32, in a plain transformers model of its own. A quantised W is the one that
        was tuned, made whole: what is merged answers as what was measured."""
        plain, whole = copy.deepcopy((self._module, self._wrapped))  # at once, for one holds the other
        whole.float()
        make_plain(whole)
        whole.merge_and_unload(adapter_names=self._merged_names())  # in place
        as_written(plain)
        plain.set_attn_implementation("sdpa")  # type: ignore[operator]
        return plain.eval()

    def _merged_names(self) -> list[str] | None:
        """PEFT's names of the adapters that are folded in; None: of those that are active."""
        return None

    def save(self, folder: str, weights: Mapping[str, Tensor] | None = None) -> None:
        named = {f"base_model.model.{name}": tensor for name, tensor in (weights or {}).items()}
        self._wrapped.save_pretrained(folder, save_embedding_layers=False, state_dict=named or None)
