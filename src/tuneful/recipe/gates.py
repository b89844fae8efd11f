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
    """Most that a gap between groups may surely rise by tuning (docs/concepts/fairness.md)."""
    bias_probe_increase: dict[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)
    """Most that a model that writes may surely move away from the ideal of each probe that is named, in the probe's own
    unit: {descriptors: 0.1, crows_pairs: 4}. `evaluate.bias` must ask them, or say nothing for `descriptors`."""
    helped: bool = False
    """The verdict must be yes."""

    @field_validator("bias_probe_increase")
    @classmethod
    def _of_known_probes(cls, limits: dict[str, float]) -> dict[str, float]:
        if odd := [kind for kind in limits if kind not in PROBES.classes]:
            raise ValueError(unknown("probe", odd[0], PROBES.kinds()))
        return limits
