"""`tuneful audit`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tuneful.cli.show import named_columns, note, print_json, table
from tuneful.core.errors import InputError


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
) -> None:
    from tuneful.run.audit import audit, probe_of, usual_probes

    if data is not None and (probes or language or rows):
        raise InputError("--probe, --language and --rows are about probes of language; DATA is asked by group instead")
    asked = [probe_of(probe, rows, language) for probe in probes] or usual_probes(language)
    named = {**named_columns(columns), **({"group": group} if group else {})}
    found = audit(name, data, named, asked, (lambda _: None) if as_json else note)
    if as_json:
        print_json(found)
        return
    for kind, probe in found["bias"].items():
        _print(kind, probe)
    for feature, told in found.get("groups", {}).get("features", {}).items():
        _print_groups(feature, told["groups"])


def _print(kind: str, probe: Mapping[str, Any]) -> None:
    from tuneful.evaluation.fairer import name_of, reason
    from tuneful.evaluation.words import words

    name = name_of(kind, words("en"))
    if not probe["measurable"]:
        note(f"{name}: {reason(probe, words('en'))}; {probe['n']} asked")
        return
    row = [name, probe.get("before"), probe.get("after"), _pair(probe.get("ci95")), probe.get("ideal", 0.0),
           probe.get("p"), probe["n"]]  # fmt: skip
    table("", ("probe", "before", "after", "95 %", "ideal", "p", "n"), [row])
    groups = probe.get("by_group") or {}
    shown = [[name, cell["score"], _pair(cell["ci95"]), cell["p_adjusted"], cell["n"]] for name, cell in groups.items()]
    if shown:
        table("", ("group", "score", "95 %", "p, corrected", "n"), shown)


def _print_groups(feature: str, groups: Mapping[str, Mapping[str, Any]]) -> None:
    measures = [name for name in ("accuracy", "selection_rate", "tpr", "fpr", "subgroup", "bpsn", "bnsp")
                if any(name in cells for cells in groups.values())]  # fmt: skip
    rows = [
        [name, cells["n"], *((cells.get(m) or {}).get("value") for m in measures)] for name, cells in groups.items()
    ]
    table(feature, ("group", "n", *measures), rows)


def _pair(ends: Sequence[float] | None) -> str:
    return "" if not ends else f"{ends[0]:.3g} to {ends[1]:.3g}"
