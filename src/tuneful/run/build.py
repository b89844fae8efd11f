"""Prepared recipe -> what the loop needs: policy, objective, schedule, optimiser, and what it will cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from tuneful.adapters.full import AttachedWeights
from tuneful.adapters.fused import forget_between_passes
from tuneful.adapters.weights import head_names
from tuneful.core.device import cache_folder, pick_device, prepare_process, rank, seed_everything, seed_own, world
from tuneful.core.dropout import stop_dropping
from tuneful.core.errors import RecipeError
from tuneful.core.files import keep_newest
from tuneful.core.layers import frozen_depth, heights
from tuneful.core.policy import Policy
from tuneful.core.protocols import Attached, Objects, Regulariser
from tuneful.core.ranks import equal_to_first, in_turn, together
from tuneful.core.sharded import Sharded
from tuneful.core.spec import Spec
from tuneful.core.store import RowStore
from tuneful.core.types import Batch, Layout
from tuneful.data.layouts import Collator
from tuneful.engine.average import RunningAverage
from tuneful.engine.cost import Cost, predict
from tuneful.engine.fit import disturbed
from tuneful.engine.update import Updater
from tuneful.evaluation.reading import read_last
from tuneful.models.below import above
from tuneful.models.block import is_joined, part, prepare_training
from tuneful.models.checkpointing import compute_twice
from tuneful.models.kept import identity
from tuneful.models.load import Loaded, load
from tuneful.models.network import Network
from tuneful.recipe import Recipe
from tuneful.regularisers import Dropout
from tuneful.run.each import attach, each_of, steps_of, updaters_of
from tuneful.run.groups import begun, names_of, stratified
from tuneful.run.hardness import paced
from tuneful.run.inherited import labels_of
from tuneful.run.own_text import shown_again
from tuneful.run.plan import keeps_below, matrix_rate, work_of
from tuneful.run.prepare import Prepared
from tuneful.run.regularised import comparing
from tuneful.run.rollouts import planned, played
from tuneful.run.start import go_on
from tuneful.run.tasks import reads_apart
from tuneful.run.twins import twinned
from tuneful.run.vary import on_the_way, tokens_seen
from tuneful.schedules.episodes import EpisodeSteps
from tuneful.schedules.epochs import Cut, EpochSteps
from tuneful.schedules.lifelong import LifelongSteps
from tuneful.schedules.rollouts import RolloutSteps
from tuneful.schedules.selftrain import SelfTrainSteps
from tuneful.schedules.together import TogetherSteps

Say = Callable[[str], None]
Steps = EpochSteps | SelfTrainSteps | EpisodeSteps | LifelongSteps | TogetherSteps | RolloutSteps
STORES = 8  # of hidden states, kept at most; the one used longest ago goes


@dataclass(frozen=True, slots=True)
class Built:
    """A run ready to start."""

    prepared: Prepared
    policy: Policy
    collate: Collator
    schedule: Steps
    optimiser: Updater
    regularisers: Sequence[Regulariser]  # at work in this run
    cost: Cost
    parts: Mapping[str, Built] = field(default_factory=dict)  # of tasks that differ in kind, each kind by itself

    @property
    def recipe(self) -> Recipe:
        return self.prepared.recipe

    @property
    def start(self) -> Path | None:
        """The folder of the run that this one goes on from."""
        return None if self.recipe.start is None else Path(self.recipe.start)

    @property
    def turns(self) -> LifelongSteps | None:
        """The schedule, where tasks are learned one after the other."""
        return self.schedule if isinstance(self.schedule, LifelongSteps) else None

    @property
    def sharded(self) -> bool:
        """No rank has the whole model, so all of them take part whenever it is read."""
        return isinstance(self.policy.attached, Sharded)


def build(prepared: Prepared, say: Say = lambda _: None) -> Built:
    """Loads the model and attaches the adapter. Everything random comes from the recipe's seed."""
    prepare_process()
    seed_everything(prepared.recipe.seed)
    policy = build_policy(prepared, say)
    if prepared.recipe.start is not None:
        go_on(policy, prepared, say)
    check_parts([*prepared.recipe.regularisers, prepared.recipe.gradient], policy)
    check_last(prepared, policy)
    attached = policy.attached
    narrows = isinstance(attached, AttachedWeights) and not prepared.recipe.optimiser.weight_decay
    seen = tokens_seen(prepared) if narrows else None
    if isinstance(attached, AttachedWeights) and seen is not None:
        attached.see(torch.from_numpy(seen))
    return build_on(policy, prepared)


