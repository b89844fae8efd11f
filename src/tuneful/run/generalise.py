"""Does what was learned hold for other rows? Gap, confidence, copies of training text, hurried writing, more rows: each
measured with the weights that are kept, and told in one sentence."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from tuneful.core.types import Layout, Row, Said
from tuneful.evaluation import calibration, gap, learning_curve
from tuneful.evaluation.before import Before, before, beside_head
from tuneful.evaluation.exposure import examine_canaries
from tuneful.evaluation.gap import Told, told
from tuneful.evaluation.memorised import examine_memorised
from tuneful.evaluation.reading import class_logits
from tuneful.evaluation.robustness import examine_robustness, hurried, reworded
from tuneful.models.probe import Probe
from tuneful.repairs import Thresholds
from tuneful.run.build import Built
from tuneful.run.canaries import candidates
from tuneful.run.few import MOST, against_choosing
from tuneful.run.losses import by_part, sampled
from tuneful.run.progress import Progress

Say = Callable[[str], None]
BY_ROW = (Layout.TOKENS, Layout.LABELS, Layout.PREFERENCES, Layout.REWARDS)  # a unit of these belongs to one row


def generalise(built: Built, progress: Progress, say: Say) -> tuple[dict[str, Any], dict[str, float]]:
    """The report's `generalisation`, and the seconds that each measure took."""
    seconds: dict[str, float] = {}
    rows = sampled(built.prepared) if built.prepared.layout in BY_ROW else {}
    with timed(seconds, "losses"):
        parts = _parts(built, rows)
        found: dict[str, Any] = {**(_losses(parts) if rows else by_part(built))}
    found["gap"], found["test_gap"] = (_apart(found[part], found["train"]) for part in ("validation", "test"))
    counts = {part: len(built.prepared.rows(part)) for part in ("test", "validation") if found[part] is not None}
    found["judged_by"] = gap.judged_by(counts)
    if "train" in parts:
        found |= _gap(parts, progress)
    if built.prepared.tells_classes:
        found |= _of_classes(built, rows, parts, seconds, say)
    if built.prepared.layout is Layout.TOKENS:
        found |= _of_texts(built, progress, seconds, say)
    found["best_step"] = None if built.recipe.soup else progress.watch.best_step or progress.step
    found["stopped_at_step"] = progress.step
    found["reason"] = {"key": progress.stopped.key, **progress.stopped.facts}
    return found, seconds


