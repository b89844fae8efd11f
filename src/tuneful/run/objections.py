"""What stands against a run once its rows are known, asked where a recipe is checked as where it is run, so that
`check` passes nothing that `fit` refuses."""

from __future__ import annotations

from collections.abc import Callable

from tuneful.core.protocols import Objects
from tuneful.data.augment import Masked
from tuneful.run.build import build_policy, check_last, check_parts
from tuneful.run.gated import check_gated
from tuneful.run.insert import folder_of
from tuneful.run.prepare import Prepared

Say = Callable[[str], None]


def check_start(prepared: Prepared, say: Say = lambda _: None) -> None:
    """Raises what a run would raise before its first update, once it has loaded its models. A model is loaded only for
    parts of the recipe that look at one."""
    check_gated(prepared)
    for one in prepared.recipe.augment:
        if isinstance(one, Masked):
            folder_of(one, prepared, say)
    recipe = prepared.recipe
    parts = [*recipe.regularisers, *([recipe.gradient] if recipe.sharded else [])]
    if any(isinstance(part, Objects) for part in parts) or any(part.mends for part in recipe.repair):
        say("loading the model: what the recipe names depends on it")
        policy = build_policy(prepared, say)
        check_parts(parts, policy)
        check_last(prepared, policy)
