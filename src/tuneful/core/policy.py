"""Model, adapter and precision behind one door: what objectives, regularisers and samplers may touch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from tuneful.core import vocabulary
from tuneful.core.protocols import Routed
from tuneful.core.vocabulary import Vocabulary, token_kl, token_logprobs

if TYPE_CHECKING:
    from tuneful.core.protocols import Attached, Network
    from tuneful.core.types import Batch

Scope = Callable[[], AbstractContextManager[nn.Module]]


class Outputs:
    """One forward pass. Holds hidden states only; logits are computed where and when they are asked for."""

    def __init__(
        self,
        network: Network,
        scope: Scope,
        hidden: Tensor,
        inputs: Mapping[str, Tensor],
        classes: slice | None = None,
    ) -> None:
        self.hidden = hidden  # (N, D) packed real tokens, no padding
        self._network, self._scope, self._inputs, self._classes = network, scope, inputs, classes
        self._logits: Tensor | None = None

    def token_logprobs(self, targets: Tensor, where: Tensor) -> Tensor:
        """log p(targets[i]) as the token after position where[i]; both (M,), the answer (M,) float32."""
        with self._scope() as module:
            return token_logprobs(self._network.vocabulary(module), self.hidden[where], targets)

    def token_kl(self, start: Outputs, where: Tensor) -> Tensor:
        """KL(start || this) of the next-token distributions at `where`, (M,); gradients flow into this only."""
        with start._scope() as module, torch.no_grad():
            theirs = start._network.vocabulary(module)
        with self._scope() as module:
            ours = self._network.vocabulary(module)
            return token_kl(ours, self.hidden[where], theirs, start.hidden[where])

    def token_entropy(self, where: Tensor) -> Tensor:
        """Nats of the next-token distributions at `where`, (M,)."""
        with self._scope() as module:
            return vocabulary.token_entropy(self._network.vocabulary(module), self.hidden[where])

    def token_mean_logprob(self, where: Tensor) -> Tensor:
        """Mean of log p over the whole vocabulary at `where`, (M,)."""
        with self._scope() as module:
            return vocabulary.token_mean_logprob(self._network.vocabulary(module), self.hidden[where])

    def token_apart(self, other: Outputs, where: Tensor) -> Tensor:
        """KL(this || other) + KL(other || this) of two looks of one model, (M,); gradients flow into both."""
        with self._scope() as module:
            return vocabulary.token_apart(self._network.vocabulary(module), self.hidden[where], other.hidden[where])

    def class_logits(self) -> Tensor:
        """(R, C) float32, through the model's own classification head; the same for all who ask. Of the classes
        C those that the batch tells apart."""
        logits = self.all_class_logits()
        return logits if self._classes is None else logits[:, self._classes]

    def all_class_logits(self) -> Tensor:
        """(R, C) float32, C all classes of the head."""
        if self._logits is None:
            with self._scope() as module:
                self._logits = self._network.class_logits(module, self.hidden, self._inputs).float()
        return self._logits

    def embeddings(self) -> Tensor:
        """(R, D) float32 of unit length: one vector a row."""
        return nn.functional.normalize(self._network.embeddings(self.hidden, self._inputs).float(), dim=-1)


class Policy:
    """What is being tuned. One forward a batch, however many components ask."""

    def __init__(
        self,
        network: Network,
        attached: Attached,
        *,
        autocast: torch.dtype | None = None,
        gathered: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """`gathered` brings sharded weights together for a pass and its backward pass, or for many without a slope;
        whoever makes passes makes them inside."""
        self.network, self.attached, self.autocast, self.gathered = network, attached, autocast, gathered
        self._routed = attached.routed if isinstance(attached, Routed) else lambda inputs: nullcontext()
        self.known: dict[int, float] = {}  # what the model said before tuning, by the name of a text
        self._memo: tuple[Batch, Outputs] | None = None
        self._memo_reference: tuple[Batch, Outputs] | None = None

    @property
    def module(self) -> nn.Module:
        return self.attached.module

    @property
    def device(self) -> torch.device:
        return next(self.module.parameters()).device

    def of(self, task: str) -> Policy:
        """Through which the batches of a task are read; of another kind of task it may be another."""
        return self

    def __call__(self, batch: Batch) -> Outputs:
        if self._memo is None or self._memo[0] is not batch:
            self._memo = (batch, self._forward(lambda: nullcontext(self.module), batch.inputs, batch.classes))
        return self._memo[1]

    def again(self, batch: Batch) -> Outputs:
        """The same batch once more, with dropout of its own; not remembered."""
        return self._forward(lambda: nullcontext(self.module), batch.inputs, batch.classes)

    def lengths(self, batch: Batch) -> Tensor:
        """(N,) for each packed token of the batch how many its row has, or up to the end of a part that rows share."""
        ends: list[int] = []
        sizes: list[int] = []
        for start, end, parent in batch.inputs["segments"].tolist():
            ends.append(end - start + (ends[parent] if parent >= 0 else 0))
            sizes.append(end - start)
        return torch.tensor(ends).repeat_interleave(torch.tensor(sizes))

    @property
    def several(self) -> bool:
        """Each task has an adapter of its own."""
        return isinstance(self.attached, Routed)

    def of_task(self, task: str) -> AbstractContextManager[None]:
        """This task's model for as long as the context, where each has an adapter of its own and nobody else says whose
        tokens are whose."""
        if isinstance(self.attached, Routed) and task in self.attached.tasks:
            return self.attached.of_task(task)
        return nullcontext()

    def distance(self) -> Tensor:
        """Sum of the squares of what has changed in the weights since tuning began, a new head's left out; float32,
        differentiable."""
        return self.attached.distance()

    def reference(self, batch: Batch) -> Outputs:
        """The same batch through the model as it was before tuning: no gradient, dropout off."""
        if self._memo_reference is None or self._memo_reference[0] is not batch:
            with torch.no_grad():
                self._memo_reference = (batch, self._forward(self.attached.original, batch.inputs, batch.classes))
        return self._memo_reference[1]

    def read(self, inputs: Mapping[str, Tensor], *, original: bool = False) -> Outputs:
        """A forward pass for evaluation, not remembered."""
        scope: Scope = self.attached.original if original else lambda: nullcontext(self.module)
        with torch.no_grad():
            return self._forward(scope, inputs)

    def through(self, module: nn.Module, batch: Batch) -> Outputs:
        """The same batch through another module of this architecture, without a slope; not remembered."""
        with torch.no_grad():
            return self._forward(lambda: nullcontext(module), batch.inputs, batch.classes)

    def rebuilt_logprobs(self, vectors_RD: Tensor, tokens_M: Tensor, rows_M: Tensor, shown_M: Tensor) -> Tensor:
        """log p of each token that is not `shown` (bool), told by the vector of its row, float32; `rows` are in order.

        The matrix that tokens are named by is the input embedding as it was before tuning, so it gets no gradient."""
        with self.autocasting(), self.attached.original() as start:
            table: Tensor = start.get_input_embeddings().weight.detach()  # type: ignore[operator]
            states_MD = self.network.rebuilt(self.module, vectors_RD, table[tokens_M], rows_M, shown_M)
            return token_logprobs(Vocabulary(table), states_MD[~shown_M], tokens_M[~shown_M])

    def trainable(self) -> dict[str, nn.Parameter]:
        return self.attached.trainable()

    def forget(self) -> None:
        """Let go of the remembered forward passes: their memory is needed, or the weights have moved."""
        self._memo = self._memo_reference = None

    def _forward(self, scope: Scope, inputs: Mapping[str, Tensor], classes: slice | None = None) -> Outputs:
        @contextmanager
        def cast_scope() -> Iterator[nn.Module]:
            with self.autocasting(), self._routed(inputs), scope() as module:
                yield module

        with cast_scope() as module:
            hidden = self.network.hidden(module, inputs)
        return Outputs(self.network, cast_scope, hidden, inputs, classes)

    def autocasting(self) -> AbstractContextManager[object]:
        if self.autocast is None:
            return nullcontext()
        return torch.autocast(self.device.type, self.autocast)
