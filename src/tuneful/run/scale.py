"""Numbers are learned in standard deviations; what is saved answers in the person's own unit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from tuneful.data.labels import LabelSet


@contextmanager
def in_own_unit(module: nn.Module, labels: LabelSet | None) -> Iterator[None]:
    """Folds mean and deviation into the last layer of the head, and takes them out again."""
    if labels is None or labels.kind != "number":
        yield
        return
    last = [layer for name, layer in module.named_modules() if isinstance(layer, nn.Linear) and _is_head(name, layer)]
    with torch.no_grad():
        before = [(layer, {n: p.clone() for n, p in layer.named_parameters()}) for layer in last]
        for layer in last:
            layer.weight.mul_(labels.deviation)
            if layer.bias is not None:
                layer.bias.mul_(labels.deviation).add_(labels.mean)
    try:
        yield
    finally:
        with torch.no_grad():
            for layer, values in before:
                for name, parameter in layer.named_parameters():
                    parameter.copy_(values[name])


def _is_head(name: str, layer: nn.Linear) -> bool:
    """An adapter of rank 1 has such layers too."""
    return layer.out_features == 1 and layer.weight.requires_grad and "lora_" not in name
