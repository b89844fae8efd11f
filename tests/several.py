"""What test_ranks.py has done by one process and by two: run by itself under torchrun, it does every case."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import tuneful
from tuneful.adapters import Lora
from tuneful.core.device import is_first, join_ranks, rank, seed_own, world
from tuneful.core.errors import DataError, Diverged, RecipeError
from tuneful.core.policy import Policy
from tuneful.core.ranks import first_alone, gathered, together
from tuneful.core.types import Batch, Layout, Step, Terms
from tuneful.data.layouts import Collator
from tuneful.engine.fit import fit
from tuneful.engine.surgery import PCGrad
from tuneful.engine.update import AdamW, Sum, Updater
from tuneful.objectives import NextToken
from tuneful.run.api import recipe_for
from tuneful.run.loop import Interrupted
from tuneful.run.session import run
from tuneful.schedules import Mixture
from tuneful.schedules.epochs import Cut, EpochSteps
from tuneful.testing import tiny_policy, tiny_rows

# A large epsilon: Adam would blow the rounding of gradients that are zero up to whole steps.
ALL: dict[str, Any] = {
    "schedule.steps": 6, "evaluate.every": 3, "evaluate.forgetting": False, "data.test": 0, "precision": "fp32",
    "optimiser.learning_rate": 0.02, "optimiser.epsilon": 1e-3, "optimiser.weight_decay": 0.1,
}  # fmt: skip
DRIFT = json.dumps([{"kind": "reference_kl", "strength": 0.3}])
# Nothing is drawn, so one process and two name the same tokens.
REBUILDS = json.dumps({"kind": "denoise", "deleted": 0, "hidden": 1})
CASES: dict[str, dict[str, Any]] = {
    "lora": {"regularisers": DRIFT, "optimiser.micro_tokens": 90},
    "classifier": {"optimiser.learning_rate": 0.005, "optimiser.weight_decay": 0},
    "averaged": {"average": "ema", "gradient": "sam"},
    "sharded averaged": {"average": "swa", "sharded": True, "adapter": "full", "optimiser.learning_rate": 0.002},
    "mixed classifier": {
        "regularisers": json.dumps([{"kind": "l2_sp", "strength": 0.1}]),
        "soup": 2,
        "optimiser.learning_rate": 0.005,
        "optimiser.weight_decay": 0,
    },
    "denoise": {"objective": REBUILDS, "optimiser.learning_rate": 0.005, "optimiser.micro_tokens": 90},
    "sharded denoise": {"objective": REBUILDS, "optimiser.learning_rate": 0.005, "sharded": True},
    "one row": {"data.validation": 0, "optimiser.rows_per_step": 2},
    "pairs": {"optimiser.micro_tokens": 150, "optimiser.rows_per_step": 6, "evaluate.generate": 1},
    "chosen": {"data.select": json.dumps({"kind": "rds", "keep": 16}), "optimiser.rows_per_step": 4},
    "sharded lora": {"regularisers": DRIFT, "sharded": True},
    "sharded full": {"regularisers": DRIFT, "sharded": True, "adapter": "full", "optimiser.learning_rate": 0.002},
    "sharded classifier": {"sharded": True, "adapter": "lora", "data.test": 0.2},
    "sharded one row": {"sharded": True, "data.validation": 0, "optimiser.rows_per_step": 2},
    "dropout": {"adapter.dropout": 0.3, "data.validation": 0, "checkpoint.every": 100},
    "sharded dropout": {"adapter.dropout": 0.3, "data.validation": 0, "checkpoint.every": 100, "sharded": True},
}
DATA = {
    "classifier": "moods.jsonl", "mixed classifier": "moods.jsonl", "sharded classifier": "moods.jsonl",
    "denoise": "moods.jsonl", "sharded denoise": "moods.jsonl",
    "pairs": "pairs.jsonl", "one row": "three.jsonl", "sharded one row": "three.jsonl",
}  # fmt: skip


def recipe(name: str, place: Path, **more: Any) -> Any:
    """`place` holds models and data."""
    model = place / ("reader" if "classifier" in name or "denoise" in name else "generator")
    return recipe_for(
        place / DATA.get(name, "greetings.jsonl"), model=str(model), settings={**ALL, **CASES[name], **more}
    )


def do_case(name: str, place: Path, out: Path) -> None:
    tuneful.fit(recipe(name, place), out=out / name)


class Apart:
    """A gradient rule that keeps the gradient of each task by itself until the end."""

    def __init__(self) -> None:
        self.found: dict[str, list[Tensor]] = {}

    def add(self, task: str, loss: Tensor, parameters: Sequence[nn.Parameter]) -> None:
        found = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
        for held, more in zip(self.kept([task], parameters), found, strict=True):
            held += more

    def kept(self, tasks: Sequence[str], parameters: Sequence[nn.Parameter]) -> list[Tensor]:
        return [
            held
            for task in tasks
            for held in self.found.setdefault(task, [torch.zeros_like(parameter) for parameter in parameters])
        ]

    def finish(self, parameters: Sequence[nn.Parameter]) -> None:
        """Of several tasks the longer gradient; longer by a square, so that a part of it would not do."""
        for place, parameter in enumerate(parameters):
            parameter.grad = sum(held[place] * held[place].norm() for held in self.found.values())
        self.found = {}


class Pull:
    """An objective that pulls the first numbers of one weight against this direction, whatever the batch, and knows no
    other weight."""

    layout = Layout.TOKENS

    def __init__(self, direction: Sequence[float]) -> None:
        self.direction = torch.tensor(direction)

    def __call__(self, policy: Policy, batch: Batch) -> Terms:
        weight = next(weight for name, weight in policy.trainable().items() if "lora_B" in name)
        pulled = (weight.flatten()[: len(self.direction)] * self.direction).sum()
        return Terms(pulled.expand(batch.weights.shape), policy(batch))


class Size:
    """A penalty that does not depend on the batch."""

    def __call__(self, policy: Policy, batch: Batch, terms: Terms) -> Tensor:
        return 0.1 * sum((p.square().sum() for p in policy.trainable().values()), terms.losses.new_zeros(()))


class FirstOnly:
    """A schedule that gives the other ranks nothing to do."""

    def __init__(self, schedule: EpochSteps) -> None:
        self.schedule = schedule

    def steps(self, policy: Policy, start: int = 0) -> Iterator[Step]:
        for step in self.schedule.steps(policy, start):
            yield step if is_first() else replace(step, batches=[])


class Pulled:
    """A schedule that adds two tasks to each step, one of which the other ranks know nothing of."""

    def __init__(self, schedule: EpochSteps) -> None:
        self.schedule = schedule

    def steps(self, policy: Policy, start: int = 0) -> Iterator[Step]:
        for step in self.schedule.steps(policy, start):
            more = [replace(step.batches[0], task=task) for task in (["up", "down"] if is_first() else ["up"])]
            yield replace(step, batches=[*step.batches, *more])


def engine_alone(place: Path, case: str) -> dict[str, Any]:
    """Without a run: a penalty that knows no batch, with a rule of its own or with a rank that has nothing to do; three
    tasks, of which only one uses most weights."""
    torch.manual_seed(0)
    policy, loaded = tiny_policy(place / "generator", Lora(rank=4))
    rows = tiny_rows(loaded, Layout.TOKENS, 5)
    cut = Cut(3, 200) if case == "first only" else Cut(3, 200, world(), rank())
    steps = EpochSteps(rows, Collator(Layout.TOKENS, share=True), cut, 4)
    schedule, rule, penalties = {
        "engine": (steps, Apart(), [Size()]),
        "first only": (FirstOnly(steps), Sum(), [Size()]),
        "tasks": (Pulled(steps), PCGrad(), []),
    }[case]
    pulls = {"up": Pull([0.1, 0.1]), "down": Pull([-0.1, 0.05])} if case == "tasks" else {}
    updater = Updater(AdamW(learning_rate=0.02, epsilon=1e-3, warmup=0), policy.trainable(), steps=4)
    objectives = {"main": NextToken(), **pulls}
    records = fit(policy, objectives, schedule, updater, regularisers=penalties, gradient=rule, clip=0.0)
    apart = {"seconds", "read", "units"}  # the other ranks' "up" is one more
    metrics = [{name: value for name, value in r.metrics.items() if name not in apart} for r in records]
    return {"metrics": metrics, "weights": {name: t.tolist() for name, t in policy.attached.state().items()}}


def refused(place: Path, out: Path) -> str:
    """What stands against gradients of tasks kept apart where weights are shared out."""
    one = recipe("sharded lora", place)
    twice = [one.task.model_copy(update={"name": name}) for name in ("one", "other")]
    several = one.model_copy(update={"tasks": twice, "schedule": Mixture(steps=2), "gradient": PCGrad()})
    try:
        tuneful.fit(several, out=out / "refused")
    except RecipeError as error:
        return error.problems[0]
    return "went on"


def stopped_and_resumed(name: str, place: Path, out: Path) -> str:
    """Only the last rank is asked to stop, and all do."""
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return rank() == world() - 1 and asked > 3

    said = "nobody stopped"
    try:
        for _ in run(recipe(name, place), out / f"{name} resumed", should_stop=stop):
            pass
    except Interrupted:
        said = "stopped"
    for _ in run(recipe(name, place), out / f"{name} resumed", resume=True):
        pass
    return said


def errors() -> list[str]:
    """What this rank hears of a fault of the first, of the last, and of one in what the first does alone."""
    heard = []
    for faulty, way in ((0, together), (world() - 1, together), (0, first_alone)):

        def work(faulty: int = faulty) -> None:
            if rank() == faulty:
                raise DataError(f"rank {faulty} cannot")

        try:
            way(work)
            heard.append("nothing")
        except DataError as error:
            heard.append(f"{error}, said by {'another' if error.told else 'me'}")
    return heard


def diverged(place: Path, out: Path) -> str:
    try:
        tuneful.fit(recipe("lora", place, **{"optimiser.learning_rate": 1e30}), out=out / "diverged")
    except Diverged as error:
        return str(error).split(";")[0]
    return "went on"


def own_dropout() -> list[float]:
    """The next random number of each rank."""
    torch.manual_seed(0)
    seed_own(0)
    return gathered(float(torch.rand(1)))


if __name__ == "__main__":
    join_ranks()
    place, out = Path(sys.argv[1]), Path(sys.argv[2])
    for name in CASES:
        do_case(name, place, out)
    found = {
        **{case: engine_alone(place, case) for case in ("engine", "first only", "tasks")},
        "refused": gathered(refused(place, out)),
        "resumed": [gathered(stopped_and_resumed(name, place, out)) for name in ("dropout", "sharded dropout")],
        "errors": gathered(errors()),
        "diverged": gathered(diverged(place, out)),
        "random": own_dropout(),
    }
    if is_first():
        (out / "found.json").write_text(json.dumps(found), encoding="utf-8")
