"""`tuneful audit`."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.text import Text

from tuneful.cli.show import console, minutes, named_columns, note, print_json, table
from tuneful.core.errors import InputError

INTERRUPTED = 130  # what a shell expects after Ctrl-C


def audit_command(
    name: str,
    data: str | None,
    *,
    group: str | None,
    columns: Sequence[str],
    probes: Sequence[str],
    rows: int | None,
    language: str | None,
    as_json: bool,
    **of_mitigate: str | None,
) -> None:
    from tuneful.evaluation.fairer import sentences
    from tuneful.evaluation.words import words
    from tuneful.run.audit import audit, probe_of, usual_probes

    if any(of_mitigate.values()):
        raise InputError("--budget, --measure and --lang are about ways to make a run fairer; add --mitigate")
    if data is not None and (probes or language or rows):
        raise InputError("--probe, --language and --rows are about probes of language; DATA is asked by group instead")
    asked = [probe_of(probe, rows, language) for probe in probes] or usual_probes(language, rows)
    named = {**named_columns(columns), **({"group": group} if group else {})}
    found = audit(name, data, named, asked, (lambda _: None) if as_json else note)
    if as_json:
        print_json(found)
        return
    _print(found["bias"])
    for sentence in sentences({"groups": {}, **found}, words("en")):
        console.print(Text(sentence), soft_wrap=True)
    for feature, told in found.get("groups", {}).get("features", {}).items():
        _print_groups(feature, told["groups"])


def _print(bias: Mapping[str, Mapping[str, Any]]) -> None:
    from tuneful.evaluation.fairer import name_of, reason
    from tuneful.evaluation.words import words

    say, rows = words("en"), []
    for kind, probe in bias.items():
        if probe["measurable"]:
            rows.append([name_of(kind, say), probe.get("before"), probe.get("after"), _pair(probe.get("ci95")),
                         probe["ideal"], probe.get("p"), probe["n"]])  # fmt: skip
        else:
            note(f"{name_of(kind, say)}: {reason(probe, say)}; {probe['n']} asked")
    if rows:
        table("", ("probe", "before", "after", "95 %", "ideal", "p", "n"), rows)
    for kind, probe in bias.items():
        if probe["measurable"]:
            _print_parts(name_of(kind, say), probe.get("by_group") or {})


def _print_parts(name: str, groups: Mapping[str, Mapping[str, Any]]) -> None:
    """Of a probe of language, by group."""
    shown = [[name, cell["score"], _pair(cell["ci95"]), cell["p_adjusted"], cell["n"]] for name, cell in groups.items()]
    if shown:
        table(name, ("group", "score", "95 %", "p, corrected", "n"), shown)


def _print_groups(feature: str, groups: Mapping[str, Mapping[str, Any]]) -> None:
    rated = any("positives" in cells for cells in groups.values())
    measures = [name for name in ("accuracy", "selection_rate", "tpr", "fpr", "subgroup", "bpsn", "bnsp")
                if any(name in cells for cells in groups.values())]  # fmt: skip
    rows = [
        [name, cells["n"], *([cells["positives"] / cells["n"]] if rated else []),
         *((cells.get(m) or {}).get("value") for m in measures)]
        for name, cells in groups.items()
    ]  # fmt: skip
    table(feature, ("group", "n", *(["base_rate"] if rated else []), *measures), rows)


def _pair(ends: Sequence[float] | None) -> str:
    return "" if not ends else f"{ends[0]:.3g} to {ends[1]:.3g}"


def mitigate_command(
    run: str,
    data: str | None,
    *,
    budget: str | None,
    measure: str | None,
    lang: str | None,
    as_json: bool,
    should_stop: Callable[[], bool],
    **of_audit: Any,
) -> int:
    """The exit code."""
    from tuneful.autopilot import MEASURES, mitigate
    from tuneful.run.loop import Interrupted

    if data is not None or any(of_audit.values()):
        raise InputError("--mitigate tries ways on the data and the groups of a run's own recipe; leave DATA, --group, "
                         "--column, --probe, --rows and --language out")  # fmt: skip
    say: Callable[[str], None] = (lambda _: None) if as_json else note
    try:
        found = mitigate(
            run, measure=measure or MEASURES[0], budget=_seconds(budget), language=lang or "en",
            should_stop=should_stop, say=say,
        )  # fmt: skip
    except Interrupted:
        note(f"stopped; the ways that were tuned are kept. The same command goes on: tuneful audit {shlex.quote(run)} "
             "--mitigate")  # fmt: skip
        return INTERRUPTED
    print_json(found.report) if as_json else _print_ways(found.report, run, found.path)
    return 0


def _seconds(budget: str | None) -> float | None:
    from tuneful.recipe.amounts import seconds

    try:
        return None if budget is None else seconds(budget)
    except ValueError as error:
        raise InputError(f"--budget: {error}") from None


def _print_ways(report: Mapping[str, Any], run: str, recipe: Any) -> None:
    from tuneful.evaluation.mitigation_page import gap_name, sentence, title
    from tuneful.evaluation.words import words

    say = words("en")
    rows = [
        [title(line["way"], say), line["quality"], _pair(line["quality_change"]), line["gap"],
         _pair(line["gap_change"]), _mark(line), minutes(line["seconds"])]
        for line in report["ways"] if "gap" in line
    ]  # fmt: skip
    columns = ("way", report["metric"], "change, 95 %", gap_name(report["measure"], say), "change, 95 %", "", "time")
    table(f"Ways, on {report['asked']['rows']:,} training rows that none of them had learned", columns, rows)
    for line in report["ways"]:
        if line["state"] != "tried":
            note(f"{line['way']}: {line.get('reason') or say['mitigation_not_tried']}")
    console.print(f"\n{sentence(report, say)}")
    if report["retold"]:
        _print_retold(report)
    if recipe is not None:
        console.print(f"to tune with it: tuneful fit {shlex.quote(str(recipe))}", soft_wrap=True)
    console.print(f"page: {run}/mitigation.html", soft_wrap=True)


def _mark(line: Mapping[str, Any]) -> str:
    return "recommended" if line["recommended"] else "front" if line["front"] else ""


def _print_retold(report: Mapping[str, Any]) -> None:
    from tuneful.evaluation.fairer import reason
    from tuneful.evaluation.words import words

    told = report["retold"]
    quality, gap = told["quality"], told["gap"]
    rows = [[report["metric"], quality["before"], quality["after"], _pair(quality["ci95"])],
            [report["measure"], gap.get("before"), gap.get("after"), _pair(gap.get("ci95"))]]  # fmt: skip
    title = f"\nOn the {told['n']:,} test rows, which had no part in the choice"
    table(title, ("", "before", "after", "change, 95 %"), rows)
    if why := reason(gap, words("en")):
        note(f"{report['measure']}: {why}")
