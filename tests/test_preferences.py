"""Answers that are preferred: objectives by hand, pairs that share their prompt, what is refused, and what is learned."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from preferring import Says, batch_of
from tuneful.adapters import Full, Lora
from tuneful.core.policy import Outputs, Policy
from tuneful.core.protocols import Adapter
from tuneful.core.spec import Spec
from tuneful.core.types import Batch, Example, Layout, Message, Place, Row
from tuneful.data.layouts import Collator
from tuneful.data.rows import Rows, build
from tuneful.data.xray import pieces
from tuneful.engine.fit import fit
from tuneful.engine.update import AdamW, Updater
from tuneful.evaluation.preferences import best_line, read_answers
from tuneful.models.load import Loaded
from tuneful.objectives import Dpo, Kto, Orpo, Simpo
from tuneful.run.preferences import completed, notes
from tuneful.schedules.epochs import Cut, EpochSteps
from tuneful.testing import tiny_policy, tiny_rows

NOW = [[-1.0, -1.0], [-1.0, -2.0, -3.0]]  # log p of the tokens of a chosen and of a rejected answer
BEFORE = [[-1.5, -1.5], [-1.0, -1.5, -2.5]]  # so in all they gained 1 and lost 1


def softplus(value: float) -> float:
    return math.log1p(math.exp(value))


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        (Dpo(), softplus(-0.2)),
        (Dpo(beta=0.5), softplus(-1)),
        (Dpo(label_smoothing=0.1), 0.9 * softplus(-0.2) + 0.1 * softplus(0.2)),
        (Dpo(loss="robust", label_smoothing=0.1), (0.9 * softplus(-0.2) - 0.1 * softplus(0.2)) / 0.8),
        (Dpo(loss="ipo"), (2 - 5) ** 2),
        (Dpo(normalise=True), softplus(-5 * (1 / 2 + 1 / 3))),
        (Dpo(normalise=True, beta=1), softplus(-(1 / 2 + 1 / 3))),
        (Dpo(sft=2), softplus(-0.2) + 2 * 1.0),
        # Odds e^-1 / (1 - e^-1) = 0.58198 and e^-2 / (1 - e^-2) = 0.15652.
        (Orpo(), 1.0 + 0.1 * softplus(-math.log(0.581976707 / 0.156517643))),
        (Simpo(), softplus(-(2.5 * (-1 + 2) - 1.375))),
    ],
    ids=repr,
)
def test_losses_of_a_pair_by_hand(objective: Spec, expected: float) -> None:
    model = Says(NOW, BEFORE)
    terms = objective(model, batch_of(NOW, 1))  # type: ignore[operator]
    assert terms.losses.tolist() == pytest.approx([expected], rel=1e-5)
    assert terms.metrics["accuracy"] == 1
    terms.losses.sum().backward()
    assert model.now.grad is not None
    chosen, rejected = model.now.grad.split([2, 3])
    assert (chosen < 0).all() or (isinstance(objective, Dpo) and objective.loss == "ipo")  # becomes likelier
    assert (rejected > 0).all()


def test_losses_of_judged_answers_by_hand() -> None:
    now = [[-1.0], [-2.0], [-3.0], [-1.0]]  # own, mate, own, mate
    before = [[-2.0], [-2.5], [-2.0], [-1.7]]
    targets = {
        "own": torch.tensor([0, 2]), "mates": torch.tensor([1, 3]), "wanted": torch.tensor([True, False]),
    }  # fmt: skip
    model = Says(now, before)
    terms = Kto(beta=0.5, wanted=3, unwanted=2)(model, batch_of(now, 2, targets))  # type: ignore[arg-type]
    moved = (0.5 + 0.7) / 2
    right = 1 / (1 + math.exp(-0.5 * (1 - moved)))
    wrong = 1 / (1 + math.exp(-0.5 * (moved + 1)))
    assert terms.losses.tolist() == pytest.approx([3 * (1 - right), 2 * (1 - wrong)])
    assert terms.metrics == pytest.approx({"accuracy": 1.0, "moved": moved})
    terms.losses.sum().backward()
    assert model.now.grad is not None
    assert model.now.grad[[1, 3]].tolist() == [0, 0]  # how far the model has moved gets no gradient
    back = Says(before, now)  # both mates lost: the estimate of a divergence is never below zero
    assert Kto()(back, batch_of(now, 2, targets)).metrics["moved"] == 0  # type: ignore[arg-type]


@pytest.mark.parametrize("adapter", [Lora(), Full()], ids=lambda adapter: adapter.kind)
@pytest.mark.parametrize("objective", [Dpo(), Dpo(normalise=True), Dpo(label_smoothing=0.2)], ids=repr)
def test_the_first_loss_is_log_two(objective: Dpo, adapter: Adapter, generator_folder: Path) -> None:
    policy, loaded = tiny_policy(generator_folder, adapter)
    batch = Collator(Layout.PREFERENCES, share=True)(tiny_rows(loaded, Layout.PREFERENCES))
    torch.testing.assert_close(objective(policy, batch).losses.detach(), torch.full((6,), math.log(2)))
    ipo = Dpo(loss="ipo", beta=0.5)(policy, batch).losses.detach()
    torch.testing.assert_close(ipo, torch.ones(6), atol=1e-4, rtol=0)


def moved(folder: Path) -> tuple[Policy, Loaded]:
    """A model that is no longer what it was."""
    torch.manual_seed(0)
    policy, loaded = tiny_policy(folder, Lora())
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in policy.trainable().values():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return policy, loaded


def alone(policy: Policy, text: np.ndarray, start: int) -> float:
    """log p of a text from one place on, read by transformers alone."""
    merged: Any = policy.attached.merged()
    ids = torch.from_numpy(text.astype(np.int64))[None]
    with torch.no_grad():
        logs = merged(input_ids=ids).logits[0].log_softmax(-1)
    return float(logs[start - 1 : -1].gather(1, ids[0, start:, None]).sum())


@pytest.mark.parametrize("layout", [Layout.PREFERENCES, Layout.JUDGED])
def test_answers_are_as_likely_as_each_alone(layout: Layout, generator_folder: Path) -> None:
    policy, loaded = moved(generator_folder)
    rows = tiny_rows(loaded, layout, 3)
    found = read_answers(policy, rows, Collator(layout, share=True))
    for row, own in zip(rows, found, strict=True):
        for place, text in enumerate(row.texts):
            # Behind the stop token the template writes a line break that nobody has to say.
            start, end = row.prompt, len(text) - 1
            assert own[place, 1] in (end - start, end - start + 1)
            assert own[place, 0] == pytest.approx(alone(policy, text[: start + int(own[place, 1])], start), rel=1e-4)


@pytest.mark.parametrize("objective", [Dpo(), Orpo(), Kto()], ids=lambda one: one.kind)
def test_a_prompt_is_computed_once_and_nothing_changes(objective: Any, generator_folder: Path) -> None:
    found = {}
    for share in (False, True):
        policy, loaded = moved(generator_folder)
        batch = Collator(objective.layout, share=share)(tiny_rows(loaded, objective.layout))
        losses = objective(policy, batch).losses
        losses.sum().backward()
        found[share] = (losses.detach(), {name: p.grad for name, p in policy.trainable().items()}, batch.tokens)
    torch.testing.assert_close(found[True][0], found[False][0], rtol=1e-4, atol=1e-5)
    for name, gradient in found[True][1].items():
        torch.testing.assert_close(gradient, found[False][1][name], rtol=1e-3, atol=1e-5)
    assert found[True][2] < 0.7 * found[False][2]


def test_added_tokens_are_counted_as_they_are_read(generator_folder: Path) -> None:
    _, loaded = tiny_policy(generator_folder)
    collate = Collator(Layout.PREFERENCES, share=True)
    rows = sorted(tiny_rows(loaded, Layout.PREFERENCES), key=lambda row: row.ids.tolist())
    befores = [None, *rows[:-1]]
    assert sum(map(collate.added, rows, befores)) == collate(rows).tokens


def trained(policy: Policy, loaded: Loaded, objective: Any, cut: Cut, steps: int) -> list[dict[str, float]]:
    rows = tiny_rows(loaded, objective.layout, 8)
    schedule = EpochSteps(rows, Collator(objective.layout, share=True), cut, steps)
    updater = Updater(AdamW(learning_rate=0.01, epsilon=1e-3), policy.trainable(), steps=steps)
    return [dict(record.metrics) for record in fit(policy, {"main": objective}, schedule, updater)]


@pytest.mark.parametrize("objective", [Dpo(), Orpo(), Simpo()], ids=lambda one: one.kind)
def test_one_batch_of_eight_is_eight_of_one(objective: Any, generator_folder: Path) -> None:
    found = {}
    for micro_tokens in (10_000, 1):
        torch.manual_seed(0)
        policy, loaded = tiny_policy(generator_folder, Lora())
        records = trained(policy, loaded, objective, Cut(8, micro_tokens), 3)
        found[micro_tokens] = (records, {name: p.detach().clone() for name, p in policy.trainable().items()})
    for one, eight in zip(found[10_000][0], found[1][0], strict=True):
        assert eight["read"] > one["read"]  # nothing is shared between eight batches of one pair
        for name in ("loss", "accuracy", "gradient_norm"):
            assert eight[name] == pytest.approx(one[name], rel=1e-3)
    for name, weight in found[10_000][1].items():
        torch.testing.assert_close(weight, found[1][1][name], rtol=1e-3, atol=1e-4)


def test_the_model_before_tuning_is_asked_once_for_each_row(
    generator_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Batch] = []
    plain = Policy.reference

    def counted(self: Policy, batch: Batch) -> Outputs:
        asked.append(batch)
        return plain(self, batch)

    monkeypatch.setattr(Policy, "reference", counted)
    policy, loaded = tiny_policy(generator_folder, Lora())
    trained(policy, loaded, Dpo(), Cut(2, 10_000), 12)  # three epochs of four updates
    assert sum(len(batch.weights) for batch in asked) == 8
    batch = Collator(Layout.PREFERENCES)(tiny_rows(loaded, Layout.PREFERENCES, 8))
    kept = [policy.known[name] for name in batch.targets["names"].tolist()]
    fresh = read_answers(policy, tiny_rows(loaded, Layout.PREFERENCES, 8), Collator(Layout.PREFERENCES), original=True)
    assert kept == pytest.approx(fresh[..., 0].ravel().tolist(), rel=1e-4)
    assert read_answers(policy, tiny_rows(loaded, Layout.PREFERENCES, 1), Collator(Layout.PREFERENCES))[
        0, 0, 0
    ] != pytest.approx(kept[0], rel=1e-3), "the model has not moved, so nothing was shown"


def row_of(loaded: Loaded, example: Example, limit: int = 200) -> Any:
    return build([example], Layout.PREFERENCES, loaded.processor, limit)


def test_only_answers_are_told_and_both_are_shown(generator_folder: Path) -> None:
    _, loaded = tiny_policy(generator_folder)
    talk = (Message("user", "one"), Message("assistant", "two"), Message("user", "three"))
    built = row_of(loaded, Example(Place("d", 1), messages=talk, chosen=(Message("assistant", "yes"),),
                                   rejected=(Message("assistant", "no"),)))  # fmt: skip
    (row,) = built.rows
    told = [loaded.processor.decode(text[learn > 0].tolist()) for text, learn in zip(
        row.texts, [row.learn[part] for part in row.parts], strict=True)]  # fmt: skip
    assert [text.replace("<|im_end|>", "").strip() for text in told] == ["yes", "no"]
    assert np.array_equal(row.texts[0][: row.prompt], row.texts[1][: row.prompt])
    shown = pieces(built.texts[0])
    learned = [text for text, is_learned in shown if is_learned]
    context = [text for text, is_learned in shown if not is_learned]
    assert [text.split("<")[0] for text in learned] == ["yes", "no"]
    assert context[0].endswith("\u2713 ")
    assert context[1].endswith("\u2717 ")
    assert "two" in context[0]


@pytest.mark.parametrize(
    ("asked", "good", "bad", "limit", "expected"),
    [
        ("q" * 90, "yes", "no", 60, "the prompt alone has"),
        ("q", "y" * 90, "no", 60, "the answer would lose its end"),
        ("q", "yes", "n" * 90, 60, "the answer would lose its end"),
        ("q", "yes", "yes", 60, "are the same to this model"),
    ],
)
def test_rows_that_cannot_be_used(
    asked: str, good: str, bad: str, limit: int, expected: str, generator_folder: Path
) -> None:
    _, loaded = tiny_policy(generator_folder)
    built = row_of(loaded, Example(Place("d", 1), messages=(Message("user", asked),),
                                   chosen=(Message("assistant", good),), rejected=(Message("assistant", bad),)),
                   limit)  # fmt: skip
    assert not built.rows
    assert expected in built.dropped[0].reason


def test_an_answer_is_set_beside_one_to_another_prompt(generator_folder: Path) -> None:
    _, loaded = tiny_policy(generator_folder)
    asked = ["one", "one", "two", "three"]
    examples = [
        Example(Place("d", n), messages=(Message("user", text), Message("assistant", "x" * (n + 1))), label=n % 2 == 0)
        for n, text in enumerate(asked)
    ]
    rows = build(examples, Layout.JUDGED, loaded.processor, 40).rows
    answers = [loaded.processor.decode(row.texts[1][row.prompt :].tolist()).count("x") for row in rows]
    assert answers == [3, 3, 4, 1]  # of the next row that is asked something else
    assert all(np.array_equal(row.texts[1][: row.prompt], row.texts[0][: row.prompt]) for row in rows)
    assert not any(row.learn[row.parts[1]].any() for row in rows)
    whole = build(examples, Layout.JUDGED, loaded.processor, 400).rows
    for row, mate in zip(whole, (2, 2, 3, 0), strict=True):  # the very tokens that are told of it as an own answer
        one = whole[mate]
        own = one.ids[: one.lengths[0]][one.learn[: one.lengths[0]] > 0]
        assert row.texts[1][row.prompt :].tolist() == own.tolist()
    assert max(row.longest for row in rows) <= 40
    targets = Collator(Layout.JUDGED)(rows).targets
    assert (targets["own"].tolist(), targets["mates"].tolist()) == ([0, 2, 4, 6], [1, 3, 5, 7])
    assert targets["wanted"].tolist() == [True, False, True, False]
    same = build(examples[:2], Layout.JUDGED, loaded.processor, 40).rows
    assert [len(row.texts) for row in same] == [1, 1]


def test_a_small_weight_is_no_missing_one() -> None:
    """Two wanted answers and one that is not, and a weight that four digits would not show."""
    examples = [
        Example(Place("d", n), messages=(Message("user", str(n)), Message("assistant", "x")), label=n > 0)
        for n in range(3)
    ]
    found = completed(Kto(unwanted=1e-5), examples)
    assert isinstance(found, Kto)
    assert found.wanted == pytest.approx(5e-6)
    assert notes(found, {"train": Rows([Row(one, np.zeros(1), np.zeros(1)) for one in examples])})[0].key == "judged"


def test_a_line_between_answers() -> None:
    assert best_line(np.array([3.0, 1.0, 2.0, 4.0]), np.array([True, False, False, True])) == 2
    assert best_line(np.array([1.0, 2.0]), np.array([True, True])) == -math.inf
    assert best_line(np.array([1.0, 2.0]), np.array([False, False])) == 2
