"""The report of a run over tasks of several kinds, from those of the kinds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tuneful.evaluation.phrases import SYSTEMS
from tuneful.evaluation.words import LANGUAGES, words

Report = Mapping[str, Any]


def of_kinds(
    whole: Report, reports: Mapping[str, Report], places: Mapping[str, str], costs: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """`whole` is what is known of the run beside its kinds. It helped if it helped all, and not if it did not help one.
    A gate is broken if it is for one. Of each task stands where its own report lies; what the base forgot is what it
    forgot where it writes."""
    verdicts = {name: report["verdict"] for name, report in reports.items()}
    told = {language: _sentence(verdicts, language) for language in LANGUAGES}
    return {
        **whole,
        "verdict": {
            "helped": _helped([str(verdict["helped"]) for verdict in verdicts.values()]),
            "primary": None,
            "sentence": told["en"],
            "sentences": told,
            "gates": _gates(verdicts),
        },
        "data": {"rows": _rows(reports)},
        "forgetting": {**_forgetting(reports), **whole["forgetting"]},
        "tasks": dict(_tasks(reports, places)),
        "kinds": {
            name: {"folder": places[name], **{key: verdict[key] for key in ("helped", "gates")}, **costs[name]}
            for name, verdict in verdicts.items()
        },
    }


def _helped(found: list[str]) -> str:
    if "no" in found:
        return "no"
    return "yes" if all(one == "yes" for one in found) else "unclear"


def _sentence(verdicts: Mapping[str, Mapping[str, Any]], language: str) -> str:
    say = words(language)
    each = [
        say["kind_said"].format(task=name, told=verdict["sentences"][language]) for name, verdict in verdicts.items()
    ]
    return say["between_sentences"].join(each)


def _gates(verdicts: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for verdict in verdicts.values():
        for gate, state in verdict["gates"].items():
            found[gate] = "broken" if "broken" in (state, found.get(gate)) else state
    return found


def _rows(reports: Mapping[str, Report]) -> dict[str, int]:
    parts = ("train", "validation", "test")
    return {part: sum(int((report["data"].get("rows") or {}).get(part) or 0) for report in reports.values())
            for part in parts}  # fmt: skip


def _forgetting(reports: Mapping[str, Report]) -> dict[str, Any]:
    found = [report["forgetting"] for report in reports.values() if report["forgetting"]]
    writes = [one for one in found if one.get("kl_from_base") is not None]
    return dict((writes or found or [{}])[0])


def _tasks(reports: Mapping[str, Report], places: Mapping[str, str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """As `by_task` has them."""
    for name, report in reports.items():
        if report["tasks"]:
            yield from ((task, {**found, "folder": places[name]}) for task, found in report["tasks"].items())
            continue
        metric = report["verdict"]["primary"]
        quality = report["quality"].get(metric) or {}
        rows = {"rows": int((report["data"].get("rows") or {}).get("train") or 0), "folder": places[name]}
        if not quality:
            yield name, {"n": 0, **rows}
            continue
        known = {system: quality[system] for system in SYSTEMS if quality.get(system) is not None}
        yield name, {
            "metric": metric, "higher_is_better": quality["higher_is_better"], "n": quality["n"], **known,
            "delta": quality["delta"], "ci95": quality["ci95"], **rows,
        }  # fmt: skip