def check_parts(parts: Sequence[Spec], policy: Policy) -> None:
    """What regularisers have against this model, with the dropout it will learn with. Raises RecipeError."""
    nothing = Batch({}, {}, torch.zeros(0), 0.0, 0)
    with disturbed([part for part in parts if isinstance(part, Dropout)], policy, nothing):
        problems = [words for part in parts if isinstance(part, Objects) for words in part.problems(policy)]
    if problems:
        raise RecipeError(problems)


def check_last(prepared: Prepared, policy: Policy) -> None:
    """Raises ModelError where the last layer is to be replaced and cannot be, before anything is learned."""
    if any(part.mends for part in prepared.recipe.repair):
        read_last(policy, prepared.rows("train")[:1], Collator(prepared.layout))


def build_on(policy: Policy, prepared: Prepared) -> Built:
    """The same for a policy that is there already."""
    collate = collator_of(prepared, policy)
    schedule = schedule_of(prepared, policy, collate)
    told = told_of(policy, [(policy, prepared)])
    if prepared.resolved.each:
        optimiser: Updater = updaters_of(prepared, policy.attached, **told)
    else:
        ends = schedule.ends if isinstance(schedule, LifelongSteps) else ()
        optimiser = updater_of(prepared.recipe, policy, len(schedule), ends, **told)
    seed_own(prepared.recipe.seed)
    begun_here = begun(prepared.recipe, prepared.repeated)
    return Built(prepared, policy, collate, schedule, optimiser, begun_here, cost(prepared, policy))


def collator_of(prepared: Prepared, policy: Policy, about: str | None = None) -> Collator:
    """How its rows become batches; `about` is what these are called, if not as the recipe says."""
    recipe = prepared.recipe
    return Collator(
        prepared.layout,
        about or (None if reads_apart(recipe) else recipe.about),
        share=(prepared.layout.writes or prepared.layout.rates) and policy.network.shares,
        each=each_of(recipe),
        groups=names_of(prepared.repeated) if comparing(recipe) else (),
    )


def schedule_of(prepared: Prepared, policy: Policy, collate: Collator) -> Steps:
    """What is learned when, by a model that is ready to learn."""
    recipe, resolved = prepared.recipe, prepared.resolved
    policy.module.train()
    if prepared.layout.plays:  # answers are drawn without dropout, and learned as they were drawn
        stop_dropping(policy.module)
    if recipe.optimiser.gradient_checkpointing:
        compute_twice(policy.module)
    prepare_training(policy.module)
    even = prepared.layout in (Layout.PAIRS, Layout.JUDGED)
    cut = Cut(
        resolved.rows_per_step, recipe.optimiser.micro_tokens, world(), rank(), even=even,
        whole=prepared.layout.compares,
    )  # fmt: skip
    schedule = paced(_drawn(prepared, collate, cut), prepared, policy, collate)
    schedule = twinned(stratified(on_the_way(schedule, prepared), recipe), prepared)
    schedule = played(schedule, recipe, prepared.processor)
    if isinstance(schedule, LifelongSteps):
        return shown_again(replace(schedule, known=len(labels_of(recipe.start))), prepared, policy)
    return schedule


def _drawn(prepared: Prepared, collate: Collator, cut: Cut) -> Any:
    """The schedule, as the recipe asks for it."""
    if prepared.resolved.each:
        return steps_of(prepared, collate, cut)
    rows, recipe = prepared.stream or prepared.repeated, prepared.recipe
    return recipe.schedule.over(rows, collate, cut, total=prepared.resolved.steps, seed=recipe.seed)


