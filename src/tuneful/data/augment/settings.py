"""Settings that several augmentations have."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BeforeValidator, Field, PositiveInt

from tuneful.core.spec import Spec


def _leaves_something(strength: float) -> float:
    if not 0 < strength < 1:
        raise ValueError(
            f"strength {strength:g}: is the share of a text that is changed, and something of it has to stay; expected "
            "more than 0 and less than 1, of which 0.1 is usual"
        )
    return strength


def _as_tuple(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class KeepLabel(Spec):
    """Which variants still say what their text says: those near it, to which a head that has not seen the row gives the
    row's label, or the one that it gives the text itself."""

    NONE: ClassVar[tuple[Any, ...]] = ("none", "off", None, False)

    similar: Annotated[float, Field(ge=-1, le=1)] = 0.7
    """Least cosine of the two vectors."""
    encoder: str | None = None
    """Who reads them, frozen. None: the embedded encoder of the texts' language."""


def _as_check(value: Any) -> Any:
    if value is True:
        return KeepLabel()
    return None if not isinstance(value, dict | KeepLabel) and value in KeepLabel.NONE else value


Strength = Annotated[float, AfterValidator(_leaves_something)]
Share = Annotated[
    float, Field(gt=0, le=1, description="Of a row's visits, those in which it is changed so; else it stays.")
]
KeepNames = Annotated[bool, Field(description="Words with a capital letter inside a sentence stay as they are.")]
OneOrMore = BeforeValidator(_as_tuple)
Kept = Annotated[
    KeepLabel | None,
    BeforeValidator(_as_check),
    Field(description="Leave out variants that say something else. `none` asks nobody."),
]
Variants = Annotated[
    PositiveInt,
    Field(description="Of a text, made before training; each of its changed visits shows one of those kept."),
]
