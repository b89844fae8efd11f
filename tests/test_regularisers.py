"""Each regulariser gives the number that its source says, and moves what it is for."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tuneful.adapters import Full, Head, Lora, TopLayers
from tuneful.core.errors import RecipeError
from tuneful.core.layers import blocks
from tuneful.core.policy import Policy
from tuneful.core.spec import Spec
from tuneful.core.types import Batch, Layout, Step, Terms
from tuneful.data.layouts import Collator
from tuneful.engine.fit import disturbed, fit
from tuneful.engine.update import AdamW, Updater
from tuneful.objectives import Classify, NextToken
from tuneful.regularisers import (
    L2SP,
    ConfidencePenalty,
    Dft,
    Dropout,
    Focal,
    LabelSmoothing,
    LayerDrop,
    Mixup,
    Neftune,
    RDrop,
)
from tuneful.testing import tiny_policy, tiny_rows


class Said:
    """Outputs that hold these logits (R, C)."""

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits

    def class_logits(self) -> Tensor:
        return self.logits


class Twice:
    """A policy whose second look gives other logits."""

    def __init__(self, second: Tensor) -> None:
        self.second = second

    def again(self, batch: Batch) -> Said:
        return Said(self.second)


def judged(logits: list[list[float]], labels: Any, weights: list[float] | None = None) -> tuple[Batch, Terms]:
    """What `Classify` says of these logits."""
    told, target = torch.tensor(logits, requires_grad=True), torch.tensor(labels)
    if target.dim() == 2:
        losses = torch.nn.functional.binary_cross_entropy_with_logits(told, target, reduction="none").mean(-1)
    else:
        losses = torch.nn.functional.cross_entropy(told, target, reduction="none")
    batch = Batch({}, {"labels": target}, torch.tensor(weights or [1.0] * len(told)), float(len(told)), 1)
    return batch, Terms(losses, Said(told))  # type: ignore[arg-type]


NOBODY: Any = None
LOG3 = math.log(3.0)  # logits (log 3, 0): probabilities 3/4 and 1/4


@pytest.mark.parametrize(
    ("regulariser", "expected"),
    [
        # Against even answers (log 4 - log 3 + log 4) / 2, against the right one log 4 - log 3: half of log 3 more.
        (LabelSmoothing(strength=0.2), 0.2 * LOG3 / 2),
        (ConfidencePenalty(strength=2.0), -2.0 * (math.log(4) - 0.75 * LOG3)),
        (Focal(gamma=2.0), (0.25**2 - 1) * math.log(4 / 3)),
        (Focal(gamma=1.0), (0.25 - 1) * math.log(4 / 3)),
        (Dft(), (0.75 - 1) * math.log(4 / 3)),
    ],
    ids=lambda given: getattr(given, "kind", ""),
)
def test_by_hand(regulariser: Any, expected: float) -> None:
    """A row that counts nothing changes nothing."""
    for extra in ([], [[5.0, -5.0]]):
        batch, terms = judged([[LOG3, 0.0], *extra], [0, *[1] * len(extra)], [1.0, *[0.0] * len(extra)])
        assert float(regulariser(NOBODY, batch, terms).detach()) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("regulariser", "expected"),
    [
        # One label, yes with 3/4 and right: against a half it loses (log 4/3 + log 4) / 2.
        (LabelSmoothing(strength=0.2), 0.2 * LOG3 / 2),
        (ConfidencePenalty(strength=2.0), -2.0 * (math.log(4) - 0.75 * LOG3)),
    ],
    ids=lambda given: getattr(given, "kind", ""),
)
def test_independent_labels_by_hand(regulariser: Any, expected: float) -> None:
    batch, terms = judged([[LOG3, LOG3]], [[1.0, 1.0]])
    assert float(regulariser(NOBODY, batch, terms).detach()) == pytest.approx(expected, abs=1e-6)


def test_two_looks_by_hand() -> None:
    """3/4 and 1/4 against 1/2 and 1/2: KL of one from the other and back, (3/4 - 1/2) log 3 in all; with
    slopes into both looks."""
    batch, terms = judged([[LOG3, 0.0]], [0])
    second = torch.zeros(1, 2, requires_grad=True)
    penalty = RDrop(strength=4.0)(Twice(second), batch, terms)  # type: ignore[arg-type]
    assert float(penalty.detach()) == pytest.approx(2.0 * 0.25 * LOG3)
    penalty.backward()
    assert second.grad is not None
    assert float(second.grad.abs().sum()) > 0
    many, judged_many = judged([[LOG3]], [[1.0]])
    found = RDrop(strength=4.0)(Twice(torch.zeros(1, 1)), many, judged_many)  # type: ignore[arg-type]
    assert float(found.detach()) == pytest.approx(2.0 * 0.25 * LOG3)


def test_focal_has_a_slope_where_a_row_is_wholly_right() -> None:
    batch, terms = judged([[200.0, 0.0]], [0])
    Focal(gamma=0.5)(NOBODY, batch, terms).backward()
    grad = terms.outputs.class_logits().grad
    assert grad is not None
    assert bool(grad.isfinite().all())


def test_no_slope_through_the_share_of_dft() -> None:
    """The slope of the sum is p times that of the loss."""
    batch, terms = judged([[LOG3, 0.0]], [0])
    told = terms.outputs.class_logits()
    plain = torch.autograd.grad(terms.losses.sum(), told, retain_graph=True)[0]
    both = torch.autograd.grad(terms.losses.sum() + Dft()(NOBODY, batch, terms), told)[0]
    torch.testing.assert_close(both, 0.75 * plain)


@pytest.mark.parametrize("regulariser", [Focal(), LabelSmoothing(), Mixup(alpha=1e-6)], ids=lambda item: item.kind)
def test_small_weights_change_nothing(regulariser: Any) -> None:
    """Three rows of little weight count what they count with weight one."""
    found = []
    for weight in (1.0, 0.3):
        batch, terms = judged([[LOG3, 0.0], [0.0, 1.0], [2.0, 0.0]], [0, 0, 1], [weight] * 3)
        found.append(float(regulariser(NOBODY, batch, terms).detach()))
    assert found[0] == pytest.approx(found[1], abs=1e-5)


def test_mixed_rows_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rows, each a quarter of itself: logits (L, 0) and (0, L) become (L/4, 3L/4) and back, the answer is a quarter
    of its own class. With L = 4 log 3 the probabilities are 1/10 and 9/10; a row that counts nothing is no partner."""
    monkeypatch.setattr(torch, "randperm", lambda n, **_: torch.arange(n).flip(0))
    monkeypatch.setattr(torch.distributions.Beta, "sample", lambda self, shape: torch.full(shape, 0.25))
    batch, terms = judged([[4 * LOG3, 0.0], [9.0, 9.0], [0.0, 4 * LOG3]], [0, 0, 1], [1.0, 0.0, 1.0])
    mixed = float((terms.losses * batch.weights).sum().detach()) / 2 + float(Mixup()(NOBODY, batch, terms).detach())
    assert mixed == pytest.approx(0.25 * math.log(10) + 0.75 * math.log(10 / 9))
    many, told = judged([[2.0], [0.0]], [[1.0], [0.0]])
    plain = float(told.losses.mean().detach())
    wanted = torch.nn.functional.binary_cross_entropy_with_logits(torch.tensor([0.5, 1.5]), torch.tensor([0.25, 0.75]))
    assert plain + float(Mixup()(NOBODY, many, told).detach()) == pytest.approx(float(wanted))


