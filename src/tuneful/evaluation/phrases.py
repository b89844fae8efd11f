"""How the page and the card write numbers, and the report's own English sentences, in one language."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

Say = Mapping[str, str]
MISSING, MINUS = "–", "\u2212"

# What other rooms write into a report in English, and the word list's key for it.
SAID = (
    (r"the schedule ended", "said_schedule_ended"),
    (r"no better look at the validation rows since step (?P<step>\d+)", "said_no_better"),
    (r"an encoder predicts no text; .*", "said_encoder"),
    (r"the base model writes nothing", "said_writes_nothing"),
    (r"(?P<n>\d+) training rows nearly repeat another one", "said_duplicates"),
    (r"(?P<n>\d+) training rows were taken out because a held-out row says the same", "said_leaked"),
    (r"(?P<n>\d+) texts were cut to the model's longest input", "said_truncated"),
    (r"the classes are uneven: '(?P<rare>.*)' has (?P<few>\d+) rows, the largest (?P<many>\d+)", "said_uneven"),
    (r"there are no test rows, so the report cannot say whether tuning helped", "said_no_test"),
    (r"says the same as (?P<row>.+), which is for (?P<part>train|validation|test)", "said_same"),
)


def is_number(value: object) -> bool:
    """True and NaN are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


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
    return f"{megabytes / 1024:.1f} GB" if megabytes >= 1000 else f"{megabytes:.0f} MB"


def share(part: Any, whole: Any, say: Say) -> str:
    """"5 of 200 (2.5 %)"."""
    if not is_number(part) or not is_number(whole) or not whole:
        return number(part)
    percent = 100 * part / whole
    shown = f"{percent:.3g} %" if percent < 99.95 else "100 %"
    return say["share_of"].format(part=number(part), whole=number(whole), share=shown)


def answer(value: Any, say: Say) -> str:
    """A text, a label, a list of labels or a number, as a person reads it."""
    if value is None:
        return MISSING
    if isinstance(value, list):
        return say["between_items"].join(map(str, value)) or say["answer_empty"]
    return number(value) if is_number(value) else str(value) or say["answer_empty"]


def said(text: Any, say: Say) -> str:
    """A sentence of the report in the page's language; one that is not known stays as it is."""
    for pattern, key in SAID:
        if found := re.fullmatch(pattern, str(text or ""), flags=re.DOTALL):
            facts = found.groupdict()
            if "part" in facts:
                facts["part"] = part_name(facts["part"], say)
            return say[key].format(**facts)
    return str(text or "")


def part_name(part: str, say: Say) -> str:
    return say["part_training"] if part == "train" else say.get(f"part_{part}", part)


def metric_name(metric: str, say: Say) -> str:
    return say.get(f"metric_{metric}", metric)


def model_name(report: Mapping[str, Any]) -> str:
    """The base model as it may be told to others: of a folder its last part alone."""
    name = str((report.get("provenance") or {}).get("model") or "")
    is_path = name.startswith((".", "/", "~")) or "\\" in name or name.count("/") > 1
    return re.split(r"[/\\]", name.rstrip("/\\"))[-1] if is_path else name


def target_of(report: Mapping[str, Any]) -> str:
    """What the model gives: "text", or "class", "labels", "number"."""
    task = ((((report.get("provenance") or {}).get("recipe") or {}).get("tasks")) or [{}])[0]
    objective = task.get("objective") or {}
    if objective.get("kind") != "classify":
        return "text"
    if objective.get("target", "auto") != "auto":
        return str(objective["target"])
    quality, answers = report.get("quality") or {}, report.get("answers") or []
    if "rmse" in quality or any(is_number(given.get("expected")) for given in answers):
        return "number"
    return "labels" if any(isinstance(given.get("expected"), list) for given in answers) else "class"


def spoken_sentence(report: Mapping[str, Any], language: str, say: Say) -> str:
    """The verdict's sentence, in the page's language where the report has it."""
    verdict = report.get("verdict") or {}
    return (verdict.get("sentences") or {}).get(language) or verdict.get("sentence") or say["not_measured"]


def as_literal(text: str) -> str:
    """For Python code on the card."""
    return json.dumps(text, ensure_ascii=False)
