"""`tuneful models`, `runs`, `doctor`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import click

from tuneful.cli.show import note, number, print_json, table
from tuneful.core.errors import ModelError
from tuneful.core.spec import unknown


def models_list_command(*, as_json: bool) -> None:
    from tuneful.models.embedded import EMBEDDED

    rows = [[m.name, m.purpose, (m.folder / "ORIGIN.json").exists(), m.licence] for m in EMBEDDED.values()]
    if as_json:
        print_json([dict(zip(("name", "purpose", "here", "licence"), row, strict=True)) for row in rows])
    else:
        table("Embedded models", ("name", "purpose", "here", "licence"), rows)


def models_pull_command(name: str) -> None:
    from tuneful.models.load import locate

    click.echo(locate(name, note))


def models_path_command(name: str) -> None:
    from tuneful.models.embedded import EMBEDDED

    if name not in EMBEDDED:
        raise ModelError(unknown("embedded model", name, EMBEDDED))
    if not (EMBEDDED[name].folder / "ORIGIN.json").exists():
        raise ModelError(f"{name} is not on this computer; fetch it with: tuneful models pull {name}")
    click.echo(EMBEDDED[name].folder)


def runs_command(folder: Path, *, as_json: bool) -> None:
    found = [_run(path.parent) for path in sorted(folder.glob("*/recipe.lock.json"))]
    if as_json:
        print_json(found)
    elif not found:
        click.echo(f"there are no runs in {folder}")
    else:
        rows = [[r["run"], r["model"], r["state"], r["metric"], r["base"], r["tuned"]] for r in found]
        table(f"Runs in {folder}", ("run", "model", "state", "metric", "base", "tuned"), rows)


def _run(path: Path) -> dict[str, Any]:
    """One line about a run, finished or not."""
    lock = _read(path / "recipe.lock.json")
    report = _read(path / "report.json")
    line = {"run": str(path), "model": lock.get("recipe", {}).get("model"), "state": "not finished"}
    verdict = report.get("verdict", {})
    primary = report.get("quality", {}).get(verdict.get("primary") or "", {})
    if report:
        line["state"] = {"yes": "helped", "no": "did not help"}.get(verdict["helped"], "unclear")
    return {
        **line,
        "metric": verdict.get("primary"),
        "base": primary.get("base"),
        "tuned": primary.get("tuned"),
    }


def _read(path: Path) -> dict[str, Any]:
    try:
        value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value


def speed_command(model: str, *, as_json: bool) -> None:
    from dataclasses import asdict

    from tuneful.core.device import prepare_process
    from tuneful.run.roofline import ROWS, roofline

    prepare_process()
    found = roofline(model)
    if as_json:
        print_json(asdict(found))
        return
    rows = [[f"{ROWS} x {p['in']} x {p['out']}", number(p["fp32"]), number(p["bf16"])] for p in found.products]
    table(f"Products of {model}, GFLOP/s", ("rows x in x out", "fp32", "bf16"), rows)
    click.echo(f"memory is read at {found.gigabytes_per_second} GB/s\n")
    lines = [
        [work, *(number(found.ceilings[work][name]) for name in ("fp32", "bf16")),
         *(number(found.expected.get(work, {}).get(name)) for name in ("fp32", "bf16"))]
        for work in found.ceilings
    ]  # fmt: skip
    table("Tokens a second", ("work", "ceiling fp32", "ceiling bf16", "expected fp32", "expected bf16"), lines)


def doctor_command(*, as_json: bool) -> None:
    from tuneful.core.device import cache_folder, machine
    from tuneful.models.embedded import EMBEDDED
    from tuneful.run.lock import versions

    here = machine()
    cache = cache_folder()
    free = shutil.disk_usage(next(p for p in (cache, *cache.parents) if p.exists())).free >> 20
    facts = {
        "device": here.device,
        "processor": here.name,
        "cores": here.cores,
        "memory_mb": here.memory_mb,
        "fp32_gflops": round(here.fp32_gflops),
        "bf16_gflops": round(here.bf16_gflops),
        "precision": here.fastest,
        "cache": str(cache),
        "cache_free_mb": free,
        "models_here": [m.name for m in EMBEDDED.values() if (m.folder / "ORIGIN.json").exists()],
        "versions": versions(),
    }
    if as_json:
        print_json(facts)
        return
    flat = {**facts, "models_here": ", ".join(facts["models_here"]) or "none", **facts["versions"]}  # type: ignore[arg-type, dict-item]
    flat.pop("versions")
    table("This computer", ("what", "found"), [[name, number(value)] for name, value in flat.items()])
