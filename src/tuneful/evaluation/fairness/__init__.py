"""How a classifier treats groups of people: group by group, how far they are apart, and whether tuning changed it."""

from tuneful.evaluation.fairness.changes import Change, compared
from tuneful.evaluation.fairness.findings import Feature, Findings, examine_groups
from tuneful.evaluation.fairness.flips import Flips, flips
from tuneful.evaluation.fairness.measures import LEAST, Measure

__all__ = ["LEAST", "Change", "Feature", "Findings", "Flips", "Measure", "compared", "examine_groups", "flips"]
