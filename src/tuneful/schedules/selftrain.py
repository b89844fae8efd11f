"""Rounds of self-training: texts without labels get the labels the model and their neighbours agree on, and are learned
with those that have one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor

from tuneful.core.device import place
from tuneful.core.errors import RecipeError
from tuneful.core.policy import Policy
from tuneful.core.protocols import Vary
from tuneful.core.spec import Spec
from tuneful.core.types import Row, Step
from tuneful.models.probe import STRENGTH, fit_probe
from tuneful.models.propagation import propagated
from tuneful.models.unlabelled import guessed
from tuneful.schedules.epochs import Collate, Cut, EpochSteps, Streamed, pieces

Share = Annotated[float, Field(gt=0, le=1)]


class SelfTrain(Spec):
    """Pseudo-labels (Lee 2013), for texts without labels beside those with: `data.unlabelled`.

    A text's label is the one with the largest product of two views: what the head says of it, and what its neighbours
    pass on (Zhou et al. 2004). Of every class the surest share is learned, so that thresholds fit each class
    (FreeMatch, Wang et al. 2023, arXiv:2205.07246) and easy classes cannot crowd out the others. Each round labels
    anew, with the model as it has become; where the views agree about fewer texts than before, the labels stay.
    """

    usual_epochs: ClassVar[int] = 2  # of a round

    kind: Literal["selftrain"] = "selftrain"
    rounds: PositiveInt = 2
    """How often the texts are labelled."""
    share: Share = 0.7
    """Of the texts of each class, those that are learned in the first round; each other adds half of the rest."""
    labelled: PositiveInt = 2
    """How often a row with a label of its own is seen where another is seen once."""
    epochs: PositiveFloat | None = None
    """How often each row is seen, over all rounds. None: twice a round."""
    steps: PositiveInt | None = None
    """Updates of all rounds; given, it stands instead of `epochs`."""

    def learns(self, rows: Sequence[Row]) -> list[Row]:
        return list(rows)

    def over(
        self, rows: Sequence[Row] | Streamed, collate: Collate, cut: Cut, *, total: int, seed: int
    ) -> SelfTrainSteps:
        """The steps of a run. Raises RecipeError where there is nothing to label."""
        if isinstance(rows, Streamed) or all(row.target is not None for row in rows):
            raise RecipeError(["schedule: 'selftrain' labels texts that have none; name them: data.unlabelled"])
        return SelfTrainSteps(rows, collate, cut, total, self, seed)


@dataclass(frozen=True, slots=True)
class Labelled:
    """What a round learns: which texts, as what."""

    number: int
    agreement: float  # share of the texts about which the two views agree
    places: list[int]
    classes: list[int]


@dataclass(slots=True)
class SelfTrainSteps:
    """A resumed run learns the labels of the round it was stopped in, which are part of its state."""

    rows: Sequence[Row]  # those without a target are to be labelled
    collate: Collate
    cut: Cut
    total: int
    settings: SelfTrain
    seed: int = 0
    round: Labelled | None = field(default=None)
    vary: Vary | None = None

    def __len__(self) -> int:
        return self.total

    def steps(self, policy: Policy, start: int = 0) -> Iterator[Step]:
        behind = 0
        for number, length in enumerate(self._lengths()):
            if start < behind + length:
                inside = max(0, start - behind)
                if not inside or self.round is None or self.round.number != number:
                    self.round = self._label(policy, number)
                rows = self._learned(self.round)
                steps = EpochSteps(rows, self.collate, self.cut, length, self.seed + number, self.vary)
                yield from steps.steps(policy, inside)
            behind += length

    def state(self) -> Mapping[str, Any]:
        found = self.round
        return {} if found is None else {"number": found.number, "agreement": found.agreement,
                                         "places": found.places, "classes": found.classes}  # fmt: skip

    def load(self, state: Mapping[str, Any]) -> None:
        self.round = Labelled(**state) if state else None

    def _lengths(self) -> list[int]:
        """Updates of each round, as equal as can be."""
        size, larger = divmod(self.total, self.settings.rounds)
        return [size + (number < larger) for number in range(self.settings.rounds)]

    @property
    def _known(self) -> list[Row]:
        return [row for row in self.rows if row.target is not None]

    @property
    def _unknown(self) -> list[Row]:
        return [row for row in self.rows if row.target is None]

    def _learned(self, found: Labelled) -> list[Row]:
        unknown = self._unknown
        told = [replace(unknown[where], target=name)
                for where, name in zip(found.places, found.classes, strict=True)]  # fmt: skip
        return [*self._known * self.settings.labelled, *told]

    def _label(self, policy: Policy, number: int) -> Labelled:
        known, unknown = self._known, self._unknown
        targets = torch.tensor([int(row.target) for row in known])
        vectors, _ = self._read(policy, known)
        texts, logits = self._read(policy, unknown)
        if not number:  # the head has learned nothing yet
            logits = fit_probe(vectors, targets, STRENGTH, classes=logits.shape[1]).logits(texts)
        agreement, found, names = labelled(vectors, targets, texts, logits, self._share(number))
        if self.round is not None and agreement < self.round.agreement:
            return replace(self.round, number=number)
        return Labelled(number, agreement, found.tolist(), names.tolist())

    def _read(self, policy: Policy, rows: Sequence[Row]) -> tuple[Tensor, Tensor]:
        """(N, D) vectors and (N, C) logits, dropout off, no more tokens at once than training reads."""
        training = policy.module.training
        policy.module.eval()
        vectors, logits = [], []
        with torch.no_grad(), policy.gathered():
            for part in pieces(rows, self.collate, self.cut.micro_tokens):
                read = policy.read(place(self.collate(part), policy.device).inputs)
                vectors.append(read.embeddings().cpu())
                logits.append(read.class_logits().cpu())
        policy.module.train(training)
        return torch.cat(vectors), torch.cat(logits)

    def _share(self, number: int) -> float:
        return 1 - (1 - self.settings.share) / 2**number


def labelled(
    known_ND: Tensor, targets_N: Tensor, texts_MD: Tensor, logits_MC: Tensor, part: float
) -> tuple[float, Tensor, Tensor]:
    """What texts without labels seem to be, by a head's logits and by their neighbours: for how many of them the two
    agree, and of each class the `part` that is surest, as places and classes."""
    passed = propagated(known_ND, targets_N, texts_MD, logits_MC.shape[1])
    agreement = float((logits_MC.argmax(1) == passed.argmax(1)).float().mean())
    return agreement, *guessed(logits_MC, passed, part)
