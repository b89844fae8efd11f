"""How well are classes told apart that were never learned, each known by one row or by five?"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from tuneful.core.policy import Policy
from tuneful.core.types import Row
from tuneful.data.episodes import Group, by_class
from tuneful.evaluation.compare import Examined, Score, difference
from tuneful.evaluation.metrics import METRICS
from tuneful.evaluation.reading import Collate, embeddings
from tuneful.evaluation.settings import Evaluate

SHOTS = {"one_shot_accuracy": 1, "five_shot_accuracy": 5}
DRAWS = 20  # of the rows by which each class is known
MOST = 100  # rows of a class that are read


def examine_prototype(policy: Policy, collate: Collate, test: Sequence[Row], settings: Evaluate) -> Examined | None:
    """All classes of the test rows are told apart, by the tuned encoder and by the base on the same draws; the constant
    answer is one class. None where no two classes have a row to be known by and another to be asked about."""
    groups = [group[:MOST] for group in by_class(test)]
    rows = [row for group in groups for row in group]
    if len(groups) < 2:
        return None
    vectors = {
        "tuned": embeddings(policy, rows, collate),
        "base": embeddings(policy, rows, collate, original=True),
    }
    scores = [_score(name, shots, vectors, groups) for name, shots in SHOTS.items() if enough(groups, shots)]
    return Examined(scores, settings.primary or next(iter(SHOTS)), [])


def right_by_class(vectors_RD: np.ndarray, sizes: Sequence[int], shots: int, *, seed: int = 0) -> np.ndarray:
    """(C, 2) of each class with more rows than `shots`: how often its other rows lay nearest to its prototype, the mean
    of `shots` rows, among those of all such classes, and how often they were asked, over seeded draws. `sizes` are the
    rows of each class, which stand one behind the other in vectors (R, D) of unit length."""
    starts = np.cumsum([0, *sizes])
    members = [np.arange(start, end) for start, end in itertools.pairwise(starts) if end - start > shots]
    rng, found = np.random.default_rng([seed, shots]), np.zeros((len(members), 2))
    for _ in range(DRAWS):
        shuffled = [rng.permutation(places) for places in members]
        prototypes = np.stack([vectors_RD[places[:shots]].mean(0) for places in shuffled])
        prototypes /= np.maximum(np.linalg.norm(prototypes, axis=1, keepdims=True), 1e-12)
        for number, places in enumerate(shuffled):
            nearest = (vectors_RD[places[shots:]] @ prototypes.T).argmax(1)
            found[number] += (nearest == number).sum(), len(nearest)
    return found


def enough(groups: Sequence[Group], shots: int) -> bool:
    """Two classes at least have a row to be asked about besides those they are known by."""
    return sum(len(group) > shots for group in groups) > 1


def _score(name: str, shots: int, vectors: Mapping[str, np.ndarray], groups: Sequence[Group]) -> Score:
    """With intervals over classes: what is asked is how it goes with other classes, not with other rows of these. That
    a class is told apart from the others of the draw, which are not drawn again with it, is left out of account."""
    found = {system: right_by_class(read, list(map(len, groups)), shots) for system, read in vectors.items()}
    asked = found["tuned"][:, 1]
    found["trivial"] = np.stack([asked / len(asked), asked], 1)
    accuracy = METRICS["accuracy"]
    values = {system: float(accuracy.value(sums.sum(0))) for system, sums in found.items()}
    against = {system: difference(accuracy, found["tuned"], found[system]) for system in ("base", "trivial")}
    return Score(name, True, len(asked), values, against, of="classes")
