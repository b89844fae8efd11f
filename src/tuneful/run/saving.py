"""What was learned, in the forms that other tools read."""

from __future__ import annotations

import torch

from tuneful.adapters.each import AttachedEach
from tuneful.adapters.lowrank import attach_saved
from tuneful.core.device import is_first
from tuneful.core.files import new_folder
from tuneful.core.protocols import Attached
from tuneful.models.load import load
from tuneful.run import routing
from tuneful.run.build import Built
from tuneful.run.each import each_of
from tuneful.run.folder import RunFolder
from tuneful.run.scale import in_own_unit


def save_weights(built: Built, folder: RunFolder) -> None:
    """`adapter/` for adapters, `model/` for tuned weights; each with tokenizer and template. An encoder without a head
    is there as one model in any case, which is what tools for vectors read."""
    attached, labels = built.policy.attached, built.prepared.labels
    processor, freezes = built.prepared.processor, built.prepared.resolved.adapter.freezes
    target = folder.adapter if freezes else folder.model
    if isinstance(attached, AttachedEach):
        save_each(built, folder)
        return
    with in_own_unit(built.policy.module, labels):
        if not is_first():  # here only where the model is sharded, to hand over its share
            attached.save("")
            return
        with new_folder(target) as scratch:
            attached.save(str(scratch))
            processor.save(str(scratch))
        if freezes and (built.recipe.save.merged or built.prepared.layout.vectors):
            whole = attached if built.recipe.quantise is None else _on_own_weights(built, str(target))
            with new_folder(folder.model) as scratch:
                whole.merged().save_pretrained(scratch)  # type: ignore[operator]
                processor.save(str(scratch))


def save_each(built: Built, folder: RunFolder) -> None:
    """`adapters/TASK/`, each with tokenizer and template, and beside them what tells whose a text is."""
    with new_folder(folder.adapters) as scratch:
        built.policy.attached.save(str(scratch))
        for task in each_of(built.recipe):
            built.prepared.processor.save(str(scratch / task))
        routing.save(built, scratch)


def _on_own_weights(built: Built, adapter: str) -> Attached:
    """What was tuned over quantised weights, over the weights themselves: it answers better there (docs/log.md)."""
    recipe, labels = built.recipe, built.prepared.labels
    loaded = load(
        str(recipe.model),
        labels=built.prepared.head,
        dtype=torch.bfloat16 if recipe.precision == "bf16" and labels is None else torch.float32,
        trust_remote_code=recipe.trust_remote_code,
    )
    return attach_saved(loaded.module, adapter)
