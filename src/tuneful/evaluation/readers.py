"""How good are a reader's labels: the tuned model, neighbours in the base model's space, the commonest label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from tuneful.core.policy import Policy
from tuneful.core.types import Row
from tuneful.data.labels import LabelSet
from tuneful.data.splits import units_of
from tuneful.evaluation.compare import Examined, score
from tuneful.evaluation.heads import solved, targets, vectors
from tuneful.evaluation.metrics import METRICS
from tuneful.evaluation.own import by_own_task
from tuneful.evaluation.reading import Collate, class_logits, embeddings
from tuneful.evaluation.settings import Evaluate
from tuneful.models.sentence import SentenceForSequenceClassification

READER_METRICS = {
    "class": ("accuracy", "macro_f1", "mcc"),
    "labels": ("macro_f1", "accuracy"),
    "number": ("rmse", "mae", "pearson", "spearman"),
}
NEIGHBOURS = 5
REMEMBERED = 5000  # training rows the base looks among


class Decide(Protocol):
    """Rows and their logits (R, C) -> class ids (R,). `originals` (R) are the rows that these are changed copies of."""

    def __call__(self, rows: Sequence[Row], logits: np.ndarray, /, originals: Sequence[Row] = ()) -> np.ndarray: ...


def examine(
    policy: Policy,
    collate: Collate,
    train: Sequence[Row],
    test: Sequence[Row],
    labels: LabelSet,
    settings: Evaluate,
    *,
    base: bool = True,
    decide: Decide | None = None,
    tasks: Sequence[str] = (),
) -> Examined:
    """`base` is what the untuned model knows: the labels of a row's nearest neighbours among its embeddings; or, where
    the tuned head reads embeddings too, those of a head solved over them. Its own head does not exist before tuning.
    `base` False leaves that out. `decide` answers from the tuned logits where it is not the largest that decides.
    `tasks` have adapters of their own: then base and constant know whose a row is too."""
    logits = class_logits(policy, test, collate)
    tuned = predictions(logits, labels) if decide is None else named(decide(test, logits), labels)
    constant = by_own_task(train, test, tasks, lambda known, asked: [_commonest(known, labels)] * len(asked))
    said = {"tuned": tuned, "trivial": constant}
    if base:
        over_means = isinstance(policy.module, SentenceForSequenceClassification) and labels.kind != "number"
        knows = _solved if over_means else _neighbours
        said["base"] = by_own_task(
            train, test, tasks, lambda known, asked: knows(policy, collate, _remembered(known), asked, labels)
        )
    return _scored(test, said, labels, settings)


def _scored(test: Sequence[Row], said: Mapping[str, Sequence[Any]], labels: LabelSet, settings: Evaluate) -> Examined:
    """What each system said, against the truth."""
    truth = [labels.truth(row.example) for row in test]
    names = READER_METRICS[labels.kind]
    scores = [score(METRICS[name], truth, said) for name in names]
    listed = [
        {
            "row": str(row.example.place),
            "asked": row.example.text,
            **({"second": row.example.second} if row.example.second is not None else {}),
            "expected": _plain(truth[number]),
            **{system: _plain(answers[number]) for system, answers in said.items()},
        }
        for number, row in enumerate(test)
    ]
    return Examined(scores, settings.primary or names[0], listed)


def examine_unseen(
    rows: Sequence[Row],
    answers: Mapping[str, Sequence[int]],
    labels: LabelSet,
    settings: Evaluate,
) -> Examined:
    """The same for training rows, each answered by what had learned from others: `answers` of "tuned" and "base"."""
    said: dict[str, list[Any]] = {name: [labels.names[place] for place in found] for name, found in answers.items()}
    said["trivial"] = [_commonest(rows, labels)] * len(rows)
    return _scored(rows, said, labels, settings)


def examine_named(
    policy: Policy, collate: Collate, names: Sequence[Row], test: Sequence[Row], labels: LabelSet, settings: Evaluate
) -> Examined:
    """The same where no label was learned from: the base takes the name (C rows, in the classes' order) that lies
    nearest to a text, and the constant is the first name."""
    near = embeddings(policy, test, collate, original=True) @ embeddings(policy, names, collate, original=True).T
    said = {
        "tuned": predictions(class_logits(policy, test, collate), labels),
        "base": [labels.names[place] for place in near.argmax(1)],
        "trivial": [labels.names[0]] * len(test),
    }
    return _scored(test, said, labels, settings)


def predictions(logits_RC: np.ndarray, labels: LabelSet) -> list[Any]:
    """A name, a set of names, or a number a row."""
    if labels.kind == "number":
        return [float(value) * labels.deviation + labels.mean for value in logits_RC[:, 0]]
    if labels.kind == "labels":
        return [frozenset(np.array(labels.names)[row > 0].tolist()) for row in logits_RC]
    return [labels.names[index] for index in logits_RC.argmax(-1)]


def named(ids_R: np.ndarray, labels: LabelSet) -> list[Any]:
    """The names of classes."""
    return [labels.names[place] for place in ids_R]


def _remembered(train: Sequence[Row]) -> Sequence[Row]:
    """A seeded sample where there are many."""
    if len(train) <= REMEMBERED:
        return train
    return [train[place] for place in np.random.default_rng(0).choice(len(train), REMEMBERED, replace=False)]


def _neighbours(
    policy: Policy, collate: Collate, known: Sequence[Row], test: Sequence[Row], labels: LabelSet
) -> list[Any]:
    """Mean target of the nearest known rows, by cosine similarity in the base model's space."""
    memory = embeddings(policy, known, collate, original=True)
    asked = embeddings(policy, test, collate, original=True)
    targets = np.array([row.target for row in known])
    if labels.kind == "class":
        targets = np.eye(len(labels.names))[targets]
    nearest = np.argsort(-asked @ memory.T, axis=1)[:, :NEIGHBOURS]
    votes = targets[nearest].mean(1)
    if labels.kind == "number":
        votes = votes[:, None]
    return predictions(votes - 0.5 if labels.kind == "labels" else votes, labels)


def _solved(policy: Policy, collate: Collate, known: Sequence[Row], test: Sequence[Row], labels: LabelSet) -> list[Any]:
    """A head solved over the base model's embeddings of the known rows."""
    memory, asked = (vectors(policy, rows, collate, original=True) for rows in (known, test))
    head = solved(memory, targets(known), len(labels.names), 0, units_of([row.example for row in known]))
    return predictions(head.logits(asked).numpy(), labels)


def _commonest(train: Sequence[Row], labels: LabelSet) -> Any:
    if labels.kind == "number":
        return float(np.mean([labels.truth(row.example) for row in train]))
    return Counter(labels.truth(row.example) for row in train).most_common(1)[0][0]


def _plain(answer: Any) -> Any:
    return sorted(answer) if isinstance(answer, frozenset) else answer