def updater_of(recipe: Recipe, policy: Policy, steps: int, ends: Sequence[int] = (), **told: Any) -> Updater:
    """`told` is what an optimiser is told of the parameters."""
    average = RunningAverage(recipe.average) if recipe.average else None
    return Updater(recipe.optimiser, policy.trainable(), steps=steps, average=average, ends=ends, **told)


def told_of(policy: Policy, views: Sequence[tuple[Policy, Prepared]]) -> dict[str, Any]:
    """Which of what `policy` tunes are heads that start from nothing, and how far below the head each lies; it is read
    through the `views`, by their own rows."""
    lies = {key: height for view, _ in views for key, height in heights(view.module).items()}
    heads = {head for view, prepared in views if prepared.starts_new for head in head_names(view.module)}
    parameters = policy.trainable()
    return {
        "heads": sorted(heads),
        "heights": {name: lies[id(parameter)] for name, parameter in parameters.items()},
    }


def build_policy(prepared: Prepared, say: Say = lambda _: None) -> Policy:
    loaded, attached = loaded_with_adapter(prepared, say)
    return policy_over(prepared, loaded, attached)


def loaded_with_adapter(prepared: Prepared, say: Say = lambda _: None) -> tuple[Loaded, Attached]:
    recipe, adapter, compute = prepared.recipe, prepared.resolved.adapter, _compute(prepared)

    def loading() -> Loaded:
        with in_turn():
            return load(
                str(recipe.model),
                labels=prepared.head,
                fills=prepared.layout is Layout.MASKED,
                dtype=compute if adapter.freezes else torch.float32,
                device="cpu" if _shares_out(recipe) else pick_device(),
                trust_remote_code=recipe.trust_remote_code,
                quantise=recipe.quantise,
                say=say,
            )

    loaded = together(loading)
    attached = attach(prepared, loaded, adapter)
    equal_to_first(parameter.detach() for parameter in attached.trainable().values())
    return loaded, attached


def policy_over(prepared: Prepared, loaded: Loaded, attached: Attached) -> Policy:
    compute = _compute(prepared)
    # Weights that learn stay in float32, and are rounded where a product reads them.
    autocast = None if prepared.resolved.adapter.freezes or compute == torch.float32 else compute
    if _shares_out(prepared.recipe):
        return _shared_out(loaded, attached, autocast)
    if not keeps_below(prepared.recipe, prepared.layout):
        return Policy(loaded.network, attached, autocast=autocast)
    network = with_frozen_layers_kept(loaded, prepared.resolved.precision)
    return Policy(network, attached, autocast=autocast)


def _compute(prepared: Prepared) -> torch.dtype:
    return torch.bfloat16 if prepared.resolved.precision == "bf16" else torch.float32


def _shares_out(recipe: Recipe) -> bool:
    return recipe.sharded and world() > 1


def _shared_out(loaded: Loaded, attached: Attached, autocast: torch.dtype | None) -> Policy:
    """Whatever keeps weights between two passes (joined layers, packed weights, products) gives them up."""
    part(loaded.module)
    forget_between_passes(loaded.module)
    with attached.original() as original:
        part(original)
    sharded = Sharded(attached)
    return Policy(replace(loaded.network, joined=False), sharded, autocast=autocast, gathered=sharded.gathered)


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
    resolved, size, scale = prepared.resolved, prepared.size, prepared.scale
    rows = planned(prepared.recipe.schedule, prepared.recipe.schedule.learns(prepared.repeated))
    work = work_of(resolved, rows, size, scale=scale)
    if policy is not None:
        trainable = sum(p.numel() for p in policy.trainable().values())
        joined = is_joined(policy.module) and work.frozen_body
        work = work_of(resolved, rows, size, scale=scale, trainable=trainable, joined=joined)
    return predict(work, world() * matrix_rate(resolved))
