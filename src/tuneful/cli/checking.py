"""`tuneful check`: the X-ray and the plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rich.text import Text

from tuneful.cli.augmenting import augmented_json, refuse_without, show_augmented
from tuneful.cli.coaching import Coaching, show, write
from tuneful.cli.show import console, errors, learned_text, listed, minutes, note, print_json, table
from tuneful.core.errors import RecipeError
from tuneful.data.xray import XRay
from tuneful.data.xray import as_json as xray_json
from tuneful.evaluation.words import words as words_in
from tuneful.run.api import recipe_and_notes
from tuneful.run.build import cost
from tuneful.run.coach import coach
from tuneful.run.joined import checked_kinds
from tuneful.run.kinds import kinds_of
from tuneful.run.objections import check_start
from tuneful.run.patched import with_test
from tuneful.run.prepare import Prepared, prepare
from tuneful.run.tasks import counted

WHOLE = 1000  # characters of a template that is shown in full


def check_command(
    target: str,
    *,
    model: str | None,
    overrides: list[str],
    as_json: bool,
    coaching: Coaching | None = None,
    augment: bool = False,
) -> int:
    """The exit code: 2 when a run would be refused. `augment` shows what rows are said as."""
    recipe, notes = recipe_and_notes(target, model=model, overrides=overrides)
    if augment:
        refuse_without(recipe)
    say = (lambda _: None) if as_json else note
    if kinds_of(recipe):
        refuse_for_kinds(coaching is not None, augment=augment)
        return _check_kinds(checked_kinds(recipe, say), notes, as_json=as_json)
    prepared = prepare(recipe if coaching is None else with_test(recipe), say)
    check_start(prepared, say)
    plan = _plan(prepared)
    found = None if coaching is None else coach(prepared, say, encoder=coaching.encoder, language=coaching.language)
    if as_json:
        told = {} if found is None else {"coach": found.as_json()}
        shown = {"augmented": augmented_json(prepared)} if augment else {}
        print_json({"data": xray_json(prepared.xray), "plan": plan, "notes": notes, **told, **shown})
    else:
        for words in notes:
            note(words)
        _show(prepared, plan)
        if augment:
            show_augmented(prepared)
    if found is not None and coaching is not None:
        if not as_json:
            show(found)
        write(found, coaching, target)
    return 2 if prepared.xray.problems else 0


def refuse_for_kinds(coaches: bool, *, augment: bool) -> None:
    """Raises RecipeError for what is asked of one kind of task."""
    asked = {"--coach": coaches, "--augment": augment}
    if problems := [f"{name}: is about tasks of one kind, and these are of several; leave it out, or check a recipe of "
                    "each" for name, there in asked.items() if there]:  # fmt: skip
        raise RecipeError(problems)


def _check_kinds(kinds: Mapping[str, Prepared], notes: list[str], *, as_json: bool) -> int:
    """Each kind of task as a recipe of its own would be shown."""
    plans = {name: _plan(kind) for name, kind in kinds.items()}
    if as_json:
        each = {name: {"data": xray_json(kind.xray), "plan": plans[name]} for name, kind in kinds.items()}
        print_json({"kinds": each, "notes": notes})
    else:
        for words in notes:
            note(words)
        for name, kind in kinds.items():
            console.print(Text(f"\n{name}", style="bold underline"))
            _show(kind, plans[name])
    return 0


def _plan(prepared: Prepared) -> dict[str, Any]:
    recipe, expected = prepared.recipe, cost(prepared)
    return {
        "model": recipe.model,
        "objective": recipe.model_dump()["tasks"][0]["objective"],
        "adapter": recipe.model_dump()["adapter"],
        "precision": recipe.precision,
        "learning_rate": recipe.optimiser.learning_rate,
        "rows_per_step": prepared.resolved.rows_per_step,
        "epochs": recipe.schedule.epochs or round(prepared.resolved.epochs, 2),
        "tasks": counted(recipe, {part: rows.rows for part, rows in prepared.built.items()}, prepared.repeated),
        **asdict(expected),
    }


def _show(prepared: Prepared, plan: dict[str, Any]) -> None:
    found = prepared.xray
    _show_data(found)
    if found.template and found.layout != "text":  # plain texts are learned as they stand
        _show_template(found.template, brought=prepared.processor.brought_template)
    if plan["tasks"]:
        _show_tasks(plan["tasks"])
    _show_plan(plan)
    english = words_in("en")
    for sentence in found.notes:
        words = english[f"said_{sentence.key}"].format(**sentence.facts)
        console.print(Text(f"note: {words}", style="yellow"))
    for word, rows in (("leaked", found.leaked), ("dropped", found.dropped)):
        listed(word, [(str(row.place), row.reason) for row in rows])
    for words in found.problems:
        errors.print(Text(f"problem: {words}", style="bold red"))


def _show_data(found: XRay) -> None:
    table("Data", ("layout", "train", "validation", "test", "tokens", "learned", "shortest", "median", "longest"), [[
        found.layout, *(found.rows[part] for part in ("train", "validation", "test")),
        found.tokens, found.learned_tokens if found.stop_learned is not None else None, *found.lengths,
    ]])  # fmt: skip
    if found.balance:
        counts = sorted(found.balance.items(), key=lambda item: -item[1])
        table(
            "\nLabels",
            ("label", "rows"),
            counts if len(counts) <= 20 else [*counts[:10], ("…", None), *counts[-9:]],
        )
    if found.stop_learned is not None:
        of = found.sampled or found.rows["train"]
        console.print(f"\nstop token {found.stop_token}: learned in {found.stop_learned} of {of} rows")
    for shown in found.shown:
        learned = f", {shown.learned} learned" if shown.learned else ""
        head = f"\n{shown.place}: {shown.tokens} tokens{learned}"
        console.print(Text(head + (f", label {shown.label}" if shown.label else ""), style="bold"))
        console.print(learned_text(shown.pieces))


def _show_tasks(tasks: dict[str, dict[str, Any]]) -> None:
    columns = list(next(iter(tasks.values())))
    table("\nTasks", ("task", *columns), [[name, *facts.values()] for name, facts in tasks.items()])


def _show_template(template: str, *, brought: bool) -> None:
    whose = "the model's own" if brought else "the model brings none; Tuneful's plain one"
    console.print(f"\nchat template ({whose}, for training and serving):", soft_wrap=True)
    if len(template) > WHOLE:
        template = f"{template.strip().splitlines()[0][:WHOLE]}\n... {len(template):,} characters; --json shows it all"
    console.print(Text(template, style="dim"), soft_wrap=True)


def _show_plan(plan: dict[str, Any]) -> None:
    facts = {
        "model": plan["model"], "adapter": plan["adapter"]["kind"], "precision": plan["precision"],
        "updates": plan["steps"], "rows each": plan["rows_per_step"], "epochs": plan["epochs"],
        "rate": plan["learning_rate"], "time": minutes(plan["seconds"]), "memory": f"{plan['memory_mb']:,} MB",
    }  # fmt: skip
    table("\nPlan", tuple(facts), [list(facts.values())])
