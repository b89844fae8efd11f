"""What is wrong with a recipe, each fault in a line that names the place, what was found and what to do."""

from __future__ import annotations

import types
from collections.abc import Sequence
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from tuneful.core.spec import did_you_mean
from tuneful.recipe.aliases import ALIASES

UNIONS = ("list[", "function-", "tagged-union", "nullable", "constrained-", "literal[")  # pydantic's, no names


def explain(error: ValidationError, root: type[BaseModel]) -> list[str]:
    """One line a fault."""
    faults = error.errors()
    return list(dict.fromkeys(_line(fault, root) for fault in faults if not _drowned(fault, faults)))


def _drowned(fault: Any, faults: Sequence[Any]) -> bool:
    """A value that may be a text or a list, or a word or a number, is tried as both; the text's complaint says nothing
    beside the other's."""
    *place, last = fault["loc"] or ("",)
    text = last == "str" or str(last).startswith("literal[")
    return text and any(other is not fault and list(other["loc"][: len(place)]) == place for other in faults)


def _line(fault: Any, root: type[BaseModel]) -> str:
    where, owner = _walk(fault["loc"], root)
    kind, found = fault["type"], fault.get("input")
    if kind == "extra_forbidden":
        name = str(fault["loc"][-1])
        known = list(owner.model_fields) if owner else []
        hint = did_you_mean(name, known)
        if not hint and name in ALIASES:
            hint = f" It is called {ALIASES[name]} here."
        return f"{where}: no such setting.{hint or ' Known: ' + ', '.join(known)}"
    if kind == "missing" and fault["loc"] == ("tasks",):
        return "data: is needed: a file, a folder with train.*, or a hub id"
    if kind == "missing":
        return f"{where}: is needed"
    if kind == "value_error":
        return f"{where}: {fault['ctx']['error']}"
    if kind == "literal_error":
        expected = fault["ctx"]["expected"]
        options = expected.replace("'", "").replace(" or ", ", ").split(", ")
        return f"{where}: {found!r} is not one of {', '.join(options)}.{did_you_mean(str(found), options)}"
    message = fault["msg"][0].lower() + fault["msg"][1:]
    return f"{where}: {message.replace('input should', 'should')}; found {_short(found)}"


def _walk(loc: Sequence[int | str], root: type[BaseModel]) -> tuple[str, type[BaseModel] | None]:
    """The dotted path as a person wrote it (no tags of unions), and the settings the last name belongs to."""
    parts: list[str] = []
    here: Any = root
    owner: type[BaseModel] | None = root
    for name in loc:
        owner = here if isinstance(here, type) and issubclass(here, BaseModel) else owner
        if isinstance(name, int):
            parts.append(str(name))
            here = _element(here)
            continue
        choices = _models(here)
        tagged = [choice for choice in choices if _tag(choice) == name]
        if tagged and not (owner and name in owner.model_fields and here is owner):
            here = owner = tagged[0]
            continue
        if parts and (name == "str" or name.startswith(UNIONS)):
            continue
        parts.append(name)
        holder = choices[0] if len(choices) == 1 else owner
        owner = holder
        field = holder.model_fields.get(name) if holder else None
        here = field.annotation if field else None
    return ".".join(parts) or "recipe", owner


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (Union, types.UnionType, Annotated):
        return [model for part in get_args(annotation) for model in _models(part)]
    return []


def _element(annotation: Any) -> Any:
    if get_origin(annotation) is list:
        return get_args(annotation)[0]
    for part in get_args(annotation):
        if get_origin(part) is list:
            return get_args(part)[0]
    return annotation


def _tag(model: type[BaseModel]) -> str | None:
    field = model.model_fields.get("kind")
    return get_args(field.annotation)[0] if field is not None else None


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
