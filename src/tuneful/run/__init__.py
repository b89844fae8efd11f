"""The only room that knows all others: prepare, build, train, report, and use what came out."""

from tuneful.run.api import Run, fit, learn, load, merge, unlearn
from tuneful.run.picked import best_of
from tuneful.run.rating import rate

__all__ = ["Run", "best_of", "fit", "learn", "load", "merge", "rate", "unlearn"]
