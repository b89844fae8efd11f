"""The loss of rows that are to be forgotten, and how it is told whether they are."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tuneful.adapters import Full
from tuneful.core.errors import RecipeError
from tuneful.core.policy import Policy
from tuneful.core.types import FORGOTTEN, Batch, Boundary, Example, Layout, Place, Row, Step, Terms
from tuneful.data.layouts import Collator
from tuneful.engine.fit import _passes
from tuneful.engine.update import Sum
from tuneful.evaluation.membership import membership, told_apart
from tuneful.evaluation.tasks import lessons
from tuneful.evaluation.words import words
from tuneful.objectives import Classify, NextToken
from tuneful.recipe import Recipe, from_mapping
from tuneful.regularisers import Forget, LabelSmoothing, Previous
from tuneful.regularisers.unlearning import drawn
from tuneful.run.forgotten import by_text, levels_by
from tuneful.run.gather import gather
from tuneful.run.onward import _compatible
from tuneful.run.plan import _copies
from tuneful.run.plan import _passes as _passes_of
from tuneful.testing import tiny_policy

NOBODY: Any = None


class Said:
    def __init__(self, logits: list[list[float]]) -> None:
        self.logits = torch.tensor(logits, requires_grad=True)

    def class_logits(self) -> Tensor:
        return self.logits

    def losses(self) -> Tensor:
        """Of the first class."""
        return -self.logits.log_softmax(1)[:, 0]


def batch_of(task: str) -> Batch:
    return Batch({}, {"labels": torch.tensor([0])}, torch.ones(1), 1.0, 1, task)


def test_the_loss_of_rows_to_be_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """p was 3/4 and is 1/2: (2 / beta) log(1 + (2/3)^beta) in place of log 2; beta = 2 gives log(13/9)."""
    then, now = Said([[math.log(3), 0.0]]), Said([[0.0, 0.0]])
    monkeypatch.setattr("tuneful.regularisers.unlearning.Earlier", lambda policy: lambda batch: then)
    losses = now.losses()
    terms = Terms(losses, now)  # type: ignore[arg-type]
    part = Forget(beta=2.0).begin(np.zeros(0))
    assert float(part(NOBODY, batch_of(FORGOTTEN), terms)) == 0  # nothing has been learned before
    part.consolidate(NOBODY, Boundary("one"))
    assert float(part(NOBODY, batch_of("one"), terms)) == 0  # rows of other tasks are learned as they are
    found = part(NOBODY, batch_of(FORGOTTEN), terms)
    assert float(found.detach()) == pytest.approx(math.log(13 / 9) - math.log(2))
    (slope,) = torch.autograd.grad(losses.sum() + found, now.logits)
    assert float(slope[0, 0]) == pytest.approx(-2 * (4 / 9) / (13 / 9) * -0.5)  # 2 p^b / (p^b + p_then^b), upwards


def test_a_row_that_is_as_unlikely_as_others_is_let_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """By its own loss, whatever the rows beside it have; beta near 0 is the ascent of the loss."""
    monkeypatch.setattr("tuneful.regularisers.unlearning.Earlier", lambda policy: lambda batch: Said([[0.0, 0.0]] * 2))
    inputs = {"input_ids": torch.tensor([[5, 6]]), "segments": torch.tensor([[0, 1, -1], [1, 2, -1]]),
              "rows": torch.tensor([0, 1])}  # fmt: skip
    batch = Batch(inputs, {"labels": torch.tensor([0, 0])}, torch.ones(2), 2.0, 2, FORGOTTEN)
    now = Said([[0.0, 0.0], [3.0, 0.0]])  # log 2 of the first, much less of the second
    policy: Any = SimpleNamespace(module=torch.nn.Linear(1, 1), through=lambda module, batch: now)
    for level, slopes in ((0.01, [0.0, 0.0]), (0.5, [0.0, -0.5]), (0.8, [-0.5, -0.5])):
        part = Forget(beta=1e-6).begin(np.zeros(0))
        part.consolidate(policy, Boundary("one"))
        part.aim([level])
        losses = now.losses()
        whole = losses.mean() + part(policy, batch, Terms(losses, now))  # type: ignore[arg-type]
        found = torch.autograd.grad(whole, now.logits)[0][:, 0]
        wrong = 1 - (-losses).exp()  # by which a loss falls when the score of its class rises
        assert found.tolist() == pytest.approx((-wrong * torch.tensor(slopes)).tolist(), abs=1e-5)
    assert policy.module.training  # it was asked with dropout off, and learns on with it


def test_a_row_is_held_to_the_level_that_it_drew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both have a loss of log 2; of levels from 0 to 1 one row drew 0.2, and is let be, the other 0.9."""
    monkeypatch.setattr("tuneful.regularisers.unlearning.Earlier", lambda policy: lambda batch: Said([[0.0, 0.0]] * 2))
    monkeypatch.setattr("tuneful.regularisers.unlearning.drawn", lambda batch: np.array([0.2, 0.9]))
    batch, now = Batch({}, {"labels": torch.tensor([0, 0])}, torch.ones(2), 2.0, 2, FORGOTTEN), Said([[0.0, 0.0]] * 2)
    policy: Any = SimpleNamespace(module=torch.nn.Linear(1, 1), through=lambda module, batch: now)
    part = Forget().begin(np.zeros(0))
    part.consolidate(policy, Boundary("one"))
    part.aim([1.0, 0.0])
    losses = now.losses()
    whole = losses.mean() + part(policy, batch, Terms(losses, now))  # type: ignore[arg-type]
    slopes = torch.autograd.grad(whole, now.logits)[0][:, 0]
    assert float(slopes[0]) == 0
    assert float(slopes[1]) > 0


