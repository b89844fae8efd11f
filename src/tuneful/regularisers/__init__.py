"""Scalars that join the loss."""

from tuneful.core.spec import Spec, Table
from tuneful.regularisers.drift import L2SP, ReferenceKL
from tuneful.regularisers.noise import Neftune
from tuneful.regularisers.smoothing import ConfidencePenalty, Dft, Focal, LabelSmoothing, RDrop

__all__ = [
    "L2SP", "REGULARISERS", "ConfidencePenalty", "Dft", "Focal", "LabelSmoothing", "Neftune", "RDrop", "ReferenceKL",
]  # fmt: skip

REGULARISERS: Table[Spec] = Table(
    "regulariser",
    [ReferenceKL, L2SP, LabelSmoothing, ConfidencePenalty, Focal, Dft, RDrop, Neftune],
    group="tuneful.regularisers",
)
