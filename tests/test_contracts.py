"""Every entry of every table keeps its contract; pairs of components work together."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from tuneful.adapters import ADAPTERS, Full, Head, Lora, TopLayers
from tuneful.core.protocols import Augmentation, Begins, Objects, Replaces, Suits
from tuneful.core.spec import Spec, Table
from tuneful.core.types import Layout, Step
from tuneful.data.augment import Case, Typos, Words
from tuneful.data.layouts import Collator
from tuneful.engine.fit import fit
from tuneful.engine.update import AdamW, Updater
from tuneful.objectives import OBJECTIVES, Classify, Masked, NextToken
from tuneful.regularisers import REGULARISERS
from tuneful.run.regularised import answer_of
from tuneful.testing import (
    check_adapter,
    check_augmentation,
    check_objective,
    check_regulariser,
    tiny_policy,
    tiny_rows,
)

VARIANTS = [
    *(component() for component in ADAPTERS),
    Lora(dora=True),
    Lora(rslora=True),
    Lora(targets=["q_proj", "query"]),
]


MADE = [Masked(token=7) if component is Masked else component() for component in OBJECTIVES]


def folder_of(layout: Layout, generator: Path, reader: Path) -> Path:
    return generator if layout.writes else reader


@pytest.mark.parametrize("layout", [Layout.TOKENS, Layout.LABELS])
@pytest.mark.parametrize("adapter", VARIANTS, ids=lambda adapter: repr(adapter)[:40])
def test_adapters(adapter: Spec, layout: Layout, generator_folder: Path, reader_folder: Path) -> None:
    torch.manual_seed(0)
    check_adapter(adapter, folder_of(layout, generator_folder, reader_folder), layout)


@pytest.mark.parametrize("objective", MADE, ids=lambda objective: objective.kind)
def test_objectives(objective: Spec, generator_folder: Path, reader_folder: Path) -> None:
    policy, loaded = tiny_policy(folder_of(objective.layout, generator_folder, reader_folder), layout=objective.layout)
    check_objective(objective, policy, Collator(objective.layout)(tiny_rows(loaded, objective.layout)))


@pytest.mark.parametrize("augmentation", [Typos(strength=0.5), Words(strength=0.5), Case()], ids=lambda item: item.kind)
def test_augmentations(augmentation: Augmentation) -> None:
    check_augmentation(augmentation)


@pytest.mark.parametrize("objective", [NextToken(), Classify()], ids=lambda item: item.kind)
@pytest.mark.parametrize("regulariser", [component() for component in REGULARISERS], ids=lambda item: item.kind)
def test_regularisers(regulariser: Spec, objective: Spec, generator_folder: Path, reader_folder: Path) -> None:
    layout = objective.layout
    policy, loaded = tiny_policy(folder_of(layout, generator_folder, reader_folder), layout=layout)
    rows = tiny_rows(loaded, layout)
    if not isinstance(regulariser, Suits) or answer_of(layout, rows) in regulariser.suits:
        check_regulariser(regulariser, objective, policy, Collator(layout)(rows))


@pytest.mark.parametrize(
    ("objective", "adapter", "regularised"),
    [
        (objective, adapter, regularised)
        for objective, adapter, regularised in itertools.product(
            MADE, [component() for component in ADAPTERS], [False, True]
        )
        if not (objective.layout.alone and (adapter.freezes or isinstance(adapter, Head)))  # see run/resolve.py
        if not (objective.layout.vectors and isinstance(adapter, Head))
    ],
    ids=lambda item: getattr(item, "kind", str(item)),
)
def test_any_objective_with_any_adapter(
    objective: Spec, adapter: Spec, regularised: bool, generator_folder: Path, reader_folder: Path
) -> None:
    """Ten updates on one batch, with the same chance in each, bring its loss down."""
    torch.manual_seed(0)
    policy, loaded = tiny_policy(
        folder_of(objective.layout, generator_folder, reader_folder), adapter, layout=objective.layout
    )
    batch = Collator(objective.layout)(tiny_rows(loaded, objective.layout))

    class Again:
        def steps(self, policy: object, start: int = 0) -> Iterator[Step]:
            for _ in range(10):
                torch.manual_seed(0)
                yield Step([batch])

    updater = Updater(AdamW(learning_rate=2e-2), policy.trainable(), steps=10)
    answer = answer_of(objective.layout, tiny_rows(loaded, objective.layout))
    regularisers = [
        regulariser
        for regulariser in map(weak, REGULARISERS)
        if regularised and not isinstance(regulariser, Replaces)
        if not isinstance(regulariser, Suits) or answer in regulariser.suits
        if not (isinstance(regulariser, Objects) and regulariser.problems(policy))
    ]
    begun = [part.begin(np.ones((2, 3))) if isinstance(part, Begins) else part for part in regularisers]
    records = list(fit(policy, {"main": objective}, Again(), updater, regularisers=begun))
    assert records[-1].metrics["loss"] < 0.95 * records[0].metrics["loss"]


def weak(component: type[Spec]) -> Spec:
    return component(**{name: 0.01 for name in ("strength", "alpha") if name in component.model_fields})


def test_classification_losses_by_hand(reader_folder: Path) -> None:
    policy, loaded = tiny_policy(reader_folder, layout=Layout.LABELS)
    policy.module.eval()
    rows = tiny_rows(loaded, Layout.LABELS)
    batch = Collator(Layout.LABELS)(rows)
    logits = policy(batch).class_logits().detach()
    one = Classify()(policy, batch)
    torch.testing.assert_close(one.losses.detach(), logits.logsumexp(-1) - logits[range(6), batch.targets["labels"]])
    memberships = torch.tensor([[1.0, 0.0, 1.0]] * 6)
    batch.targets["labels"] = memberships
    signed = logits * (1 - 2 * memberships)
    torch.testing.assert_close(Classify()(policy, batch).losses.detach(), signed.exp().log1p().mean(-1))
    batch.targets["labels"] = torch.full((6,), 2.0)
    torch.testing.assert_close(Classify()(policy, batch).losses.detach(), 0.5 * (logits[:, 0] - 2) ** 2)


def test_what_each_adapter_trains(reader_folder: Path, generator_folder: Path) -> None:
    def trained(adapter: Spec, layout: Layout) -> set[str]:
        policy, _ = tiny_policy(folder_of(layout, generator_folder, reader_folder), adapter, layout=layout)
        return set(policy.trainable())

    everything = trained(Full(), Layout.LABELS)
    head = trained(Head(), Layout.LABELS)
    assert head == {"bert.pooler.dense.weight", "bert.pooler.dense.bias", "classifier.weight", "classifier.bias"}
    top = trained(TopLayers(layers=1), Layout.LABELS)
    assert head < top < everything
    assert {name.split(".")[3] for name in top - head} == {"1"}
    lora = trained(Lora(), Layout.LABELS)
    assert all("lora_" in name or "modules_to_save" in name for name in lora)
    assert any("classifier" in name for name in lora)
    assert all("lora_" in name for name in trained(Lora(), Layout.TOKENS))
    assert any("embed_tokens" in name for name in trained(Head(), Layout.TOKENS)), "the tied vocabulary head"


def test_suggested_rates_fall_with_width() -> None:
    assert [Full().rate(width) for width in (384, 768, 2048)] == [5e-4, 1.3e-4, 1.8e-5]
    assert [Lora().rate(width) for width in (576, 2048, 4096)] == [1e-3, 1e-3, 3e-4]


def test_a_table_finds_by_settings_and_says_what_it_knows() -> None:
    table: Table[Spec] = Table("adapter", [Lora, Head])
    assert table.kinds() == ["head", "lora"]
    assert table._spell_out({"rank": 3}) == {"kind": "lora", "rank": 3}
    with pytest.raises(ValueError, match=r"there is no adapter 'lorra'. Did you mean 'lora'"):
        table._spell_out("lorra")
