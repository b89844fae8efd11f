"""Does a value have the form that a JSON schema describes? The part of JSON schema that tools and answers need."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator, Mapping
from typing import Any

import regex

SILENT = {"$schema", "title", "description", "default", "examples"}  # said for people
KNOWN = SILENT | {
    "type", "enum", "const", "properties", "required", "additionalProperties", "items", "minItems", "maxItems",
    "minLength", "maxLength", "minimum", "maximum", "pattern", "anyOf",
}  # fmt: skip
TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,), "array": (list,), "string": (str,), "number": (int, float), "integer": (int,),
    "boolean": (bool,), "null": (type(None),),
}  # fmt: skip
SECONDS = 1.0  # a pattern may be looked for


def unreadable(form: Any) -> list[str]:
    """What keeps a schema from being used here, in words."""
    if not isinstance(form, Mapping):
        return [f"{form!r} is no JSON schema, which is a mapping such as {{'type': 'object'}}"]
    if unknown := sorted({word for one in _forms(form) for word in one} - KNOWN):
        if importlib.util.find_spec("jsonschema") is not None:
            return _of_library(form)
        return [f"the schema says {', '.join(unknown)}, for which jsonschema is needed: pip install jsonschema"]
    return [
        f"there is no type {one.get('type')!r}; known: {', '.join(TYPES)}"
        for one in _forms(form)
        if not {word for word in _listed(one.get("type", [])) if isinstance(word, str)} <= set(TYPES)
    ]


def faults(value: Any, form: Mapping[str, Any], where: str = "it") -> list[str]:
    """What is wrong with it, in words; empty if it has the form."""
    if any(word not in KNOWN for one in _forms(form) for word in one):
        library = importlib.import_module("jsonschema")
        return [str(error.message) for error in library.validators.validator_for(form)(form).iter_errors(value)]
    return list(_faults(value, form, where))


def _faults(value: Any, form: Mapping[str, Any], where: str) -> Iterator[str]:
    if "type" in form and not any(_is(value, name) for name in _listed(form["type"])):
        yield f"{where} should be of type {' or '.join(_listed(form['type']))}"
        return
    if "enum" in form and not any(_same(value, one) for one in form["enum"]):
        yield f"{where} should be one of {', '.join(map(repr, form['enum']))}"
    if "const" in form and not _same(value, form["const"]):
        yield f"{where} should be {form['const']!r}"
    if "anyOf" in form and not any(not list(_faults(value, one, where)) for one in form["anyOf"]):
        yield f"{where} has none of the forms it may have"
    if isinstance(value, dict):
        yield from _of_object(value, form, where)
    elif isinstance(value, list):
        yield from _beyond(len(value), form, "Items", where)
        for number, one in enumerate(value):
            yield from _faults(one, form.get("items", {}), f"{where}[{number}]")
    elif isinstance(value, str):
        yield from _beyond(len(value), form, "Length", where)
        if "pattern" in form and not regex.search(form["pattern"], value, timeout=SECONDS, concurrent=True):
            yield f"{where} should look like {form['pattern']}"
    elif _is(value, "number"):
        if value < form.get("minimum", value):
            yield f"{where} should be at least {form['minimum']}"
        if value > form.get("maximum", value):
            yield f"{where} should be at most {form['maximum']}"


def _of_object(value: dict[str, Any], form: Mapping[str, Any], where: str) -> Iterator[str]:
    parts, others = form.get("properties", {}), form.get("additionalProperties", True)
    for name in form.get("required", []):
        if name not in value:
            yield f"{where} has no '{name}'"
    for name, one in value.items():
        if name in parts:
            yield from _faults(one, parts[name], f"'{name}'")
        elif others is False:
            yield f"{where} should have no '{name}'"
        elif isinstance(others, Mapping):
            yield from _faults(one, others, f"'{name}'")


def _beyond(count: int, form: Mapping[str, Any], what: str, where: str) -> Iterator[str]:
    if count < form.get(f"min{what}", count):
        yield f"{where} is too short: {count} of at least {form[f'min{what}']}"
    if count > form.get(f"max{what}", count):
        yield f"{where} is too long: {count} of at most {form[f'max{what}']}"


def _forms(form: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """A schema and all within it."""
    yield form
    within = [
        *form.get("properties", {}).values(),
        *form.get("anyOf", []),
        form.get("items"),
        form.get("additionalProperties"),
    ]
    for one in within:
        if isinstance(one, Mapping):
            yield from _forms(one)


def _is(value: Any, name: str) -> bool:
    """True is no number, and 1.0 is an integer, as the standard says."""
    if isinstance(value, bool):
        return name == "boolean"
    if name == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, TYPES[name])


def _same(one: Any, other: Any) -> bool:
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _of_library(form: Mapping[str, Any]) -> list[str]:
    library = importlib.import_module("jsonschema")
    try:
        library.validators.validator_for(form).check_schema(form)
    except library.SchemaError as error:
        return [f"the schema is none: {error.message}"]
    return []