def test_mixed_numbers_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Off by 2 and by 0: mixed half and half, off by 1 both times."""
    monkeypatch.setattr(torch, "randperm", lambda n, **_: torch.arange(n).flip(0))
    monkeypatch.setattr(torch.distributions.Beta, "sample", lambda self, shape: torch.full(shape, 0.5))
    told = torch.tensor([[3.0], [5.0]], requires_grad=True)
    labels = torch.tensor([1.0, 5.0])
    losses = 0.5 * (told[:, 0] - labels).square()
    batch = Batch({}, {"labels": labels}, torch.ones(2), 2.0, 1)
    penalty = Mixup()(NOBODY, batch, Terms(losses, Said(told)))  # type: ignore[arg-type]
    assert float(losses.mean().detach() + penalty.detach()) == pytest.approx(0.5)


def writer(folder: Path) -> tuple[Policy, Batch]:
    policy, loaded = tiny_policy(folder, Lora(rank=2))
    policy.module.eval()
    return policy, Collator(Layout.TOKENS)(tiny_rows(loaded, Layout.TOKENS))


def test_tokens_are_judged_as_classes_are(generator_folder: Path) -> None:
    """Each regulariser over the vocabulary, chunk by chunk, against the same over all logits at once."""
    policy, batch = writer(generator_folder)
    terms = NextToken()(policy, batch)
    where, tokens = batch.targets["where"], batch.targets["tokens"]
    with torch.no_grad():
        vocabulary = policy.network.vocabulary(policy.module)
        logits = vocabulary.logits(policy(batch).hidden[where])
    as_classes = Batch({}, {"labels": tokens}, batch.weights, batch.units, 1)
    told = Terms(torch.nn.functional.cross_entropy(logits, tokens, reduction="none"), Said(logits))  # type: ignore[arg-type]
    for regulariser in (LabelSmoothing(), ConfidencePenalty(), Focal(), Dft()):
        found, wanted = regulariser(policy, batch, terms), regulariser(policy, as_classes, told)
        torch.testing.assert_close(found.detach(), wanted, rtol=1e-4, atol=1e-5)
    other = logits + torch.randn_like(logits)
    apart = RDrop()(Twice(other), as_classes, told)  # type: ignore[arg-type]
    assert float(apart.detach()) > 0
    assert float(RDrop()(policy, batch, terms).detach()) == pytest.approx(0.0, abs=1e-6)  # no dropout, two equal looks


def test_two_looks_differ_by_dropout(reader_folder: Path) -> None:
    policy, loaded = tiny_policy(reader_folder, layout=Layout.LABELS)
    batch = Collator(Layout.LABELS)(tiny_rows(loaded, Layout.LABELS))
    assert RDrop().problems(policy)
    for part in policy.module.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.3
    assert not RDrop().problems(policy)
    policy.module.train()
    assert float(RDrop()(policy, batch, Classify()(policy, batch)).detach()) > 1e-6
    policy.module.eval()
    policy.forget()
    assert float(RDrop()(policy, batch, Classify()(policy, batch)).detach()) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize(
    "adapter", [Full(), Head(), Lora(rank=2), Lora(rank=4, rslora=True)], ids=lambda a: repr(a)[:24]
)
def test_distance_is_that_of_the_weights(adapter: Any, reader_folder: Path) -> None:
    """Against merged weights less those at the start; the new head does not count."""
    torch.manual_seed(0)
    policy, _ = tiny_policy(reader_folder, adapter, layout=Layout.LABELS)
    start = {name: tensor.clone() for name, tensor in policy.attached.merged().state_dict().items()}
    assert float(policy.distance().detach()) == 0
    with torch.no_grad():
        for parameter in policy.trainable().values():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    moved = policy.attached.merged().state_dict()
    wanted = sum(
        float((moved[name].double() - start[name].double()).square().sum())
        for name in start
        if start[name].is_floating_point() and not name.startswith("classifier")
    )
    assert wanted > 0 or isinstance(adapter, Head)
    assert float(policy.distance().detach()) == pytest.approx(wanted, rel=1e-4, abs=1e-7)
    assert float(L2SP(strength=0.5)(policy, NOBODY, NOBODY).detach()) == pytest.approx(
        0.25 * wanted, rel=1e-4, abs=1e-7
    )


def test_distance_of_the_rows_that_occur(reader_folder: Path) -> None:
    """An embedding of which some rows learn is measured by these."""
    policy, _ = tiny_policy(reader_folder, Full(), layout=Layout.LABELS)
    policy.attached.see(torch.tensor([3, 9, 5]))  # type: ignore[attr-defined]
    with torch.no_grad():
        policy.module.get_input_embeddings().rows[1] += 0.5  # type: ignore[operator]
    width = policy.module.get_input_embeddings().weight.shape[1]  # type: ignore[operator]
    assert float(policy.distance().detach()) == pytest.approx(0.25 * width, rel=1e-5)


def learned(folder: Path, regularisers: list[Spec], steps: int = 80) -> tuple[Policy, Batch]:
    """A tiny reader that learned six rows by heart."""
    torch.manual_seed(0)
    policy, loaded = tiny_policy(folder, layout=Layout.LABELS)
    batch = Collator(Layout.LABELS)(tiny_rows(loaded, Layout.LABELS))

    class Fixed:
        def steps(self, policy: Policy, start: int = 0) -> Any:
            yield from [Step([batch])] * steps

    updater = Updater(AdamW(learning_rate=3e-3), policy.trainable(), steps=steps)
    list(fit(policy, {"main": Classify()}, Fixed(), updater, regularisers=regularisers))  # type: ignore[arg-type]
    policy.module.eval()
    return policy, batch


@pytest.mark.parametrize("regulariser", [LabelSmoothing(strength=0.3), ConfidencePenalty(strength=0.5), Focal(gamma=5.0)],
                         ids=lambda item: item.kind)  # fmt: skip
def test_answers_are_less_sure(regulariser: Spec, reader_folder: Path) -> None:
    """With the same updates, a penalised run ends with a higher entropy and answers the same rows right."""
    entropies = []
    for regularisers in ([], [regulariser]):
        policy, batch = learned(reader_folder, regularisers)
        logs = policy.read(batch.inputs).class_logits().detach().log_softmax(-1)
        assert logs.argmax(-1).tolist() == batch.targets["labels"].tolist()
        entropies.append(float(-(logs.exp() * logs).sum(-1).mean()))
    assert entropies[1] > 1.5 * entropies[0]


def test_weights_stay_nearer_to_where_they_began(reader_folder: Path) -> None:
    near, far = (
        float(learned(reader_folder, penalties)[0].distance().detach()) for penalties in ([L2SP(strength=1.0)], [])
    )
    assert near < 0.7 * far


def test_what_means_nothing_is_refused_before_training(reader_folder: Path, tmp_path: Path) -> None:
    from tuneful.run.api import check

    def refused(rows: list[str], **more: Any) -> str:
        (tmp_path / "d.csv").write_text("\n".join(rows), encoding="utf-8")
        with pytest.raises(RecipeError) as found:
            check({"data": str(tmp_path / "d.csv"), "model": str(reader_folder), **more})
        return str(found.value)

    numbers = ["text,label", *(f"text {n} {'ab' * n},{n / 7}" for n in range(1, 30))]
    assert "label_smoothing is about" in refused(numbers, regularisers=["label_smoothing"])
    classes = ["text,label", *(f"text {n} {'ab' * n},{'xyz'[n % 3]}" for n in range(1, 30))]
    assert "reference_kl is about answers that are tokens" in refused(classes, regularisers=["reference_kl"])
    found = refused(classes, regularisers=["focal", {"kind": "focal", "gamma": 1}])
    assert "focal is given twice" in found
    assert "focal and focal each put another loss" in found
    assert "dora" in refused(classes, regularisers=["l2_sp"], adapter={"kind": "lora", "dora": True})


def embedded(policy: Policy, batch: Batch, regulariser: Neftune) -> Tensor:
    """What the lowest layer reads while it learns."""
    found = []
    with disturbed([regulariser], policy, batch):
        hook = policy.module.get_input_embeddings().register_forward_hook(lambda *given: found.append(given[2]))  # type: ignore[operator]
        policy.again(batch)
        hook.remove()
    return found[0].detach()[0]


def test_noise_is_as_large_as_the_paper_says(generator_folder: Path) -> None:
    """alpha / sqrt(L d), even from minus to plus, for a row of L tokens; a part that rows share ends where it ends."""
    policy, loaded = tiny_policy(generator_folder)
    rows = tiny_rows(loaded, Layout.TOKENS)
    for share in (False, True):
        batch = Collator(Layout.TOKENS, share=share)(rows)
        lengths = policy.lengths(batch)
        assert len(lengths) == batch.inputs["input_ids"].shape[1]
        assert set(lengths.tolist()) >= {len(row) for row in rows}
        width = policy.module.get_input_embeddings().weight.shape[1]  # type: ignore[operator]
        plain = policy.module.get_input_embeddings()(batch.inputs["input_ids"])[0].detach()  # type: ignore[operator]
        torch.manual_seed(0)
        noise = embedded(policy, batch, Neftune(alpha=3.0))[: len(lengths)] - plain
        scaled = noise * (lengths[:, None] * width).sqrt() / 3.0
        assert float(scaled.abs().max()) <= 1 + 1e-4
        assert float(scaled.std()) == pytest.approx(3**-0.5, rel=0.05)
        assert abs(float(scaled.mean())) < 0.05
    assert not share or lengths.min() < min(len(row) for row in rows)


def test_noise_is_there_only_while_learning(generator_folder: Path) -> None:
    policy, loaded = tiny_policy(generator_folder, Lora(rank=2))
    batch = Collator(Layout.TOKENS)(tiny_rows(loaded, Layout.TOKENS))
    policy.module.eval()
    plain = policy.read(batch.inputs).hidden
    with disturbed([Neftune()], policy, batch):
        torch.testing.assert_close(policy.reference(batch).hidden, plain)
        torch.testing.assert_close(policy.read(batch.inputs).hidden, plain)
        assert not torch.allclose(policy(batch).hidden, plain, atol=1e-3)
    policy.forget()
    torch.testing.assert_close(policy(batch).hidden.detach(), plain)


def test_noise_that_nothing_reads_is_refused(reader_folder: Path) -> None:
    assert not Neftune().problems(tiny_policy(reader_folder, layout=Layout.LABELS)[0])
    assert Neftune().problems(tiny_policy(reader_folder, TopLayers(layers=1), layout=Layout.LABELS)[0])


def test_dropout_is_there_only_while_learning(generator_folder: Path, reader_folder: Path) -> None:
    policy, loaded = tiny_policy(reader_folder, layout=Layout.LABELS)
    batch = Collator(Layout.LABELS)(tiny_rows(loaded, Layout.LABELS))
    policy.module.train()
    for settings in ({"hidden": 0.5}, {"attention": 0.5}):
        torch.manual_seed(0)
        plain = policy.again(batch).hidden
        with disturbed([Dropout(**settings)], policy, batch):
            one, other = policy.again(batch).hidden, policy.again(batch).hidden
        assert not torch.allclose(one, other, atol=1e-3)
        torch.testing.assert_close(policy.again(batch).hidden, plain)
    assert Dropout().problems(policy)
    writes, _ = tiny_policy(generator_folder, Lora(rank=2, dropout=0.1))
    assert any("drops no hidden states" in words for words in Dropout(hidden=0.1).problems(writes))
    assert not Dropout(attention=0.1).problems(writes)


def test_shares_of_dropout_are_those_asked(reader_folder: Path) -> None:
    policy, _ = tiny_policy(reader_folder, layout=Layout.LABELS)
    with disturbed([Dropout(hidden=0.25, attention=0.125)], policy, NOBODY):
        found = {name: part.p for name, part in policy.module.named_modules() if isinstance(part, torch.nn.Dropout)}
    assert {share for name, share in found.items() if "attention.self" in name} == {0.125}
    assert {share for name, share in found.items() if "attention.self" not in name} == {0.25}
    assert len(found) > 4


def test_layers_are_left_out_as_often_as_asked(reader_folder: Path) -> None:
    policy, loaded = tiny_policy(reader_folder, layout=Layout.LABELS)
    batch = Collator(Layout.LABELS)(tiny_rows(loaded, Layout.LABELS))
    policy.module.eval()
    stack = blocks(policy.module)
    plain, asked = policy.again(batch).hidden, []
    hooks = [layer.intermediate.register_forward_hook(lambda *_: asked.append(1)) for layer in stack]
    torch.manual_seed(0)
    for _ in range(200):
        with disturbed([LayerDrop(share=0.25)], policy, batch):
            policy.again(batch)
    assert len(asked) / 200 / len(stack) == pytest.approx(0.75, abs=0.06)
    with disturbed([LayerDrop(share=0.99)], policy, batch), torch.no_grad():
        torch.testing.assert_close(policy.read(batch.inputs).hidden, plain.detach())
    for hook in hooks:
        hook.remove()
    torch.testing.assert_close(policy.again(batch).hidden, plain)
    assert LayerDrop().problems(tiny_policy(reader_folder, Head(), layout=Layout.LABELS)[0])
    assert LayerDrop().problems(tiny_policy(reader_folder, TopLayers(layers=1), layout=Layout.LABELS)[0])
    assert LayerDrop().problems(policy) == []


def test_something_is_always_left_to_learn(reader_folder: Path) -> None:
    policy, loaded = tiny_policy(reader_folder, layout=Layout.LABELS)
    batch = Collator(Layout.LABELS)(tiny_rows(loaded, Layout.LABELS))
    asked: list[int] = []
    for layer in blocks(policy.module):
        layer.intermediate.register_forward_hook(lambda *_: asked.append(1))
    for _ in range(20):
        with disturbed([LayerDrop(share=0.99)], policy, batch):
            policy.again(batch)
    assert len(asked) >= 20


class Tupled(torch.nn.Module):
    """A layer that answers as those of some architectures do."""

    def forward(self, hidden_states: Tensor) -> tuple[Tensor, None]:
        return hidden_states, None


class Stacked:
    """A policy over two such layers."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        self.module = torch.nn.Module()
        self.module.layers = torch.nn.ModuleList([Tupled(), Tupled()])

    def trainable(self) -> dict[str, Tensor]:
        return {}

    def read(self, inputs: Any) -> None:
        for layer in self.module.layers:
            layer(torch.zeros(1, 4, 2))


