"""How a run is made to fit into memory, and what it will take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch

from tuneful.adapters import Full, Head, Lora, TopLayers
from tuneful.core.device import machine, matmul_gflops, memory_mb, pick_device, ranks_here, world
from tuneful.core.errors import RecipeError
from tuneful.core.protocols import Climbs, Objective
from tuneful.core.quantised import BYTES
from tuneful.core.spec import Spec
from tuneful.core.types import Layout, Row
from tuneful.data.balance import Jtt
from tuneful.engine import memory
from tuneful.engine.surgery import Surgery
from tuneful.engine.work import Work
from tuneful.models.size import Size
from tuneful.objectives import Denoise, Dpo, Kto, Masked
from tuneful.recipe import Recipe
from tuneful.recipe.amounts import megabytes
from tuneful.regularisers import Forget, Previous, RDrop
from tuneful.run.added import rank_of
from tuneful.run.each import each_of
from tuneful.run.regularised import comparing_twins
from tuneful.run.resolve import Resolved
from tuneful.run.tasks import tasks_of
from tuneful.schedules.lifelong import Lifelong

Say = Callable[[str], None]
BEFORE = 0.5  # of an update, that asking the model as it was takes, once for each row: there is no backward pass
FREE = 0.9  # of the machine's free memory may be planned with
DECODER = 12  # matrices as wide as the model, of the layer that rebuilds a text, which reads all of its tokens


def planned_mb() -> int:
    """What this process may plan with, of the memory that is free here."""
    return round(FREE * memory_mb() / ranks_here())


def fitted(resolved: Resolved, rows: Sequence[Row], size: Size, say: Say, free_mb: int) -> Resolved:
    """The same run with `micro_tokens` and `gradient_checkpointing` such that it fits. Raises RecipeError when no way
    fits into the memory the person named; where only the machine is short of it, the smallest way is tried."""
    given, wish = resolved.recipe.memory, resolved.recipe.optimiser.gradient_checkpointing
    most = megabytes(given) if given is not None else free_mb
    work = work_of(resolved, rows, size)
    ways = memory.ways(work, twice=wish is not False, fewer=not resolved.objective.layout.compares)
    found = next((way for way in ways if memory.memory_mb(way) <= most), None)
    if found is None:
        found = min(ways, key=memory.memory_mb)
        least = (
            "all rows of an update read together" if resolved.objective.layout.compares else "the fewest tokens at once"
        )
        words = f"this run needs about {memory.memory_mb(found):,} MB even with {least}"
        advice = "a smaller model, shorter rows (data.max_tokens), or an adapter with fewer weights needs less"
        if given is not None:
            raise RecipeError([f"memory: {words}, and {given} is all it may have; {advice}"])
        say(f"{words}, and this machine has {most:,} MB free; it is tried all the same. Note: {advice}")
    if found.checkpointing and not work.checkpointing:
        say("layers are computed twice to fit into memory (optimiser.gradient_checkpointing)")
    changes: dict[str, object] = {"gradient_checkpointing": found.checkpointing}
    if found.micro_tokens < work.micro_tokens:
        say(f"{found.micro_tokens} tokens are computed at once to fit into memory (optimiser.micro_tokens)")
        changes["micro_tokens"] = found.micro_tokens // _held(resolved)
    optimiser = resolved.recipe.optimiser.model_copy(update=changes)
    return replace(resolved, recipe=resolved.recipe.model_copy(update={"optimiser": optimiser}))


def work_of(
    resolved: Resolved,
    rows: Sequence[Row],
    size: Size,
    *,
    scale: float = 1.0,
    trainable: int | None = None,
    joined: bool | None = None,
) -> Work:
    """Counted from architecture and rows, for each of which there are `scale`; `trainable` and `joined` are guessed
    while no model is loaded."""
    runs = resolved.recipe.soup or 1
    first = _first_epochs(resolved.recipe)
    seen = (runs * resolved.epochs + first) * scale * _passes(resolved.recipe)
    layout = resolved.objective.layout
    tokens = _names_tokens(layout)
    views = _views(resolved)
    read = views - getattr(resolved.objective, "deleted", 0.0)  # the second view is shorter
    told = _named(resolved.objective)
    before = BEFORE * scale if isinstance(resolved.objective, Dpo | Kto) else 0.0
    frozen = resolved.adapter.freezes
    shares = world() if resolved.recipe.sharded else 1
    return Work(
        tokens=round(read * (seen + before) * sum(map(len, rows))),
        learned=round(seen * told * sum(row.learned for row in rows)) if layout.writes or not layout.compares else 0,
        steps=runs * resolved.steps + round(first * scale * len(rows) / resolved.rows_per_step),
        body=size.body + (round(DECODER * size.width**2 / read) if layout is Layout.REBUILT else 0),
        vocabulary=size.vocabulary if tokens else 0,
        trainable=_trainable(resolved, size) if trainable is None else trainable,
        total=size.total + (size.apart if tokens else 0),
        below=_below(resolved, size),
        once=1 / max(1.0, seen) if keeps_below(resolved.recipe, layout) and not resolved.recipe.sharded else 1.0,
        width=size.width,
        layers=size.layers,
        outputs=size.outputs,
        heads=size.heads,
        longest=max((row.longest for row in rows), default=1),
        frozen_body=frozen,
        joined=frozen and tokens and shares == 1 if joined is None else joined,
        shares=shares,
        micro_tokens=_held(resolved) * _largest_batch(resolved, rows),
        precision=resolved.precision,
        frozen_bytes=BYTES[kind] if (kind := resolved.recipe.quantise) else None,
        copies=_copies(resolved.recipe, runs),
        checkpointing=bool(resolved.recipe.optimiser.gradient_checkpointing),
    )


def _below(resolved: Resolved, size: Size) -> int:
    """Layers beneath the first that learns."""
    adapter = resolved.adapter
    if isinstance(adapter, Head):
        return size.layers
    learn = adapter.layers if isinstance(adapter, TopLayers) else getattr(adapter, "top_layers", None)
    return max(0, size.layers - learn) if learn else 0


def keeps_below(recipe: Recipe, layout: Layout) -> bool:
    """What lies beneath is computed once for each row, as each is read the same every time."""
    return not (layout.alone or recipe.augment or comparing_twins(recipe) or each_of(recipe))


def _names_tokens(layout: Layout) -> bool:
    return layout.writes or layout in (Layout.MASKED, Layout.REBUILT)


def _first_epochs(recipe: Recipe) -> float:
    """Of a training before the one that is kept."""
    balance = recipe.task.data.balance
    return balance.epochs if isinstance(balance, Jtt) else 0.0


def _copies(recipe: Recipe, runs: int) -> int:
    """Of what learns, what is kept beside gradient, moments and the best weights."""
    soup = runs + 2 if runs > 1 else 0
    return bool(recipe.average) + soup + _gradients(recipe) + len(_earlier(recipe))


def _gradients(recipe: Recipe) -> int:
    """How many are kept beside the one of the update."""
    return len(tasks_of(recipe)) if isinstance(recipe.gradient, Surgery) else 0


def _passes(recipe: Recipe) -> float:
    """How often an update reads its rows."""
    more = recipe.schedule.larger if isinstance(recipe.schedule, Lifelong) else 1.0
    return _looks(recipe) * more * (2 if isinstance(recipe.gradient, Climbs) else 1) + _without_slope(recipe, more)


def _earlier(recipe: Recipe) -> list[Spec]:
    """What keeps the model as it was at one moment, and reads with it."""
    return [part for part in recipe.regularisers if isinstance(part, Forget | Previous)]


def _without_slope(recipe: Recipe, more: float) -> float:
    """Further passes of an update, each a third of one that learns: of all its rows, or, twice, of those that are to be
    forgotten."""
    return sum((2 if isinstance(part, Forget) else more) / 3 for part in _earlier(recipe))


def _looks(recipe: Recipe) -> int:
    """Passes of a batch that wait for one backward pass."""
    return 2 if any(isinstance(regulariser, RDrop) for regulariser in recipe.regularisers) else 1


def _held(resolved: Resolved) -> int:
    """How often a row is held at once."""
    return _views(resolved) * _looks(resolved.recipe)


def _named(objective: Objective) -> float:
    """Share of the learned tokens that are asked for."""
    if isinstance(objective, Denoise):
        return objective.hidden
    return objective.rate if isinstance(objective, Masked) else 1.0


def _views(resolved: Resolved) -> int:
    """How often a row is read and held in one pass."""
    return 2 if resolved.objective.layout is Layout.TEXTS else 1


def matrix_rate(resolved: Resolved) -> float:
    """GFLOP/s of this machine in the run's precision."""
    here = machine()
    return here.bf16_gflops if resolved.precision == "bf16" else here.fp32_gflops


