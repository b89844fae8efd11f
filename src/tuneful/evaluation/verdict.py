"""Did it help? One word, one sentence, and the gates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tuneful.core.types import Said
from tuneful.evaluation.compare import Score
from tuneful.evaluation.fairness.intervals import SURE
from tuneful.evaluation.metrics import PREFERENCE_METRICS, SEARCH_METRICS
from tuneful.evaluation.phrases import gap_of, said
from tuneful.evaluation.words import words

Answer = Literal["yes", "no", "unclear"]


LEAST = 12  # rows, or classes; an interval drawn from fewer may have no width at all


@dataclass(frozen=True, slots=True)
class Verdict:
    helped: Answer
    reason: str  # a key of the word list
    primary: str


def judge(score: Score | None) -> Verdict:
    """yes: surely better than every other system. no: surely worse than one of them. unclear: all else, and whenever
    nothing was measured."""
    if score is None or not score.against:
        return Verdict("unclear", "not_measured", "")
    if score.n < LEAST:
        return Verdict("unclear", "too_few_rows", score.metric)
    higher = score.higher_is_better
    worse = [name for name, gap in score.against.items() if gap.worse(higher)]
    if all(gap.better(higher) for gap in score.against.values()):
        return Verdict("yes", "better_than_all", score.metric)
    if worse:
        rival = _trivial(score.metric) if worse[0] == "trivial" else worse[0]
        return Verdict("no", f"worse_than_{rival}", score.metric)
    if "base" in score.against and score.against["base"].better(higher):
        return Verdict("unclear", "better_than_base_only", score.metric)
    return Verdict("unclear", "interval_holds_zero", score.metric)


def _trivial(metric: str) -> str:
    """What the simplest rule is called."""
    if metric in PREFERENCE_METRICS:
        return "length"
    return "words" if metric in SEARCH_METRICS else "trivial"


def check(
    limits: Mapping[str, Any],
    helped: Answer,
    generalisation: Mapping[str, Any],
    forgetting: Mapping[str, Any],
    bias: Mapping[str, Any],
) -> dict[str, str]:
    """Each gate that is set: "passed", or "broken"; what a gate needs and was not measured breaks it."""
    measured = {
        "forgetting_kl": forgetting.get("kl_from_base"),
        "generalisation_gap": gap_of(generalisation),
    }
    gates = {}
    for name, found in measured.items():
        if limits.get(name) is not None:
            gates[name] = "passed" if found is not None and found <= limits[name] else "broken"
    if limits.get("bias_gap_increase") is not None:
        gates["bias_gap_increase"] = "passed" if _no_wider(bias, limits["bias_gap_increase"]) else "broken"
    if probes := limits.get("bias_probe_increase"):
        gates["bias_probe_increase"] = "passed" if _no_further(bias, probes) else "broken"
    if limits.get("helped"):
        gates["helped"] = "passed" if helped == "yes" else "broken"
    return gates


def _no_wider(bias: Mapping[str, Any], limit: float) -> bool:
    """No gap between groups is wider; one at least was measured."""
    return any(_is_gap(probe) for probe in bias.values()) and not wider(bias, limit)


def wider(bias: Mapping[str, Any], limit: float) -> list[tuple[str, Mapping[str, Any]]]:
    """The gaps between groups that have surely risen, and by more than the limit."""
    gaps = [(name, probe) for name, probe in bias.items() if _is_gap(probe)]
    return [(name, gap) for name, gap in gaps if gap["delta"] > limit and gap["ci95"][0] > 0]


def _is_gap(probe: Mapping[str, Any]) -> bool:
    return bool(probe.get("gap") and probe.get("measurable"))


def _no_further(bias: Mapping[str, Any], limits: Mapping[str, float]) -> bool:
    """Each probe that is named was measured, and is not surely further from its ideal, and by more than its limit. The
    widest of many differences grows with their noise, so the model must also surely be off by its own test."""
    for kind, limit in limits.items():
        probe = bias.get(kind) or {}
        if probe.get("further") is None or not probe.get("further_ci95"):
            return False
        chance = probe.get("p")
        if probe["further"] > limit and probe["further_ci95"][0] > 0 and (chance is None or chance < SURE):
            return False
    return True


def sentence(verdict: Verdict, score: Score | None, language: str = "en") -> str:
    """The verdict in words."""
    say = words(language)
    if score is None:
        return say["not_measured"]
    base = score.against.get("base")
    facts = {
        "metric": score.metric,
        "tuned": _number(score.values["tuned"]),
        "base": _number(score.values.get("base", float("nan"))),
        "low": _number(base.low, signed=True) if base else "",
        "high": _number(base.high, signed=True) if base else "",
        "counted": say[f"counted_{score.of}"].format(n=score.n),
    }
    told = [say[f"helped_{verdict.helped}"].format(**facts), say[verdict.reason].format(**facts)]
    return say["between_sentences"].join(told)


def with_head(told: str, head: Mapping[str, Any], language: str = "en") -> str:
    """The verdict, and that a head over the encoder as it was does as well, where it does; `head` is that block of the
    report's `generalisation`."""
    if not head.get("advice"):
        return told
    say = words(language)
    added = [told, said(head["advice"], say)]
    if against := head["against"]:
        settings = say["between_items"].join(f"`{name}`" for name in against)
        added.append(said({"key": Said("head_leave_out").key, "settings": settings}, say))
    return say["between_sentences"].join(added)


def as_json(scores: Mapping[str, Score]) -> dict[str, Any]:
    """The report's `quality` block."""
    return {
        name: {
            **{system: score.values.get(system) for system in ("base", "kshot", "trivial", "tuned")},
            "delta": base.delta if (base := score.against.get("base")) else None,
            "ci95": [base.low, base.high] if base else None,
            "n": score.n,
            "of": score.of,
            "higher_is_better": score.higher_is_better,
            "against": {
                system: {"delta": gap.delta, "ci95": [gap.low, gap.high]}
                for system, gap in sorted(score.against.items())
            },
        }
        for name, score in scores.items()
    }


def _number(value: float, *, signed: bool = False) -> str:
    return f"{value:+.3g}" if signed else f"{value:.3g}"