def test_layers_that_answer_with_more_are_not_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tuneful.regularisers.dropping.frozen_depth", lambda _: 0)
    assert any("more than their states" in words for words in LayerDrop().problems(Stacked()))  # type: ignore[arg-type]


def test_dropout_that_is_asked_for_counts(reader_folder: Path, tmp_path: Path) -> None:
    """R-Drop with dropout of the recipe's own, on a model that came without."""
    from tuneful.recipe import Recipe
    from tuneful.run.build import build
    from tuneful.run.prepare import prepare

    rows = ["text,label", *(f"text {n} {'ab' * n},{'xyz'[n % 3]}" for n in range(1, 40))]
    (tmp_path / "d.csv").write_text("\n".join(rows), encoding="utf-8")

    def made(*regularisers: Any) -> object:
        return build(prepare(Recipe.model_validate({
            "data": str(tmp_path / "d.csv"), "model": str(reader_folder), "choose": "none", "name": "t",
            "regularisers": list(regularisers)})))  # fmt: skip

    assert made("r_drop", {"kind": "dropout", "hidden": 0.2})
    with pytest.raises(RecipeError, match="nothing of this model drops anything"):
        made("r_drop")


def test_losses_that_forget_head_starts_are_refused(reader_folder: Path, tmp_path: Path) -> None:
    from tuneful.run.api import check

    rows = ["text,label", *(f"text {n} {'ab' * n},{'xyz'[n % 3]}" for n in range(1, 40))]
    (tmp_path / "d.csv").write_text("\n".join(rows), encoding="utf-8")
    for kind in ("mixup", "label_smoothing"):
        with pytest.raises(RecipeError, match=f"{kind} counts the loss without the head starts"):
            check({"data": {"source": str(tmp_path / "d.csv"), "balance": "logits"}, "model": str(reader_folder),
                   "choose": "none", "regularisers": [kind]})  # fmt: skip
