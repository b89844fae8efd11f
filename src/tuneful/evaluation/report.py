"""The report: one mapping that is stable (`schema_version`), and its three faces: JSON, web page, model card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tuneful.core.files import write_text
from tuneful.evaluation.card import card
from tuneful.evaluation.compare import Examined
from tuneful.evaluation.gap import settled
from tuneful.evaluation.page import page
from tuneful.evaluation.phrases import agree
from tuneful.evaluation.tasks import with_tasks
from tuneful.evaluation.verdict import as_json, check, judge, sentence, with_head
from tuneful.evaluation.words import LANGUAGES

SCHEMA_VERSION = 1
SHOWN_ANSWERS = 12


def compose(
    *,
    name: str,
    examined: Examined | None,
    limits: Mapping[str, Any],
    generalisation: Mapping[str, Any],
    cost: Mapping[str, Any],
    bias: Mapping[str, Any],
    groups: Mapping[str, Any],
    forgetting: Mapping[str, Any],
    data: Mapping[str, Any],
    provenance: Mapping[str, Any],
    curves: Mapping[str, Any],
    choice: Mapping[str, Any],
    repair: Mapping[str, Any],
    tasks: Mapping[str, Any] = MappingProxyType({}),
    routing: Mapping[str, Any] = MappingProxyType({}),
) -> dict[str, Any]:
    """Every block of the report. What was not measured is there and empty, so readers need no guesses."""
    scores = {score.metric: score for score in examined.scores} if examined else {}
    primary = scores.get(examined.primary) if examined else None
    verdict = judge(primary)
    gates = check(limits, verdict.helped, generalisation, forgetting, bias)
    # Where ways of learning were tried, that head was one of them.
    head = generalisation.get("head") or {} if not choice and not tasks else {}
    told = {language: with_head(sentence(verdict, primary, language), head, language) for language in LANGUAGES}
    told = {language: with_tasks(words, forgetting, provenance, language) for language, words in told.items()}
    return {
        "schema_version": SCHEMA_VERSION,
        "name": name,
        "verdict": {
            "helped": verdict.helped,
            "primary": verdict.primary or None,
            "sentence": told["en"],
            "sentences": told,
            "gates": gates,
        },
        "quality": as_json(scores),
        "generalisation": settled(generalisation, verdict.helped),
        "cost": dict(cost),
        "bias": dict(bias),
        "groups": dict(groups),
        "forgetting": dict(forgetting),
        "data": dict(data),
        "provenance": dict(provenance),
        "curves": dict(curves),
        "choice": dict(choice),
        "repair": dict(repair),
        "tasks": dict(tasks),
        "routing": dict(routing),
        "answers": _spread(examined.answers, SHOWN_ANSWERS) if examined else [],
    }


def write_faces(report: Mapping[str, Any], folder: Path, language: str) -> None:
    """report.html and README.md beside report.json."""
    write_text(folder / "report.html", page(report, language))
    write_text(folder / "README.md", card(report, language))


def _spread(answers: Sequence[dict[str, Any]], wanted: int) -> list[dict[str, Any]]:
    """Rows from the whole test set, wrong ones before right ones: they teach more."""
    wrong = [answer for answer in answers if not agree(answer.get("tuned"), answer.get("expected"))]
    right = [answer for answer in answers if agree(answer.get("tuned"), answer.get("expected"))]
    half = wrong[: wanted // 2]
    return [*half, *right[: wanted - len(half)]]
