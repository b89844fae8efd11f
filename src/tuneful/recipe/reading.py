"""YAML, overrides and other tools' words -> Recipe, with all faults at once."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from tuneful.core.errors import RecipeError
from tuneful.recipe.aliases import ALIASES, put, translate, whole_updates
from tuneful.recipe.explain import explain
from tuneful.recipe.model import Recipe
from tuneful.recipe.task import OF_TASK, Data

STANDS_INSTEAD = {
    "schedule.epochs": ("schedule", "steps"),
    "optimiser.tokens_per_step": ("optimiser", "rows_per_step"),
}


def from_yaml(path: Path, overrides: Sequence[str] = ()) -> tuple[Recipe, list[str]]:
    """A recipe file; `overrides` are `dotted.path=value`. The notes say which words are called otherwise here."""
    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError([f"{path}: cannot be read ({error.strerror})"]) from None
    except UnicodeDecodeError:
        raise RecipeError([f"{path}: is not UTF-8 text"]) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise RecipeError([f"{path}{where}: is not YAML ({getattr(error, 'problem', error)})"]) from None
    if not isinstance(given, dict):
        raise RecipeError([f"{path}: holds {type(given).__name__}; a recipe is a mapping with at least 'data'"])
    if "recipe" in given and "versions" in given:  # recipe.lock.json
        given = given["recipe"]
    return from_mapping(given, overrides)


def from_mapping(given: Mapping[str, Any], overrides: Sequence[str] = ()) -> tuple[Recipe, list[str]]:
    """The same from a mapping."""
    plain, notes = translate(copy.deepcopy(dict(given)))
    problems = _apply(plain, overrides, notes)
    try:
        recipe = Recipe.model_validate(plain)
    except ValidationError as error:
        raise RecipeError([*problems, *explain(error, Recipe)]) from None
    if problems:
        raise RecipeError(problems)
    return recipe, notes


def schema() -> dict[str, Any]:
    """JSON Schema for editors, the shorthand of a single task included."""
    made = Recipe.model_json_schema()
    for name in OF_TASK:
        made["properties"][name] = made["$defs"]["Task"]["properties"][name]
    made["properties"]["data"]["description"] = Data.__doc__
    made["required"] = []
    made["anyOf"] = [{"required": ["data"]}, {"required": ["environment"]}, {"required": ["tasks"]}]
    made["title"] = "Tuneful recipe"
    return made


def _apply(plain: dict[str, Any], overrides: Sequence[str], notes: list[str]) -> list[str]:
    """Writes each override where it belongs, the last one last; what is wrong with them."""
    given, problems = _pairs(overrides)
    given, said = whole_updates(given)
    notes += said
    for path, _ in given:
        _make_way(plain, ALIASES.get(path, path))
    for path, value in given:
        ours, said = translate({path: value}) if "." not in path else ({path: value}, [])
        notes += said
        for name, item in _flat(ours):
            try:
                put(plain, _into_task(plain, name), item)
            except (KeyError, IndexError, ValueError, TypeError, AttributeError):
                problems.append(f"--set {path}: there is nothing at '{name}' in this recipe")
    return problems


def _make_way(plain: Mapping[str, Any], path: str) -> None:
    """A lock file holds both of two settings of which one stands instead of the other; here the other is asked for."""
    room, name = STANDS_INSTEAD.get(path, ("", ""))
    if isinstance(plain.get(room), dict):
        plain[room].pop(name, None)


def _pairs(overrides: Sequence[str]) -> tuple[list[tuple[str, Any]], list[str]]:
    """`dotted.path=value` -> path and value, and what is of no such form."""
    pairs, problems = [], []
    for override in overrides:
        path, equals, text = override.partition("=")
        if not equals or not path.strip():
            problems.append(f"--set {override}: expected dotted.path=value")
            continue
        try:
            pairs.append((path.strip(), yaml.safe_load(text) if text.strip() else None))
        except yaml.YAMLError:
            pairs.append((path.strip(), text))
    return pairs, problems


def _flat(ours: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """A translated alias comes nested; a path comes as it is."""
    pairs: list[tuple[str, Any]] = []
    for name, value in ours.items():
        if isinstance(value, dict) and len(value) == 1 and "." not in name and "kind" not in value:
            pairs += [(f"{name}.{inner}", item) for inner, item in value.items()]
        else:
            pairs.append((name, value))
    return pairs


def _into_task(plain: Mapping[str, Any], path: str) -> str:
    """What is of a task means the only task, however the recipe wrote it; of several, all."""
    first = path.split(".")[0]
    if first in OF_TASK and first not in plain and len(plain.get("tasks") or ()) == 1:
        return f"tasks.0.{path}"
    return path