def test_head_starts_of_classes_are_no_part_of_how_likely_a_row_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """The objective may add to the scores of classes; the model before and now are asked without."""
    then, now = Said([[0.0, 0.0]]), Said([[0.0, 0.0]])
    monkeypatch.setattr("tuneful.regularisers.unlearning.Earlier", lambda policy: lambda batch: then)
    part = Forget(beta=2.0).begin(np.zeros(0))
    part.consolidate(NOBODY, Boundary("one"))
    shifted = torch.tensor([0.3])
    found = part(NOBODY, batch_of(FORGOTTEN), Terms(shifted, now))  # type: ignore[arg-type]
    assert float(found.detach()) == pytest.approx(math.log(2) - 0.3)  # (2 / b) log(1 + 1) in place of what was shown


def test_levels_that_a_person_names_stand() -> None:
    given = Forget(level=0.7).begin(np.zeros(0))
    given.aim([0.1])
    assert given.state() == {"levels": [0.7]}  # what a person says stands


def test_how_often_a_row_is_told_from_one_never_learned() -> None:
    assert told_apart([0.1, 0.2], [0.3, 0.4]) == 1.0
    assert told_apart([0.3, 0.4], [0.1, 0.2]) == 0.0
    assert told_apart([0.1, 0.3], [0.2, 0.3]) == pytest.approx((1 + 1 + 0 + 0.5) / 4)
    assert "attack" not in membership([0.1] * 9, [0.2] * 50)
    found = membership([0.1] * 10 + [0.3] * 10, [0.2] * 50)
    assert found["attack"] == 0.5
    assert 0 < found["low"] < 0.5 < found["high"] < 1
    assert (found["loss"], found["unseen_loss"]) == (pytest.approx(0.2), pytest.approx(0.2))


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0.4, 0.6, "were unlearned:"), (0.55, 0.7, "not wholly"), (0.1, 0.3, "too far")],
)
def test_it_is_said_whether_they_are_forgotten(low: float, high: float, expected: str) -> None:
    after = {"attack": (low + high) / 2, "low": low, "high": high}
    found = {"rows": 20, "unseen": 50, "least": 10, "before": {"attack": 0.9}, "after": after}
    for language in ("en", "zh-TW"):
        told = lessons({"forgetting": {"unlearned": found}}, words(language))
        assert "0.9" in told[0]
        assert "20" in told[0]
    assert expected in lessons({"forgetting": {"unlearned": found}}, words("en"))[0]
    few = {**found, "after": {"loss": 1.0}}
    assert "cannot be said" in lessons({"forgetting": {"unlearned": few}}, words("en"))[0]


def rows_of(layout: Layout) -> list[Row]:
    """A short row of which little is learned, and a long one of which much is."""
    rng = np.random.default_rng(0)
    rows = []
    for number, (tokens, learned) in enumerate(((8, 3), (40, 36))):
        ids, learn = rng.integers(5, 60, tokens).astype(np.int32), np.zeros(tokens, np.float32)
        learn[-learned:] = 1
        target = number if layout is Layout.LABELS else None
        rows.append(Row(Example(Place("x", number), task=FORGOTTEN), ids, learn, target, prompt=tokens - learned))
    return rows


