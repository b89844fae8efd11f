"""Settings that several augmentations have."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field


def _leaves_something(strength: float) -> float:
    if not 0 < strength < 1:
        raise ValueError(
            f"strength {strength:g}: is the share of a text that is changed, and something of it has to stay; expected "
            "more than 0 and less than 1, of which 0.1 is usual"
        )
    return strength


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Strength = Annotated[float, AfterValidator(_leaves_something)]
Share = Annotated[
    float, Field(gt=0, le=1, description="Of a row's visits, those in which it is changed so; else it stays.")
]
KeepNames = Annotated[bool, Field(description="Words with a capital letter inside a sentence stay as they are.")]
OneOrMore = BeforeValidator(_as_list)
