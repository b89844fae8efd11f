"""A component is its own settings, looked up by `kind` in its room's table."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from functools import reduce
from importlib.metadata import entry_points
from operator import or_
from typing import Annotated, Any, Generic, Literal, TypeVar, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator


class Spec(BaseModel):
    """Settings with behaviour: frozen, no unknown keys, every default written once."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    def model_post_init(self, context: Any, /) -> None:
        """A component that was made in Python says its kind, too, where only what was given is written down."""
        if "kind" in type(self).model_fields:
            self.__pydantic_fields_set__.add("kind")


Component = TypeVar("Component", bound=Spec)


class Table(Generic[Component]):
    """The components of one room by `kind`, those of installed plug-ins included."""

    def __init__(self, noun: str, components: Iterable[type[Component]], group: str = "") -> None:
        self.noun = noun
        self.classes: dict[str, type[Component]] = {}
        for component in [*components, *_plugins(group)]:
            self.classes[kind_of(component)] = component

    def __iter__(self) -> Iterator[type[Component]]:
        return iter(self.classes.values())

    def kinds(self) -> list[str]:
        return sorted(self.classes)

    @property
    def field(self) -> Any:
        """The type of a recipe field that takes any component of this room; a bare string is a `kind`."""
        members = tuple(self.classes.values())
        union: Any = reduce(or_, members)
        if len(members) > 1:
            union = Annotated[union, Discriminator("kind")]
        # Without the discriminator the schema says "any of" instead of "one of": `{}` fits several.
        written = reduce(or_, members) | Literal[tuple(self.kinds())]
        return Annotated[union, BeforeValidator(self._spell_out, json_schema_input_type=written)]

    def _spell_out(self, value: Any) -> Any:
        if isinstance(value, str):
            value = {"kind": value}
        if isinstance(value, dict):
            kind = value.get("kind") or self._only_fit(value)
            if kind not in self.classes:
                raise ValueError(unknown(self.noun, str(kind), self.kinds()))
            value = {**value, "kind": kind}
        return value

    def _only_fit(self, value: dict[str, Any]) -> str:
        """Settings without a kind mean the first component that has them all."""
        fits = [kind for kind, component in self.classes.items() if value.keys() <= component.model_fields.keys()]
        return (fits or list(self.classes))[0]


def kind_of(component: type[Spec]) -> str:
    """The one value of a component's `kind` field."""
    return str(get_args(component.model_fields["kind"].annotation)[0])


def unknown(noun: str, found: str, known: Iterable[str]) -> str:
    """`there is no objective 'dop'. Did you mean 'dpo'? Known: ...`"""
    known = sorted(known)
    return f"there is no {noun} '{found}'.{did_you_mean(found, known)} Known: {', '.join(known)}"


def did_you_mean(found: str, known: Iterable[str]) -> str:
    """` Did you mean 'dpo'?` or nothing."""
    near = difflib.get_close_matches(found, list(known), n=1, cutoff=0.6)
    return f" Did you mean '{near[0]}'?" if near else ""


def _plugins(group: str) -> Iterator[Any]:
    if group:
        for point in entry_points(group=group):
            yield point.load()