def slope(policy: Policy, batches: list[Batch], layout: Layout, part: Any) -> Tensor:
    objective = NextToken() if layout is Layout.TOKENS else Classify()
    parameters = list(policy.trainable().values())
    for parameter in parameters:
        parameter.grad = None
    units = {FORGOTTEN: sum(batch.units for batch in batches)}
    _passes(policy, {FORGOTTEN: objective}, Step(batches), [part], Sum(), units)
    return torch.cat([torch.zeros(p.numel()) if p.grad is None else p.grad.flatten() for p in parameters])


def own_loss(policy: Policy, batch: Batch) -> float:
    policy.module.eval()
    read = policy.read(batch.inputs)
    if "labels" in batch.targets:
        return float(torch.nn.functional.cross_entropy(read.class_logits().detach(), batch.targets["labels"]))
    with torch.no_grad():
        return float(-read.token_logprobs(batch.targets["tokens"], batch.targets["where"]).mean())


@pytest.mark.parametrize("layout", [Layout.TOKENS, Layout.LABELS])
def test_how_an_update_is_cut_changes_nothing(request: pytest.FixtureRequest, layout: Layout) -> None:
    """With all rows at work, and with one that is let be."""
    model = "generator_folder" if layout.writes else "reader_folder"
    policy, _ = tiny_policy(request.getfixturevalue(model), Full(), layout=layout)
    collate, rows = Collator(layout, None), rows_of(layout)
    parts = [collate([row]) for row in rows]
    losses = [own_loss(policy, batch) for batch in parts]
    for level in (None, sum(losses) / 2):
        part = Forget(level=level).begin(np.zeros(0))
        part.consolidate(policy, Boundary("one"))
        policy.module.eval()
        whole = slope(policy, [collate(rows)], layout, part)
        assert float(whole.norm()) > 0
        assert torch.allclose(whole, slope(policy, parts, layout, part), atol=1e-5 * float(whole.norm()))
    alone = slope(policy, [parts[int(losses[1] < losses[0])]], layout, part)  # the likelier one alone is at work
    share = parts[int(losses[1] < losses[0])].units / sum(batch.units for batch in parts)
    assert torch.allclose(whole, share * alone, atol=1e-5 * float(whole.norm()))


def test_a_row_is_let_be_by_its_loss_without_dropout(reader_folder: Path) -> None:
    policy, _ = tiny_policy(reader_folder, Full(), layout=Layout.LABELS)
    for module in policy.module.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5
    batch = Collator(Layout.LABELS, None)(rows_of(Layout.LABELS)[:1])
    own = own_loss(policy, batch)
    policy.module.train()
    with torch.no_grad():
        trained = [float(Classify()(policy, replace(batch)).losses) for _ in range(20)]
    policy.forget()
    assert min(trained) < own < max(trained)
    for level, moves in ((own - 1e-4, False), (own + 1e-4, True)):
        part = Forget(level=level).begin(np.zeros(0))
        part.consolidate(policy, Boundary("one"))
        for _ in range(20):
            policy.module.train()
            assert bool(slope(policy, [replace(batch)], Layout.LABELS, part).norm() > 0) is moves


def test_rows_that_say_the_same_are_one() -> None:
    rows = [Row(Example(Place("x", number), text=text), np.zeros(1, np.int32), np.zeros(1, np.float32), 0)
            for number, text in enumerate(("Hello there", "hello there!", "Bye"))]  # fmt: skip
    assert by_text(rows, [1.0, 2.0, 5.0]) == [1.5, 5.0]


def test_how_unlikely_rows_are_to_become() -> None:
    """As test rows; and none any further while the rows as a whole are no likelier than these."""
    assert levels_by([0.1, 0.2, 3.0], [0.5, 1.0, 4.0]) == [0.5, 1.0, 4.0]
    assert levels_by([0.1, 2.0, 5.0], [0.5, 1.0, 4.0]) == [0.0]


