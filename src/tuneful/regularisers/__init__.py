"""Scalars that join the loss."""

from tuneful.core.spec import Spec, Table
from tuneful.regularisers.drift import ReferenceKL

__all__ = ["REGULARISERS", "ReferenceKL"]

REGULARISERS: Table[Spec] = Table("regulariser", [ReferenceKL], group="tuneful.regularisers")
