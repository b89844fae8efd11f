"""Frozen layers run once: the hidden states at the cut below which nothing learns are kept, for every later epoch and
every later run with the same cut.

A row's states depend on its own tokens alone, so they are kept by row, whatever rows it is packed with. Dropout below
the cut is off, or there would be nothing to keep.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from tuneful.core.layers import blocks, instead
from tuneful.core.store import RowStore
from tuneful.models.examine import UNKNOWN, agree, probe_rows
from tuneful.models.network import Network, paths


def above(network: Network, module: nn.Module, depth: int, store: RowStore) -> Network:
    """The network with its lowest layers kept, if it then answers as before; else the network itself."""
    if depth < 1 or not network.packed:
        return network
    facts = {item.name: getattr(network, item.name) for item in fields(network)}
    kept, probe = NetworkAbove(**facts, depth=depth, store=store), probe_rows(module)
    training = module.training
    module.eval()
    try:
        with torch.no_grad(), suppress(*UNKNOWN):
            truth = network.hidden(module, probe)
            if agree(truth, kept.hidden(module, probe)) and agree(truth, kept.hidden(module, probe)):
                return kept
    finally:
        module.train(training)
    return network


@dataclass(frozen=True, kw_only=True)
class NetworkAbove(Network):
    """A network whose lowest `depth` layers are read from the store where they can be."""

    depth: int
    store: RowStore

    def hidden(self, module: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
        """(N, D)"""
        if not self.packs(inputs):
            return Network.hidden(self, module, inputs)
        below = self._known(inputs)
        if below is None:
            below = self._read(module, inputs)
        with _answering(list(blocks(module))[: self.depth], below):
            return Network.hidden(self, module, inputs)

    def _known(self, inputs: Mapping[str, Tensor]) -> Tensor | None:
        """(N, D) put together from the rows of the batch; None if one is missing."""
        found: Tensor | None = None
        for path in _paths(inputs):
            states = self.store.get(inputs["input_ids"][0, path].cpu().numpy())
            if states is None:
                return None
            if found is None:
                found = states.new_zeros(inputs["input_ids"].shape[1], states.shape[1])
            found[path.cpu()] = states
        return None if found is None else found.to(inputs["input_ids"].device)

    def _read(self, module: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
        heard: list[Tensor] = []
        stack = list(blocks(module))
        training = module.training
        module.eval()
        hook = stack[self.depth - 1].register_forward_hook(lambda _, __, out: heard.append(_states(out)[0]))
        try:
            with torch.no_grad(), _skipped(stack[self.depth :]):
                Network.hidden(self, module, inputs)
        finally:
            hook.remove()
            module.train(training)
        below = heard[0][: inputs["input_ids"].shape[1]]
        for path in _paths(inputs):
            self.store.put(inputs["input_ids"][0, path].cpu().numpy(), below[path])
        return below


def _paths(inputs: Mapping[str, Tensor]) -> list[Tensor]:
    """Of each row, its packed tokens."""
    index, real = paths(inputs["segments"], inputs["rows"])
    return [row[here] for row, here in zip(index, real, strict=True)]


@contextmanager
def _answering(layers: Sequence[nn.Module], states: Tensor) -> Iterator[None]:
    """The last of these layers answers with `states` (N, D), and the others are not asked."""

    def answer(hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
        spare = hidden_states.shape[1] - len(states)  # tokens nobody reads
        return nn.functional.pad(states, (0, 0, 0, spare))[None]

    with _skipped(layers[:-1]), instead(layers[-1], answer):
        yield


@contextmanager
def _skipped(layers: Sequence[nn.Module]) -> Iterator[None]:
    with ExitStack() as all_of_them:
        for layer in layers:
            all_of_them.enter_context(instead(layer, lambda hidden_states, *_, **__: hidden_states))
        yield


def _states(out: Any) -> Tensor:
    return out[0] if isinstance(out, tuple) else out
