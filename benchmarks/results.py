"""What was measured, as a table: one section a sitting, kept in results.json and written out as RESULTS.md."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

from tuneful.core.device import machine

HERE = Path(__file__).parent
KEPT, PAGE = HERE / "results.json", HERE / "RESULTS.md"


@dataclass(frozen=True)
class Line:
    """A figure beside its goal; `reached` None: no goal, for comparison."""

    work: str
    measured: str
    goal: str = ""
    reached: bool | None = None


def at_least(work: str, value: float, goal: float, *, unit: str = "", shown: str = "") -> Line:
    return Line(work, f"{value:.4g}{unit}{shown}", f">= {goal:g}{unit}", value >= goal)


def at_most(work: str, value: float, goal: float, *, unit: str = "", shown: str = "") -> Line:
    return Line(work, f"{value:.4g}{unit}{shown}", f"<= {goal:g}{unit}", value <= goal)


def keep(section: str, command: str, lines: list[Line]) -> None:
    """Replaces one section; the others stay as they were measured."""
    kept = json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.exists() else {}
    here = machine()
    kept[section] = {
        "command": command,
        "date": date.today().isoformat(),
        "machine": f"{here.cores} cores, {here.fp32_gflops:.0f} GFLOP/s fp32, {here.bf16_gflops:.0f} bf16",
        "lines": [asdict(line) for line in lines],
    }
    KEPT.write_text(json.dumps(kept, indent=1, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")
    PAGE.write_text(_page(kept), encoding="utf-8")


def _page(kept: dict[str, dict[str, object]]) -> str:
    parts = [
        "# Results\n\nWritten by `make bench`. Every section is one sitting: the runs it compares were interleaved, "
        "alone on the machine.\nThree figures with slashes are minimum / **median** / maximum; all others are one run "
        "each, whatever `--rounds` says.\n"
    ]
    for name, section in sorted(kept.items()):
        parts.append(f"\n## {name}\n`{section['command']}` · {section['date']} · {section['machine']}\n")
        parts.append("| work | measured | goal | reached |\n| --- | --- | --- | --- |")
        for line in section["lines"]:  # type: ignore[attr-defined]
            mark = {True: "yes", False: "**no**", None: ""}[line["reached"]]
            parts.append(f"| {line['work']} | {line['measured']} | {line['goal']} | {mark} |")
    return "\n".join(parts) + "\n"
