"""Prepared recipe -> what the loop needs: policy, objective, schedule, optimiser, and what it will cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from tuneful.adapters import Full, Lora, TopLayers
from tuneful.adapters.full import AttachedWeights
from tuneful.adapters.weights import head_names
from tuneful.core.device import cache_folder, machine, pick_device, prepare_process, seed_everything
from tuneful.core.files import keep_newest
from tuneful.core.layers import frozen_depth
from tuneful.core.policy import Policy
from tuneful.core.quantised import BYTES
from tuneful.core.store import RowStore
from tuneful.core.types import Layout
from tuneful.data.layouts import Collator
from tuneful.engine.cost import Cost, Work, predict
from tuneful.engine.update import Updater
from tuneful.models.below import above
from tuneful.models.block import prepare_training
from tuneful.models.kept import identity
from tuneful.models.load import Labels, Loaded, load
from tuneful.models.network import Network
from tuneful.recipe import Recipe
from tuneful.run.prepare import Prepared
from tuneful.schedules.epochs import Cut, EpochSteps

Say = Callable[[str], None]
STORES = 8  # of hidden states, kept at most; the one used longest ago goes


@dataclass(frozen=True, slots=True)
class Built:
    """A run ready to start."""

    prepared: Prepared
    policy: Policy
    collate: Collator
    schedule: EpochSteps
    optimiser: Updater
    cost: Cost

    @property
    def recipe(self) -> Recipe:
        return self.prepared.recipe


def build(prepared: Prepared, say: Say = lambda _: None) -> Built:
    """Loads the model and attaches the adapter. Everything random comes from the recipe's seed."""
    recipe, resolved = prepared.recipe, prepared.resolved
    prepare_process()
    seed_everything(recipe.seed)
    policy = build_policy(prepared, say)
    if isinstance(policy.attached, AttachedWeights) and not recipe.optimiser.weight_decay:
        policy.attached.see(torch.from_numpy(np.unique(np.concatenate([row.ids for row in prepared.repeated]))))
    policy.module.train()
    prepare_training(policy.module)
    collate = Collator(
        prepared.layout,
        share=prepared.layout is Layout.TOKENS and policy.network.shares,
    )
    cut = Cut(resolved.rows_per_step, recipe.optimiser.micro_tokens)
    schedule = EpochSteps(prepared.repeated, collate, cut, resolved.steps, recipe.seed)
    heads = head_names(policy.module) if prepared.labels else []
    optimiser = Updater(recipe.optimiser, policy.trainable(), steps=len(schedule), heads=heads)
    return Built(prepared, policy, collate, schedule, optimiser, cost(prepared, policy))


def build_policy(prepared: Prepared, say: Say = lambda _: None) -> Policy:
    recipe, labels, adapter = prepared.recipe, prepared.labels, prepared.resolved.adapter
    compute = torch.bfloat16 if prepared.resolved.precision == "bf16" else torch.float32
    loaded = load(
        str(recipe.model),
        labels=Labels(labels.names, labels.problem) if labels else None,
        dtype=compute if adapter.freezes else torch.float32,
        device=pick_device(),
        trust_remote_code=recipe.trust_remote_code,
        quantise=recipe.quantise,
        say=say,
    )
    attached = adapter.attach(loaded.module, labels=labels is not None)
    # Weights that learn stay in float32, and are rounded where a product reads them.
    autocast = None if adapter.freezes or compute == torch.float32 else compute
    network = with_frozen_layers_kept(loaded, prepared.resolved.precision)
    return Policy(network, attached, autocast=autocast)


def with_frozen_layers_kept(loaded: Loaded, products: str) -> Network:
    """Below the first layer that learns, hidden states are computed once for each row."""
    depth = frozen_depth(loaded.module)
    if depth < 1:
        return loaded.network
    dtype = loaded.module.get_input_embeddings().weight.dtype  # type: ignore[operator]
    width = loaded.module.config.get_text_config().hidden_size  # type: ignore[union-attr, operator]
    place = cache_folder() / "hidden"
    name = f"{identity(loaded.folder)}-{depth}-{dtype}-{products}-{loaded.quantise or 'whole'}".replace("torch.", "")
    store = RowStore(place / name, width, dtype)
    keep_newest(place, STORES)
    return above(loaded.network, loaded.module, depth, store)


def cost(prepared: Prepared, policy: Policy | None = None) -> Cost:
    """Predicted from the architecture and this machine's measured matrix rate; no model is needed."""
    resolved, size, rows = prepared.resolved, prepared.size, prepared.repeated
    recipe = prepared.recipe
    trainable = sum(p.numel() for p in policy.trainable().values()) if policy else _guess_trainable(prepared)
    here = machine()
    work = Work(
        tokens=round(resolved.epochs * sum(map(len, rows))),
        learned=round(resolved.epochs * sum(row.learned for row in rows)),
        steps=resolved.steps,
        body=size.body,
        vocabulary=size.vocabulary if prepared.layout is Layout.TOKENS else 0,
        trainable=trainable,
        total=size.total,
        width=size.width,
        layers=size.layers,
        frozen_body=resolved.adapter.freezes,
        micro_tokens=_largest_batch(prepared),
        precision=resolved.precision,
        frozen_bytes=BYTES[kind] if (kind := recipe.quantise) else None,
    )
    return predict(work, here.bf16_gflops if resolved.precision == "bf16" else here.fp32_gflops)


def _largest_batch(prepared: Prepared) -> int:
    lengths = sorted(map(len, prepared.repeated), reverse=True) or [1]
    step = sum(lengths[: prepared.resolved.rows_per_step])
    return max(lengths[0], min(step, prepared.recipe.optimiser.micro_tokens))


def _guess_trainable(prepared: Prepared) -> int:
    """For the plan of `check`, which loads no weights."""
    adapter, size = prepared.resolved.adapter, prepared.size
    if isinstance(adapter, Lora):
        return size.low_rank(adapter.rank)
    if isinstance(adapter, TopLayers):
        return round(size.body * min(1.0, adapter.layers / max(1, size.layers)))
    return size.total if isinstance(adapter, Full) else size.width * 100
