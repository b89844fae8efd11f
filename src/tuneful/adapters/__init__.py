"""Which weights learn, and how."""

from tuneful.adapters.full import Full, Head, TopLayers
from tuneful.adapters.lowrank import Lora
from tuneful.core.spec import Spec, Table

__all__ = ["ADAPTERS", "Full", "Head", "Lora", "TopLayers"]

ADAPTERS: Table[Spec] = Table("adapter", [Lora, Full, TopLayers, Head], group="tuneful.adapters")