@contextmanager
def timed(seconds: dict[str, float], what: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    seconds[what] = round(time.perf_counter() - began, 2)


def _parts(built: Built, rows: Mapping[str, list[Row]]) -> dict[str, Told]:
    """Of each part that has rows."""
    objective, classes = built.prepared.resolved.objective, built.prepared.tells_classes
    return {
        part: told(built.policy, objective, own, built.collate, classes=classes) for part, own in rows.items() if own
    }


def _losses(parts: Mapping[str, Told]) -> dict[str, float | None]:
    return {part: round(parts[part].loss, 5) if part in parts else None for part in ("train", "validation", "test")}


def _apart(unseen: float | None, learned: float | None) -> float | None:
    return None if unseen is None or learned is None else round(unseen - learned, 5)


def _gap(parts: Mapping[str, Told], progress: Progress) -> dict[str, Any]:
    """Its intervals, that of accuracy, and what to do."""
    ends = {part: gap.gap(parts["train"], parts[part]).as_json()["ci95"] if part in parts else None
            for part in ("validation", "test")}  # fmt: skip
    ended = progress.stopped.key == "schedule_ended"
    sentence = gap.advice(parts, still_falling=ended and gap.falling(progress.watch.seen))
    accuracy = gap.accuracies(parts)
    return {
        "gap_ci95": ends["validation"],
        "test_gap_ci95": ends["test"],
        "judged_by": gap.judged_by({part: len(of.sums) for part, of in parts.items()}),
        "gap_rows": {part: len(of.sums) for part, of in parts.items()},
        **({"accuracy": accuracy} if accuracy.keys() - {"gap"} else {}),
        "advice": as_json(sentence),
    }


def _of_classes(
    built: Built, rows: Mapping[str, list[Row]], parts: Mapping[str, Told], seconds: dict[str, float], say: Say
) -> dict[str, Any]:
    settings, test, found = built.recipe.evaluate, parts.get("test"), {}
    if test is None and settings.learning_curve is False:
        return {}
    say("measuring how sure the classifier may be, hurried writing, and what more rows would bring")
    with timed(seconds, "before"):
        known = before_of(built)
        head = known.head(built.recipe.seed) if test is not None else None
    if test is not None and head is not None:
        was = known.logits(head, rows["test"])
        if _head_stands_beside(built):
            found["head"] = _beside_head(built, test, was)
        with timed(seconds, "calibration"):
            found["calibration"] = _calibration(test, parts.get("validation"), was)
        if settings.robustness:
            with timed(seconds, "robustness"):
                found["robustness"] = _robustness(built, rows["test"], test, (known, head, was))
    if settings.learning_curve is not False:
        with timed(seconds, "learning_curve"):
            curve = learning_curve.measure(
                known.vectors, known.targets, known.classes, units=known.units, seed=built.recipe.seed
            )
            whole = sum(row.target is not None for row in built.prepared.rows("train"))
            whole = len(built.prepared.stream or ()) or whole
            chosen = built.prepared.selection
            left_out = chosen.passed_over if chosen else 0
            found["learning_curve"] = learning_curve.forecast(curve, whole, left_out=left_out, seed=built.recipe.seed)
    return found


def _head_stands_beside(built: Built) -> bool:
    """Whether a head over the encoder as it was is another way of doing this: not where what was learned is such a
    head, texts come in pairs, groups have thresholds of their own, or there is too much to solve one."""
    prepared = built.prepared
    cut = any(isinstance(one, Thresholds) for one in built.recipe.repair)
    pairs = any(row.example.second is not None for row in prepared.rows("test"))
    small = len(prepared.repeated) * len(prepared.labels.names if prepared.labels else ()) <= MOST
    return bool(prepared.resolved.steps) and small and not cut and not pairs


def _beside_head(built: Built, test: Told, was: np.ndarray) -> dict[str, Any]:
    assert test.logits is not None
    assert test.targets is not None
    return beside_head(test.logits, was, test.targets, against_choosing(built.recipe))


def before_of(built: Built) -> Before:
    prepared = built.prepared
    assert prepared.labels is not None
    known = [row for row in prepared.rows("train") if row.target is not None]
    return before(built.policy, known, built.collate, len(prepared.labels.names), built.recipe.seed)


def _calibration(test: Told, validation: Told | None, was: np.ndarray) -> dict[str, Any]:
    """Of the tuned model, of the encoder before tuning under a solved head, and of the tuned one at the temperature
    that suits the validation rows."""
    assert test.logits is not None
    assert test.targets is not None
    if len(test.targets) < calibration.LEAST:
        return {"n": len(test.targets), "advice": as_json(Said("calibration_few", {"n": len(test.targets)}))}
    tuned, mended = calibration.calibration(test.logits, test.targets), None
    if validation is not None and validation.logits is not None and len(validation.logits) >= calibration.LEAST:
        assert validation.targets is not None
        heat = calibration.temperature(validation.logits, validation.targets)
        after = calibration.calibration(test.logits / heat, test.targets)
        mended = {"temperature": round(heat, 4), "fitted_on": len(validation.logits), **after}
    return {
        "tuned": tuned,
        "base": calibration.calibration(was, test.targets),
        "mended": mended,
        "advice": as_json(calibration.advice(tuned, mended)),
    }


def _robustness(
    built: Built, rows: Sequence[Row], test: Told, base: tuple[Before, Probe, np.ndarray]
) -> dict[str, Any]:
    (known, head, was), prepared = base, built.prepared
    processor, limit = prepared.processor, longest(built)
    assert test.logits is not None
    return examine_robustness(
        rows,
        {
            "tuned": lambda asked: class_logits(built.policy, asked, built.collate).argmax(1),
            "base": lambda asked: known.logits(head, asked).argmax(1),
        },
        {"tuned": test.logits.argmax(1), "base": was.argmax(1)},
        {
            **hurried(rows, processor, limit, seed=built.recipe.seed),
            **reworded(rows, prepared.reworded, processor, limit),
        },
    )


def _of_texts(built: Built, progress: Progress, seconds: dict[str, float], say: Say) -> dict[str, Any]:
    """Copies and canaries of a model that writes. How sure it is of each token is not measured: perplexity says
    that."""
    prepared, settings, found = built.prepared, built.recipe.evaluate, {}
    if settings.memorisation:
        say("asking the model to go on with training rows, to see whether it knows them by heart")
        held = [*prepared.rows("test"), *prepared.rows("validation")]
        with timed(seconds, "memorisation"):
            found["memorisation"] = examine_memorised(
                built.policy, prepared.processor, prepared.rows("train"), held, settings.memorisation,
                seed=built.recipe.seed,
            )  # fmt: skip
    if settings.canaries:
        with timed(seconds, "canaries"):
            planted = [
                candidates(built.recipe.seed, number, prepared.processor, longest(built))
                for number in range(1, settings.canaries + 1)
            ]
            found["canaries"] = examine_canaries(built.policy, planted, built.collate, _times(built, progress))
    return found


def _times(built: Built, progress: Progress) -> float:
    """How often a row had been learned by the weights that are kept."""
    resolved = built.prepared.resolved
    return resolved.epochs * min(1.0, (progress.watch.best_step or progress.step) / max(1, resolved.steps))


def longest(built: Built) -> int:
    """Tokens of a row, at most."""
    limit = built.recipe.task.data.max_tokens
    assert limit is not None  # preparing writes it out
    return limit


def as_json(sentence: Said) -> dict[str, Any]:
    return {"key": sentence.key, **sentence.facts}
