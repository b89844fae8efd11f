"""How much memory a run holds, that it is made to hold less, and what happens when the system refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tuneful.adapters import Full, Lora
from tuneful.core.errors import OutOfMemory, RecipeError
from tuneful.core.policy import Policy
from tuneful.core.protocols import Adapter, GradientRule, Regulariser
from tuneful.core.types import Batch, Example, Layout, Place, Row, Terms
from tuneful.data.layouts import Collator
from tuneful.engine import memory
from tuneful.engine.fit import fit
from tuneful.engine.memory import IMPORTED_MB, KEPT, KERNELS_MB, MEASURING_MB, WASTE, memory_mb, ways
from tuneful.engine.sharpness import Sam
from tuneful.engine.update import AdamW, Sum, Updater
from tuneful.engine.work import Work
from tuneful.models.checkpointing import compute_twice
from tuneful.objectives import NextToken
from tuneful.recipe import from_mapping
from tuneful.recipe.amounts import megabytes
from tuneful.run.api import recipe_for
from tuneful.run.plan import work_of
from tuneful.run.prepare import prepare
from tuneful.schedules.epochs import Cut, EpochSteps
from tuneful.testing import tiny_policy, tiny_rows

WORK = Work(
    tokens=1000, learned=100, steps=10, body=2**28, vocabulary=8_000, trainable=2**20, total=2**29, width=1024,
    layers=400, outputs=8192, heads=16, longest=100, frozen_body=True, joined=True, micro_tokens=1024,
    precision="bf16",
)  # fmt: skip


def test_by_hand() -> None:
    """Weights once mapped and once more in two orders, five numbers a weight that learns; per token and layer 1.15 x
    8,192 numbers and 16 x 100 scores."""
    kept = 1024 * 400 * round(KEPT["joined"] * 8192 * 2 + 16 * 100 * 2)
    expected = (2**29 + 2**28) * 2 + 5 * 4 * 2**20 + WASTE * kept
    assert memory_mb(WORK) == IMPORTED_MB + KERNELS_MB[True] + int(expected / 2**20)


def test_computed_twice_keeps_one_layer_and_the_inputs_of_all() -> None:
    layer = round(KEPT["joined"] * 8192 * 2 + 16 * 100 * 2)
    saved = 1024 * (400 * layer - (400 * 1024 * 2 + layer))
    found = memory_mb(WORK) - memory_mb(replace(WORK, checkpointing=True))
    assert found == pytest.approx(WASTE * saved / 2**20, abs=1)


def test_fewer_tokens_first_then_layers_twice() -> None:
    """In the order of what it costs: 1,024, 512, 256 tokens, then the same twice, then smaller products."""
    found = [(way.micro_tokens, way.checkpointing) for way in ways(replace(WORK, longest=60))]
    large, small = [1024, 512, 256], [1024, 512, 256, 128, 64]
    assert found == [(n, twice) for sizes in (large, small) for twice in (False, True) for n in sizes]
    assert not any(way.checkpointing for way in ways(WORK, twice=False))
    assert all(way.checkpointing for way in ways(replace(WORK, checkpointing=True)))


def test_a_row_is_never_cut() -> None:
    """Fewer tokens at once than the longest row has would change nothing."""
    assert {way.micro_tokens for way in ways(replace(WORK, longest=1024))} == {1024}


def test_rows_told_apart_by_one_another_are_not_read_in_fewer() -> None:
    found = ways(WORK, fewer=False)
    assert {way.micro_tokens for way in found} == {WORK.micro_tokens}
    assert {way.checkpointing for way in found} == {False, True}


def test_layers_beneath_a_cut_keep_nothing() -> None:
    """Of two layers the upper keeps for the backward pass what both did."""
    assert memory._activations(replace(WORK, below=WORK.layers // 2)) * 2 == memory._activations(WORK)


def test_what_a_container_leaves(tmp_path: Path) -> None:
    from tuneful.core.device import left_in

    assert left_in(tmp_path / "none") is None
    for name, text in (
        ("memory.current", "700"),
        ("memory.stat", "anon 400\ninactive_file 300"),
        ("memory.max", "max"),
    ):
        (tmp_path / name).write_text(text + "\n")
    assert left_in(tmp_path) is None
    (tmp_path / "memory.max").write_text("1000\n")
    assert left_in(tmp_path) == 600
    (tmp_path / "memory.max").write_text("300\n")
    assert left_in(tmp_path) == 0


def test_shared_out_weights_are_counted_once_among_the_ranks() -> None:
    weights = (2**29 + 2**28) * 2 + 5 * 4 * 2**20
    spared = memory_mb(WORK) - memory_mb(replace(WORK, shares=4))
    assert spared == pytest.approx(weights * 3 / 4 / 2**20, abs=1)


def test_the_report_takes_memory_too() -> None:
    """However little an update keeps, what is measured afterwards needs room."""
    floor = IMPORTED_MB + KERNELS_MB[True] + ((2**29 + 2**28) * 2 + 5 * 4 * 2**20 + MEASURING_MB[True] * 2**20) // 2**20
    assert memory_mb(replace(WORK, micro_tokens=10, longest=10)) == floor


@pytest.mark.parametrize(("text", "expected"), [("4GB", 4096), ("1.5 gb", 1536), ("800MB", 800), ("700", 700)])
def test_amounts(text: str, expected: int) -> None:
    assert megabytes(text) == expected


@pytest.fixture
def data(tmp_path: Path) -> Path:
    file = tmp_path / "rows.jsonl"
    rows = [{"prompt": f"say {n} " * 20, "completion": f"{n} said"} for n in range(60)]
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return file


def test_a_recipe_is_made_to_fit(generator_folder: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plan of a run that may take little computes fewer tokens at once; one that cannot fit is refused."""
    given = {"model": str(generator_folder), "data": str(data), "optimiser": {"rows_per_step": 20}}
    free = prepare(from_mapping(given, [])[0])
    assert free.recipe.optimiser.micro_tokens == AdamW().micro_tokens
    assert free.recipe.optimiser.gradient_checkpointing is False
    said: list[str] = []
    monkeypatch.setitem(memory.MEASURING_MB, True, 0)  # a tiny model's update keeps less than the report takes
    tight = prepare(from_mapping(given, [f"memory={IMPORTED_MB + KERNELS_MB[True] + 3}MB"])[0], said.append)
    assert tight.recipe.optimiser.micro_tokens < AdamW().micro_tokens
    assert any("to fit into memory" in words for words in said)
    with pytest.raises(RecipeError, match="memory: this run needs about"):
        prepare(from_mapping(given, ["memory=100MB"])[0])
    with pytest.raises(RecipeError, match="no amount of memory"):
        from_mapping(given, ["memory=much"])


