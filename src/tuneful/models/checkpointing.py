"""Layers that keep their input alone and are computed again in the backward pass (Chen et al. 2016, arXiv:1604.06174).

Random numbers are drawn as the first time, so dropout is the same and no number changes.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from tuneful.core.errors import ModelError
from tuneful.core.layers import blocks


def compute_twice(module: nn.Module) -> None:
    """Turns it on in every layer of the stack. Raises ModelError where transformers has no place for it."""
    layers: list[Any] = list(blocks(module))
    if not all(isinstance(layer, GradientCheckpointingLayer) for layer in layers):
        raise ModelError(
            f"the layers of {type(module).__name__} cannot be computed twice; set "
            "optimiser.gradient_checkpointing=false and, if memory is short, lower optimiser.micro_tokens"
        )
    for layer in layers:
        # Set here, and not through the model's own method, which would ask for slopes of the embeddings as well.
        layer.gradient_checkpointing = True
        layer._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False)
