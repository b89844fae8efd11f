"""The data coach: of wrong labels put in, how many it finds and how precisely; what learning gets back.

Nothing of the coach was chosen by these test files: its parts were compared on training rows alone."""

from __future__ import annotations

import math
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

import tuneful
from benchmarks.shots import SETS, Pairs, write
from tuneful.data.duplicates import clusters
from tuneful.data.folds import folds
from tuneful.models.confident import thresholds
from tuneful.models.doubts import beliefs, doubts
from tuneful.models.probe import STRENGTH, fit_probe
from tuneful.run.mislabelled import ACCEPTED, FOLDS
from tuneful.run.tuned import open_encoder

SETTINGS = (("banking", 10, 0), ("banking", 77, 10), ("clinc", 150, 25), ("banking", 77, 50))  # classes, rows of each
NEAR = 3  # classes among which a confusable label is drawn
T95 = {1: 12.71, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}


@dataclass(frozen=True)
class Work:
    """Rows with vectors; `labels` as they are in the file."""

    texts: list[str]
    vectors: Tensor
    labels: Tensor
    asked: Tensor  # test rows
    answers: Tensor
    classes: int


def effect(data: Path, seeds: int) -> Iterator[str]:
    """Every set, kind of noise and share, `seeds` draws each."""
    columns = ("set", "rows", "wrong labels", "found", "precise", "accepted: found", "precise", "right", "clean",
               "noisy", "coached", "got back")  # fmt: skip
    yield f"| {' | '.join(columns)} |"
    yield "|" + " --- |" * len(columns)
    for name, count, per in SETTINGS:
        whole = _read(data, name)
        works = [_part(whole, count, per, seed) for seed in range(seeds)]
        clean = [_learned(work, work.labels) for work in works]
        for kind, share in (("any other", 0.2), ("confusable", 0.2), ("any other", 0.05), ("none", 0.0)):
            measured = [_once(works[seed], kind, share, seed, clean[seed]) for seed in range(seeds)]
            yield _row(f"{name} {count}" + (f", {per} a class" if per else ""), kind, share, measured)


def _once(work: Work, kind: str, share: float, seed: int, clean: float) -> dict[str, float]:
    given = spoiled(work, kind, share, seed)
    bad = given != work.labels
    units = clusters(work.texts)
    dealt = folds(given.tolist(), FOLDS, seed, units)
    found = beliefs(work.vectors, given, dealt, units, classes=work.classes)
    thought = doubts(found.shares, given, thresholds(found.shares, given))
    taken = thought.wrong & (thought.sure >= ACCEPTED)
    mended = torch.where(taken, thought.other, given)
    noisy, coached = _learned(work, given) if bad.any() else clean, _learned(work, mended)
    return {
        "rows": len(given), "flagged": float(thought.wrong.sum()),
        "found": _share(thought.wrong & bad, bad), "precise": _share(thought.wrong & bad, thought.wrong),
        "took": _share(taken & bad, bad), "took_precise": _share(taken & bad, taken),
        "right": _share(taken & (thought.other == work.labels), taken), "clean": clean, "noisy": noisy,
        "coached": coached, "back": (coached - noisy) / (clean - noisy) if clean > noisy else math.nan,
    }  # fmt: skip


def _learned(work: Work, labels: Tensor) -> float:
    """Accuracy on the test rows of a head solved over the training rows, percent."""
    probe = fit_probe(work.vectors, labels, STRENGTH, classes=work.classes)
    return 100 * float((probe.logits(work.asked).argmax(1) == work.answers).float().mean())


def spoiled(work: Work, kind: str, share: float, seed: int) -> Tensor:
    """Labels, a share of them wrong: any other class, or one of the classes whose mean text is nearest."""
    rng = np.random.default_rng([seed, 23])
    rows = torch.from_numpy(rng.permutation(len(work.labels))[: round(share * len(work.labels))])
    given = work.labels.clone()
    if not share:
        return given
    if kind == "any other":
        given[rows] = (given[rows] + torch.from_numpy(rng.integers(1, work.classes, len(rows)))) % work.classes
    elif kind == "confusable":
        means = torch.zeros(work.classes, work.vectors.shape[1]).index_add_(0, work.labels, work.vectors)
        near = F.normalize(means, dim=1) @ F.normalize(means, dim=1).T
        nearest = near.fill_diagonal_(-1).topk(NEAR, dim=1).indices
        given[rows] = nearest[given[rows], torch.from_numpy(rng.integers(0, NEAR, len(rows)))]
    return given


def _read(data: Path, name: str) -> tuple[Pairs, Pairs, Tensor, Tensor]:
    train, test, _ = SETS[name](data)
    encoder = open_encoder("minilm-l6", None)
    return train, test, *(encoder.vectors([text for text, _ in pairs]) for pairs in (train, test))


