"""How the page and the card write numbers, and the report's own English sentences, in one language."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

Say = Mapping[str, str]
MISSING, MINUS, TIED = "–", "\u2212", "\u00a0"

# What an encoder learns from texts, by objective.
ALONE = {"masked": "tokens", "contrast": "vectors", "denoise": "vectors"}
# What a model gives that has no head for text or labels, by objective.
GIVES = {**ALONE, "prototype": "classes", "retrieve": "documents", "reward_model": "reward"}
PLACES = ("vectors", "classes", "documents")  # of these, what is only where texts lie
SYSTEMS = ("base", "kshot", "trivial", "tuned")
PARTS = ("train", "validation", "test")
BLOCKS = (
    "verdict",
    "quality",
    "generalisation",
    "cost",
    "bias",
    "groups",
    "forgetting",
    "data",
    "provenance",
    "curves",
    "choice",
    "repair",
    "tasks",
)

# Notes that say what the facts of the X-ray say already.
RESTATED = ("duplicates", "leaked", "truncated")


def filled(report: Mapping[str, Any]) -> dict[str, Any]:
    """The report with every block there, so that readers need not ask."""
    return {**report, **{name: report.get(name) or {} for name in BLOCKS}}


def is_number(value: object) -> TypeGuard[float]:
    """True and NaN are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def is_pooled(report: Mapping[str, Any]) -> bool:
    """The head reads the mean of a text's hidden states."""
    recipe = report["provenance"].get("recipe") or {}
    return any((task.get("objective") or {}).get("pooling") == "mean" for task in recipe.get("tasks") or [])


def number(value: Any) -> str:
    """Three digits that count, or a whole number in groups of three; a dash for what is not there."""
    if not is_number(value):
        return MISSING
    if isinstance(value, int) or 1000 <= abs(value) < 1e9:
        return f"{value:,.0f}".replace("-", MINUS)
    return f"{value:.3g}".replace("-", MINUS)


def signed(value: Any) -> str:
    shown = number(value)
    return f"+{shown}" if is_number(value) and value > 0 else shown


def interval(pair: Sequence[float] | None, say: Say) -> str:
    if not pair:
        return MISSING
    return say["from_to"].format(low=signed(pair[0]), high=signed(pair[1]))


def duration(seconds: Any, say: Say) -> str:
    if not is_number(seconds):
        return MISSING
    for unit, length in (("hours", 3600), ("minutes", 60)):
        if seconds >= 1.5 * length:
            return say[f"in_{unit}"].format(value=f"{seconds / length:.1f}")
    return say["in_seconds"].format(value=number(float(seconds)))


def memory(megabytes: Any) -> str:
    if not is_number(megabytes):
        return MISSING
    return f"{megabytes / 1024:.1f}{TIED}GB" if megabytes >= 1000 else f"{megabytes:.0f}{TIED}MB"


def share(some: Any, whole: Any, say: Say) -> str:
    """5 of 200 (2.5%)."""
    if not is_number(some) or not is_number(whole) or not whole:
        return number(some)
    percent = 100 * some / whole
    shown = f"{percent:.3g}%" if percent < 99.95 else "100%"
    return say["share_of"].format(part=number(some), whole=number(whole), share=shown)


def percent(value: Any) -> str:
    return f"{100 * value:.0f}%" if is_number(value) else MISSING


def gap_of(found: Mapping[str, Any]) -> float | None:
    """Of the report's `generalisation`, the gap by which it is judged: that of test rows where these tell more than the
    validation rows, which chose the weights."""
    gap: float | None = found.get("test_gap") if found.get("judged_by") == "test" else found.get("gap")
    return gap


def agree(given: Any, expected: Any) -> bool:
    """The same answer; of a document that was found, one of those that are right."""
    if isinstance(given, str) and isinstance(expected, list):
        return given in expected
    if isinstance(given, str) and isinstance(expected, str):
        return given.strip() == expected.strip()
    return bool(given == expected)


def answer(value: Any, say: Say) -> str:
    """A text, a label, a list of labels or a number, as a person reads it."""
    if value is None:
        return MISSING
    if isinstance(value, list):
        return say["between_items"].join(map(str, value)) or say["answer_empty"]
    return number(value) if is_number(value) else str(value) or say["answer_empty"]


def said(sentence: Mapping[str, Any] | None, say: Say) -> str:
    """A sentence of the report, {key, facts...}, in the page's language."""
    return say[f"said_{sentence['key']}"].format(**sentence) if sentence else ""


def part(name: str, say: Say) -> str:
    return say.get(f"part_{name}", name)


def metric_name(metric: str, say: Say) -> str:
    return say.get(f"metric_{metric}", metric)


def system_name(report: Mapping[str, Any], system: str, say: Say) -> str:
    """What a system is called where this is measured; what is trivial differs."""
    usual = say.get(f"system_{system}", system)
    if system == "trivial" and "preference_accuracy" in report["quality"]:
        return say["system_length"]
    return say["system_words"] if system == "trivial" and target_of(report) == "documents" else usual


def model_name(report: Mapping[str, Any]) -> str:
    """The base model as it may be told to others: of a folder its last part alone."""
    return without_folders(str(report["provenance"].get("model") or ""))


def without_folders(name: str) -> str:
    """The last part of a path; a hub id as it is."""
    is_path = name.startswith((".", "/", "~")) or "\\" in name or name.count("/") > 1
    return last_part(name) if is_path else name


def last_part(path: str) -> str:
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1]


def adapter_of(report: Mapping[str, Any]) -> str:
    recipe = report["provenance"].get("recipe") or {}
    return str((recipe.get("adapter") or {}).get("kind") or "")


def target_of(report: Mapping[str, Any]) -> str:
    """What the model gives: "text", or "class", "labels", "number", or hidden "tokens", or "vectors", or vectors
    for "classes" or "documents" that are to be found, or a "reward" of an answer."""
    tasks = (report["provenance"].get("recipe") or {}).get("tasks") or [{}]
    objective = tasks[0].get("objective") or {}
    return str(objective.get("target") or GIVES.get(str(objective.get("kind")), "text"))


def prefers(report: Mapping[str, Any]) -> bool:
    """Whole answers are learned as better or worse ones."""
    tasks = (report["provenance"].get("recipe") or {}).get("tasks") or [{}]
    return (tasks[0].get("objective") or {}).get("kind") in ("dpo", "orpo", "simpo", "kto")


def stopped(found: Mapping[str, Any], say: Say) -> str:
    """Where training stopped, why, and which weights stayed; from the report's `generalisation`."""
    sentences = [said(found.get("reason"), say)]
    if found.get("stopped_at_step"):
        sentences.insert(0, say["stopped_sentence"].format(step=number(found["stopped_at_step"])))
    if found.get("best_step"):
        sentences.append(say["kept_sentence"].format(step=number(found["best_step"])))
    return say["between_sentences"].join(filter(None, sentences))


def helped(report: Mapping[str, Any]) -> str:
    """yes, no or unclear."""
    found = report["verdict"].get("helped")
    return found if found in ("yes", "no") else "unclear"


def verdict_sentence(report: Mapping[str, Any], language: str, say: Say) -> str:
    """In the page's language where the report has it."""
    verdict = report["verdict"]
    return (verdict.get("sentences") or {}).get(language) or verdict.get("sentence") or say["not_measured"]


def as_literal(text: str) -> str:
    """For Python code on the card."""
    return json.dumps(text, ensure_ascii=False)
