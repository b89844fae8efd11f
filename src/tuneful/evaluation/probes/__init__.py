"""Bias benchmarks of language models: what a model finds likelier and what it writes, before and after it was tuned."""

from tuneful.core.spec import Spec, Table
from tuneful.evaluation.probes.bbq import Bbq
from tuneful.evaluation.probes.continuations import Continuations
from tuneful.evaluation.probes.crows import CrowsPairs
from tuneful.evaluation.probes.descriptors import Descriptors
from tuneful.evaluation.probes.findings import Finding, compared
from tuneful.evaluation.probes.items import Item, Measured
from tuneful.evaluation.probes.scorer import Scored, Scorer
from tuneful.evaluation.probes.stereoset import StereoSet
from tuneful.evaluation.probes.winobias import WinoBias

__all__ = [
    "PROBES", "Bbq", "Continuations", "CrowsPairs", "Descriptors", "Finding", "Item", "Measured", "Scored", "Scorer",
    "StereoSet", "WinoBias", "compared",
]  # fmt: skip

PROBES: Table[Spec] = Table(
    "probe", [Descriptors, Continuations, CrowsPairs, StereoSet, WinoBias, Bbq], group="tuneful.probes"
)  # fmt: skip