def rate_again(resolved: Resolved, rate: float) -> float:
    """GFLOP/s, measured once more; `rate` if that is more. Something else may have run when that was measured."""
    dtype = torch.bfloat16 if resolved.precision == "bf16" else torch.float32
    return max(rate, matmul_gflops(dtype, pick_device(), 0.3))


def _largest_batch(resolved: Resolved, rows: Sequence[Row]) -> int:
    """The longest row, or the longest of updates drawn as training draws them, cut at `micro_tokens`."""
    lengths = np.array([len(row) for row in rows] or [1])
    drawn = np.random.default_rng([resolved.recipe.seed, 0]).permutation(lengths)
    updates = np.array_split(drawn, -(-len(lengths) // resolved.rows_per_step))[: max(1, resolved.steps)]
    longest = max(int(update.sum()) for update in updates)
    return max(int(lengths.max()), min(longest, resolved.recipe.optimiser.micro_tokens))


def _trainable(resolved: Resolved, size: Size) -> int:
    adapter = resolved.adapter
    if isinstance(adapter, Lora):
        several = max(1, len(resolved.each))
        return round(
            several
            * size.low_rank(rank_of(resolved.recipe, adapter))
            * (1 - _below(resolved, size) / max(1, size.layers))
        )
    if isinstance(adapter, Head) and _names_tokens(resolved.objective.layout):
        return size.vocabulary
    if isinstance(adapter, TopLayers):
        return round(size.body * min(1.0, adapter.layers / max(1, size.layers)))
    return size.total if isinstance(adapter, Full) else size.width * 100
