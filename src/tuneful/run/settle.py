"""Which of the weights that training came by are measured and kept: those of the last update, an average of many, or
what lies between the tuned weights and the first ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tuneful.core.types import Said
from tuneful.run.build import Built
from tuneful.run.losses import looked_at, validation_metrics
from tuneful.run.watch import Watch

SHARES = (0.2, 0.4, 0.6, 0.8, 1.0)  # of what was learned, tried on the validation rows


@contextmanager
def averaged(built: Built) -> Iterator[None]:
    """The average of the weights, where one is kept, for as long as the context."""
    if built.optimiser.average is None:
        yield
        return
    with built.optimiser.average.in_place(built.policy.trainable()):
        built.policy.forget()
        yield
    built.policy.forget()


def settle(built: Built, watch: Watch) -> None:
    """The best weights seen, the average where nothing was looked at, or those of the last update."""
    if watch.weights is None and built.optimiser.average is not None:
        built.optimiser.average.put(built.policy.trainable())
        built.policy.forget()
    watch.restore(built.policy)


def interpolate(built: Built) -> list[Said]:
    """Goes back towards the start as the recipe says (WiSE-FT: Wortsman et al. 2022, arXiv:2109.01903, equation 1);
    what was done. Of LoRA the updates are scaled, which is the same."""
    share, policy = built.recipe.interpolate, built.policy
    if share is None:
        return []
    if share != "auto":
        policy.attached.nearer(share)
        policy.forget()
        return [Said("interpolated", {"percent": round(100 * share)})]
    rows = looked_at(built)
    if not rows:  # of those there are, none can be told apart
        return []
    tuned = {name: tensor.clone() for name, tensor in policy.attached.state().items()}
    watch = Watch(0, rows=len(rows))
    for number, part in enumerate(SHARES):
        policy.attached.load(tuned)
        policy.attached.nearer(part)
        policy.forget()
        watch.look(number, validation_metrics(built, rows), policy)
    if watch.weights is None:  # no look gave a number
        policy.attached.load(tuned)
        return []
    watch.restore(policy)
    return [Said("interpolated", {"percent": round(100 * SHARES[watch.best_step])})]