def test_what_regularisers_hold_is_planned(generator_folder: Path, data: Path) -> None:
    """Two passes wait for one backward pass, so each has half of the tokens of what fits; an average is a copy of what
    learns, and a soup of three runs five more."""

    def planned(**more: str | int) -> Work:
        found = prepare(recipe_for(data, model=str(generator_folder), settings={"adapter": "full", **more}))
        return work_of(found.resolved, found.repeated, found.size)

    plain, twice = planned(), planned(regularisers="[r_drop]")
    assert twice.micro_tokens == 2 * plain.micro_tokens
    assert twice.tokens == 2 * plain.tokens
    copy = 4 * plain.trainable
    for more, copies in (({"average": "ema"}, 1), ({"soup": 3}, 5), ({"average": "ema", "soup": 3}, 6)):
        assert memory._weights(planned(**more)) - memory._weights(plain) == copies * copy
    assert planned(soup=3).steps == 3 * plain.steps
    lora, top = planned(adapter="lora"), planned(adapter="{kind: lora, top_layers: 1}")
    head = planned(adapter="head")
    assert (lora.below, top.below, head.below) == (0, 1, 2)
    assert top.trainable == pytest.approx(lora.trainable / 2, abs=1)
    assert head.trainable == head.vocabulary, "the output matrix of a writer is what learns"
    assert 0 < top.once < 1 == planned(adapter="{kind: lora, top_layers: 1}", sharded="true").once


@pytest.mark.parametrize("adapter", [Lora(rank=4, dropout=0.1), Lora(rank=4), Full()], ids=["dropout", "lora", "full"])
def test_layers_computed_twice_give_the_same_slopes(generator_folder: Path, adapter: Adapter) -> None:
    """Bit for bit, dropout included, and less is kept."""
    policy, loaded = tiny_policy(generator_folder, adapter)
    batch = Collator(Layout.TOKENS, share=True)(tiny_rows(loaded, Layout.TOKENS, 8))
    once, kept_once = _slopes(policy, batch)
    compute_twice(policy.module)
    twice, kept_twice = _slopes(policy, batch)
    assert all(torch.equal(one, other) for one, other in zip(once, twice, strict=True))
    assert kept_twice < 0.5 * kept_once


