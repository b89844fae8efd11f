"""Who says how bad a text is: a classifier that somebody else, or Tuneful, has tuned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from tuneful.adapters.full import FinishedWeights
from tuneful.core.device import pick_device
from tuneful.core.errors import ModelError
from tuneful.core.policy import Policy
from tuneful.core.spec import did_you_mean
from tuneful.core.types import Example, Layout, Place, Row
from tuneful.data.layouts import Collator
from tuneful.evaluation.reading import class_logits
from tuneful.evaluation.treatment import shares
from tuneful.models.heads import Labels, labels_in
from tuneful.models.load import load, locate
from tuneful.models.processors import TextProcessor

BAD = ("abusive", "bad", "hate", "hateful", "negative", "offensive", "rude", "toxic")
SEVERAL = "multi_label_classification"


@dataclass(frozen=True, slots=True)
class Judge:
    """A classifier, and which of its labels count."""

    policy: Policy
    processor: TextProcessor
    labels: Labels
    counted: tuple[int, ...]

    @classmethod
    def open(cls, name: str, bad: Sequence[str] = ()) -> Self:
        """In float32. Raises ModelError as `answers` does, and where the model cannot be read."""
        labels, counted = answers(name, bad)
        loaded = load(name, labels=labels, device=pick_device())
        policy = Policy(loaded.network, FinishedWeights(loaded.module, lambda: loaded.module))
        return cls(policy, loaded.processor, labels, counted)

    @property
    def bad(self) -> list[str]:
        return [self.labels.names[place] for place in self.counted]

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """(R,) float64 from 0 to 1: the probability that one of the counted labels holds; of a model that may give
        several labels at once, that of the likeliest counted one. Equal texts are read once."""
        asked = list(dict.fromkeys(texts))
        logits = class_logits(self.policy, self._rows(asked), Collator(Layout.LABELS)).astype(np.float64)
        told = dict(zip(asked, self._badness(logits).tolist(), strict=True))
        return np.array([told[text] for text in texts])

    def _badness(self, logits_RC: np.ndarray) -> np.ndarray:
        counted = list(self.counted)
        if self.labels.problem == SEVERAL:
            found: np.ndarray = (1 / (1 + np.exp(-logits_RC[:, counted]))).max(1)
            return found
        return shares(logits_RC)[:, counted].sum(1)

    def _rows(self, texts: Sequence[str]) -> list[Row]:
        read = [self.processor.text(text, limit=self.processor.max_tokens) for text in texts]
        return [
            Row(Example(Place("continuation", number), text=text), encoded.ids, encoded.learn)
            for number, (text, encoded) in enumerate(zip(texts, read, strict=True), 1)
        ]


def answers(name: str, bad: Sequence[str] = ()) -> tuple[Labels, tuple[int, ...]]:
    """A judge's labels and the places of those that count, without its weights. Raises ModelError for a model that
    tells no classes apart, and where it is not clear which label is the bad one."""
    labels = labels_in(Path(locate(name)))
    if labels is None or labels.problem == "regression":
        what = "has no head for labels" if labels is None else "answers with a number"
        raise ModelError(
            f"the judge {name} {what}; expected a classifier of texts with classes, one of which is bad: a folder, a "
            "hub id, or a run that tuned one"
        )
    return labels, _named(name, labels.names, bad) if bad else _usual(name, labels.names)


def _named(name: str, known: Sequence[str], bad: Sequence[str]) -> tuple[int, ...]:
    places = {label.casefold(): place for place, label in enumerate(known)}
    if odd := [label for label in bad if label.casefold() not in places]:
        raise ModelError(
            f"the judge {name} has no label '{odd[0]}'.{did_you_mean(odd[0], known)} Its labels: {', '.join(known)}"
        )
    found = tuple(sorted({places[label.casefold()] for label in bad}))
    if len(found) == len(known):
        raise ModelError(f"all labels of the judge {name} would count as bad: {', '.join(known)}; leave one out")
    return found


def _usual(name: str, known: Sequence[str]) -> tuple[int, ...]:
    found = tuple(place for place, label in enumerate(known) if label.casefold() in BAD)
    if len(found) != 1:
        raise ModelError(
            f"which labels of the judge {name} are bad is not clear; it has {', '.join(known)}. Name them: "
            f"bad: [{known[0]}] (tuneful audit: --probe 'continuations={name},bad={known[0]}')"
        )
    return found
