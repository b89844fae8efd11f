"""What a run must keep to be promoted."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PositiveFloat, field_validator

from tuneful.core.spec import Spec, unknown
from tuneful.evaluation.probes import PROBES


class Gates(Spec):
    """What must hold at the end; a run that breaks one ends with exit code 3."""

    forgetting_kl: PositiveFloat | None = None
    """Most KL from the base, nats a token."""
    generalisation_gap: PositiveFloat | None = None
    """Most that the loss of rows that were not learned may lie above that of training rows: of test rows where there
    are thirty, or more than validation rows."""
    bias_gap_increase: Annotated[float, Field(ge=0)] | None = None
    """Broken where a gap between groups has surely risen by tuning, and by more than this."""
    bias_probe_increase: dict[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)
    """Broken where a model that writes has surely moved away from the ideal of a probe, and by more than this many of
    the probe's units: {descriptors: 0.1, crows_pairs: 4}. `evaluate.bias` must ask them, or say nothing for
    `descriptors`, which is then asked however short the training was."""
    helped: bool = False
    """The verdict must be yes."""

    @field_validator("bias_probe_increase")
    @classmethod
    def _of_known_probes(cls, limits: dict[str, float]) -> dict[str, float]:
        if odd := [kind for kind in limits if kind not in PROBES.classes]:
            raise ValueError(unknown("probe", odd[0], PROBES.kinds()))
        return limits