def _part(whole: tuple[Pairs, Pairs, Tensor, Tensor], count: int, per: int, seed: int) -> Work:
    """Some of the classes, drawn by the seed, and `per` rows of each, 0 for all."""
    train, test, vectors, asked = whole
    rng = np.random.default_rng([seed, 29])
    every = sorted({label for _, label in train})
    names = sorted(rng.permutation(every)[:count].tolist())
    left, rows = dict.fromkeys(names, per or len(train)), []
    for place in rng.permutation(len(train)).tolist():
        if left.get(train[place][1], 0):
            left[train[place][1]] -= 1
            rows.append(place)
    held = [place for place, (_, label) in enumerate(test) if label in left]
    return Work(
        [train[place][0] for place in rows], vectors[rows],
        torch.tensor([names.index(train[place][1]) for place in rows]), asked[held],
        torch.tensor([names.index(test[place][1]) for place in held]), count,
    )  # fmt: skip


def _row(name: str, kind: str, share: float, measured: Sequence[dict[str, float]]) -> str:
    def over(what: str, digits: int = 3) -> str:
        return around([run[what] for run in measured if not math.isnan(run[what])], digits)

    rows = f"{measured[0]['rows']:.0f}"
    if not share:
        flagged = around([run["flagged"] / run["rows"] for run in measured], 3)
        return (f"| {name} | {rows} | none | {flagged} of all rows | | | | | {over('clean', 1)} | | "
                f"{over('coached', 1)} | |")  # fmt: skip
    cells = [over(what) for what in ("found", "precise", "took", "took_precise", "right")]
    cells += [over(what, 1) for what in ("clean", "noisy", "coached")]
    return f"| {name} | {rows} | {share:.0%} {kind} | {' | '.join(cells)} | {over('back', 2)} |"


def around(values: Sequence[float], digits: int) -> str:
    """Mean and half of its 95 % interval (Student's t over seeds)."""
    if len(values) < 2:
        return f"{values[0]:.{digits}f}" if values else "–"
    half = T95.get(len(values) - 1, 1.96) * statistics.stdev(values) / math.sqrt(len(values))
    return f"{statistics.mean(values):.{digits}f} ± {half:.{digits}f}"


def _share(some: Tensor, whole: Tensor) -> float:
    return float(some.sum()) / float(whole.sum()) if whole.any() else math.nan


def effect_of_fit(data: Path, seeds: int) -> Iterator[str]:
    """The whole way a person goes: check --coach --patch, then fit --patch; ten classes of Banking77, 50 rows each, a
    fifth of the labels wrong, the clean test file."""
    yield "| seed | clean | noisy | coached | got back |"
    yield "| --- | --- | --- | --- | --- |"
    whole = _read(data, "banking")
    for seed in range(seeds):
        found = _fitted(_part(whole, 10, 50, seed), whole, seed)
        lost = found["clean"] - found["noisy"]
        back = f"{(found['coached'] - found['noisy']) / lost:.2f}" if lost > 0 else "nothing was lost"
        yield f"| {seed} | {found['clean']:.1%} | {found['noisy']:.1%} | {found['coached']:.1%} | {back} |"


def _fitted(work: Work, whole: tuple[Pairs, Pairs, Tensor, Tensor], seed: int) -> dict[str, float]:
    from tuneful.data.patch import write_patch
    from tuneful.run.coach import coach

    names = _names(work, whole)
    given = spoiled(work, "any other", 0.2, seed)
    settings: dict[str, Any] = {"seed": seed, "evaluate.forgetting": False}
    found = {}
    with tempfile.TemporaryDirectory() as scratch:
        for part, labels in (("clean", work.labels), ("noisy", given)):
            folder = Path(scratch) / part
            folder.mkdir()
            write(folder / "train.csv", [(text, names[label]) for text, label in zip(work.texts, labels, strict=True)])
            write(folder / "test.csv", [pair for pair in whole[1] if pair[1] in names])
            found[part] = _accuracy(folder, Path(scratch) / f"run-{part}", settings)
        noisy, patch = Path(scratch) / "noisy", Path(scratch) / "patch.jsonl"
        recipe = {"data": {"source": str(noisy)}, "seed": seed}
        write_patch(patch, coach(tuneful.check(recipe), lambda _: None).lines)
        found["coached"] = _accuracy(noisy, Path(scratch) / "run-coached", {**settings, "data.patch": str(patch)})
    return found


def _names(work: Work, whole: tuple[Pairs, Pairs, Tensor, Tensor]) -> list[str]:
    label = dict(whole[0])
    named = {int(number): label[text] for text, number in zip(work.texts, work.labels, strict=True)}
    return [named[number] for number in range(work.classes)]


def _accuracy(folder: Path, out: Path, settings: dict[str, Any]) -> float:
    return float(tuneful.fit(folder, out=out, settings=settings).report["quality"]["accuracy"]["tuned"])
