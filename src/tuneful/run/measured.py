"""What runs answer that are merged, and what the merged one does, on the same test rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from tuneful.core.policy import Policy
from tuneful.core.types import Layout, Row
from tuneful.data.labels import LabelSet
from tuneful.data.layouts import Collator
from tuneful.evaluation.compare import Examined
from tuneful.evaluation.merged import BASE, MERGED, figures
from tuneful.evaluation.metrics import METRICS
from tuneful.evaluation.readers import predictions
from tuneful.evaluation.reading import class_logits, token_losses
from tuneful.run.build import Built
from tuneful.run.memory import names_of
from tuneful.run.parents import Parent
from tuneful.run.prepare import Prepared
from tuneful.run.tuned import open_model

Say = Callable[[str], None]
Answers = Sequence[Any] | np.ndarray  # a name a row, or (R, 2) its loss and tokens


@dataclass(frozen=True, slots=True)
class Heard:
    """Of one run."""

    values: Mapping[str, Tensor]  # its weights
    said: Answers  # to every test row


def hear(parent: Parent, prepared: Prepared, say: Say) -> Heard:
    """Opens a run and asks it about the test rows of all."""
    tuned = open_model(str(parent.path), quantise=parent.recipe.quantise)
    rows = prepared.rows("test") if prepared.recipe.evaluate.enabled else []
    if rows:
        say(f"asking {parent.path} about {len(rows)} test rows")
    said = _answers(tuned.policy, rows, Collator(prepared.layout), tuned.labels)
    values = {name: parameter.detach().cpu() for name, parameter in tuned.policy.module.named_parameters()}
    adapts = parent.folder.adapter.exists()
    heads = {name: value for name, value in values.items() if "modules_to_save" in name}
    return Heard(heads if adapts else values, said)


def beside(built: Built, examined: Examined | None, heard: Sequence[tuple[Parent, Heard]]) -> dict[str, Any]:
    """By task, the figures of base, runs and merged model; empty where nothing was measured."""
    rows = built.prepared.rows("test")
    if examined is None or not rows:
        return {}
    labels = built.prepared.labels
    said: dict[str, Answers] = {
        BASE: _base(built, rows, examined),
        **{parent.name: one.said for parent, one in heard},
        MERGED: _answers(built.policy, rows, built.collate, labels),
    }
    names, found = names_of(built), {}
    for name in names:
        own = [place for place, row in enumerate(rows) if len(names) == 1 or row.example.task == name]
        if own:
            truth = own if labels is None else [labels.truth(rows[place].example) for place in own]
            knows = {parent.name: labels is None or set(truth) <= set(parent.labels) for parent, _ in heard}
            metric = METRICS["perplexity" if labels is None else "accuracy"]
            found[name] = figures(
                metric, truth, {who: [answers[place] for place in own] for who, answers in said.items()}, knows
            )
    return found


def _answers(policy: Policy, rows: Sequence[Row], collate: Collator, labels: LabelSet | None) -> Answers:
    if not rows:
        return []
    if labels is None:
        return token_losses(policy, rows, collate)
    return predictions(class_logits(policy, rows, collate), labels)


def _base(built: Built, rows: Sequence[Row], examined: Examined) -> Answers:
    if built.prepared.layout is Layout.TOKENS:
        return token_losses(built.policy, rows, built.collate, original=True)
    return [answer["base"] for answer in examined.answers]
