"""Leaving parts of the model out while it learns."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from tuneful.core.dropout import attention_dropouts, hidden_dropouts
from tuneful.core.layers import blocks, frozen_depth, instead
from tuneful.core.policy import Policy
from tuneful.core.sharded import is_sharded
from tuneful.core.spec import Spec
from tuneful.core.types import Batch, Terms

Share = Annotated[float, Field(ge=0, lt=1)]


class Dropout(Spec):
    """Other shares of dropout than the model came with, while it learns; LoRA has a setting of its own.

    Srivastava et al. 2014 (JMLR 15), section 4. Many decoders drop nothing but attention.
    """

    kind: Literal["dropout"] = "dropout"
    hidden: Share | None = None
    """Of hidden states, wherever the model drops any. None: as the model came."""
    attention: Share | None = None
    """Of attention weights. None: as the model came."""

    def problems(self, policy: Policy) -> list[str]:
        """Settings that nothing in this model reads."""
        found = []
        if self.hidden is None and self.attention is None:
            found.append("regularisers: dropout needs `hidden` or `attention`, a share below 1")
        if self.hidden is not None and not hidden_dropouts(policy.module):
            found.append("regularisers: this model drops no hidden states, so dropout.hidden would change nothing; "
                         "use dropout.attention or layer_drop")  # fmt: skip
        if self.attention is not None and not attention_dropouts(policy.module):
            found.append("regularisers: this model drops no attention, so dropout.attention would change nothing")
        return found

    @contextmanager
    def during(self, policy: Policy, batch: Batch) -> Iterator[None]:
        """The shares are those of the model again afterwards."""
        asked: list[tuple[Any, str, float | None]] = [
            (part, "p", self.hidden) for part in hidden_dropouts(policy.module)
        ]
        asked += [(*place, self.attention) for place in attention_dropouts(policy.module)]
        before = [(owner, name, getattr(owner, name)) for owner, name, share in asked if share is not None]
        for owner, name, share in asked:
            if share is not None:
                setattr(owner, name, share)
        try:
            yield
        finally:
            for owner, name, share in before:
                setattr(owner, name, share)

    def __call__(self, policy: Policy, batch: Batch, terms: Terms) -> Tensor:
        """Nothing beside what is dropped."""
        return terms.losses.new_zeros(())


class LayerDrop(Spec):
    """Each layer that learns is left out of a batch with probability `share`, and answers with what it was given.

    Fan et al. 2020, arXiv:1909.11556, section 3.1; one choice a batch, nothing rescaled.
    """

    kind: Literal["layer_drop"] = "layer_drop"
    share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Of the layers, on average."""

    def problems(self, policy: Policy) -> list[str]:
        """There must be layers to leave out, which answer with what the next one reads."""
        if len(blocks(policy.module)) - frozen_depth(policy.module) < 2:
            return ["regularisers: layer_drop leaves out some of the layers that learn, and here fewer than two do"]
        if any(map(is_sharded, policy.trainable().values())):
            return ["regularisers: layer_drop leaves out other layers on every rank, and all ranks bring a sharded one "
                    "together at once; leave out sharded"]  # fmt: skip
        if not _answers_with_states(policy):
            return ["regularisers: layers of this architecture answer with more than their states, so layer_drop can "
                    "leave none out"]  # fmt: skip
        return []

    @contextmanager
    def during(self, policy: Policy, batch: Batch) -> Iterator[None]:
        """Passes without a slope (the reference) use all layers."""
        stack = list(blocks(policy.module))[frozen_depth(policy.module) :]
        drawn = torch.rand(len(stack)) < self.share
        if drawn.all():  # something must learn
            drawn[int(torch.randint(len(stack), ()))] = False
        with ExitStack() as all_of_them:
            for layer, out in zip(stack, drawn.tolist(), strict=True):
                if out:
                    all_of_them.enter_context(instead(layer, _passing(layer)))
            yield

    def __call__(self, policy: Policy, batch: Batch, terms: Terms) -> Tensor:
        """Nothing beside what is left out."""
        return terms.losses.new_zeros(())


def _answers_with_states(policy: Policy) -> bool:
    heard: list[Any] = []
    few = torch.arange(4, device=policy.device)
    segments, rows = torch.tensor([[0, 4, -1]]), torch.tensor([0])
    training = policy.module.training
    hook = blocks(policy.module)[-1].register_forward_hook(lambda *given: heard.append(given[2]))
    try:
        policy.module.eval()
        policy.read({"input_ids": few[None], "position_ids": few[None], "segments": segments, "rows": rows})
    finally:
        hook.remove()
        policy.module.train(training)
    return all(isinstance(answer, Tensor) for answer in heard)


def _passing(layer: nn.Module) -> Any:
    own = layer.forward

    def answer(hidden_states: Tensor, *given: Any, **named: Any) -> Any:
        return hidden_states if torch.is_grad_enabled() else own(hidden_states, *given, **named)

    return answer