def _slopes(policy: Policy, batch: Batch) -> tuple[list[Tensor], int]:
    kept: dict[int, Tensor] = {}

    def note(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    policy.module.train()
    torch.manual_seed(0)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        hidden = policy(batch).hidden
    weights = {parameter.untyped_storage().data_ptr() for parameter in policy.module.parameters()}
    held = sum(tensor.untyped_storage().nbytes() for place, tensor in kept.items() if place not in weights)
    kept.clear()
    hidden.square().sum().backward()
    policy.forget()
    slopes = [p.grad.clone() for p in policy.trainable().values() if p.grad is not None]
    for parameter in policy.trainable().values():
        parameter.grad = None
    return slopes, held


class Hungry:
    """Next tokens, for which a small machine has no memory."""

    layout = Layout.TOKENS

    def __init__(self, most: int) -> None:
        self.most, self.seen = most, list[int]()

    def __call__(self, policy: Policy, batch: Batch) -> Terms:
        self.seen.append(batch.tokens)
        terms = NextToken()(policy, batch)
        if batch.tokens > self.most:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes.")
        return terms


def test_refused_memory_halves_the_batch_and_changes_no_number(generator_folder: Path) -> None:
    plenty, _ = _three_steps(generator_folder, Hungry(10_000))
    scarce, hungry = _three_steps(generator_folder, Hungry(70))
    assert [step["loss"] for step in scarce] == pytest.approx([step["loss"] for step in plenty], rel=1e-5)
    assert [step["rows"] for step in scarce] == [8, 8, 8]
    assert max(hungry.seen) > 70
    later = hungry.seen[-4:]  # the size that worked is kept for the steps that follow
    assert max(later) <= 70


@pytest.mark.parametrize("layout", [Layout.CLASSES, Layout.TOKENS])
def test_rows_told_apart_by_one_another_stay_together(layout: Layout) -> None:
    """Four rows of two classes in one batch: halved, each would be alone of its class and count nothing."""
    rows = [
        Row(Example(Place("f", n)), np.arange(n, n + 9, dtype=np.int32), np.ones(9), target=n % 2) for n in range(4)
    ]
    cut = Cut(4, 1000, whole=layout.compares)
    (step,) = EpochSteps(rows, Collator(layout), cut, total=1).steps(None)  # type: ignore[arg-type]
    assert (step.smaller() is None) is layout.compares


def test_the_second_look_of_an_update_is_as_large_as_the_first_could_be(generator_folder: Path) -> None:
    """SAM computes an update twice: what did not fit is not tried again."""
    refused = [sum(tokens > 70 for tokens in _three_steps(generator_folder, Hungry(70), rule)[1].seen)
               for rule in (Sum(), Sam())]  # fmt: skip
    assert refused[0] == refused[1] > 0


def test_what_was_heard_of_a_refused_update_is_void(generator_folder: Path) -> None:
    """A regulariser that keeps something is told of each new beginning, and of the update once."""

    class Keeps:
        def __init__(self) -> None:
            self.heard, self.voided, self.known = 0.0, 0, list[float]()

        def __call__(self, policy: Policy, batch: Batch, terms: Terms) -> Tensor:
            self.heard += batch.units
            return terms.losses.new_zeros(())

        def restart(self) -> None:
            self.heard, self.voided = 0.0, self.voided + 1

        def advance(self) -> None:
            self.known.append(self.heard)
            self.heard = 0.0

    plenty, scarce = Keeps(), Keeps()
    _three_steps(generator_folder, Hungry(10_000), parts=[plenty])
    _, hungry = _three_steps(generator_folder, Hungry(70), parts=[scarce])
    assert scarce.known == plenty.known
    assert scarce.voided == sum(tokens > 70 for tokens in hungry.seen) > 0


def test_steps_that_waited_are_not_halved_again(generator_folder: Path) -> None:
    """Streamed steps are cut ahead: one that was cut before memory was refused is cut as the others are now."""
    _, loaded = tiny_policy(generator_folder)
    rows = tiny_rows(loaded, Layout.TOKENS, 8)
    schedule = EpochSteps(rows, Collator(Layout.TOKENS), Cut(8, 10_000), total=4)
    waiting = list(schedule.steps(None))  # type: ignore[arg-type]
    first = waiting[0]
    while max(batch.tokens for batch in first.batches) > 150:
        first = first.smaller() or pytest.fail("it cannot be cut")
    again = [waiting[number].smaller() for number in (1, 2, 3)]
    sizes = [[batch.tokens for batch in step.batches] for step in again if step is not None]
    assert sizes == [[batch.tokens for batch in first.batches]] * 3


def test_ranks_deal_alike_when_one_is_refused_memory(generator_folder: Path) -> None:
    """Every row is learned once, whoever reads less at once."""
    _, loaded = tiny_policy(generator_folder)
    rows = tiny_rows(loaded, Layout.TOKENS, 8) * 4
    ranks = [
        iter(EpochSteps(rows, Collator(Layout.TOKENS), Cut(32, 400, 2, rank), total=2).steps(None))  # type: ignore[arg-type]
        for rank in range(2)
    ]
    firsts = [next(steps) for steps in ranks]
    assert firsts[0].smaller() is not None
    read = sum(batch.tokens for steps in ranks for batch in next(steps).batches)
    assert read == sum(map(len, rows))


def test_a_row_that_does_not_fit_is_said(generator_folder: Path) -> None:
    with pytest.raises(OutOfMemory, match="the memory for an update"):
        _three_steps(generator_folder, Hungry(1))


def test_other_faults_are_not_taken_for_it(generator_folder: Path) -> None:
    class Broken(Hungry):
        def __call__(self, policy: Policy, batch: Batch) -> Terms:
            raise RuntimeError("the sizes do not match")

    with pytest.raises(RuntimeError, match="sizes do not match"):
        _three_steps(generator_folder, Broken(1))


def _three_steps(
    folder: Path, objective: Hungry, rule: GradientRule | None = None, parts: Sequence[Regulariser] = ()
) -> tuple[list[dict[str, float]], Hungry]:
    torch.manual_seed(0)
    policy, loaded = tiny_policy(folder, Lora(rank=4))
    rows = tiny_rows(loaded, Layout.TOKENS, 8)
    schedule = EpochSteps(rows, Collator(Layout.TOKENS, share=True), Cut(8, 10_000), total=3)
    updater = Updater(AdamW(learning_rate=1e-2, epsilon=1e-2), policy.trainable(), steps=3)
    records = fit(policy, {"main": objective}, schedule, updater, regularisers=parts, gradient=rule)
    return [dict(record.metrics) for record in records], objective


REFUSING = """
import json, resource, sys
from pathlib import Path
import torch
from tuneful.adapters import Lora
from tuneful.core.types import Layout
from tuneful.data.layouts import Collator
from tuneful.engine.fit import fit
from tuneful.engine.update import AdamW, Updater
from tuneful.objectives import NextToken
from tuneful.schedules.epochs import Cut, EpochSteps
from tuneful.testing import tiny_policy, tiny_rows

torch.set_num_threads(1)
torch.manual_seed(0)
policy, loaded = tiny_policy(Path(sys.argv[1]), Lora(rank=4))
rows = tiny_rows(loaded, Layout.TOKENS, 8) * 200
schedule = EpochSteps(rows, Collator(Layout.TOKENS), Cut(1600, 10**6), total=2)
updater = Updater(AdamW(learning_rate=1e-2, epsilon=1e-2), policy.trainable(), steps=2)
batches = []
def note(*given):
    batches.append(given[1].tokens)
    return NextToken()(*given)
if sys.argv[2] != "free":
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + int(sys.argv[2]) * 2**20,) * 2)
losses = [record.metrics["loss"] for record in fit(policy, {"main": note}, schedule, updater)]
print(json.dumps({"losses": losses, "batches": batches}))
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="limits the memory of a process as Linux does")
def test_a_system_that_refuses(generator_folder: Path) -> None:
    """The process may take 40 MB more, and the update as a whole needs several times as much."""
    free, tight = (_refusing(generator_folder, limit) for limit in ("free", "40"))
    assert tight["losses"] == pytest.approx(free["losses"], rel=1e-4)
    assert len(free["batches"]) == 2
    assert len(tight["batches"]) > 4


def _refusing(folder: Path, limit: str) -> dict[str, list[float]]:
    command = [sys.executable, "-c", REFUSING, str(folder), limit]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, list[float]] = json.loads(done.stdout)
    return found
