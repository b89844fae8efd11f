"""`tuneful fit`: a progress bar, notes, and the verdict."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from tuneful.cli.show import console, errors, minutes, note, print_json, quality_table, tasks_table
from tuneful.core.device import is_first, join_ranks, used_memory_mb
from tuneful.core.errors import InputError, RunFolderError
from tuneful.core.ranks import together
from tuneful.core.types import Record
from tuneful.evaluation.affinity import sentence
from tuneful.evaluation.panels import sentences
from tuneful.evaluation.phrases import gap_of
from tuneful.evaluation.tasks import lessons
from tuneful.evaluation.words import words
from tuneful.recipe import Recipe
from tuneful.run.api import check_gates, recipe_and_notes
from tuneful.run.folder import RunFolder, default_path
from tuneful.run.lock import recipe_of
from tuneful.run.loop import Interrupted
from tuneful.run.session import run

INTERRUPTED = 130  # what a shell expects after Ctrl-C
WATCHED = {"gap": "", "calibration": "sure", "memorisation": "by heart", "canaries": "canaries", "robustness": "typing",
           "learning_curve": "more rows"}  # fmt: skip
LOSSES = {"test": "test", "validation": "validation", "train": "training"}
NARROW = 9  # letters of a fact's name for which there is always room
STYLE = {"yes": "bold green", "no": "bold red", "unclear": "bold yellow"}


def fit_command(
    target: str,
    *,
    model: str | None,
    overrides: list[str],
    as_json: bool,
    out: Path | None,
    resume: bool,
    language: str,
    should_stop: Callable[[], bool],
) -> int:
    """The exit code. Of several ranks the first one speaks; another one says what befell it alone."""
    join_ranks()
    recipe, given = together(lambda: _what(target, model, overrides, out, resume))
    path = given or default_path(recipe.name or Path(recipe.task.data.sources[0].path).name.split(".")[0])
    command = shlex.join(["tuneful", *sys.argv[1:]])
    say = (lambda _: None) if as_json or not is_first() else note
    records = run(recipe, path, resume=resume, language=language, command=command, should_stop=should_stop, say=say)
    try:
        with Bar(hidden=as_json or not is_first()) as bar:
            for record in records:
                bar.show(record)
    except Interrupted:
        if is_first():
            begun = RunFolder(path).lock.exists()
            on = f"saved. Go on with: tuneful fit {shlex.quote(str(path))} --resume"
            errors.print(on if begun else "stopped before the way of learning was chosen; nothing was written")
        return INTERRUPTED
    folder = RunFolder(path)
    report = folder.read_json(folder.report)
    if is_first():
        print_json(report) if as_json else show(report, folder, language)
    together(lambda: check_gates(report))
    return 0


def _what(
    target: str, model: str | None, overrides: list[str], out: Path | None, resume: bool
) -> tuple[Recipe, Path | None]:
    """The recipe, and the folder if one is given."""
    if resume:
        folder = RunFolder(out or Path(target))
        if not folder.exists():
            raise RunFolderError(f"{folder.path} is not the folder of a run, so there is nothing to go on with")
        if model is not None or overrides:
            raise InputError(
                "--resume goes on with the recipe as it was started: leave --model and --set out, or start a new run"
            )
        return recipe_of(folder.read_json(folder.lock)), folder.path
    recipe, notes = recipe_and_notes(target, model=model, overrides=overrides)
    for told in notes if is_first() else ():
        note(told)
    return recipe, out


def _time(cost: dict[str, Any]) -> str:
    chosen = f", and {minutes(cost['choosing_seconds'])} of trying ways" if cost["choosing_seconds"] else ""
    return f"{minutes(cost['seconds'])}, predicted {minutes(cost['predicted']['seconds'])}{chosen}"


def _speed(cost: dict[str, Any]) -> str:
    shared = cost["tokens_shared"] / max(1, cost["tokens"])
    saved = (
        f"; {shared:.0%} of the tokens were shared and read once, which counts as if all had been"
        if shared >= 0.01
        else ""
    )
    return f"{cost['tokens_per_second']:,.0f} tokens/s, {cost['utilisation']:.0%} of the matrix rate{saved}"


def _losses(found: dict[str, Any]) -> str:
    return ", ".join(f"{name} loss {found[part]:.3f}" for part, name in LOSSES.items() if found.get(part) is not None)


def show(report: dict[str, Any], folder: RunFolder, language: str) -> None:
    verdict = report["verdict"]
    if report["quality"]:
        how = "by cross-validation" if report["choice"].get("measures_quality") else "on the test rows"
        quality_table(f"\nQuality {how}", report["quality"])
    if tasks := report.get("tasks"):
        tasks_table("\nEach task", tasks)
    console.print()
    facts = _facts(report, language)
    width = max(NARROW, *(len(name) for name, _ in facts))
    for name, told in facts:
        console.print(Text(f"{name:>{width}}  ", style="dim").append(told, style="not dim"))
    console.print()
    console.print(Text(verdict["sentences"][language], style=STYLE[verdict["helped"]]))
    console.print(f"report: {folder.page}", soft_wrap=True)


def _facts(report: dict[str, Any], language: str) -> list[tuple[str, str]]:
    """What is told beside the tables, each with its name."""
    cost, general, forgot = report["cost"], report["generalisation"], report["forgetting"]
    say = words(language)
    facts = [
        ("time", _time(cost)),
        *([("speed", _speed(cost))] if cost["tokens"] else []),
        ("memory", f"{cost['peak_memory_mb']:,} MB, predicted {cost['predicted']['memory_mb']:,} MB"),
        ("learned", f"{cost['trainable_parameters']:,} of {cost['parameters']:,} weights"),
    ]
    if gap_of(general) is not None:
        facts.append(("gap", _losses(general)))
    facts += [(WATCHED[name], sentence) for name, sentence in sentences(report, say).items()]
    if forgot.get("kl_from_base") is not None:
        own = forgot["own_text_perplexity"]
        facts.append(
            ("forgot", f"KL from base {forgot['kl_from_base']:.3f}; own text {own['before']} -> {own['after']}")
        )
    if found := forgot.get("affinity"):
        facts.append(("together", sentence(found, say)))
    if told := lessons(report, say):
        facts.append(("earlier tasks", say["between_sentences"].join(told)))
    return facts


def _told(metrics: Mapping[str, float]) -> str:
    """How well it does: by the reward of what it writes itself, else by the loss."""
    return f"{metrics.get('reward', metrics['loss']):.3f}"


class Bar:
    """Steps done, tokens a second, time left, memory, loss."""

    def __init__(self, *, hidden: bool) -> None:
        self._progress = Progress(
            TextColumn("training"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[facts]}"),
            TimeRemainingColumn(), console=errors, disable=hidden, transient=False,
        )  # fmt: skip
        self._task = self._progress.add_task("training", total=None, facts="", start=False, visible=False)
        self._validation = ""

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, record: Record) -> None:
        metrics = record.metrics
        if record.kind == "plan":
            steps = int(metrics["steps"])  # none where the head is solved
            self._progress.update(self._task, total=steps, visible=steps > 0)
            self._progress.start_task(self._task)
        elif record.kind == "validation":
            self._validation = f"  validation {_told(metrics)}"
        elif record.kind == "train":
            speed = metrics["tokens"] / max(metrics["seconds"], 1e-9)
            what = "reward" if "reward" in metrics else "loss"
            facts = f"{what} {_told(metrics)}{self._validation}  {speed:,.0f} tokens/s  {used_memory_mb():,} MB"
            self._progress.update(self._task, completed=record.step, facts=facts)