def test_each_row_has_the_level_of_a_test_row_of_its_own() -> None:
    """Drawn by lot, so that all of them come to lie as test rows do; the same whatever it is read with."""
    collate, rows = Collator(Layout.LABELS, None), rows_of(Layout.LABELS)
    ones = np.ones(3, dtype=np.float32)
    many = [replace(rows[0], ids=np.arange(3, dtype=np.int32) + 3 * number, learn=ones) for number in range(300)]
    found = drawn(collate(many))
    assert np.allclose(np.quantile(found, [0.25, 0.5, 0.75]), [0.25, 0.5, 0.75], atol=0.1)
    assert drawn(collate(many[7:9])).tolist() == found[7:9].tolist()
    shared = Collator(Layout.TOKENS, None, share=True)
    texts = [replace(row, target=None) for row in many[:20]]
    assert drawn(shared(texts)).tolist() == pytest.approx(drawn(Collator(Layout.TOKENS, None)(texts)).tolist())


def problems_of(given: dict[str, Any]) -> str:
    with pytest.raises(RecipeError) as caught:
        gather(from_mapping(given, [])[0], lambda _: None)
    return str(caught.value)


def test_what_is_called_forgotten_is_unlearned_and_nothing_else() -> None:
    def given(*names: str, **more: Any) -> dict[str, Any]:
        tasks = [{"name": name, "data": name} for name in names]
        schedule = {"kind": "lifelong", "behind": 1} if len(tasks) > 1 else "epochs"
        return {"model": "minilm-l6", "tasks": tasks, "schedule": schedule, **more}

    unlearns = {"start": "runs/x", "regularisers": ["forget"]}
    assert "would be learned; take another name" in problems_of(given("b", FORGOTTEN, start="runs/x"))
    assert "would be learned; take another name" in problems_of(given(f"{FORGOTTEN} (2)"))
    for names in (("a", "b"), (FORGOTTEN, "b"), (FORGOTTEN, f"{FORGOTTEN} (2)")):
        assert "tuneful unlearn RUN ROWS" in problems_of(given(*names, **unlearns))
    assert "tuneful unlearn RUN ROWS" in problems_of(given("a", FORGOTTEN, regularisers=["forget"]))
    assert "schedule.behind" in problems_of(given("a", "b", FORGOTTEN, **unlearns))


def test_a_component_made_in_python_is_written_with_its_kind() -> None:
    recipe = Recipe(model="x", data="a.csv", regularisers=[LabelSmoothing(), Forget(beta=0.2)])  # type: ignore[call-arg]
    written = recipe.model_dump(mode="json", exclude_unset=True)
    assert written["regularisers"] == [{"kind": "label_smoothing"}, {"kind": "forget", "beta": 0.2}]
    assert from_mapping(written, [])[0] == recipe


def test_a_rule_about_rows_that_come_back_needs_rows() -> None:
    turns = {"kind": "lifelong", "replay": 0, "own_text": 8}
    given = {"model": "x", "tasks": [{"name": name, "data": name} for name in "ab"], "schedule": turns,
             "gradient": "a_gem"}  # fmt: skip
    assert "a_gem protects rows that come back" in problems_of(given)


def test_what_is_taken_over_of_a_run() -> None:
    """Groups are not compared while tasks are learned in turn, and of losses in the place of another there is one."""
    own = ["mmd", "focal", {"kind": "previous", "strength": 3}]
    held = {"kind": "previous", "strength": 3.0}
    assert _compatible(own, []) == ([{"kind": "focal"}, held], ["mmd"])
    assert _compatible(own, [Forget()]) == ([held, {"kind": "forget"}], ["mmd", "focal"])
    assert _compatible(own, [Forget(), Previous()])[0] == [{"kind": "forget"}, {"kind": "previous"}]


def test_what_it_reads_and_holds_besides_is_planned() -> None:
    """Of an update a quarter are new rows: four passes, one third more for what holds on to the model as it was, and
    two thirds of a quarter for the rows that are to be forgotten."""
    tasks = [{"name": name, "data": name} for name in "ab"]
    given = {"model": "x", "tasks": tasks, "schedule": {"kind": "lifelong", "mixed": 0.75}}
    plain = from_mapping(given, [])[0]
    recipe = from_mapping({**given, "regularisers": ["forget", "previous"]}, [])[0]
    assert (_passes_of(plain), _copies(plain, 1)) == (4, 0)
    assert (_passes_of(recipe), _copies(recipe, 1)) == (pytest.approx(4 + 4 / 3 + 2 / 3), 2)
